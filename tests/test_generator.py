"""Batches are a pure function of (seed, epoch, index), complete, and right."""

import numpy as np
import psutil
import pytest

from colorlib import colorspace, generator, model, quantizer, store, training


def epoch_of(batches):
    return [batches[k] for k in range(len(batches))]


def test_shapes_and_ranges(patches):
    lightness, codes = generator.ColorBatches(patches, 16, 24)[0]
    assert lightness.shape[1:] == (24, 24, 1) and lightness.dtype == np.float32
    assert codes.shape == (len(lightness), 6, 6) and codes.dtype == np.int32
    assert lightness.min() >= 0 and 50 < lightness.max() <= 100
    assert codes.min() >= 0 and codes.max() < quantizer.CODES


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_workers_change_nothing(patches, workers):
    alone = generator.ColorBatches(patches, 7, 16, flip=True, seed=5, workers=0)
    many = generator.ColorBatches(patches, 7, 16, flip=True, seed=5, workers=workers)
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


def test_codes_are_those_of_the_mean_color_of_4x4_pixels(patches):
    lightness, codes = generator.encode(patches[:4])
    lab = colorspace.rgb_to_lab(patches[:4])
    mean = lab[..., 1:].reshape(4, 8, 4, 8, 4, 2).mean(axis=(2, 4))
    error = np.abs(quantizer.code_colors()[codes] - mean)
    assert error.mean() < 0.6 and error.max() < 3  # 8-bit Lab, rounded twice
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


def test_a_broken_record_ends_the_training_with_its_name(patches, tiny):
    batches = generator.ColorBatches(Broken(patches), 8, 16)
    network = model.model_for(tiny)
    training.compile_model(network, tiny, len(batches))
    with pytest.raises(Exception, match=r"image 17 \(17.jpg\)"):
        network.fit(batches, shuffle=False, verbose=0)


def test_memory_stays_flat(rng):
    pixels = rng.integers(0, 256, (512, 64, 64, 3)).astype(np.uint8)
    batches = generator.ColorBatches(pixels, 64, 56, flip=True)
    process = psutil.Process()
    used = []
    for batches.epoch in range(6):
        epoch_of(batches)
        used.append(process.memory_info().rss / 2**20)
    assert used[-1] - used[2] < 15, used
