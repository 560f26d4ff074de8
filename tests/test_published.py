"""Each recipe is what it says; one thing is undone at a time."""

import cv2
import numpy as np
import pytest

from colorlib import callbacks, colorspace, config, generator, model, quantizer, samples, table
from colorlib.experiments import published


def test_raw_lightness_reaches_the_first_convolution_as_bytes():
    eight_bits = np.arange(256, dtype=np.uint8)
    given = published.raw_lightness(eight_bits * (100 / 255))
    scaled = given * table.LIGHTNESS_SCALE + table.LIGHTNESS_OFFSET
    np.testing.assert_allclose(scaled, eight_bits - np.uint8(128), atol=1e-3)


def test_bilinear_targets_are_the_middle_of_four_by_four_pixels():
    rgb = samples.patches(2, 16)
    lab = np.stack([cv2.cvtColor(image, cv2.COLOR_RGB2LAB) for image in rgb])
    middle = lab.reshape(2, 4, 4, 4, 4, 3)[:, :, 1:3, :, 1:3, 1:].mean(axis=(2, 4))
    found = quantizer.code_colors()[published.bilinear_codes(rgb)] + colorspace.AB_OFFSET
    assert np.abs(found - middle).max() <= 0.75, "8-bit rounding, once or twice"
    assert (published.bilinear_codes(rgb) != generator.encode(rgb)[1]).any()


def test_batches_of_a_recipe():
    images = samples.patches(12, 24)
    recipe = published.SOUND.replace(wrapped=True, bilinear=True)
    batches = published.Photographs(images, recipe, 16, 4, True, 8)
    assert len(batches) == 2
    shown = [batches.batch(*divmod(k, 2))[0].tobytes() for k in range(3)]
    sound = generator.ColorBatches(images, 4, 16, workers=0)
    lightness, _ = sound.batch(0, 2)  # the third batch: it begins the second epoch of two
    expected = published.raw_lightness(lightness)
    given, codes = batches.batch(1, 0)
    np.testing.assert_allclose(given, expected)
    assert np.array_equal(codes, published.bilinear_codes(sound.photographs(0, 2)))
    assert len(set(shown)) == 3


def test_photographs_are_what_a_batch_encodes():
    batches = generator.ColorBatches(samples.patches(9, 24), 4, 16, flip=True, workers=0)
    for found, expected in zip(
        generator.encode(batches.photographs(3, 1)), batches.batch(3, 1), strict=True
    ):
        assert np.array_equal(found, expected)


def test_the_published_network_has_no_batch_norm_in_block_8():
    names = {
        network: [layer.name for layer in model.build_model(1 / 64, network=network).layers]
        for network in ("table_1", "published")
    }
    assert [name for name in names["table_1"] if name != "conv8_3_bn"] == names["published"]
    assert table.input_multiple("published") == table.input_multiple("table_1")


def test_each_recipe_differs_in_one_thing():
    both = published.SOUND, published.PUBLISHED
    changes = {key for pair in published.UNDONE.values() for key in pair}
    differ = {k for k, v in vars(both[0]).items() if v != vars(both[1])[k]} - {"settings"}
    settings = [recipe.settings.to_dict() for recipe in both]
    differ |= {key for key, value in settings[0].items() if value != settings[1][key]}
    assert differ == changes and all(len(change) == 1 for change in published.UNDONE.values())


def test_all_faults_at_once_can_be_trained_and_then_only_statistics_move():
    patches = samples.patches(24, 24)
    recipe = published.PUBLISHED.replace(epochs=3, crop=16, start_from_prior=False)
    history = published.train(recipe, patches[:16], patches[16:], point=4)
    assert len(history["loss"]) == len(history["validation"]) == 3
    assert len(history["still"]) == published.STILL_POINTS and len(set(history["still"])) > 1
    assert np.isfinite(history["validation"]).all() and 2 < history["prior"] < 6


def test_a_loss_that_is_no_number_stops_it():
    patches = samples.patches(16, 16)
    recipe = published.SOUND.replace(width=1 / 64, crop=16, epochs=1, learning_rate=float("inf"))
    with pytest.raises(callbacks.DivergedError):
        published.train(recipe, patches, patches, point=16)


def test_the_reports_presets_are_its_published_code():
    for preset in (config.REPORT_64, config.REPORT_256):
        assert (preset.batch_size, preset.network, preset.batch_norm_momentum) == (
            1,
            "published",
            0.99,
        )
