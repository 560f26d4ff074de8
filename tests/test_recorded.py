"""The recorded runs are complete and agree with the notebooks' statements.

Not here: tests of code. These fail when data is recorded again and says something else.
"""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import scripts
from skimage.metrics import peak_signal_noise_ratio

from colorlib import colorize, colorspace, config, generator, quantizer, runs, samples
from colorlib.experiments import ablation, claims

overfit, ablations, compare = (scripts.load(name) for name in ("overfit", "ablation", "compare"))
RATES = [f"{rate:g}" for rate in overfit.RATES]
QUOTES = Path(__file__).with_name("report_quotes.txt")


@pytest.fixture(scope="module")
def overfitting():
    return json.loads(overfit.OUTPUT.read_text())


@pytest.fixture(scope="module")
def overfitted(overfitting):
    return overfitting["runs"]


@pytest.fixture(scope="module")
def truth(overfitting):
    return samples.square(overfitting["photograph"], 64)


@pytest.fixture(scope="module")
def floor(truth):
    weights = quantizer.soft_encoding()[1][generator.encode(truth[None])[1]]
    return -(weights * np.log(weights)).sum(axis=-1).mean()


def rises(run):
    return np.diff(run["loss"][100:]).clip(min=0).sum()


def test_the_overfitting_is_small_and_holds_what_is_planned(overfitted):
    assert overfit.OUTPUT.stat().st_size < 200_000
    assert list(overfitted) == list(overfit.planned())
    for name, settings in overfit.planned().items():
        assert overfit.is_done(settings, overfitted[name])
        assert {len(overfitted[name][column]) for column in ("loss", "val_loss", "rate")} == {300}


def test_rates_follow_from_losses_by_the_rule(overfitted):
    for name, settings in overfit.planned().items():
        rate, best, wait, expected = settings.learning_rate, np.inf, 0, []
        for loss in overfitted[name]["loss"]:
            expected.append(rate)
            best, wait = (loss, 0) if loss < best else (best, wait + 1)
            if settings.plateau_patience and wait >= settings.plateau_patience:
                rate, wait = rate * settings.plateau_factor, 0
        np.testing.assert_allclose(overfitted[name]["rate"], expected, rtol=1e-3)


def test_curves_are_the_same_until_the_rate_is_reduced(overfitted):
    for rate in RATES:
        kept, reduced = overfitted[f"{rate} kept"], overfitted[f"{rate} reduced"]
        same = np.equal(kept["rate"], reduced["rate"])
        assert np.array_equal(np.array(kept["loss"])[same], np.array(reduced["loss"])[same])
        assert same.all() == (rate in ("0.0001", "3e-05")), "the rule fires at high rates only"


def test_every_rate_colors_as_well_as_bins_and_resolution_allow(overfitted, truth):
    lightness = colorspace.rgb_to_lab(truth)[..., 0]
    for name, run in overfitted.items():
        colored = colorize.apply_colors(lightness, np.array(run["ab"], np.float32))
        assert peak_signal_noise_ratio(truth, colored) == pytest.approx(run["psnr"], abs=0.02)
        assert run["settings"]["width"] == 1.0 and 28.3 < run["psnr"] < 28.6, name


def test_the_loss_ranks_the_rates(overfitted, floor):
    above = {rate: overfitted[f"{rate} kept"]["loss"][-1] - floor for rate in RATES}
    assert sorted(above, key=above.get) == ["0.001", "0.01", "0.0001", "3e-05"]
    assert above["0.001"] < 0.005 and above["3e-05"] > 0.4


def test_reducing_makes_smooth_but_not_low(overfitted):
    for rate, most in (("0.01", 0.26), ("0.001", 0.02)):
        kept, reduced = overfitted[f"{rate} kept"], overfitted[f"{rate} reduced"]
        assert rises(reduced) < most and rises(kept) > 6 * rises(reduced)
        assert reduced["loss"][-1] > kept["loss"][-1]


def test_he_normal_learns_faster_than_the_glorots_differ(overfitted):
    he, normal, uniform = (overfitted[name]["loss"][-1] for name in overfit.INITIALIZERS)
    assert min(normal, uniform) - he > 20 * abs(normal - uniform)


def test_running_statistics_mean_nothing_at_first(overfitted):
    validation = np.array(overfitted["0.001 kept"]["val_loss"])
    assert validation[:21].min() == validation[0] and validation.max() > 300


@pytest.fixture(scope="module")
def ablated():
    return json.loads(ablations.RECORD.read_text())


def of_recipe(ablated, name):
    return [run for run in ablated["runs"] if run["recipe"] == name]


def above_prior(ablated, name, curve="validation", prior="prior"):
    return np.array([np.subtract(run[curve], run[prior]) for run in of_recipe(ablated, name)])


def roughnesses(ablated, name, curve="validation", first=3):
    return [ablation.roughness(run[curve][first:]) for run in of_recipe(ablated, name)]


def test_the_recorded_recipes_are_those_of_the_module_and_are_small(ablated):
    assert ablated["recipes"] == json.loads(json.dumps(ablations.described()))
    assert ablated["points"] == ablations.points()
    for run in ablated["runs"]:
        points = ablation.RECIPES[run["recipe"]].settings.epochs
        assert len(run["loss"]) == len(run["validation"]) == points
        assert len(run["still"]) == len(run["still_loss"]) == ablation.STILL_POINTS
    for name in ("sound", "published"):
        assert [run["seed"] for run in of_recipe(ablated, name)] == [0, 1, 2]
    assert ablations.RECORD.stat().st_size < 60_000


def test_the_ablation_has_power(ablated):
    assert (above_prior(ablated, "sound", "still").mean(axis=1) < -0.15).all()
    learnt = above_prior(ablated, "published", "loss", "training_prior")[:, -10:].mean(axis=1)
    assert (learnt < -0.025).all()


def test_the_conclusion_of_notebook_08(ablated):
    published = roughnesses(ablated, "published")
    for name in ("sound", "undone: batch size 8", "undone: L neither wrapped nor raw"):
        assert np.less(roughnesses(ablated, name), published).all()
        assert np.median(roughnesses(ablated, name)) < np.median(published) / 4
        assert above_prior(ablated, name)[:, 8:].max() < 0 < above_prior(ablated, "published").max()
    standing = roughnesses(ablated, "published", "still", 0)
    moving = roughnesses(ablated, "published")
    assert (np.divide(standing, moving) < 0.3).all()


@pytest.fixture(scope="module")
def compared():
    return json.loads(compare.OUTPUT.read_text())


def test_every_class_has_one_group():
    with compare.CLASSES.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len({row["class"] for row in rows}) == 200
    groups = compare.read_groups(compare.CLASSES)
    assert {"landscapes", "mammals", "rooms and shops", "objects"} <= set(groups.values())
    with pytest.raises(SystemExit, match=r"nowhere\.csv.*--classes"):
        compare.read_groups("nowhere.csv")


def test_the_recorded_comparison_is_small_and_sound(compared):
    assert compare.OUTPUT.stat().st_size < 400_000
    assert list(compared["sets"]) == list(compare.VIEWS)
    for model in compared["models"].values():
        assert (config.RECORDED / model["run"]).is_dir(), "compare the recorded runs again"
    tiny = compared["sets"]["Tiny ImageNet"]
    for parts in (tiny["groups"], tiny["regions"]):
        assert sum(part["count"] for part in parts.values()) == tiny["count"]
    for found in compared["sets"].values():
        assert found["metrics"]["truth"]["auc"][0] == 100
        for row in found["metrics"].values():
            assert all(low - 1e-3 <= value <= high + 1e-3 for value, low, high in row.values())
        for shown in found["shown"].values():
            gains = [item["gain"] for item in shown["best"] + shown["worst"]]
            assert gains == sorted(gains, reverse=True)


@pytest.fixture(scope="module")
def chapters():
    return json.loads(claims.CLAIMS.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def entries(chapters):
    return [entry for rows in chapters.values() for entry in rows]


def test_every_quote_is_the_reports_own(chapters):
    """`QUOTES` is a copy of the report's sentences, made by hand; the report is not in here."""
    quoted = {}
    for line in QUOTES.read_text(encoding="utf-8").splitlines():
        if line.startswith("# "):
            quoted[line[2:]] = own = []
        elif line:
            own.append(line)
    assert quoted == {
        title: list(dict.fromkeys(entry["quote"] for entry in rows))
        for title, rows in chapters.items()
    }


def test_every_claim_is_complete_and_shown_by_something(entries):
    assert len({(entry["quote"], entry["where"]) for entry in entries}) == len(entries) >= 60
    for entry in entries:
        assert entry["done"] and entry["ours"], entry["quote"]
        assert ("outcome" in entry) != ("checks" in entry), entry["quote"]
        assert entry.get("outcome", claims.AGREE) in claims.OUTCOMES
        assert entry["evidence"], entry["quote"]
        for path in entry["evidence"]:
            assert (config.ROOT / path).exists(), f"{entry['quote']}: {path}"


def test_only_runs_that_are_still_to_come_may_be_missing(entries, compared):
    to_come = [] if "Model-256" in compared["models"] else ["Model-256"]
    for entry in entries:
        checks = [side for check in entry.get("checks", []) for side in (check[0], check[2])]
        texts = entry["done"] + entry["ours"]
        cited = [found[1] for found in claims.REFERENCE.finditer(texts)]
        sides = [side for side in checks if isinstance(side, str) and "#" in side]
        for reference in [*cited, *sides]:
            if not any(name in reference for name in to_come):
                claims.look_up(reference)


def test_a_constant_of_ours_never_agrees_with_itself(entries):
    for entry in entries:
        sides = [str(side) for check in entry.get("checks", []) for side in check]
        if sides and not any(".json#" in side or ".csv#" in side for side in sides):
            outcome = claims.settle(entry)["outcome"]
            assert outcome in (claims.CONSTRUCTION, claims.DIFFER), entry["quote"]


def test_the_claims_show_what_is_recorded(compared):
    rows = [row for part in claims.read_claims().values() for row in part]
    (animals,) = [row for row in rows if row["quote"].endswith("subjects such as animals")]
    groups = compared["sets"]["Tiny ImageNet"]["groups"]
    gain = groups["mammals"]["over_grey"]["Model-64 plain"]["auc"][0]
    assert f"mammals {gain:+.2f}" in animals["ours"]
    assert not any("#" in row["ours"] + row["done"] for row in rows), "not understood"


def test_weight_interpolation_keeps_the_new_and_most_of_the_old():
    """What notebook 06 says of the recorded numbers."""
    path = config.RECORDED / "model-256"
    rows = json.loads((path / "interpolation.json").read_text())["rows"]
    new, old = (
        {row["share"]: row[kind]["cross_entropy"] for row in rows} for kind in ("images", "before")
    )
    share = runs.load_run(path).settings.interpolation
    assert share == config.MODEL_256.interpolation
    assert new[share] < min(new.values()) + 0.005
    assert old[share] - old[0] < 0.5 * (old[1] - old[0])
    for row in rows:
        in_doubt = {
            kind: np.prod(row[kind]["above_recorded"][1:]) <= 0 for kind in ("images", "before")
        }
        assert in_doubt == {"images": row["share"] >= 0.4, "before": row["share"] == share}
