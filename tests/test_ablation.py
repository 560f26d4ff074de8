"""The faults are the faults they claim to be; roughness is what was worked out by hand."""

import numpy as np
import pytest

from colorlib import callbacks, generator, samples
from colorlib.experiments import ablation


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


def test_repeated_batches_show_a_fraction_many_times():
    batches = generator.ColorBatches(samples.patches(32, 16), 4, 16)
    spoilt = ablation.RepeatedBatches(batches, 4)
    numbers = [int(index) // 4 for index in range(len(batches))]
    assert len(spoilt) == len(batches) == 8 and set(numbers) == {0, 1}
    for index, number in enumerate(numbers):
        assert np.array_equal(spoilt[index][0], batches.batch(0, number)[0])


def test_wrapped_batches_keep_their_codes():
    batches = generator.ColorBatches(samples.patches(8, 16), 4, 16)
    spoilt, sound = ablation.WrappedLightness(batches)[1], batches[1]
    assert np.array_equal(spoilt[0], ablation.wrap_lightness(sound[0]))
    assert np.array_equal(spoilt[1], sound[1])


def test_every_fault_at_once_can_be_trained():
    patches = samples.patches(24, 64)
    settings = ablation.SOUND.replace(width=1 / 16, epochs=2, batch_size=8)
    everything = ablation.Fault({"l2": 1e-2}, random_crops=True, wrapped=True, repeated=True)
    history = ablation.train(everything, patches[:16], patches[16:], settings)
    assert {len(curve) for curve in history.values()} == {2}
    penalty = np.subtract(history["val_loss"], history["val_cross_entropy"])
    assert (penalty > 1).all() and np.isfinite(history["val_cross_entropy"]).all()


def test_the_sound_constant_is_the_papers():
    # the mean over n outputs + c |w|^2 is (the sum + lambda / 2 |w|^2) / n for c = lambda / (2 n)
    assert pytest.approx(7.8e-6, rel=1e-2) == ablation.SOUND.l2


def test_a_loss_that_is_no_number_stops_it():
    patches = samples.patches(16, 32)
    settings = ablation.SOUND.replace(width=1 / 64, epochs=1, batch_size=8)
    endless = ablation.Fault({"learning_rate": float("inf")})
    with pytest.raises(callbacks.DivergedError):
        ablation.train(endless, patches, patches, settings)
