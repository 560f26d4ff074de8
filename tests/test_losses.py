"""The loss on codes against Keras' own dense cross-entropy, values and gradients."""

import keras
import numpy as np
import pytest
from keras import ops

from colorlib import losses, quantizer


@pytest.fixture
def codes(rng):
    return rng.integers(0, quantizer.CODES, (3, 4, 5)).astype(np.int32)


@pytest.fixture
def logits(rng):
    return (rng.normal(size=(3, 4, 5, 313)) * 4).astype(np.float32)


def dense_loss(codes, logits, weights=None):
    target = quantizer.encode_dense(codes)
    loss = ops.categorical_crossentropy(target, logits, from_logits=True)
    if weights is not None:
        loss = loss * ops.convert_to_tensor(weights[quantizer.nearest_bins(codes)])
    return ops.mean(loss)


def gradient(function, logits):
    if keras.backend.backend() == "jax":
        import jax

        return np.asarray(jax.grad(function)(logits))
    if keras.backend.backend() == "torch":
        import torch

        variable = torch.tensor(logits, requires_grad=True)
        return torch.autograd.grad(function(variable), variable)[0].numpy()
    import tensorflow as tf

    variable = tf.Variable(logits)
    with tf.GradientTape() as tape:
        loss = function(tf.convert_to_tensor(variable))
    return tape.gradient(loss, variable).numpy()


@pytest.mark.parametrize("rebalanced", [False, True])
def test_equals_dense_cross_entropy_values_and_gradients(codes, logits, rng, rebalanced):
    weights = rng.uniform(0.1, 5, 313).astype(np.float32) if rebalanced else None
    ours = losses.SoftCrossEntropy(weights)
    assert float(ours(codes, logits)) == pytest.approx(
        float(dense_loss(codes, logits, weights)), abs=1e-5
    )
    np.testing.assert_allclose(
        gradient(lambda x: ours(codes, x), logits),
        gradient(lambda x: dense_loss(codes, x, weights), logits),
        atol=1e-5,
    )


def test_uniform_prediction_costs_ln_313(codes):
    flat = np.zeros((*codes.shape, 313), np.float32)
    assert float(losses.SoftCrossEntropy()(codes, flat)) == pytest.approx(np.log(313), abs=1e-4)


def test_a_perfect_prediction_costs_the_entropy_of_its_target(codes):
    target = quantizer.encode_dense(codes)
    entropy = -(target * np.log(target.clip(1e-12))).sum(-1).mean()
    perfect = np.log(target.clip(1e-12)).astype(np.float32)
    assert float(losses.SoftCrossEntropy()(codes, perfect)) == pytest.approx(entropy, abs=1e-4)


def test_large_logits_do_not_overflow(codes, logits):
    assert np.isfinite(float(losses.SoftCrossEntropy()(codes, logits * 1e4)))


def test_half_precision_logits_are_summed_in_float32(codes, logits):
    half = ops.cast(logits, "bfloat16")
    loss = losses.SoftCrossEntropy()(codes, half)
    assert keras.backend.standardize_dtype(loss.dtype) == "float32"
    expected = float(dense_loss(codes, np.asarray(ops.cast(half, "float32"))))
    assert float(loss) == pytest.approx(expected, abs=1e-4)


def test_the_loss_survives_serialization(codes, logits, rng):
    loss = losses.SoftCrossEntropy(rng.uniform(0.1, 5, 313), neighbors=10, sigma=4.0)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert float(again(codes, logits)) == pytest.approx(float(loss(codes, logits)), rel=1e-6)
    metric = keras.saving.serialize_keras_object(losses.Accuracy())
    assert isinstance(keras.saving.deserialize_keras_object(metric), losses.Accuracy)


def test_weights_of_the_wrong_shape_are_refused():
    with pytest.raises(ValueError, match="313"):
        losses.SoftCrossEntropy(np.ones(312))


def test_accuracy_counts_exact_hits(codes):
    right = np.eye(313, dtype=np.float32)[quantizer.nearest_bins(codes)]
    right[0] = np.roll(right[0], 1, axis=-1)  # one image of three is wrong throughout
    metric = losses.Accuracy()
    metric.update_state(codes, right)
    assert float(metric.result()) == pytest.approx(2 / 3)
