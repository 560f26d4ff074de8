"""Search the L2 constant: random, coarse to fine, shared by any number of processes.

Not here: how a network is trained (`colorlib.training`), and the database with its
tables (`colorlib.studies`). Chapter 4 of the report, which searched in this way by hand.

A search is two Optuna studies, ``coarse`` and ``fine``, in one database. Each process takes the
next trial from it, trains, and writes down what came out, until as many trials are done as were
asked for, by all processes together. The constant of trial k follows from the seed and k alone, so
no two processes try the same one, and their number changes nothing about what is tried.

What is compared is the validation loss *without* the L2 penalty. With it, a small constant would
win for no other reason than being small.
"""

import datetime
import hashlib
import math
import os
import platform
import time
import warnings
from typing import NamedTuple

import keras
import numpy as np
import optuna
from optuna.trial import TrialState
from tqdm.auto import tqdm

from colorlib import generator, images, quantizer, runs, stopping, studies, training

COARSE_RANGE = (1e-7, 1.0)
"""From no effect at all to nothing but the penalty."""

FINE_DECADES = 1.0
"""Width of the fine stage's range."""

FEWEST_COARSE = 4
"""Complete coarse trials without which no fine stage begins."""


class SmallSet(NamedTuple):
    """The images of a search: `train` and `validation`, uint8, and what tells them from others."""

    train: np.ndarray
    validation: np.ndarray
    described: dict


class _Surplus(Exception):
    """Raised in a trial that another process was faster to begin."""


def small_set(store, count, size):
    """Take images from all over a store, half to train on and half to validate on.

    Parameters
    ----------
    store : Store or ndarray of uint8, shape (n, side, side, 3)
    count : int
        Images in each half; every n / (2 * count)-th image belongs to one of them.
    size : int
        Side in pixels to which they are brought.

    Returns
    -------
    SmallSet

    Raises
    ------
    colorlib.studies.StudyError
        If the store has too few images.
    """
    if len(store) < 2 * count:
        raise studies.StudyError(
            f"{2 * count} images are needed and {len(store)} there; ask for fewer"
        )
    chosen = np.linspace(0, len(store) - 1, 2 * count).astype(int)
    found = [np.array(image) for image in generator.read_images(store, chosen)]
    checksum = hashlib.sha256(b"".join(image.tobytes() for image in found)).hexdigest()
    small = np.stack([images.square(image, size) for image in found])
    described = {"train_images": count, "validation_images": count, "sha256": checksum[:16]}
    return SmallSet(small[::2], small[1::2], described)


def search(settings, small, place, stage, trials, progress=True, on_trial=None, silence=60):
    """Do a stage's trials, or those that are left of it, together with other processes.

    Returns when all are done, also those of other processes: the trial of one that dies meanwhile
    is taken over. Ctrl-C puts the trial in hand back.

    Parameters
    ----------
    settings : colorlib.config.TrainConfig
        Of every trial; `l2` is replaced. The seed decides which constants are tried.
    small : SmallSet
        The images.
    place : str or path-like
        The SQLite file, made if missing, or the URL of any database SQLAlchemy knows, which
        several machines can share.
    stage : {"coarse", "fine"}
        Coarse draws from `COARSE_RANGE`, fine from a decade around coarse's best quarter.
    trials : int
        Done in all when this returns, pruned ones included, failed ones not.
    progress : bool
        Whether to show a progress bar.
    on_trial : callable, optional
        Called with each `optuna.trial.FrozenTrial` that this process has done.
    silence : int
        Seconds without a sign of life after which a process counts as dead; at least 2.

    Returns
    -------
    optuna.Study

    Raises
    ------
    colorlib.studies.StudyError
        If the study can't be opened or is of other settings or images, or the fine stage is
        called for before the coarse one has come to something.
    """
    study = _open_stage(settings, small, place, stage, silence)
    low, high = study.user_attrs[studies.PLAN]["range"]

    def objective(trial):
        trial.set_user_attr("process", f"{platform.node()}:{os.getpid()}")
        if _claimed(study, before=trial.number) >= trials:
            raise _Surplus
        seed = np.random.SeedSequence([settings.seed, studies.STAGES.index(stage), trial.number])
        study.sampler = optuna.samplers.RandomSampler(int(seed.generate_state(1)[0]))
        l2 = trial.suggest_float("l2", low, high, log=True)
        # killed before Optuna's thread gives its first sign of life, it would count as running
        trial.storage.record_heartbeat(trial._trial_id)
        trial.set_user_attr("began", trial.number)
        try:
            return _train(settings.replace(l2=l2), small, trial)
        except KeyboardInterrupt:
            study.enqueue_trial({"l2": l2})
            raise

    def told(_, trial):
        if on_trial is not None and trial.state in studies.DONE:
            on_trial(trial)

    with tqdm(total=trials, unit=" trials", desc=stage, disable=not progress) as bar:
        while _another(study, trials, silence, bar):
            try:
                study.optimize(objective, n_trials=1, catch=_Surplus, callbacks=[told])
            except Exception as error:
                if not _was_taken_over(error):
                    raise
    return study


def cross_entropy(network, total):
    """Take the L2 penalty off a loss.

    Parameters
    ----------
    network : keras.Model
        Whose kernels are penalized, or not.
    total : float
        The loss as Keras reports it: the mean cross-entropy plus the penalty.

    Returns
    -------
    float
        In nats per pixel.
    """
    return float(total) - float(sum(network.losses, start=0.0))


def fine_range(constants, losses):
    """Find where to look closer: one decade around the best quarter of the trials.

    Parameters
    ----------
    constants, losses : array-like of float, shape (n,)
        L2 constants, and the validation losses they led to.

    Returns
    -------
    low, high : float
        `FINE_DECADES` apart, around the median magnitude of the best quarter's constants.
    """
    best = np.argsort(losses)[: -(-len(losses) // 4)]
    middle = np.median(np.log10(np.asarray(constants)[best]))
    low, high = 10 ** (middle + np.array([-0.5, 0.5]) * FINE_DECADES)
    return float(low), float(high)


def _open_stage(settings, small, place, stage, silence):
    if stage not in studies.STAGES:
        raise studies.StudyError(f"no stage {stage!r}; choose from {', '.join(studies.STAGES)}")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = studies.open_studies(place, silence)
    limits = COARSE_RANGE if stage == "coarse" else _range_from_coarse(storage, place, silence)
    warmup = settings.epochs // 2  # before, BatchNorm and the rate make losses erratic
    study = optuna.create_study(
        storage=storage,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=warmup),
        study_name=stage,
        load_if_exists=True,
    )
    wanted = {"settings": settings.replace(l2=0.0).to_dict(), "data": small.described}
    found = study.user_attrs.get(studies.PLAN)
    if found is None:
        study.set_user_attr(studies.PLAN, {**wanted, "range": limits})
    elif shown := runs.differences(found, wanted):
        raise studies.StudyError(
            f"{place}: another search ({shown}); choose another name or its settings"
        )
    return study


def _range_from_coarse(storage, place, silence):
    names = [study.study_name for study in storage.get_all_studies()]
    if "fine" in names:
        plan = optuna.load_study(study_name="fine", storage=storage).user_attrs.get(studies.PLAN)
        if plan is not None:
            return plan["range"]
    trials = []
    if "coarse" in names:
        coarse = optuna.load_study(study_name="coarse", storage=storage)
        _give_up_on_the_silent(coarse, silence)
        trials = coarse.get_trials(deepcopy=False)
    if any(trial.state == TrialState.RUNNING for trial in trials):
        raise studies.StudyError(f"{place}: coarse trials are still running; wait for them")
    done = [trial for trial in trials if trial.state in studies.DONE and trial.value is not None]
    if sum(trial.state == TrialState.COMPLETE for trial in done) < FEWEST_COARSE:
        raise studies.StudyError(
            f"{place}: the fine stage needs {FEWEST_COARSE} complete coarse trials to know where "
            "to look; run the coarse stage first"
        )
    return fine_range([t.params["l2"] for t in done], [t.value for t in done])


def _another(study, budget, silence, bar):
    """Wait until there is a trial to do (True), or all are done (False)."""
    while True:
        _give_up_on_the_silent(study, silence)
        trials = study.get_trials(deepcopy=False)
        done = [trial for trial in trials if trial.state in studies.DONE]
        running = sum(trial.state == TrialState.RUNNING for trial in trials)
        bar.n = min(len(done), budget)
        bar.set_postfix_str(_best(done))
        if len(done) >= budget:
            return False
        if len(done) + running < budget:
            return True
        time.sleep(0.5)


def _was_taken_over(error):
    """Tell whether a result is refused: silent for too long, the trial went to another process."""
    refused = any("Cannot tell a" in str(part) for part in (error, error.__context__))
    return refused or isinstance(error, optuna.exceptions.UpdateFinishedTrialError)


def _best(done):
    complete = [trial for trial in done if trial.state == TrialState.COMPLETE]
    if not complete:
        return ""
    best = min(complete, key=lambda trial: trial.value)
    return f"best {best.value:.3f} nats at l2 {best.params['l2']:.1e}"


def _claimed(study, before):
    trials = study.get_trials(deepcopy=False)
    return sum(t.state != TrialState.FAIL for t in trials if t.number < before)


def _give_up_on_the_silent(study, silence):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        optuna.storages.fail_stale_trials(study)
    # a process that died between taking a trial and its first sign of life is unknown to Optuna
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        age = (datetime.datetime.now() - trial.datetime_start).total_seconds()
        if trial.user_attrs.get("began") != trial.number and age > silence:
            study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)


def _train(settings, small, trial):
    """Train one network, report each epoch, and return the result, in nats per pixel."""
    keras.backend.clear_session()
    training.make_deterministic(settings.seed)
    batches, validation = (
        generator.ColorBatches(
            part, settings.batch_size, settings.crop, train, settings.flip, settings.seed, workers=0
        )
        for part, train in ((small.train, True), (small.validation, False))
    )
    prior = quantizer.prior(quantizer.code_histogram(small.train))
    network = training.new_network(settings, len(batches), prior)
    report = _Report(trial)
    with stopping.Interrupt() as interrupt:
        network.fit(
            batches,
            validation_data=validation,
            epochs=settings.epochs,
            callbacks=[interrupt, training.SetEpoch(batches), report],
            shuffle=False,  # the batches order themselves
            verbose=0,
        )
    return report.curve[-1]


class _Report(keras.callbacks.Callback):
    """Tell the study how a trial goes, and end it if it is hopeless."""

    def __init__(self, trial):
        super().__init__()
        self.trial, self.curve, self.start = trial, [], time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.curve.append(cross_entropy(self.model, logs["val_loss"]))
        self.trial.set_user_attr("seconds", round(time.perf_counter() - self.start, 1))
        if not math.isfinite(self.curve[-1]):
            raise optuna.TrialPruned
        self.trial.report(self.curve[-1], epoch + 1)
        if self.trial.should_prune():
            raise optuna.TrialPruned
