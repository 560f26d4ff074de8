"""Batches are a pure function of (seed, epoch, index), complete, and right."""

import tracemalloc

import cv2
import numpy as np
import pytest
import shallow

from colorlib import colorspace, config, generator, model, quantizer, samples, store, training


def epoch_of(batches):
    return [batches[k] for k in range(len(batches))]


def test_shapes_and_ranges(patches):
    lightness, codes = generator.ColorBatches(patches, 16, 24)[0]
    assert lightness.shape[1:] == (24, 24, 1) and lightness.dtype == np.float32
    assert codes.shape == (len(lightness), 6, 6) and codes.dtype == np.int32
    assert lightness.min() >= 0 and 50 < lightness.max() <= 100
    assert codes.min() >= 0 and codes.max() < quantizer.CODES


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("crop_scale", [None, 0.2])
def test_workers_change_nothing(patches, workers, crop_scale):
    how = dict(flip=True, seed=5, crop_scale=crop_scale)
    alone = generator.ColorBatches(patches, 7, 16, workers=0, **how)
    many = generator.ColorBatches(patches, 7, 16, workers=workers, **how)
    for epoch in (0, 1, 4):
        alone.epoch = many.epoch = epoch
        for a, b in zip(epoch_of(alone), epoch_of(many), strict=True):
            np.testing.assert_array_equal(a[0], b[0])
            np.testing.assert_array_equal(a[1], b[1])


def test_batches_can_be_asked_for_in_any_order(patches):
    batches = generator.ColorBatches(patches, 8, 16, seed=1)
    forward = epoch_of(batches)
    for k in (3, 0, 4, 1):
        np.testing.assert_array_equal(batches[k][0], forward[k][0])


def test_seed_and_epoch_change_everything(patches):
    def first(seed, epoch):
        return generator.ColorBatches(patches, 8, 16, seed=seed).batch(epoch, 0)[0]

    assert not np.array_equal(first(0, 0), first(0, 1))
    assert not np.array_equal(first(0, 0), first(1, 0))


@pytest.mark.parametrize("batch_size", [1, 7, 16, 39, 40, 64])
def test_every_image_is_seen_once_an_epoch(batch_size):
    levels = np.linspace(20, 235, 40).astype(np.uint8)
    distinct = np.broadcast_to(levels[:, None, None, None], (40, 16, 16, 3))
    batches = generator.ColorBatches(np.ascontiguousarray(distinct), batch_size, 8, flip=True)
    parts = epoch_of(batches)
    assert max(len(x) for x, _ in parts) - min(len(x) for x, _ in parts) <= 1
    seen = np.concatenate([x[:, 0, 0, 0] for x, _ in parts])
    assert len(np.unique(seen)) == len(seen) == 40


def test_validation_takes_the_centre_in_stored_order(patches):
    batches = generator.ColorBatches(patches, 16, 24, train=False)
    lightness = np.concatenate([x for x, _ in epoch_of(batches)])
    centre = colorspace.rgb_to_lab8(np.ascontiguousarray(patches[:, 4:28, 4:28]))[..., :1]
    np.testing.assert_allclose(lightness, centre * (100 / 255), atol=1e-4)
    batches.epoch = 7
    np.testing.assert_array_equal(batches[0][0], lightness[: len(batches[0][0])])


def test_flips_mirror_about_half_of_the_images():
    ramp = np.zeros((200, 8, 8, 3), np.uint8)
    ramp[:] = np.arange(0, 240, 30)[None, None, :, None]
    lightness, _ = generator.ColorBatches(ramp, 200, 8, flip=True)[0]
    mirrored = lightness[:, 0, 0, 0] > lightness[:, 0, -1, 0]
    assert 70 < mirrored.sum() < 130


def test_crops_at_the_images_own_resolution_are_drawn_as_ever(patches):
    """A batch of a recorded run has to stay what it was, whatever else is drawn today."""
    batches = generator.ColorBatches(patches, 10, 16, flip=True, seed=3, workers=0)
    chosen = np.random.default_rng((3, 0, 2)).permutation(40)[10:20]
    rng = np.random.default_rng((3, 1, 2, 1))
    tops, lefts = rng.integers(0, 17, (2, 10))
    crops = store.squares(patches, chosen, tops, lefts, 16)
    mirrored = rng.random(10) < 0.5
    crops[mirrored] = crops[mirrored, :, ::-1]
    for got, wanted in zip(batches.batch(2, 1), generator.encode(crops), strict=True):
        np.testing.assert_array_equal(got, wanted)


def coordinates(count, size, crop, scale, seed=0):
    """Return random resized crops of images whose red and green are x and y."""
    x = np.arange(size, dtype=np.uint8)
    image = np.stack(np.broadcast_arrays(x[None], x[:, None], np.uint8(7)), axis=-1)
    rgb = np.broadcast_to(image, (count, *image.shape))
    return generator.random_resized_crops(rgb, crop, scale, np.random.default_rng(seed))


@pytest.mark.parametrize(("crop", "scale"), [(8, 0.3), (120, 0.05)])
def test_shares_of_the_area_are_uniform_and_squares_stay_inside(crop, scale):
    size = 240
    crops = coordinates(1500, size, crop, scale).astype(float)
    assert crops.shape == (1500, crop, crop, 3)
    first, last = crops[:, 0, 0, :2], crops[:, -1, -1, :2]  # the centers of the outer pixels
    sides = (last - first) * crop / (crop - 1)
    np.testing.assert_allclose(sides[:, 0], sides[:, 1], atol=3)  # square
    shares = (sides.mean(axis=1) / size) ** 2
    quarters = np.quantile(shares, [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(quarters, np.linspace(scale, 1, 5), atol=0.05)
    assert first.min() < size * 0.05 and last.max() > size * 0.95
    middles = (first + last) / 2
    np.testing.assert_allclose(middles.mean(axis=0), (size - 1) / 2, atol=4)


def test_resized_crops_keep_the_colors(patches):
    rng = np.random.default_rng(0)
    many = np.repeat(patches, 50, axis=0)
    for crop in (16, 64):  # shrunk, and grown
        whole = generator.random_resized_crops(patches, crop, 1, rng)
        before, after = patches.mean(axis=(1, 2)), whole.mean(axis=(1, 2))
        np.testing.assert_allclose(after, before, atol=1)
        some = generator.random_resized_crops(many, crop, 0.8, rng)
        np.testing.assert_allclose(some.mean(axis=(0, 1, 2)), before.mean(axis=0), atol=3)
    flat = np.full((9, 32, 32, 3), (10, 200, 90), np.uint8)
    assert (generator.random_resized_crops(flat, 24, 0.1, rng) == (10, 200, 90)).all()


def test_a_crop_as_large_as_the_square_is_not_resampled(patches):
    crops = generator.random_resized_crops(patches, 32, 1, np.random.default_rng(0))
    np.testing.assert_array_equal(crops, patches)


def test_validation_is_never_resized(patches):
    plain = generator.ColorBatches(patches, 16, 24, train=False)
    scaled = generator.ColorBatches(patches, 16, 24, train=False, crop_scale=0.1)
    np.testing.assert_array_equal(plain[1][0], scaled[1][0])


@pytest.mark.parametrize("crop_scale", [0, -0.5, 1.5])
def test_impossible_scales_are_refused(patches, crop_scale):
    with pytest.raises(ValueError, match=f"crop_scale {crop_scale}"):
        generator.ColorBatches(patches, 8, 16, crop_scale=crop_scale)


def test_a_training_hands_its_scale_to_its_batches_alone(patches, tiny):
    settings = tiny.replace(crop_scale=0.3)
    seen = training.batches_for(settings, patches, True, 0)
    assert seen.crop_scale == 0.3 and config.REPORT_64.crop_scale is None
    plain = training.batches_for(tiny, patches, True, 0)
    assert not np.array_equal(seen[0][0], plain[0][0])


def test_large_images_are_encoded(patches):
    tall = np.tile(patches[:1], (1, 24, 24, 1))
    lightness, codes = generator.encode(tall)
    small, few = generator.encode(patches[:1])
    np.testing.assert_array_equal(lightness, np.tile(small, (1, 24, 24, 1)))
    np.testing.assert_array_equal(codes, np.tile(few, (1, 24, 24)))


@pytest.mark.parametrize("size", [8, 32, 56, 176])
def test_codes_are_the_mean_over_4x4_pixels_rounded_once(rng, size):
    noise = rng.integers(0, 256, (64, size, size, 3)).astype(np.uint8)
    for rgb in (noise, samples.patches(64, size)):
        _, codes = generator.encode(rgb)
        ab8 = colorspace.rgb_to_lab8(rgb)[..., 1:].astype(float)
        mean = ab8.reshape(64, size // 4, 4, size // 4, 4, 2).mean(axis=(2, 4))
        error = np.stack(np.divmod(codes, 256), axis=-1) - mean
        assert np.abs(error).max() <= 0.5
        # halves go up as often as down: rounded up they alone would add 1/32
        allowed = 0.02 + 4 / np.sqrt(12 * error[..., 0].size)
        np.testing.assert_array_less(np.abs(error.mean(axis=(0, 1, 2))), allowed)


def test_lightness_is_that_of_the_photograph(patches):
    lightness, _ = generator.encode(patches[:4])
    lab = colorspace.rgb_to_lab(patches[:4])
    np.testing.assert_allclose(lightness[..., 0], lab[..., 0], atol=0.6)


def test_a_subset_by_indices(patches):
    some = generator.ColorBatches(patches, 4, 16, train=False, indices=[5, 9])
    whole = generator.ColorBatches(patches, 40, 16, train=False)
    np.testing.assert_array_equal(some[0][0], whole[0][0][[5, 9]])


@pytest.mark.parametrize(("crop", "indices"), [(12, None), (40, None), (0, None), (16, [])])
def test_impossible_batches_are_refused(patches, crop, indices):
    with pytest.raises(ValueError, match=r"crop|no images"):
        generator.ColorBatches(patches, 8, crop, indices=indices)


class Broken:
    """A store whose image 17 can't be read."""

    size, names = 32, [f"{i}.jpg" for i in range(40)]

    def __init__(self, patches):
        self.patches = patches

    def __len__(self):
        return len(self.patches)

    def read(self, indices, tops=0, lefts=0, side=None):
        if 17 in indices:
            raise OSError("bad sector")
        return store.squares(self.patches, indices, tops, lefts, side or self.size)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_record_is_named(patches, workers):
    batches = generator.ColorBatches(Broken(patches), 8, 16, workers=workers)
    with pytest.raises(generator.RecordError, match=r"image 17 \(17.jpg\).*bad sector"):
        epoch_of(batches)


def test_a_broken_record_ends_the_training_with_its_name(patches, tiny, monkeypatch):
    shallow.patch(monkeypatch)
    batches = generator.ColorBatches(Broken(patches), 8, 16)
    network = model.model_for(tiny)
    training.compile_model(network, tiny, len(batches))
    with pytest.raises(Exception, match=r"image 17 \(17.jpg\)"):
        network.fit(batches, shuffle=False, verbose=0)


def test_memory_stays_flat(rng):
    pixels = rng.integers(0, 256, (256, 64, 64, 3)).astype(np.uint8)
    batches = generator.ColorBatches(pixels, 32, 56, flip=True)
    tracemalloc.start()  # NumPy and OpenCV count their arrays there
    try:
        used = []
        for batches.epoch in range(4):
            epoch_of(batches)
            used.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert used[-1] - used[0] < batches[0][0].nbytes, used


def test_opencv_keeps_its_threads(patches):
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(3)
        for crop_scale in (None, 0.5):
            how = dict(flip=True, workers=2, crop_scale=crop_scale)
            epoch_of(generator.ColorBatches(patches, 8, 16, **how))
        assert cv2.getNumThreads() == 3
    finally:
        cv2.setNumThreads(before)
