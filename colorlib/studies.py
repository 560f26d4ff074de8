"""The database of a search: open it, read it as a table, record it as text.

Not here: the search itself (`colorlib.search`). Chapter 4 of the report.

A recorded search is a folder:

================= ==================================================================
config.json       settings and images of all trials, and each stage's range
trials.csv        a row for each trial: see `table`
environment.json  versions and machine
================= ==================================================================
"""

import csv
import json
import sqlite3
import time
import warnings
from pathlib import Path

import optuna
from optuna.trial import TrialState

from colorlib import images, runs

PLAN = "plan"
"""The attribute of a study in which all processes find settings, images and range."""

DONE = (TrialState.COMPLETE, TrialState.PRUNED)

STAGES = ("coarse", "fine")

RETRIES = 3
"""How often a trial is given to another process after its own died."""

COLUMNS = ("stage", "trial", "state", "l2", "loss", "epochs", "seconds", "process", "curve")


class StudyError(ValueError):
    """A search that can't go on; the message says why and what to do."""


def open_studies(place, silence=60):
    """Open the database of a search.

    Parameters
    ----------
    place : str or path-like
        A file, or a database URL.
    silence : int
        Seconds without a sign of life after which a process counts as dead.

    Returns
    -------
    optuna.storages.RDBStorage

    Raises
    ------
    StudyError
        If it can't be opened, or the file is something else.
    """
    url = str(place)
    settings = {}
    if "://" not in url:
        _check_file(Path(place))
        url = f"sqlite:///{Path(place).resolve()}"
    if url.startswith("sqlite"):
        settings = {"connect_args": {"timeout": 60}}  # seconds to wait for another's writing
    for attempt in range(5):
        try:
            return _storage(url, settings, silence)
        except ImportError as error:
            raise StudyError(f"{error}; install the database's driver, or name a file") from None
        except Exception as error:  # SQLAlchemy's and each driver's own
            reason = str(error).splitlines()[0]
            time.sleep(0.2 * attempt)  # two processes that make the same tables at once
    raise StudyError(f"the study can't be opened ({reason}); is the place right and writable?")


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
    storage = _existing(place)
    names, rows = {}, []
    for stage in _stages(storage):
        study = optuna.load_study(study_name=stage, storage=storage)
        begun = [t for t in study.get_trials(deepcopy=False) if "began" in t.user_attrs]
        for trial in begun:
            curve = [trial.intermediate_values[k] for k in sorted(trial.intermediate_values)]
            rows.append(
                {
                    "stage": stage,
                    "trial": trial.number,
                    "state": trial.state.name.lower(),
                    "l2": trial.params["l2"],
                    "loss": trial.value if trial.value is not None else float("nan"),
                    "epochs": len(curve),
                    "seconds": trial.user_attrs.get("seconds", 0.0),
                    "process": names.setdefault(trial.user_attrs["process"], len(names) + 1),
                    "curve": curve,
                }
            )
    return rows


def best(place, stage):
    """Return a stage's answer.

    Parameters
    ----------
    place : str or path-like
        A file, or a database URL.
    stage : {"coarse", "fine"}

    Returns
    -------
    dict
        The complete trial with the lowest loss, as in `table`.

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
    try:
        _record(place, Path(folder))
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
            rows = [_typed(row) for row in csv.DictReader(file)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StudyError(f"{folder}: not a recorded search ({error}); record it again") from None
    return rows, plan


def _record(place, folder):
    rows = table(place)
    storage = _existing(place)
    plans = {
        stage: optuna.load_study(study_name=stage, storage=storage).user_attrs[PLAN]
        for stage in _stages(storage)
    }
    common = {name: plans["coarse"][name] for name in ("settings", "data")}
    ranges = {"ranges": {stage: plan["range"] for stage, plan in plans.items()}}
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in {"config": common | ranges, "environment": runs.environment()}.items():
        with images.replacing(folder / f"{name}.json") as temporary:
            temporary.write_text(json.dumps(value, indent=1) + "\n")
    with images.replacing(folder / "trials.csv") as temporary, temporary.open("w") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            shown = {"l2": f"{row['l2']:.4g}", "loss": f"{row['loss']:.5g}"}
            curve = " ".join(f"{value:.4f}" for value in row["curve"])
            writer.writerow(row | shown | {"curve": curve})


def _typed(row):
    kinds = {
        "trial": int,
        "l2": float,
        "loss": float,
        "epochs": int,
        "seconds": float,
        "process": int,
    }
    typed = {name: kind(row[name]) for name, kind in kinds.items()}
    return row | typed | {"curve": [float(value) for value in row["curve"].split()]}


def _existing(place):
    if "://" not in str(place) and not Path(place).is_file():
        raise StudyError(f"{place}: no such study; make it with `colorlib search`")
    return open_studies(place)


def _stages(storage):
    names = [study.study_name for study in storage.get_all_studies()]
    found = [stage for stage in STAGES if stage in names]
    if not found:
        raise StudyError("no stage of a search in this database; is it the right one?")
    return found


def _storage(url, settings, silence):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.storages.RDBStorage(
            url,
            engine_kwargs=settings,
            heartbeat_interval=max(1, silence // 4),
            grace_period=silence,
            heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(
                RETRIES
            ),
        )


def _check_file(path):
    if not path.exists() or path.stat().st_size == 0:
        return
    try:
        with sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True) as file:
            tables = {name for (name,) in file.execute("SELECT name FROM sqlite_master")}
        file.close()
    except sqlite3.Error as error:
        raise StudyError(f"{path}: not a study ({error}); choose another name") from None
    if tables and "studies" not in tables:
        raise StudyError(f"{path}: a database, but not of studies; choose another name")
