"""The search over settings: what it tries, how it goes on, and which settings matter."""

import numpy as np
import pytest

from colorlib.experiments import tuning


def pretended(params):
    """Return a curve whose last loss depends on the rate alone: the least at 3e-3."""
    return [9.0, abs(np.log10(params["learning_rate"] / 3e-3))]


@pytest.fixture(scope="module")
def known():
    """Forty trials at random."""
    rng, found = np.random.default_rng(0), []
    ranges = np.log([*tuning.SEARCHED.values()]).T
    for number in range(40):
        params = dict(zip(tuning.SEARCHED, np.exp(rng.uniform(*ranges)).tolist(), strict=True))
        params["batch_size"] = int(params["batch_size"])
        found.append({"trial": number, "params": params, "curve": pretended(params), "seconds": 1})
    return found


def test_a_search_goes_on_where_it_was_stopped(tmp_path):
    whole, halves = tmp_path / "whole.db", tmp_path / "halves.db"
    tuning.search(whole, pretended, 12, progress=False)
    for trials in (6, 12):
        tuning.search(halves, pretended, trials, progress=False)
    found, again = map(tuning.finished_trials, (whole, halves))
    assert [one["params"] for one in found] == [one["params"] for one in again]
    assert [one["curve"] for one in found] == [pretended(one["params"]) for one in found]
    assert len({one["params"]["l2"] for one in found}) == 12
    for name, (low, high) in tuning.SEARCHED.items():
        assert all(low <= one["params"][name] <= high for one in found)


def test_a_new_search_begins_with_what_is_known_and_looks_where_losses_are_low(tmp_path, known):
    known = [{**known[0], "curve": []}, *known[1:]]  # the first diverged
    tuning.search(tmp_path / "a.db", pretended, 44, known, progress=False)
    found = tuning.finished_trials(tmp_path / "a.db")
    assert found[:40] == known
    losses = [one["curve"][-1] for one in found[1:]]
    assert np.mean(losses[39:]) < np.median(losses[:39]) / 2


def test_settings_of_a_trial():
    params = {"learning_rate": 0.1, "l2": 0.0, "1 - batch_norm_momentum": 0.1, "batch_size": 3}
    settings = tuning.tuned(tuning.TUNED, params)
    expected = dict(learning_rate=0.1, l2=0.0, batch_norm_momentum=0.9, batch_size=3)
    assert settings == tuning.TUNED.replace(**expected)


def test_what_matters_is_found_to_matter(known):
    known = [{**known[0], "curve": []}, *known[1:]]
    shares = tuning.importances(known, worst=1.0)
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["learning_rate"] > 0.8
