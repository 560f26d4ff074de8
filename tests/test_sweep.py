"""The rule that chooses the decoding."""

import numpy as np
import pytest
import scripts

from colorlib import metrics


@pytest.fixture(scope="module")
def script():
    return scripts.load("sweep_decoding")


def row(auc, psnr, colorfulness):
    return {"auc": auc, "psnr": psnr, "colorfulness": colorfulness}


GREY = row(89.0, 24.0, 0.0)


def test_the_most_colorful_within_the_limits_is_chosen(script):
    rows = [row(91, 25, 10), row(90.3, 23.9, 20), row(90.1, 25, 30), row(91, 23.7, 40)]
    found = {"a": {"grey": GREY, "rows": rows}}
    assert script.choose(found, 1.2, -0.2) == (1, True)


def test_the_limits_hold_on_each_set(script):
    found = {
        "a": {"grey": GREY, "rows": [row(91, 25, 10), row(91, 25, 20)]},
        "b": {"grey": GREY, "rows": [row(91, 25, 10), row(89, 25, 20)]},
        "all": {"grey": GREY, "rows": [row(91, 25, 10), row(90.5, 25, 20)]},
    }
    assert script.choose(found, 1.2, -0.2) == (0, True)


def test_without_a_good_one_the_best_auc_is_chosen_and_said(script):
    found = {"a": {"grey": GREY, "rows": [row(88, 25, 10), row(89.5, 25, 5)]}}
    assert script.choose(found, 1.2, -0.2) == (1, False)


def test_tallies_of_parts_add_up(rng):
    rgb = rng.integers(0, 256, (4, 8, 8, 3)).astype(np.uint8)
    ab, guess = rng.uniform(-50, 50, (2, 4, 8, 8, 2))
    whole, first, second = (metrics.ColorTally() for _ in range(3))
    whole.add(guess, ab, rgb[::-1], rgb)
    first.add(guess[:1], ab[:1], rgb[::-1][:1], rgb[:1])
    second.add(guess[1:], ab[1:], rgb[::-1][1:], rgb[1:])
    weights = np.ones(313)
    assert (first + second).result(weights) == pytest.approx(whole.result(weights))
    assert (first + second).images == 4
