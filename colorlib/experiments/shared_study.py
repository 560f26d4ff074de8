"""An Optuna study that any number of processes share, and that survives the death of any of them.

Not here: what is searched (`experiments.l2_search`, `experiments.studies`).

All trials have a number and wait in the study's database. Each process takes the next one, does
it, and stores the result, until none is left. When a process dies, its heartbeat stops, and its
trial waits again, under its number.

Optuna does the storage, the trials, the sampling and the heartbeat; heartbeats that lie in the
future, since a clock was set back, `_Storage` adds. Optuna's MaxTrialsCallback was weighed: several
processes together would do more trials than were asked for.
"""

import os
import platform
import time
import warnings
from pathlib import Path

import numpy as np
import optuna
import sqlalchemy
from optuna.trial import TrialState
from tqdm.auto import tqdm

DONE = (TrialState.COMPLETE, TrialState.PRUNED)

NUMBER = "number"
"""The attribute of a trial with its number; Optuna's own is another one when it is repeated."""


class StudyError(ValueError):
    """A search that can't continue; the message says why and what to do."""


class _SurplusError(Exception):
    """Raised in a trial that nobody asked for: another process has taken its number."""


def open_storage(place, heartbeat_timeout=60):
    """Open the database of a search.

    Parameters
    ----------
    place : str or path-like
        The SQLite file, made if missing, or the URL of any database SQLAlchemy knows, which
        several machines can share: ``postgresql+psycopg://USER@HOST/DATABASE`` needs the extra
        ``postgresql``. When a machine dies, another repeats its trial after `heartbeat_timeout`.
    heartbeat_timeout : int
        Seconds without a heartbeat after which a process counts as dead; at least 2.

    Returns
    -------
    optuna.storages.RDBStorage

    Raises
    ------
    StudyError
        If it can't be opened.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # Optuna calls its heartbeat experimental
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    url = str(place) if "://" in str(place) else f"sqlite:///{Path(place).resolve()}"
    # no connection stays open: servers and firewalls end idle ones, and SQLite's are never closed
    settings = {"poolclass": sqlalchemy.NullPool}
    if url.startswith("sqlite"):
        settings["connect_args"] = {"timeout": 60}  # seconds to wait for another's writing
    for attempt in range(5):
        if attempt:  # two processes made the same tables at once
            time.sleep(0.2 * attempt)
        try:
            return _Storage(
                url,
                settings,
                heartbeat_interval=max(1, heartbeat_timeout // 4),
                grace_period=heartbeat_timeout,
            )
        except ImportError as error:
            remedy = 'install the database\'s driver (PostgreSQL: pip install "psycopg[binary]")'
            raise StudyError(f"{error}; {remedy}, or name a file") from None
        except Exception as error:  # SQLAlchemy's and each driver's own
            reason = str(error).splitlines()[0]
    raise StudyError(f"the study can't be opened ({reason}); is the place right and writable?")


def optimize(study, objective, trials, sampler, seed, progress=True, callbacks=()):
    """Do the trials of a study, or those that are left of it, together with other processes.

    It returns when all are done, also those of other processes: if one of them dies meanwhile, its
    trial is repeated here. After Ctrl-C, the next call repeats the trial that was interrupted.

    Parameters
    ----------
    study : optuna.Study
        In a storage of `open_storage`.
    objective : callable
        Gets an `optuna.Trial`, returns its loss; raises `optuna.TrialPruned` to end it early.
    trials : int
        Done in all when this returns, pruned ones included, failed ones not.
    sampler : callable
        Gets a seed, returns the `optuna.samplers.BaseSampler` of one trial.
    seed : sequence of int
        The seed of each trial follows from it and the trial's number.
    progress : bool
        Whether to show a progress bar.
    callbacks : sequence of callable
        Called with the study and the `optuna.trial.FrozenTrial` after each trial of this process.
    """
    taken_over = False

    def one(trial):
        nonlocal taken_over
        earlier = study.get_trials(deepcopy=False)[: trial.number]
        taken = {number_of(other) for other in earlier if other.state != TrialState.FAIL}
        number = number_of(trial)
        if number in taken or number >= trials:
            raise _SurplusError
        trial.set_user_attr("process", f"{platform.node()}:{os.getpid()}")
        _record_heartbeat(study, trial)
        own_seed = np.random.SeedSequence([*seed, number]).generate_state(1)[0]
        study.sampler = sampler(seed=int(own_seed))  # Optuna asks it at the first suggestion
        try:
            return objective(trial)
        finally:
            taken_over = study.get_trials(deepcopy=False)[trial.number].state.is_finished()

    with tqdm(total=trials, unit=" trials", desc=study.study_name, disable=not progress) as bar:
        while (done := len(_numbers(study, *DONE).intersection(range(trials)))) < trials:
            bar.update(done - bar.n)
            taken_over = False
            _enqueue_missing(study, trials)
            if not _numbers(study, TrialState.WAITING):  # other processes do the rest
                time.sleep(0.5)
                optuna.storages.fail_stale_trials(study)
                continue
            try:
                study.optimize(one, n_trials=1, catch=_SurplusError, callbacks=callbacks)
            except Exception:
                if not taken_over:  # if it was, Optuna refuses this process's result
                    raise
        bar.update(trials - bar.n)


def number_of(trial):
    """Return a trial's number in its study; a repeated trial has that of the first attempt.

    Parameters
    ----------
    trial : optuna.Trial or optuna.trial.FrozenTrial

    Returns
    -------
    int
        From 0.
    """
    return trial.user_attrs.get(NUMBER, trial.number)


def _numbers(study, *states):
    return {number_of(one) for one in study.get_trials(deepcopy=False, states=states)}


def _enqueue_missing(study, trials):
    """Let each number wait that no trial has but failed ones; it repeats what they tried."""
    found = study.get_trials(deepcopy=False)
    tried = {number_of(one): one.params for one in found if one.params}
    alive = {number_of(one) for one in found if one.state != TrialState.FAIL}
    for number in sorted(set(range(trials)) - alive):
        study.enqueue_trial(tried.get(number, {}), user_attrs={NUMBER: number})


def _record_heartbeat(study, trial):
    # Optuna's thread may be late with the first heartbeat, and without one a trial whose process
    # was killed would count as running for ever
    storage = trial.storage
    number = storage.get_study_id_from_name(study.study_name)
    storage.record_heartbeat(storage.get_trial_id_from_study_id_trial_number(number, trial.number))


RUNNING = sqlalchemy.text(
    "SELECT trials.trial_id, heartbeat FROM trials LEFT JOIN trial_heartbeats "
    "ON trial_heartbeats.trial_id = trials.trial_id "
    "WHERE trials.study_id = :study AND trials.state = 'RUNNING'"
)
"""Optuna's tables; a process may have died between taking a trial and its first heartbeat."""


class _Storage(optuna.storages.RDBStorage):
    """Optuna's, which also counts a process as dead whose heartbeat stands still.

    Optuna asks if the last heartbeat is old by the database's clock. If that clock was set back,
    the heartbeat of a dead process lies in the future, and never gets old. So this process also
    notes by its own monotonic clock how long it has seen the same heartbeat.
    """

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self._seen = {}

    def _get_stale_trial_ids(self, study_id):
        now, earlier = time.monotonic(), self._seen
        with self.engine.connect() as connection:
            running = connection.execute(RUNNING, {"study": study_id}).all()
        self._seen = {beat: earlier.get(beat, now) for beat in map(tuple, running)}
        still = {
            trial for (trial, _), since in self._seen.items() if now - since > self.grace_period
        }
        return sorted(still.union(super()._get_stale_trial_ids(study_id)))
