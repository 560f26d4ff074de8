"""Each recipe is what it says; one thing is undone at a time; roughness by hand."""

import json

import cv2
import numpy as np
import pytest
import scripts

from colorlib import callbacks, colorspace, config, generator, quantizer, samples, table
from colorlib.experiments import ablation

pytestmark = pytest.mark.usefixtures("shallow")


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        ([3.0, 2.0, 1.0, 0.0], 0.0),  # straight
        ([0.0, 1.0, 0.0, 1.0], 1.0),  # teeth of height 1
        ([0.0, 0.0, 1.0, 0.0, 0.0], 2 / 3),  # a point of height 1: it is 1 away, its neighbors 1/2
        ([4.0, 2.0, 1.0], 0.5),  # the middle of 4 and 1 is 2.5
    ],
)
def test_roughness_by_hand(curve, expected):
    assert ablation.roughness(curve) == pytest.approx(expected)
    assert ablation.roughness(np.add(curve, 5)) == pytest.approx(expected), "height is not rough"
    assert ablation.roughness(np.multiply(curve, -2)) == pytest.approx(2 * expected)


@pytest.mark.parametrize("curve", [[], [1.0, 2.0], [[1.0, 2.0, 3.0]]])
def test_roughness_needs_three_points(curve):
    with pytest.raises(ValueError, match="at least 3 points"):
        ablation.roughness(curve)


def test_lightness_wraps_as_uint8_does():
    eight_bits = np.arange(256, dtype=np.uint8)
    wrapped = ablation.wrap_lightness(eight_bits * (100 / 255))
    np.testing.assert_allclose(wrapped * 255 / 100, eight_bits - np.uint8(128), atol=1e-3)
    assert wrapped.dtype == np.float32
    assert wrapped[127] == pytest.approx(100) and wrapped[128] == 0
    assert np.unique(wrapped).size == 256, "nothing is lost but the order"


def test_raw_lightness_reaches_the_first_convolution_as_bytes():
    eight_bits = np.arange(256, dtype=np.uint8)
    given = ablation.raw_lightness(eight_bits * (100 / 255))
    scaled = given * table.LIGHTNESS_SCALE + table.LIGHTNESS_OFFSET
    np.testing.assert_allclose(scaled, eight_bits - np.uint8(128), atol=1e-3)


def test_bilinear_targets_are_the_middle_of_four_by_four_pixels():
    rgb = samples.patches(2, 16)
    lab = np.stack([cv2.cvtColor(image, cv2.COLOR_RGB2LAB) for image in rgb])
    middle = lab.reshape(2, 4, 4, 4, 4, 3)[:, :, 1:3, :, 1:3, 1:].mean(axis=(2, 4))
    found = quantizer.code_colors()[ablation.bilinear_codes(rgb)] + colorspace.AB_OFFSET
    assert np.abs(found - middle).max() <= 0.75, "8-bit rounding, once or twice"
    assert (ablation.bilinear_codes(rgb) != generator.encode(rgb)[1]).any()


def test_batches_of_a_recipe():
    images = samples.patches(12, 24)
    recipe = ablation.SOUND.replace(wrapped=True, bilinear=True)
    batches = ablation.Photographs(images, recipe, 16, 4, True, 8)
    assert len(batches) == 2
    shown = [batches.batch(*divmod(k, 2))[0].tobytes() for k in range(3)]
    sound = generator.ColorBatches(images, 4, 16, workers=0)
    lightness, _ = sound.batch(0, 2)  # the third batch: it begins the second epoch of two
    expected = ablation.raw_lightness(lightness)
    given, codes = batches.batch(1, 0)
    np.testing.assert_allclose(given, expected)
    assert np.array_equal(codes, ablation.bilinear_codes(sound.photographs(0, 2)))
    assert len(set(shown)) == 3


def test_photographs_are_what_a_batch_encodes():
    batches = generator.ColorBatches(samples.patches(9, 24), 4, 16, flip=True, workers=0)
    for found, expected in zip(
        generator.encode(batches.photographs(3, 1)), batches.batch(3, 1), strict=True
    ):
        assert np.array_equal(found, expected)


def test_each_recipe_differs_in_one_thing():
    both = ablation.SOUND, ablation.PUBLISHED
    changes = {key for pair in ablation.UNDONE.values() for key in pair}
    differ = {k for k, v in vars(both[0]).items() if v != vars(both[1])[k]} - {"settings"}
    settings = [recipe.settings.to_dict() for recipe in both]
    differ |= {key for key, value in settings[0].items() if value != settings[1][key]}
    assert differ == changes and all(len(change) == 1 for change in ablation.UNDONE.values())


def test_the_sound_constant_is_the_papers():
    # the mean over n outputs + c |w|^2 is (the sum + lambda / 2 |w|^2) / n for c = lambda / (2 n)
    assert pytest.approx(2.55e-6, rel=1e-2) == ablation.SOUND.settings.l2


def test_all_faults_at_once_can_be_trained_and_then_only_statistics_move():
    patches = samples.patches(24, 24)
    recipe = ablation.PUBLISHED.replace(epochs=3, crop=16, start_from_prior=False)
    history = ablation.train(recipe, patches[:16], patches[16:], point=4)
    assert len(history["loss"]) == len(history["validation"]) == 3
    for curve in (history["still"], history["still_loss"]):
        assert len(curve) == ablation.STILL_POINTS and len(set(curve)) > 1
    assert np.isfinite(history["validation"]).all() and np.isfinite(history["loss"]).all()
    assert 2 < history["prior"] < 6 and 2 < history["training_prior"] < 6


def test_losses_are_recorded_without_the_penalty():
    patches = samples.patches(24, 24)
    recipe = ablation.SOUND.replace(width=1 / 16, epochs=1, crop=16, learning_rate=0.0)
    without, with_penalty = (
        ablation.train(recipe.replace(l2=l2), patches[:16], patches[16:], point=16)
        for l2 in (0.0, 1e-2)
    )
    np.testing.assert_allclose(without["loss"], with_penalty["loss"], atol=1e-4)
    np.testing.assert_allclose(without["validation"], with_penalty["validation"], atol=1e-4)


def test_records_are_joined(tmp_path):
    script = scripts.load("ablation")
    data = {"train_images": 3}
    parts = [tmp_path / f"part{k}.json" for k in range(3)]
    for k, path in enumerate(parts[:2]):
        record = script.load(path, data)
        record["runs"] += [{"recipe": name, "seed": k} for name in ("published", "sound")]
        script.write(path, record)
    both = script.joined(parts[:2])
    script.write(parts[2], both)
    runs = json.loads(parts[2].read_text())["runs"]
    ordered = [(run["recipe"], run["seed"]) for run in runs]
    assert ordered == [("sound", 0), ("sound", 1), ("published", 0), ("published", 1)]
    assert script.joined([parts[0], parts[0]])["runs"] == script.load(parts[0], data)["runs"]
    other = json.loads(parts[1].read_text()) | {"environments": [{"cpus": 99}]}
    parts[2].write_text(json.dumps(other))
    assert len(script.joined(parts)["environments"]) == 2
    other = json.loads(parts[1].read_text()) | {"data": {"train_images": 4}}
    parts[1].write_text(json.dumps(other))
    with pytest.raises(SystemExit, match=r"part1.json: has other data or settings"):
        script.joined(parts[:2])


def test_a_loss_that_is_no_number_stops_it():
    patches = samples.patches(16, 16)
    recipe = ablation.SOUND.replace(width=1 / 64, crop=16, epochs=1, learning_rate=float("inf"))
    with pytest.raises(callbacks.DivergedError):
        ablation.train(recipe, patches, patches, point=16)


def test_the_reports_presets_are_its_published_code():
    for preset in (config.REPORT_64, config.REPORT_256):
        assert (preset.batch_size, preset.network, preset.batch_norm_momentum) == (
            1,
            "published",
            0.99,
        )
