"""How much do the settings of a training matter? A search over four of them.

Not here: how a network is trained (`experiments.studies`), and the experiment that records the
search (`benchmarks/studies.py`). The report's conclusion: "the values of the various
hyperparameters plays a bigger role than we initially thought". Notebook 13 reads what came of it.
"""

import functools
import time

import numpy as np
import optuna

from colorlib.experiments import shared_study, studies

TUNED = studies.SETTINGS.replace(epochs=16)
"""Settings of a trial, but for those that are `SEARCHED`. As they stand, they beat the prior by
0.15 nats."""

NEXT = TUNED.replace(width=1 / 8)
"""Settings of a finalist, but for those that were searched: twice the width, for which the rate
is halved (`experiments.ablation`)."""

SEARCHED = {
    "learning_rate": (1e-4, 1e-1),
    "l2": (1e-7, 1e-2),
    "1 - batch_norm_momentum": (1e-3, 0.5),
    "batch_size": (1, 32),
}
"""Ranges of the search, each uniform in its logarithm."""


def tuned(settings, params):
    """Return settings with the values of a trial.

    Parameters
    ----------
    settings : colorlib.config.TrainConfig
    params : dict of str to float or int
        A value for each of `SEARCHED`.

    Returns
    -------
    colorlib.config.TrainConfig
    """
    changes = dict(params)
    momentum = 1 - changes.pop("1 - batch_norm_momentum")
    return settings.replace(batch_norm_momentum=momentum, **changes)


def search(place, curve_of, trials, known=(), progress=True):
    """Search with Optuna's TPE, the tree-structured Parzen estimator, and with other processes.

    The first ten trials are random. Each later one is chosen by those before it: it lies where good
    trials are frequent and bad ones are rare, all settings taken together. Bergstra et al. 2011,
    "Algorithms for Hyper-Parameter Optimization". With one process the trials follow from the seed,
    also after a restart; several processes finish theirs in an order that nobody can repeat.

    Parameters
    ----------
    place : str or path-like
        The SQLite file, made if missing; a search that was stopped goes on.
    curve_of : callable
        Gets a dict with a value for each of `SEARCHED`, trains, and returns the validation losses,
        or none if they diverge.
    trials : int
        How many there are when this returns.
    known : sequence of dict
        Trials of an earlier search, as from `finished_trials`; a new file begins with them.
    progress : bool
        Whether to show a progress bar.

    Raises
    ------
    colorlib.experiments.shared_study.StudyError
        If the file can't be opened.
    """
    storage = shared_study.open_storage(place)
    try:
        study = optuna.create_study(storage=storage, study_name="settings")
        study.add_trials([_finished(one) for one in known])
    except optuna.exceptions.DuplicatedStudyError:
        study = optuna.load_study(storage=storage, study_name="settings")

    def objective(trial):
        begin = time.perf_counter()
        curve = curve_of(_suggested(trial))
        trial.set_user_attr("curve", curve)
        trial.set_user_attr("seconds", round(time.perf_counter() - begin))
        return _last(curve)

    tpe = functools.partial(optuna.samplers.TPESampler, multivariate=True)
    shared_study.optimize(study, objective, trials, tpe, (0,), progress)


def finished_trials(place):
    """Read what `search` has found so far.

    Parameters
    ----------
    place : str or path-like
        The SQLite file.

    Returns
    -------
    list of dict
        For each finished trial: ``trial``, its number; ``params``; ``curve``, the validation
        losses; ``seconds``.
    """
    storage = shared_study.open_storage(place)
    study = optuna.load_study(storage=storage, study_name="settings")
    return [
        {
            "trial": shared_study.number_of(one),
            "params": one.params,
            **{name: one.user_attrs[name] for name in ("curve", "seconds")},
        }
        for one in study.get_trials(deepcopy=False, states=shared_study.DONE)
    ]


def importances(trials, worst):
    """Estimate how much of the losses' variance each setting of a search accounts for.

    By fANOVA: Hutter et al. 2014, "An Efficient Approach for Assessing Hyperparameter Importance",
    in Optuna.

    Parameters
    ----------
    trials : list of dict
        With ``params`` and ``curve``, as from `finished_trials`; the last loss of a curve counts.
    worst : float
        Larger losses count as this one, and so do diverged trials, whose curve is empty: how far a
        loss is above chance says nothing.

    Returns
    -------
    dict of str to float
        They sum to 1; the largest is first.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study()
    study.add_trials([_finished(trial, worst) for trial in trials])
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    return optuna.importance.get_param_importances(study, evaluator=evaluator)


def _suggested(trial):
    kinds = {int: trial.suggest_int, float: trial.suggest_float}
    return {
        name: kinds[type(low)](name, low, high, log=True) for name, (low, high) in SEARCHED.items()
    }


def _last(curve, worst=np.inf):
    return min([*curve[-1:], worst])


def _finished(trial, worst=np.inf):
    fixed = optuna.trial.FixedTrial(trial["params"])
    _suggested(fixed)
    return optuna.trial.create_trial(
        params=fixed.params,
        distributions=fixed.distributions,
        value=_last(trial["curve"], worst),
        user_attrs={**trial, shared_study.NUMBER: trial["trial"]},
    )
