"""The studies of notebook 13: what is trained, how it is decoded, and what is made of it."""

import argparse
import json

import numpy as np
import pytest
import scripts

from colorlib import callbacks, config, metrics, quantizer, samples
from colorlib.experiments import studies, tuning

pytestmark = pytest.mark.usefixtures("shallow")

LOGITS = np.random.default_rng(0).normal(0, 2, (3, 4, 4, quantizer.BINS)).astype(np.float32)


def tiny(name, **changes):
    variant = studies.VARIANTS[name]
    small = dict(epochs=2, batch_size=4, crop=16, width=1 / 32, **changes)
    return studies.Variant(variant.settings.replace(**small), variant.regression)


@pytest.fixture(scope="module")
def squares():
    return samples.patches(24, 24)


@pytest.fixture(scope="module")
def prior(squares):
    return studies.colors_of(squares, 16)


def test_variants_differ_in_what_their_names_say():
    plain = studies.VARIANTS["plain"].settings.to_dict()
    for name, variant in studies.VARIANTS.items():
        settings = variant.settings.to_dict()
        changed = {key for key in settings if settings[key] != plain[key]}
        expected = {"rebalance"} if name.startswith("lambda") else {"initializer"}
        assert changed == (set() if name in ("plain", "regression") else expected)


def test_lambda_1_is_no_rebalancing(prior):
    np.testing.assert_allclose(quantizer.rebalancing_weights(prior, 1.0), 1, rtol=1e-6)


@pytest.mark.parametrize("name", ["plain", "lambda 0.5", "regression"])
def test_before_training_the_answer_is_the_best_one_without_looking(name, squares, prior):
    variant = tiny(name)
    network = studies.new_network(variant, None, prior, 1)
    found = studies.report(variant, network, squares, squares)
    assert found["loss"] == pytest.approx(found["chance"], rel=1e-4)
    if name != "regression":
        assert found["cross_entropy"] == pytest.approx(found["prior"], rel=1e-4)


def test_the_regression_has_the_same_trunk_and_its_loss_is_half_the_squared_error(prior):
    variant = tiny("regression")
    network, other = (studies.new_network(tiny(x), None, prior, 1) for x in ("regression", "plain"))
    pairs = zip(network.layers[:-2], other.layers[:-1], strict=True)
    for one, two in pairs:
        for left, right in zip(one.get_weights(), two.get_weights(), strict=True):
            np.testing.assert_array_equal(left, right)
    codes = np.arange(5)[None, None]
    true = quantizer.code_colors()[codes]
    loss = studies.SquaredError()(codes, true + np.float32([3, 4]))
    assert float(loss) == pytest.approx(25 / studies.AB_UNIT**2 / 2)
    assert variant.regression


def test_a_variant_is_trained_and_its_curve_has_no_penalty(squares):
    variant = tiny("plain", l2=1.0)
    network, curve = studies.train(variant, squares[:16], squares[16:], point=8)
    found = studies.report(variant, network, squares[:16], squares[16:])
    assert len(curve) == 2 and curve[-1] == pytest.approx(found["loss"], rel=1e-4)
    assert sum(map(float, network.losses)) > 1


def test_data_dependent_weights_are_used(squares, prior):
    lightness = studies.generator.encode(squares[:, :16, :16])[0]
    he, own = (
        studies.new_network(tiny(name), lightness, prior, 1) for name in ("plain", "data_dependent")
    )
    assert not np.array_equal(he.get_weights()[0], own.get_weights()[0])
    assert np.abs(own.get_layer("conv1_2").bias).max() > 0


def test_a_loss_that_is_no_number_stops_it(squares):
    variant = tiny("plain", learning_rate=float("inf"), schedule="constant")
    with pytest.raises(callbacks.DivergedError):
        studies.train(variant, squares, squares, point=8)


def test_decodings_measure_what_they_say(prior):
    rgb = samples.patches(3, 16)
    found = studies.measure(LOGITS, rgb, prior)
    ways = {(d["temperature"], d["lam"], d["strength"]): d for d in found["decodings"][:5]}
    assert ways[1.0, None, 0.0]["colorfulness"] < ways[0.05, None, 0.0]["colorfulness"]
    assert found["truth"]["psnr"] == metrics.PSNR_MAX and found["grey"]["colorfulness"] < 1
    assert {sum(counts) for counts in found["bins"].values()} == {3 * 16 * 16}
    assert set(found["bins"]) == {"annealed mean", "mean", "rebalanced", "truth"}
    assert set(studies.measure(LOGITS[..., :2], rgb, prior)["bins"]) == {"regression", "truth"}


def test_a_rebalanced_network_is_compared_with_its_rebalancing_undone(prior):
    codes = np.random.default_rng(1).integers(0, quantizer.CODES, LOGITS.shape[:3])
    weights = quantizer.rebalancing_weights(prior, 0.5)
    plain = studies.losses(studies.VARIANTS["plain"], LOGITS, codes, prior)
    both = studies.losses(studies.VARIANTS["lambda 0.5"], LOGITS + np.log(weights), codes, prior)
    assert both["cross_entropy"] == pytest.approx(plain["cross_entropy"], rel=1e-5)
    assert plain["loss"] == pytest.approx(plain["cross_entropy"])
    assert plain["chance"] == pytest.approx(plain["prior"])


def test_metrics_at_equal_colorfulness_are_interpolated():
    rows = [
        dict(colorfulness=c, auc=90 - c, rebalanced_auc=60 + c, psnr=20.0)
        for c in (20.0, 0.0, 10.0)
    ]
    found = studies.at_equal(rows, "colorfulness", 15)
    assert found == dict(auc=75, rebalanced_auc=75, psnr=20, colorfulness=15)
    assert studies.at_equal(rows, "colorfulness", 99)["colorfulness"] == 20


def test_intervals_are_students():
    mean, half = studies.interval([1, 2, 3])
    assert mean == 2 and half == pytest.approx(4.3027 / 3**0.5, abs=1e-3)


def test_inconsistency_counts_neighbors_that_differ_without_a_reason():
    true = np.zeros((4, 4, 2))
    spot = true.copy()
    spot[1, 1] = 30, 0
    assert studies.inconsistency(true, true) == 0
    assert studies.inconsistency(spot, true) == 4 / 24
    assert studies.inconsistency(spot, spot) == 0, "the truth has it, too"


def test_one_photograph_is_learned(squares):
    settings = config.OVERFIT.replace(width=1 / 32, epochs=20, initializer="lsuv", crop=24)
    found = studies.overfit(squares[0], settings, squares[:8], wrapped=True, bilinear=True)
    assert len(found["curve"]) == 2 and found["curve"][1] < found["curve"][0]
    assert np.shape(found["ab"]) == (6, 6, 2) and 0 <= found["inconsistency"] <= 1


def test_the_record_grows_by_the_runs_that_it_lacks(tmp_path, monkeypatch, squares):
    script = scripts.load("studies")
    monkeypatch.setattr(script.scale, "of_classes", lambda path: squares)
    monkeypatch.setattr(script, "TRIALS", 2)
    made = []
    monkeypatch.setattr(
        script, "curve_of", lambda images, settings: made.append(settings) or [float(len(made))]
    )

    def do(parts, *names):
        given = argparse.Namespace(
            train="", val="", parts=tmp_path / parts, record=tmp_path / "r.json", studies=names
        )
        script.run(given)
        script.join(given)
        return json.loads(given.record.read_text())

    do("one", "trials")
    record = do("one", "trials")
    assert len(made) == 2 and [one["trial"] for one in record["trials"]] == [0, 1]
    assert record["variants"] == [] and record["data"]["train_images"] == len(squares)
    monkeypatch.setattr(script, "TRIALS", 3)
    record = do("another machine", "trials", "finalists")
    assert len(made) == 3 + 9 and [one["trial"] for one in record["trials"]] == [0, 1, 2]
    first, second, own = made[3:6]
    assert first.learning_rate == pytest.approx(made[0].learning_rate / 2, rel=1e-4)
    assert second.l2 == pytest.approx(made[1].l2, rel=1e-4)
    assert own.replace(learning_rate=tuning.NEXT.learning_rate) == tuning.NEXT
    assert do("a third", "trials", "finalists") == record and len(made) == 12
    monkeypatch.setattr(script, "PHOTOGRAPH", "rocket")
    with pytest.raises(SystemExit, match=r"r\.json: is about other data or settings; delete it"):
        do("a fourth", "trials")
