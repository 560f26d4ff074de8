"""Soft cross-entropy over ab codes, rebalanced or not, and accuracy.

Not here: the encoding itself (`colorlib.quantizer`). Section 2.1 and 2.2 of Zhang et al. 2016.

The paper's equation 1 sums over the pixels of an image; here, as everywhere in Keras, the loss
is the *average* over pixels and images, in nats. A uniform prediction has ln 313 = 5.746.
"""

import keras
import numpy as np
from keras import ops

from colorlib import quantizer

PACKAGE = "colorlib"


@keras.saving.register_keras_serializable(PACKAGE)
class SoftCrossEntropy(keras.losses.Loss):
    """Cross-entropy between soft-encoded ab codes and predicted logits.

    Parameters
    ----------
    class_weights : array-like of float, shape (313,), optional
        Weight of each pixel by its nearest bin (`quantizer.rebalancing_weights`); 1 by default.
    neighbors : int
        Bins in the soft encoding.
    sigma : float
        Its width in ab units.
    reduction, name, dtype : str
        As for every Keras loss.

    Notes
    -----
    Called with integer codes (batch, h, w) in 0..65535 and logits (batch, h, w, 313). Of the 313
    target weights of a pixel, 308 are zero, so they are never written out: with weights z that
    sum to 1, the cross-entropy is logsumexp(logits) - sum(z * logits). It is computed in
    `dtype`, whatever the precision of the network.
    """

    def __init__(
        self,
        class_weights=None,
        neighbors=quantizer.NEIGHBORS,
        sigma=quantizer.SIGMA,
        reduction="sum_over_batch_size",
        name="soft_cross_entropy",
        dtype="float32",
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.neighbors, self.sigma = neighbors, sigma
        self.class_weights = None if class_weights is None else _per_bin(class_weights)
        self._bins, self._weights = quantizer.soft_encoding(neighbors, sigma)

    def call(self, y_true, y_pred):
        """Return the loss of each pixel: (batch, h, w), in nats."""
        codes = ops.cast(y_true, "int32")
        logits = ops.cast(y_pred, self.dtype)
        bins = ops.take(self._bins, codes, axis=0)
        weights = ops.cast(ops.take(self._weights, codes, axis=0), self.dtype)
        # (batch, h, w, 313) -> (batch, h, w, neighbors): only the target's bins
        chosen = ops.take_along_axis(logits, bins, axis=-1)
        loss = ops.logsumexp(logits, axis=-1) - ops.sum(weights * chosen, axis=-1)
        if self.class_weights is None:
            return loss
        return loss * ops.cast(ops.take(self.class_weights, bins[..., 0], axis=0), self.dtype)

    def get_config(self):
        """Return what `from_config` needs."""
        weights = None if self.class_weights is None else self.class_weights.tolist()
        own = dict(class_weights=weights, neighbors=self.neighbors, sigma=self.sigma)
        return {"reduction": self.reduction, "name": self.name, "dtype": self.dtype, **own}


@keras.saving.register_keras_serializable(PACKAGE)
class Accuracy(keras.metrics.MeanMetricWrapper):
    """Share of the pixels whose likeliest bin is the true color's nearest.

    Called like `SoftCrossEntropy`: integer codes (batch, h, w), logits (batch, h, w, 313).
    """

    def __init__(self, name="accuracy", dtype=None):
        super().__init__(_hits, name=name, dtype=dtype)

    def get_config(self):
        """Return what `from_config` needs."""
        return {"name": self.name, "dtype": self.dtype}


# For each pixel 1 if its likeliest bin is the true color's nearest, else 0.
def _hits(codes, logits):
    nearest = quantizer.soft_encoding()[0][:, 0]
    true = ops.take(nearest, ops.cast(codes, "int32"), axis=0)
    return ops.cast(ops.equal(true, ops.cast(ops.argmax(logits, axis=-1), "int32")), "float32")


def _per_bin(class_weights):
    weights = np.asarray(class_weights, np.float32)
    if weights.shape != (quantizer.BINS,):
        raise ValueError(f"class_weights need the shape ({quantizer.BINS},), not {weights.shape}")
    return weights
