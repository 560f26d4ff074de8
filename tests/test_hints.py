"""Hints as they are drawn for a training, and networks that take them."""

import functools

import keras
import numpy as np
import pytest

from colorlib import config, generator, hints, model, runs, samples, table, training


@pytest.fixture
def ab8(rng):
    return rng.integers(0, 256, (2, 400, 24, 32)).astype(np.uint8)


def test_hints_are_the_true_colors_mean_over_patches(rng, ab8):
    drawn = hints.random_patches(np.full(400, 2), (24, 32), rng)
    given = hints.patches(ab8, *drawn)
    for image, side, (top, left) in zip(*drawn, strict=True):
        square = np.s_[image, top : top + side, left : left + side]
        found, mean = given[square], ab8[:, *square].mean(axis=(1, 2)) - 128
        assert (found[..., 2] == 1).all()
        overlapped = not (found == found[0, 0]).all()
        assert (
            overlapped
            or np.allclose(found[0, 0, :2], mean, atol=1e-3)
            or np.sum(drawn[0] == image) > 1
        )
    assert not given[given[..., 2] == 0].any()


def test_the_numbers_sizes_and_places_of_points_are_the_papers(rng):
    images, sides, corners = hints.random_patches(np.full(100, 100), (400, 200), rng)
    assert (np.bincount(images) == 100).all()
    assert set(sides) == set(range(1, hints.LARGEST + 1))
    centers = (corners + sides[:, None] / 2) / (400, 200)
    np.testing.assert_allclose(centers.mean(axis=0), 1 / 2, atol=0.01)
    np.testing.assert_allclose(centers.std(axis=0), hints.SPREAD, atol=0.03)
    assert corners.min() == 0 and (corners.max(axis=0) == (399, 199)).all()


def test_many_images_have_no_hints_and_a_few_all(rng):
    ab8 = rng.integers(0, 256, (2, 5000, 8, 8)).astype(np.uint8)
    given = hints.random(ab8, rng)
    shares = given[..., 2].mean(axis=(1, 2))
    expected = hints.NONE + (1 - hints.NONE - hints.WHOLE) * hints.POINTS
    assert (shares == 0).mean() == pytest.approx(expected, abs=0.02)
    everything = [x for x, share in enumerate(shares) if share == 1]
    assert len(everything) >= 0.5 * hints.WHOLE * 5000
    exact = [x for x in everything if (given[x, ..., 0] == ab8[0, x].astype(float) - 128).all()]
    assert len(exact) == pytest.approx(hints.WHOLE * 5000, rel=0.5)


@pytest.mark.parametrize("train", [True, False])
def test_batches_carry_the_hints_of_their_crops(patches, train):
    how = dict(train=train, flip=True, degrade=0.3, crop_scale=0.5, seed=4, workers=0)
    plain = generator.ColorBatches(patches, 40, 16, **how).batch(3, 0)
    batches = generator.ColorBatches(patches, 40, 16, take_hints=True, **how)
    (lightness, given), codes = batches.batch(3, 0)
    np.testing.assert_array_equal(lightness, plain[0])
    np.testing.assert_array_equal(codes, plain[1])
    assert given.shape == (40, 16, 16, 3) and given.dtype == np.float32
    (_, again), _ = batches.batch(3, 0)
    np.testing.assert_array_equal(given, again)
    (_, later), _ = batches.batch(4, 0)
    assert np.array_equal(given, later) != train  # of validation images they stay the same


def test_hints_are_what_the_codes_are_made_of():
    red = np.full((64, 32, 32, 3), (200, 30, 40), np.uint8)
    (_, given), codes = generator.ColorBatches(red, 64, 32, take_hints=True, workers=0)[0]
    shown = given[given[..., 2] == 1][:, :2] + 128
    assert len(shown) > 1000
    np.testing.assert_array_equal(shown @ [256, 1], np.full(len(shown), codes[0, 0, 0]))


@pytest.fixture(scope="module")
def start():
    network = model.build_model(network="lite0", width=1 / 16, seed=2)
    rng = np.random.default_rng(0)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 2, w.shape) for w in layer.get_weights()])
    return network


def test_a_network_with_hints_starts_from_one_without(start, rng):
    network = model.build_model(network="lite0_hints", width=1 / 16)
    model.start_from(network, start)
    lightness = rng.uniform(0, 100, (2, 64, 96, 1)).astype(np.float32)
    given = rng.uniform(-50, 50, (2, 64, 96, 3)).astype(np.float32)
    answer = network.predict_on_batch([lightness, 0 * given])
    expected = start.predict_on_batch(lightness)
    np.testing.assert_allclose(answer, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    # at first it does not mind them, and without them it never minds the new parts of kernels
    np.testing.assert_array_equal(network.predict_on_batch([lightness, given]), answer)
    for name in (f"{table.ENCODER}stem", "decode_16", "decode_8", "decode_4"):
        layer = network.get_layer(name)
        kernel, *others = layer.get_weights()
        added = np.s_[:, :, -3:]
        layer.set_weights([np.where(kernel == 0, rng.normal(size=kernel.shape), kernel), *others])
        found = network.predict_on_batch([lightness, given])
        assert np.abs(found - answer).max() > 0.1
        assert not kernel[added].any()
        np.testing.assert_array_equal(network.predict_on_batch([lightness, 0 * given]), answer)
        layer.set_weights([kernel, *others])


def test_a_network_without_hints_can_not_start_from_one_with_them(start):
    with pytest.raises(ValueError, match="choose the same width"):
        model.start_from(start, model.build_model(network="lite0_hints", width=1 / 16))


@pytest.fixture(scope="module")
def settings(tmp_path_factory, start):
    """Those of the preset, small, from a recorded run without hints."""
    path = tmp_path_factory.mktemp("runs") / "start"
    source = config.TRANSFER.replace(width=1 / 16, precision="float32")
    path.mkdir()
    runs.begin(path, source, {}, np.full(table.BINS, 1 / table.BINS))
    runs.record(path, [{"loss": 4.0, "val_loss": 4.0}])
    runs.save_weights(start, path / runs.WEIGHTS)
    changes = dict(
        image_size=64, crop=32, width=1 / 16, batch_size=8, epochs=2, precision="float32"
    )
    return config.HINTS.replace(start_from=str(path), **changes)


# That a training can be resumed follows from batches that depend on the epoch alone.
def test_a_network_with_hints_is_trained_and_recorded(tmp_path, settings, monkeypatch):
    # a few steps take less time than a graph of all its layers
    eager = functools.partialmethod(keras.Model.compile, run_eagerly=True)
    monkeypatch.setattr(keras.Model, "compile", eager)
    images = samples.patches(24, 64)
    data = images[:16], images[16:]
    run = training.train(settings, *data, tmp_path / "run", progress=False, watched=images[:2])
    assert np.isfinite(run.history["val_loss"]).all()
    with np.load(tmp_path / "run" / runs.PREDICTIONS) as file:
        assert file["plain"].shape == (2, 2, 16, 16, 2)
    (lightness, given), _ = training.batches_for(settings, data[1], False, 0)[0]
    assert run.network().predict_on_batch(lightness, given).shape == (8, 8, 8, table.BINS)
