"""The recorded overfitting runs say what notebook 03 says, and their script can be run again."""

import json

import numpy as np
import pytest
import scripts
from skimage.metrics import peak_signal_noise_ratio

from colorlib import colorize, colorspace, generator, quantizer, samples

script = scripts.load("overfit")
RATES = [f"{rate:g}" for rate in script.RATES]


@pytest.fixture(scope="module")
def record():
    return json.loads(script.OUTPUT.read_text())


@pytest.fixture(scope="module")
def runs(record):
    return record["runs"]


@pytest.fixture(scope="module")
def truth(record):
    return samples.square(record["photograph"], 64)


@pytest.fixture(scope="module")
def floor(truth):
    weights = quantizer.soft_encoding()[1][generator.encode(truth[None])[1]]
    return -(weights * np.log(weights)).sum(axis=-1).mean()


def rises(run):
    return np.diff(run["loss"][100:]).clip(min=0).sum()


def test_the_record_is_small_and_holds_what_is_planned(runs):
    assert script.OUTPUT.stat().st_size < 200_000
    assert list(runs) == list(script.planned())
    for name, settings in script.planned().items():
        assert script.is_done(settings, runs[name])
        assert {len(runs[name][column]) for column in ("loss", "val_loss", "rate")} == {300}


def test_rates_follow_from_losses_by_the_rule(runs):
    for name, settings in script.planned().items():
        rate, best, wait, expected = settings.learning_rate, np.inf, 0, []
        for loss in runs[name]["loss"]:
            expected.append(rate)
            best, wait = (loss, 0) if loss < best else (best, wait + 1)
            if settings.plateau_patience and wait >= settings.plateau_patience:
                rate, wait = rate * settings.plateau_factor, 0
        np.testing.assert_allclose(runs[name]["rate"], expected, rtol=1e-3)


def test_curves_are_the_same_until_the_rate_is_reduced(runs):
    for rate in RATES:
        kept, reduced = runs[f"{rate} kept"], runs[f"{rate} reduced"]
        same = np.equal(kept["rate"], reduced["rate"])
        assert np.array_equal(np.array(kept["loss"])[same], np.array(reduced["loss"])[same])
        assert same.all() == (rate in ("0.0001", "3e-05")), "the rule fires at high rates only"


def test_every_rate_colors_as_well_as_bins_and_resolution_allow(runs, truth):
    lightness = colorspace.rgb_to_lab(truth)[..., 0]
    for name, run in runs.items():
        colored = colorize.apply_colors(lightness, np.array(run["ab"], np.float32))
        assert peak_signal_noise_ratio(truth, colored) == pytest.approx(run["psnr"], abs=0.02)
        assert run["settings"]["width"] == 1.0 and 28.3 < run["psnr"] < 28.6, name


def test_the_loss_ranks_the_rates(runs, floor):
    above = {rate: runs[f"{rate} kept"]["loss"][-1] - floor for rate in RATES}
    assert sorted(above, key=above.get) == ["0.001", "0.01", "0.0001", "3e-05"]
    assert above["0.001"] < 0.005 and above["3e-05"] > 0.4


def test_reducing_makes_smooth_but_not_low(runs):
    for rate, most in (("0.01", 0.26), ("0.001", 0.02)):
        kept, reduced = runs[f"{rate} kept"], runs[f"{rate} reduced"]
        assert rises(reduced) < most and rises(kept) > 6 * rises(reduced)
        assert reduced["loss"][-1] > kept["loss"][-1]


def test_he_normal_learns_faster_than_the_glorots_differ(runs):
    he, normal, uniform = (runs[name]["loss"][-1] for name in script.INITIALIZERS)
    assert min(normal, uniform) - he > 20 * abs(normal - uniform)


def test_running_statistics_mean_nothing_at_first(runs):
    validation = np.array(runs["0.001 kept"]["val_loss"])
    assert validation[:21].min() == validation[0] and validation.max() > 300


def test_a_run_starts_anew_and_repeats_itself():
    tiny = script.BASE.replace(width=1 / 16, epochs=4)
    overfitter = script.Overfitter(samples.square("flower", 64), tiny)
    first = overfitter.run(tiny)
    other = overfitter.run(tiny.replace(initializer="glorot_normal", learning_rate=1e-2))
    again = overfitter.run(tiny)
    assert first["loss"] == again["loss"] and first["ab"] == again["ab"]
    assert other["loss"][0] != first["loss"][0] and other["rate"] == [1e-2] * 4


def test_what_the_rule_would_not_touch_is_not_made_twice():
    kept = script.BASE
    reduced = kept.replace(plateau_patience=2)
    done = {"x kept": {"loss": [3.0, 2.0, 2.5, 1.0], "settings": kept.to_dict()}}
    run = script.record_run("x reduced", reduced, done, overfitter_for=None)
    assert run["loss"] == done["x kept"]["loss"] and script.is_done(reduced, run)
    assert script.would_fire(reduced, [3.0, 2.0, 2.5, 2.0])


def test_the_record_is_written_whole(tmp_path):
    record = {"photograph": "flower", "runs": {"a": {"loss": [1.0]}, "b": {"loss": [2.0]}}}
    script.write(tmp_path / "record.json", record)
    assert json.loads((tmp_path / "record.json").read_text()) == record
    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]
