"""Search the L2 constant: random, coarse to fine, shared by any number of processes.

Not here: how a network is trained (`colorlib.training`). Chapter 4 of the report, which searched in
this way by hand.

A search is up to three Optuna studies, ``coarse``, ``fine`` and ``edge``, in one database, which
processes share as `experiments.shared_study` says. The constant of trial k follows from the seed
and k alone, so no two processes try the same one, and what is tried depends neither on the number
of processes nor on the death of some.

What is compared is the validation loss *without* the L2 penalty: with it, the smallest constant
would win because its penalty is small.

Optuna does the pruning. Its KerasPruningCallback was weighed: it sees the loss with the penalty.
"""

import csv
import datetime
import hashlib
import json
import math
from pathlib import Path
from typing import NamedTuple

import filelock
import keras
import numpy as np
import optuna
from optuna.trial import TrialState

from colorlib import files, generator, images, metrics, quantizer, runs, training
from colorlib.callbacks import Interrupt, SetEpoch
from colorlib.experiments import shared_study
from colorlib.experiments.shared_study import DONE, StudyError

PLAN = "plan"
"""The attribute of a study in which all processes find settings, images and range."""

STAGES = ("coarse", "fine", "edge")

COARSE_RANGE = (1e-7, 1.0)
"""The smallest has no effect; with the largest only the penalty matters."""

FINE_DECADES = 1.0
"""Width of the fine stage's range."""

FEWEST_COARSE = 4
"""Complete coarse trials without which no other stage begins."""

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
"""The columns of ``trials.csv``, and what turns a cell's text into its value."""


class SmallSet(NamedTuple):
    """The images of a search, uint8, and what identifies them.

    Described with the validation loss of the training images' frequencies (`prior_loss`).
    """

    train: np.ndarray
    validation: np.ndarray
    described: dict


def small_set(store, count, size):
    """Take images at even distances from a store, half to train on and half to validate on.

    Parameters
    ----------
    store : Store or ndarray of uint8, shape (n, side, side, 3)
    count : int
        Images in each half.
    size : int
        Side in pixels that they are resized to.

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
    settings, small, place, stage, trials, progress=True, callbacks=(), heartbeat_timeout=60
):
    """Do a stage's trials, or those that are left of it, together with other processes.

    It returns when all are done, also those of other processes: if one of them dies meanwhile, its
    trial is repeated here. After Ctrl-C, the next call repeats the trial that was interrupted.

    Parameters
    ----------
    settings : colorlib.config.TrainConfig
        Settings of every trial; `l2` is replaced. The seed decides which constants are tried.
    small : SmallSet
        The images.
    place : str or path-like
        As for `shared_study.open_storage`.
    stage : {"coarse", "fine", "edge"}
        Coarse draws from `COARSE_RANGE`, fine from `fine_range`, edge from `edge_range`.
    trials : int
        Done in all when this returns, pruned ones included, failed ones not.
    progress : bool
        Whether to show a progress bar.
    callbacks : sequence of callable
        Called with the study and the `optuna.trial.FrozenTrial` after each trial of this process.
    heartbeat_timeout : int
        Seconds without a heartbeat after which a process counts as dead; at least 2.

    Returns
    -------
    optuna.Study

    Raises
    ------
    StudyError
        If the study can't be opened or has other settings or images, or if another stage is
        called for before the coarse one has enough trials.
    """
    study = _open_stage(settings, small, place, stage, heartbeat_timeout)
    low, high = study.user_attrs[PLAN]["range"]

    def objective(trial):
        l2 = trial.suggest_float("l2", low, high, log=True)
        return _train(settings.replace(l2=l2), small, trial)

    shared_study.optimize(
        study,
        objective,
        trials,
        optuna.samplers.RandomSampler,
        (settings.seed, STAGES.index(stage)),
        progress,
        callbacks,
    )
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
        For each trial that began: stage; trial, its number, which a repeated one keeps; state,
        ``"complete"``, ``"pruned"``, ``"fail"`` or ``"running"``; l2; loss, in nats per pixel
        without the penalty, the last one of a pruned trial and nan where there is none; epochs;
        seconds; process, numbered from 1; curve, the validation loss after each epoch.

    Raises
    ------
    StudyError
        If there is no such study.
    """
    names, rows = {}, []
    for stage, study in _existing(place).items():
        for trial in study.get_trials(deepcopy=False):
            if "l2" not in trial.params:  # it never began
                continue
            curve = [value for _, value in sorted(trial.intermediate_values.items())]
            state = trial.state.name.lower()
            loss = trial.value if trial.value is not None else float("nan")
            seconds = round(trial.duration.total_seconds(), 1) if trial.duration else 0.0
            process = names.setdefault(trial.user_attrs["process"], len(names) + 1)
            number = shared_study.number_of(trial)
            row = stage, number, state, trial.params["l2"], loss, len(curve), seconds
            rows.append(dict(zip(COLUMNS, (*row, process, curve), strict=True)))
    return rows


def record(place, folder):
    """Write a search as text files, to be committed or mailed.

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
    for row in rows:
        curve = " ".join(f"{value:.4f}" for value in row["curve"])
        row |= {"l2": f"{row['l2']:.4g}", "loss": f"{row['loss']:.5g}", "curve": curve}
    plans = {stage: study.user_attrs[PLAN] for stage, study in _existing(place).items()}
    plan = {name: plans["coarse"][name] for name in ("settings", "data")}
    plan["ranges"] = {stage: plan["range"] for stage, plan in plans.items()}
    with files.explained_writing(folder, StudyError):
        folder.mkdir(parents=True, exist_ok=True)
        files.write_json(folder / "config.json", plan)
        files.write_json(folder / "environment.json", runs.environment())
        with files.replacing(folder / "trials.csv") as temporary, temporary.open("w") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


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


def resume(folder, place):
    """Make the database of a recorded search, if it is missing, so that the search can continue.

    Parameters
    ----------
    folder : path-like
        What `record` wrote. It has rounded numbers, so the pruner sees rounded losses.
    place : str or path-like
        The SQLite file. A file that is there is left as it is, and so is a database server, which
        keeps its studies itself.

    Raises
    ------
    StudyError
        If the folder holds no recorded search, or the file can't be written.
    """
    if "://" in str(place) or Path(place).exists():
        return
    place = Path(place).resolve()
    rows, plan = load_search(folder)
    with files.explained_writing(place, StudyError), filelock.FileLock(f"{place}.lock"):
        if not place.exists():
            with files.replacing(place) as temporary:
                storage = shared_study.open_storage(temporary)
                for stage, limits in plan.pop("ranges").items():
                    study = optuna.create_study(storage=storage, study_name=stage)
                    study.set_user_attr(PLAN, {**plan, "range": limits})
                    _add_recorded(study, limits, [row for row in rows if row["stage"] == stage])
                storage.engine.dispose()


def cross_entropy(network, total):
    """Take the L2 penalty off a loss.

    Parameters
    ----------
    network : keras.Model
        With or without a penalty on its kernels.
    total : float
        The loss as Keras reports it: the mean cross-entropy plus the penalty.

    Returns
    -------
    float
        In nats per pixel.
    """
    return float(total) - float(sum(network.losses, start=0.0))


def fine_range(constants, losses):
    """Choose the range of the fine stage: one decade around the best quarter of the trials.

    Parameters
    ----------
    constants, losses : array-like of float, shape (n,)
        L2 constants, and the validation losses they led to.

    Returns
    -------
    low, high : float
        `FINE_DECADES` apart, around the geometric median of the best quarter's constants.
    """
    best = np.argsort(losses)[: -(-len(losses) // 4)]
    middle = np.median(np.log10(np.asarray(constants)[best]))
    low, high = 10 ** (middle + np.array([-0.5, 0.5]) * FINE_DECADES)
    return float(low), float(high)


def edge_range(constants, losses):
    """Choose the range of the edge stage: where the loss rises most from a trial to the next.

    Parameters
    ----------
    constants, losses : array-like of float, shape (n,)
        L2 constants, and the validation losses they led to; at least 2.

    Returns
    -------
    low, high : float
        Two of the constants with no other in between.
    """
    order = np.argsort(constants)
    constants, losses = np.asarray(constants)[order], np.asarray(losses)[order]
    step = int(np.argmax(np.diff(losses)))
    return float(constants[step]), float(constants[step + 1])


def _stages(storage):
    found = set(optuna.get_all_study_names(storage))
    studies = [stage for stage in STAGES if stage in found]
    return {stage: optuna.load_study(study_name=stage, storage=storage) for stage in studies}


def _existing(place):
    if "://" not in str(place) and not Path(place).is_file():
        raise StudyError(f"{place}: no such study; make it with `colorlib search`")
    if stages := _stages(shared_study.open_storage(place)):
        return stages
    raise StudyError("no stage of a search in this database; is it the right one?")


def _open_stage(settings, small, place, stage, heartbeat_timeout):
    if stage not in STAGES:
        raise StudyError(f"no stage {stage!r}; choose from {', '.join(STAGES)}")
    storage = shared_study.open_storage(place, heartbeat_timeout)
    there = _stages(storage)
    plan = there[stage].user_attrs.get(PLAN) if stage in there else None
    wanted = {"settings": settings.replace(l2=0.0).to_dict(), "data": small.described}
    if plan is None:
        limits = COARSE_RANGE if stage == "coarse" else _range_from_coarse(place, there, stage)
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


def _range_from_coarse(place, there, stage):
    trials = there["coarse"].get_trials(deepcopy=False) if "coarse" in there else []
    if any(trial.state == TrialState.RUNNING for trial in trials):
        raise StudyError(f"{place}: coarse trials are running; call that stage to wait for them")
    done = [trial for trial in trials if trial.state in DONE and trial.value is not None]
    if sum(trial.state == TrialState.COMPLETE for trial in done) < FEWEST_COARSE:
        raise StudyError(
            f"{place}: the {stage} stage needs {FEWEST_COARSE} complete coarse trials to know "
            "where to look; run the coarse stage first"
        )
    choose = {"fine": fine_range, "edge": edge_range}[stage]
    return choose([t.params["l2"] for t in done], [t.value for t in done])


def _add_recorded(study, limits, rows):
    """Add a stage's recorded trials under their numbers; what was running counts as failed."""
    now = datetime.datetime.now()
    for row in rows:
        done = row["state"] in ("complete", "pruned")
        trial = optuna.create_trial(
            state=TrialState[row["state"].upper()] if done else TrialState.FAIL,
            value=row["loss"] if done and math.isfinite(row["loss"]) else None,
            params={"l2": float(np.clip(row["l2"], *limits))},  # rounded, perhaps over an end
            distributions={"l2": optuna.distributions.FloatDistribution(*limits, log=True)},
            user_attrs={
                "process": f"recorded:{row['process']}",
                shared_study.NUMBER: row["trial"],
            },
            intermediate_values=dict(enumerate(row["curve"], 1)),
        )
        trial.datetime_start = now - datetime.timedelta(seconds=row["seconds"])
        trial.datetime_complete = now
        study.add_trial(trial)


def _train(settings, small, trial):
    """Train one network, report each epoch, and return the result, in nats per pixel."""
    keras.backend.clear_session()
    training.make_deterministic(settings.seed)
    batches = training.batches_for(settings, small.train, True, workers=0)
    validation = training.batches_for(settings, small.validation, False, workers=0)
    prior = quantizer.prior(quantizer.code_histogram(small.train))
    network = training.new_network(settings, len(batches), prior)

    def report(epoch, logs):
        loss = cross_entropy(network, logs["val_loss"])
        trial.report(loss, epoch + 1)
        if not math.isfinite(loss) or trial.should_prune():
            raise optuna.TrialPruned

    with Interrupt() as interrupt:
        network.fit(
            batches,
            validation_data=validation,
            epochs=settings.epochs,
            callbacks=[
                interrupt,
                SetEpoch(batches),
                keras.callbacks.LambdaCallback(on_epoch_end=report),
            ],
            shuffle=False,  # the batches order themselves
            verbose=0,
        )
    return cross_entropy(network, network.history.history["val_loss"][-1])
