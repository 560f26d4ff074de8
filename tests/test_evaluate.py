"""The evaluation gives the same in batches as at once, and for a folder as for a store."""

import json

import numpy as np
import pytest
from processes import colorlib
from typer.testing import CliRunner

from colorlib import (
    colorize,
    colorspace,
    config,
    evaluate,
    generator,
    images,
    losses,
    metrics,
    quantizer,
    runs,
    samples,
    store,
)
from colorlib.__main__ import app


class Oracle:
    """A network that gives every pixel the same distribution."""

    def __init__(self, distribution):
        self.logits = np.log(distribution).astype(np.float32)

    def predict_on_batch(self, lightness):
        count, side = lightness.shape[:2]
        return np.broadcast_to(self.logits, (count, side // 4, side // 4, quantizer.BINS))


@pytest.fixture(scope="module")
def run():
    return runs.load_run("model-64")


@pytest.fixture(scope="module")
def photographs():
    return samples.patches(12, 64)


@pytest.fixture(scope="module")
def result(run, photographs):
    return evaluate.evaluate(run, photographs, progress=False)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in").mkdir()
    for name in samples.NAMES:
        images.write(tmp_path / "in" / f"{name}.png", samples.square(name, 64))
    images.write(tmp_path / "in" / "grey.png", np.full((64, 64, 3), 90, np.uint8))
    (tmp_path / "in" / "broken.jpg").touch()
    return tmp_path / "in"


def auc_by_the_definition(chroma):
    within = [np.mean(chroma <= threshold) for threshold in range(151)]
    return 100 * np.trapezoid(within) / 150


def test_a_folder_on_the_command_line(folder, run):
    done = colorlib("evaluate", "model-64", "--images", folder, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["count"], result["left_out"]) == (9, 1)  # grey is measured, broken is not
    crops = [images.read(path)[4:60, 4:60] for path in sorted(folder.glob("*.png"))]
    chroma = np.linalg.norm(colorspace.rgb_to_lab(np.stack(crops))[..., 1:], axis=-1)
    colors = result["colors"]
    assert colors["grey"]["auc"] == pytest.approx(auc_by_the_definition(chroma))
    assert colors["truth"]["auc"] == 100 and colors["grey"]["colorfulness"] < 0.1
    expected = np.mean([metrics.colorfulness(crop) for crop in crops])
    assert colors["truth"]["colorfulness"] == pytest.approx(expected)
    assert set(colors["plain"]) == set(result["units"]) - {"cross_entropy", "accuracy"}


def test_the_table_names_everything(result):
    text = evaluate.table(result)
    assert "12 images" in text
    shown = [*result["distributions"], *result["colors"]]
    for label in ("nats per pixel", "rebalanced AuC", *(evaluate.LABELS[name] for name in shown)):
        assert label in text


def test_errors_on_the_command_line_say_what_to_do(tmp_path):
    call = CliRunner().invoke
    done = call(app, ["evaluate", "model-64", "--images", str(tmp_path / "nowhere")])
    assert done.exit_code == 2 and "nowhere: no such folder or store; name" in done.stderr
    done = call(app, ["evaluate", "nosuch", "--images", str(tmp_path)])
    assert done.exit_code == 2 and "nosuch" in done.stderr
    done = call(app, ["evaluate", "model-64", "--images", str(tmp_path)])
    assert done.exit_code == 2 and "holds no image" in done.stderr


def test_batches_give_what_one_go_gives(run, photographs, result, monkeypatch):
    monkeypatch.setattr(evaluate, "PIXELS", 5 * 56 * 56)
    assert 12 % 5
    again = evaluate.evaluate(run, photographs, progress=False)
    for part in ("distributions", "colors"):
        for name, row in result[part].items():
            assert again[part][name] == pytest.approx(row, rel=1e-3), name


def test_a_store_and_a_folder_measure_alike(run, tmp_path):
    (tmp_path / "in").mkdir()
    for i, rgb in enumerate(samples.patches(4, 64)):
        images.write(tmp_path / "in" / f"{i}.png", rgb)
    store.pack(tmp_path / "in", tmp_path / "x.h5", 64)
    packed = evaluate.evaluate(run, tmp_path / "x.h5", progress=False)
    assert packed["colors"] == evaluate.evaluate(run, tmp_path / "in", progress=False)["colors"]


def test_cross_entropy_is_the_validation_loss(run, photographs, result):
    network = run.model()
    network.compile(loss=losses.SoftCrossEntropy(), metrics=[losses.Accuracy()])
    batches = generator.ColorBatches(photographs, 12, run.settings.crop, train=False, workers=0)
    loss, accuracy = network.evaluate(batches, verbose=0)
    ours = result["distributions"]["network"]
    assert ours["cross_entropy"] == pytest.approx(loss, rel=1e-4)
    assert ours["accuracy"] == pytest.approx(accuracy, abs=1e-3)


def test_chance_in_nats(result):
    rows = result["distributions"]
    assert rows["uniform"]["cross_entropy"] == pytest.approx(np.log(313))
    assert rows["uniform"]["accuracy"] == pytest.approx(1 / 313)
    assert rows["target"]["accuracy"] == 1
    assert rows["target"]["cross_entropy"] < rows["prior"]["cross_entropy"] < np.log(313)


def test_a_network_that_knows_only_the_prior_is_the_training_mean(run, photographs):
    decoding = config.DecodeConfig(temperature=1.0)
    known = colorize.Colorizer(Oracle(run.prior), decoding)
    batches = evaluate.pairs_of_crops(photographs, np.arange(12), 64, 56)
    measured = evaluate.measure(known, run.prior, batches)
    colors, rows = measured["colors"], measured["distributions"]
    assert set(colors) == {"plain", "grey", "mean", "random", "truth"}
    assert colors["plain"] == pytest.approx(colors["mean"], rel=1e-3)
    assert rows["network"] == pytest.approx(rows["prior"], rel=1e-3)


def test_each_image_is_paired_with_another(rng, monkeypatch):
    monkeypatch.setattr(evaluate, "PIXELS", 3 * 8 * 8)
    numbered = np.broadcast_to(np.arange(10, dtype=np.uint8)[:, None, None, None], (10, 12, 12, 3))
    pairs = list(evaluate.pairs_of_crops(numbered, np.arange(10), 12, 8))
    crops, others = (np.concatenate(part)[:, 0, 0, 0] for part in zip(*pairs, strict=True))
    assert [len(part) for part, _ in pairs] == [3, 3, 3, 1]
    assert sorted(crops) == sorted(others) == list(range(10))
    assert not (crops == others).any()


def test_which_images_are_chosen():
    np.testing.assert_array_equal(evaluate.chosen(9, 3), [0, 4, 8])
    assert len(evaluate.chosen(9, 30)) == len(evaluate.chosen(9)) == 9
    with pytest.raises(store.StoreError, match="at least 2"):
        evaluate.chosen(1)


def test_images_of_another_size_are_brought_to_the_run_s():
    large = samples.patches(3, 128)
    ours = evaluate.pairs_of_crops(large, np.arange(3), 64, 56)
    same = evaluate.pairs_of_crops(
        np.stack([images.square(rgb, 64) for rgb in large]), np.arange(3), 64, 56
    )
    np.testing.assert_array_equal(next(ours)[0], next(same)[0])


@pytest.mark.parametrize("follow_edges", [False, True])
def test_decoded_and_painted_as_photographs_are(rng, follow_edges):
    lightness = rng.uniform(0, 100, (2, 24, 24)).astype(np.float32)
    logits = rng.normal(0, 3, (2, 6, 6, 313)).astype(np.float32)
    decoding = config.DecodeConfig(follow_edges=follow_edges)
    colorizer = colorize.Colorizer(None, decoding)
    painted = evaluate.paint(lightness, evaluate.decode(colorizer, logits, lightness))
    for i, ab in enumerate(colorizer.decode(logits)):
        alone = colorize.apply_colors(lightness[i], ab, follow_edges=follow_edges)
        np.testing.assert_array_equal(painted[i], alone)
