"""Scores of single images add up; a comparison and claims are made as they say."""

import json

import numpy as np
import pytest
import scripts

from colorlib import colorspace, evaluate, metrics, quantizer, runs, samples, store
from colorlib.experiments import bootstrap, claims

script = scripts.load("compare")


@pytest.fixture
def weights(rng):
    return rng.uniform(0.1, 3, quantizer.BINS)


@pytest.fixture
def painted(patches):
    """True images and two predictions of their colors: half as much of it, and none."""
    true = colorspace.rgb_to_lab(patches[:12])[..., 1:]
    return true, 0.5 * true, np.zeros_like(true)


def scored(ab, true, rgb, weights):
    lightness = colorspace.rgb_to_lab(rgb)[..., 0]
    return bootstrap.score(ab, true, evaluate.paint(lightness, ab), rgb, weights)


def test_scores_add_up_to_the_metrics_of_all_images(patches, painted, weights):
    true, half, _ = painted
    rgb = patches[:12]
    scores = scored(half, true, rgb, weights)
    tally = metrics.ColorTally()
    tally.add(half, true, evaluate.paint(colorspace.rgb_to_lab(rgb)[..., 0], half), rgb)
    for name, value in tally.result(weights).items():
        assert bootstrap.metrics_of(scores.sum(axis=0))[name] == pytest.approx(value)
    alone = metrics.auc(metrics.error_counts(half[3], true[3]), weights)
    assert bootstrap.metrics_of(scores)["rebalanced_auc"][3] == pytest.approx(alone)


def test_the_truth_is_perfect_and_unknown_metrics_are_left_out(patches, painted, weights):
    true, _, _ = painted
    found = bootstrap.summarize(bootstrap.score(true, true, patches[:12], patches[:12], weights))
    assert found["auc"] == [100, 100, 100] and "cross_entropy" not in found
    nats = np.arange(12.0)
    scores = bootstrap.score(true, true, patches[:12], patches[:12], weights, nats)
    value, low, high = bootstrap.summarize(scores)["cross_entropy"]
    assert value == 5.5 and 2.5 < low < value < high < 8.5


def test_gains_are_paired(patches, painted, weights):
    true, half, none = painted
    scores, grey = (scored(ab, true, patches[:12], weights) for ab in (half, none))
    assert bootstrap.gains(grey, grey)["auc"] == [0, 0, 0]
    found = bootstrap.gains(scores, grey)
    assert found["auc"][1] > 0, "each image gains, so every bootstrap sample does"
    assert found == bootstrap.gains(scores, grey)
    assert bootstrap.shares(scores, scores)["relative_colorfulness"] == [1, 1, 1]


def test_the_interval_of_a_mean():
    values = np.random.default_rng(0).normal(3, 2, 400)
    value, low, high = bootstrap.mean(values)
    assert value == pytest.approx(values.mean())
    half = 1.96 * values.std() / np.sqrt(400)
    assert [low, high] == pytest.approx([value - half, value + half], abs=0.03)
    assert bootstrap.mean(np.full(9, 0.5)) == [0.5, 0.5, 0.5]


def test_intervals_over_few_units_are_wide(rng):
    scores = np.ones((200, 8))
    classes = np.repeat(np.arange(4), 50)
    scores[:, 5] = rng.normal(20, 1, 200) + 5 * classes
    alone, together = (bootstrap.summarize(scores, units)["psnr"] for units in (None, classes))
    assert alone[0] == pytest.approx(together[0])
    assert together[2] - together[1] > 5 * (alone[2] - alone[1])


def test_best_and_worst_follow_the_rule(patches, painted, weights):
    true, half, none = painted
    scores, grey = (scored(ab, true, patches[:12], weights) for ab in (half, none))
    best, worst, gain = bootstrap.best_and_worst(scores, grey, 3)
    order = np.argsort(-gain)
    assert best.tolist() == order[:3].tolist() and worst.tolist() == order[-3:].tolist()
    drawn = bootstrap.best_and_worst(scores, grey, 3, sample=6)
    assert len({*drawn[0], *drawn[1]}) == 6


def test_quarters_are_even_and_ordered():
    members = script.quarters(np.array([5, 1, 1, 9, 7, 1, 3, 2]))
    assert [mask.sum() for mask in members.values()] == [2, 2, 2, 2]
    assert members["most regions"].tolist() == [False, False, False, True, True, *[False] * 3]


def test_models_are_named_as_in_the_report():
    quarter = runs.load_run("model-64-quarter")
    assert list(script.model_names([quarter, quarter])) == ["Model-64", "model-64-quarter"]


def test_a_comparison_repeats_what_evaluate_says(tmp_path, monkeypatch):
    monkeypatch.setattr(script, "TEMPERATURES", (0.38,))
    monkeypatch.setattr(script, "VIVIDNESS", (0.6,))
    classes = sorted(script.read_groups(script.CLASSES))[:3]
    for name, side in (("tiny", 64), ("photos", 256)):
        pixels = samples.patches(6, side)
        store.write(tmp_path / name, pixels, class_names=2 * classes if side == 64 else None)
    stores = {name: store.Store(tmp_path / name) for name in ("tiny", "photos")}
    run = runs.load_run("model-64-quarter")
    found = script.compare([run], stores, script.read_groups(script.CLASSES))
    measured = evaluate.evaluate(run, stores["tiny"], progress=False)
    tiny = found["sets"]["Tiny ImageNet"]
    for ours, theirs in (("grey", "grey"), ("random", "random"), ("Model-64 vivid", "vivid")):
        for name, value in measured["colors"][theirs].items():
            assert tiny["metrics"][ours][name][0] == pytest.approx(value, rel=1e-5)
    nats = measured["distributions"]["network"]["cross_entropy"]
    assert tiny["metrics"]["Model-64 plain"]["cross_entropy"][0] == pytest.approx(nats)
    assert sum(part["count"] for part in tiny["groups"].values()) == 6
    assert "groups" not in found["sets"]["photographs, whole"]
    (row,) = [row for row in found["sweep"]["Tiny ImageNet"]["rows"] if row["vividness"]]
    assert row["auc"] == pytest.approx(measured["colors"]["vivid"]["auc"])
    text = script.as_text(script.harness.rounded(found, ".5g"))
    assert json.loads(text)["weights_from"] == run.path.name


def test_references_are_looked_up():
    look_up = claims.look_up
    assert look_up("colorlib/config.py#REPORT_64/epochs") == 300
    assert look_up("data/runs/l2-search/trials.csv#stage=coarse&trial=0/l2") == "0.0005613"
    assert look_up("data/runs/l2-search/trials.csv#epochs/max") == 8
    assert look_up("data/runs/overfit/overfit.json#runs/0.01 kept/loss/len") == 300
    assert look_up("colorlib/table.py#TABLE_1/-1/kernel") == 1
    for wrong in (
        "nowhere.json#a",
        "colorlib/config.py#A",
        "data/runs/overfit/overfit.json#runs/x",
    ):
        with pytest.raises(claims.MissingValueError, match=wrong):
            look_up(wrong)


def test_rises_are_counted_after_the_first_third():
    assert claims.rises([9, 0, 1, 2, 1.5, 1.75]) == 1 + 0.25
    assert claims.rises([3, 2, 1]) == 0


EPOCHS = "colorlib/config.py#REPORT_64/epochs"

STEPS = "data/runs/overfit/overfit.json#runs/0.01 kept/loss/len"


@pytest.mark.parametrize(
    ("checks", "outcome"),
    [
        ([[EPOCHS, ">", 299]], "by construction"),
        ([[EPOCHS, ">", 299], [STEPS, "==", 300]], "agree"),
        ([[EPOCHS, "near", 310, 5]], "differ"),
        ([[EPOCHS.replace("epochs", "initializer"), "==", "he_normal"]], "by construction"),
        ([[STEPS, "==", 300], ["nowhere.json#a", "<", 1]], "not testable here"),
        ([[[2, 1, 3], "above", 0.5], [[2, 1, 3], "below", 4]], "agree"),
        ([[[2, 1, 3], "above", 1.5], [STEPS, "==", 300]], "not testable here"),
        ([[[2, 1, 3], "above", 1.5], [[2, 1, 3], "below", 0.5]], "differ"),
    ],
)
def test_outcomes_follow_from_checks(checks, outcome):
    words = {"quote": "q", "where": "w", "done": "d", "ours": "o", "evidence": []}
    assert claims.settle({**words, "checks": checks})["outcome"] == outcome


def test_claims_show_the_numbers_that_they_refer_to():
    words = {"quote": "a | b", "where": "5", "outcome": "agree", "evidence": ["README.md"]}
    entry = {**words, "done": f"{{{EPOCHS}}} epochs", "ours": f"{{{EPOCHS}:.1f}}"}
    row = claims.settle(entry)
    assert row == {**words, "done": "300 epochs", "ours": "300.0"}
    line = claims.as_markdown([row]).splitlines()[-1]
    cells = ["\u201ca \\| b\u201d", "5", "300 epochs", "300.0", "**agree**"]
    assert line == f"| {' | '.join(cells)} | [README.md](../README.md) |"
