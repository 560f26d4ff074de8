"""Search the L2 constant: random, coarse to fine, shared by any number of processes.

Not here: how a network is trained (`colorlib.training`). Chapter 4 of the report, which searched in
this way by hand.

A search is two Optuna studies, ``coarse`` and ``fine``, in one database. Each process takes the
next trial from it, trains, and stores the result, until as many trials are done as were asked for,
by all processes together. The constant of trial k follows from the seed and k alone, so no two
processes try the same one, and their number changes nothing about what is tried. A process that
dies is noticed by its heartbeat, and another one takes its trial over.

What is compared is the validation loss *without* the L2 penalty. With it, a small constant would
win for no other reason than being small.

Optuna does the storage, the trials, the heartbeat and the pruning. Its MaxTrialsCallback was
weighed for the number of trials: several processes together would do more than were asked for. Its
KerasPruningCallback sees the loss with the penalty.
"""

import contextlib
import csv
import datetime
import hashlib
import json
import math
import os
import platform
import sqlite3
import time
import warnings
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import optuna
from optuna.trial import TrialState
from tqdm.auto import tqdm

from colorlib import callbacks, files, generator, images, metrics, quantizer, runs, training

PLAN = "plan"
"""The attribute of a study in which all processes find settings, images and range."""

DONE = (TrialState.COMPLETE, TrialState.PRUNED)

STAGES = ("coarse", "fine")

COARSE_RANGE = (1e-7, 1.0)
"""From no effect at all to nothing but the penalty."""

FINE_DECADES = 1.0
"""Width of the fine stage's range."""

FEWEST_COARSE = 4
"""Complete coarse trials without which no fine stage begins."""

RETRIES = 3
"""How often a trial is given to another process after its own died."""

COLUMNS = {
    "stage": str,
    "trial": int,
    "state": str,
    "l2": float,
    "loss": float,
    "epochs": int,
    "seconds": float,
    "process": int,
    "curve": lambda text: [float(value) for value in text.split()],
}
"""Of ``trials.csv``, and what makes a value of each cell."""


class StudyError(ValueError):
    """A search that can't go on; the message says why and what to do."""


class SmallSet(NamedTuple):
    """The images of a search: `train` and `validation`, uint8, and what tells them from others.

    Described with the validation loss of the training images' frequencies (`prior_loss`).
    """

    train: np.ndarray
    validation: np.ndarray
    described: dict


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
    StudyError
        If the store has too few images.
    """
    if len(store) < 2 * count:
        raise StudyError(f"{2 * count} images are needed and {len(store)} there; ask for fewer")
    chosen = np.linspace(0, len(store) - 1, 2 * count).astype(int)
    found = [np.array(image) for image in generator.read_images(store, chosen)]
    checksum = hashlib.sha256(b"".join(image.tobytes() for image in found)).hexdigest()
    small = np.stack([images.square(image, size) for image in found])
    train, validation = small[::2], small[1::2]
    described = {
        "train_images": count,
        "validation_images": count,
        "sha256": checksum[:16],
        "prior": round(prior_loss(train, validation), 4),
    }
    return SmallSet(train, validation, described)


def prior_loss(train, validation):
    """Compute the loss of always predicting the training images' frequencies of colors.

    Parameters
    ----------
    train, validation : ndarray of uint8, shape (n, size, size, 3)
        sRGB; the size is a multiple of 4.

    Returns
    -------
    float
        On the validation images, in nats per pixel.
    """
    prior = quantizer.prior(quantizer.code_histogram(train))
    logits = np.log(np.maximum(prior, quantizer.PRIOR_FLOOR))
    return float(metrics.cross_entropy(logits, generator.encode(validation)[1]).mean())


def search(
    settings, small, place, stage, trials, progress=True, on_trial=None, heartbeat_timeout=60
):
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
    heartbeat_timeout : int
        Seconds without a heartbeat after which a process counts as dead; at least 2.

    Returns
    -------
    optuna.Study

    Raises
    ------
    StudyError
        If the study can't be opened or is of other settings or images, or the fine stage is
        called for before the coarse one has come to something.
    """
    study = _open_stage(settings, small, place, stage, heartbeat_timeout)
    low, high = study.user_attrs[PLAN]["range"]
    taken_over = False

    def objective(trial):
        nonlocal taken_over
        trial.set_user_attr("process", f"{platform.node()}:{os.getpid()}")
        earlier = study.get_trials(deepcopy=False)[: trial.number]
        if sum(other.state != TrialState.FAIL for other in earlier) >= trials:
            raise _SurplusError
        seed = np.random.SeedSequence([settings.seed, STAGES.index(stage), trial.number])
        study.sampler = optuna.samplers.RandomSampler(int(seed.generate_state(1)[0]))
        l2 = trial.suggest_float("l2", low, high, log=True)
        _begin(study, trial)
        try:
            return _train(settings.replace(l2=l2), small, trial)
        except KeyboardInterrupt:
            study.enqueue_trial({"l2": l2})
            raise
        finally:
            taken_over = study.get_trials(deepcopy=False)[trial.number].state.is_finished()

    def show(_, trial):
        if on_trial is not None and trial.state in DONE:
            on_trial(trial)

    with tqdm(total=trials, unit=" trials", desc=stage, disable=not progress) as bar:
        while _another(study, trials, heartbeat_timeout, bar):
            taken_over = False
            try:
                study.optimize(objective, n_trials=1, catch=_SurplusError, callbacks=[show])
            except Exception:
                if not taken_over:  # if it was, Optuna refuses this process's result
                    raise
    return study


def table(place):
    """Read what a search has found so far.

    Parameters
    ----------
    place : str or path-like
        A file, or a database URL.

    Returns
    -------
    list of dict
        For each trial that began: stage; trial, its number; state, ``"complete"``, ``"pruned"``,
        ``"fail"`` or ``"running"``; l2; loss, in nats per pixel without the penalty, the last known
        of a pruned trial and nan where there is none; epochs; seconds; process, numbered from 1;
        curve, the validation loss after each epoch.

    Raises
    ------
    StudyError
        If there is no such study.
    """
    names, rows = {}, []
    for stage, study in _existing(place).items():
        for trial in study.get_trials(deepcopy=False):
            if "began" not in trial.user_attrs:
                continue
            curve = [value for _, value in sorted(trial.intermediate_values.items())]
            state = trial.state.name.lower()
            loss = trial.value if trial.value is not None else float("nan")
            seconds = trial.user_attrs.get("seconds", 0.0)
            process = names.setdefault(trial.user_attrs["process"], len(names) + 1)
            row = stage, trial.number, state, trial.params["l2"], loss, len(curve), seconds
            rows.append(dict(zip(COLUMNS, (*row, process, curve), strict=True)))
    return rows


def best(place, stage):
    """Return a stage's answer: the complete trial with the lowest loss, as in `table`.

    Parameters
    ----------
    place : str or path-like
        A file, or a database URL.
    stage : {"coarse", "fine"}

    Returns
    -------
    dict

    Raises
    ------
    StudyError
        If there is no such study, or no complete trial in it.
    """
    rows = [r for r in table(place) if r["stage"] == stage and r["state"] == "complete"]
    if not rows:
        raise StudyError(f"{place}: no complete {stage} trial yet; call for more trials")
    return min(rows, key=lambda row: row["loss"])


def record(place, folder):
    """Write a search down as text, to be committed or mailed.

    Parameters
    ----------
    place : str or path-like
        A file, or a database URL.
    folder : path-like
        Made if missing.

    Raises
    ------
    StudyError
        If there is no such study, or the folder can't be written.
    """
    rows, folder = table(place), Path(folder)
    plans = {stage: study.user_attrs[PLAN] for stage, study in _existing(place).items()}
    plan = {name: plans["coarse"][name] for name in ("settings", "data")}
    plan["ranges"] = {stage: plan["range"] for stage, plan in plans.items()}
    for row in rows:
        curve = " ".join(f"{value:.4f}" for value in row["curve"])
        row |= {"l2": f"{row['l2']:.4g}", "loss": f"{row['loss']:.5g}", "curve": curve}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, value in {"config": plan, "environment": runs.environment()}.items():
            with files.replacing(folder / f"{name}.json") as temporary:
                temporary.write_text(json.dumps(value, indent=1) + "\n")
        with files.replacing(folder / "trials.csv") as temporary, temporary.open("w") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    except OSError as error:
        reason = error.strerror or error
        raise StudyError(f"{folder}: can't be written ({reason}); choose another place") from None


def load_search(path):
    """Load what `record` wrote.

    Parameters
    ----------
    path : str or path-like
        Its name, or its folder (`runs.find`).

    Returns
    -------
    rows : list of dict
        As `table` gives them.
    plan : dict
        Settings, images, and each stage's range.

    Raises
    ------
    StudyError
        If it is missing or damaged.
    """
    try:
        folder = runs.find(path)
    except runs.RunError as error:
        raise StudyError(f"no recorded search: {error}") from None
    try:
        plan = json.loads((folder / "config.json").read_text())
        with (folder / "trials.csv").open(newline="") as file:
            rows = [
                {name: kind(row[name]) for name, kind in COLUMNS.items()}
                for row in csv.DictReader(file)
            ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StudyError(f"{folder}: not a recorded search ({error}); record it again") from None
    return rows, plan


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


class _SurplusError(Exception):
    """Raised in a trial that another process was faster to begin."""


@contextlib.contextmanager
def _no_experimental_warnings():  # Optuna calls its heartbeat experimental
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


@_no_experimental_warnings()
def _open(place, heartbeat_timeout=60):
    """Open the database of a search: a file, or a URL."""
    url, settings = str(place), {}
    if "://" not in url:
        _check_file(Path(place))
        url = f"sqlite:///{Path(place).resolve()}"
    if url.startswith("sqlite"):
        settings = {"connect_args": {"timeout": 60}}  # seconds to wait for another's writing
    for attempt in range(5):
        try:
            return optuna.storages.RDBStorage(
                url,
                engine_kwargs=settings,
                heartbeat_interval=max(1, heartbeat_timeout // 4),
                grace_period=heartbeat_timeout,
                heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(
                    RETRIES
                ),
            )
        except ImportError as error:
            raise StudyError(f"{error}; install the database's driver, or name a file") from None
        except Exception as error:  # SQLAlchemy's and each driver's own
            reason = str(error).splitlines()[0]
            time.sleep(0.2 * attempt)  # two processes that make the same tables at once
    raise StudyError(f"the study can't be opened ({reason}); is the place right and writable?")


def _check_file(path):
    """Refuse a file that is something else: Optuna would add its tables to any database."""
    if not path.exists() or path.stat().st_size == 0:
        return
    try:
        uri = f"{path.resolve().as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as file:
            tables = {name for (name,) in file.execute("SELECT name FROM sqlite_master")}
    except sqlite3.Error as error:
        raise StudyError(f"{path}: not a study ({error}); choose another name") from None
    if tables and "studies" not in tables:
        raise StudyError(f"{path}: a database, but not of studies; choose another name")


def _stages(storage):
    names = optuna.get_all_study_names(storage)
    found = [stage for stage in STAGES if stage in names]
    return {stage: optuna.load_study(study_name=stage, storage=storage) for stage in found}


def _existing(place):
    if "://" not in str(place) and not Path(place).is_file():
        raise StudyError(f"{place}: no such study; make it with `colorlib search`")
    if stages := _stages(_open(place)):
        return stages
    raise StudyError("no stage of a search in this database; is it the right one?")


def _open_stage(settings, small, place, stage, heartbeat_timeout):
    if stage not in STAGES:
        raise StudyError(f"no stage {stage!r}; choose from {', '.join(STAGES)}")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = _open(place, heartbeat_timeout)
    there = _stages(storage)
    plan = there[stage].user_attrs.get(PLAN) if stage in there else None
    wanted = {"settings": settings.replace(l2=0.0).to_dict(), "data": small.described}
    if plan is None:
        limits = COARSE_RANGE if stage == "coarse" else _range_from_coarse(place, there)
        plan = {**wanted, "range": limits}
    elif shown := runs.differences(plan, wanted):
        raise StudyError(f"{place}: another search ({shown}); choose another name or its settings")
    warmup = settings.epochs // 2  # before, BatchNorm and the rate make losses erratic
    pruner = optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=warmup)
    study = optuna.create_study(
        storage=storage, pruner=pruner, study_name=stage, load_if_exists=True
    )
    study.set_user_attr(PLAN, plan)
    return study


def _range_from_coarse(place, there):
    trials = there["coarse"].get_trials(deepcopy=False) if "coarse" in there else []
    if any(trial.state == TrialState.RUNNING for trial in trials):
        raise StudyError(f"{place}: coarse trials are running; call that stage to wait for them")
    done = [trial for trial in trials if trial.state in DONE and trial.value is not None]
    if sum(trial.state == TrialState.COMPLETE for trial in done) < FEWEST_COARSE:
        raise StudyError(
            f"{place}: the fine stage needs {FEWEST_COARSE} complete coarse trials to know where "
            "to look; run the coarse stage first"
        )
    return fine_range([t.params["l2"] for t in done], [t.value for t in done])


def _another(study, trials, heartbeat_timeout, bar):
    """Wait until there is a trial to do (True), or all are done (False)."""
    while True:
        _fail_the_dead(study, heartbeat_timeout)
        begun = study.get_trials(deepcopy=False, states=(*DONE, TrialState.RUNNING))
        done = [trial for trial in begun if trial.state in DONE]
        bar.n = min(len(done), trials)
        if complete := [trial for trial in done if trial.state == TrialState.COMPLETE]:
            best = min(complete, key=lambda trial: trial.value)
            bar.set_postfix_str(f"best {best.value:.3f} nats at l2 {best.params['l2']:.1e}")
        if len(done) >= trials:
            return False
        if len(begun) < trials:
            return True
        time.sleep(0.5)


def _begin(study, trial):
    # Optuna's thread may be late with the first heartbeat, and without one a trial whose process
    # was killed would count as running for ever
    storage = trial.storage
    number = storage.get_study_id_from_name(study.study_name)
    number = storage.get_trial_id_from_study_id_trial_number(number, trial.number)
    storage.record_heartbeat(number)
    trial.set_user_attr("began", trial.number)


@_no_experimental_warnings()
def _fail_the_dead(study, heartbeat_timeout):
    optuna.storages.fail_stale_trials(study)
    # a process that died between taking a trial and its first heartbeat is unknown to Optuna
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        age = (datetime.datetime.now() - trial.datetime_start).total_seconds()
        if trial.user_attrs.get("began") != trial.number and age > heartbeat_timeout:
            study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)


def _train(settings, small, trial):
    """Train one network, report each epoch, and return the result, in nats per pixel."""
    keras.backend.clear_session()
    training.make_deterministic(settings.seed)
    batches = training.batches_for(settings, small.train, True, workers=0)
    validation = training.batches_for(settings, small.validation, False, workers=0)
    prior = quantizer.prior(quantizer.code_histogram(small.train))
    network = training.new_network(settings, len(batches), prior)
    curve, start = [], time.perf_counter()

    def report(epoch, logs):
        curve.append(cross_entropy(network, logs["val_loss"]))
        trial.set_user_attr("seconds", round(time.perf_counter() - start, 1))
        if not math.isfinite(curve[-1]):
            raise optuna.TrialPruned
        trial.report(curve[-1], epoch + 1)
        if trial.should_prune():
            raise optuna.TrialPruned

    with callbacks.Interrupt() as interrupt:
        reporting = keras.callbacks.LambdaCallback(on_epoch_end=report)
        network.fit(
            batches,
            validation_data=validation,
            epochs=settings.epochs,
            callbacks=[interrupt, callbacks.SetEpoch(batches), reporting],
            shuffle=False,  # the batches order themselves
            verbose=0,
        )
    return curve[-1]
