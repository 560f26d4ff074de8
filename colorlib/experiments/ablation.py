"""A small sound training, the faults that may have spoilt the report's, and how rough a curve is.

Not here: the experiment that tries each of them (`benchmarks/ablation.py`), and what came of it
(notebook 08). Figures 5 and 7 of the report: erratic validation curves, which it could not explain.
"""

import dataclasses

import keras
import numpy as np

from colorlib import callbacks as training_callbacks
from colorlib import config, generator, quantizer, training
from colorlib.experiments import l2_search

PAPERS_L2 = 1e-3
"""Zhang et al. 2016 in Caffe's units: (PAPERS_L2 / 2) |w|^2 beside a loss summed over pixels."""

CROP = 32
"""Side in pixels: small enough for many trainings on two cores."""

SOUND = config.TrainConfig(
    crop=CROP,
    width=1 / 8,
    epochs=16,
    batch_size=16,
    learning_rate=1e-3,
    l2=PAPERS_L2 / (2 * (CROP // generator.STRIDE) ** 2),
    start_from_prior=True,
    batch_norm_momentum=0.9,
    flip=True,
)
"""Adam at a constant rate as in the report, small, and as free of faults as we can make it."""


@dataclasses.dataclass(frozen=True)
class Fault:
    """One fault; or none: the sound training.

    Attributes
    ----------
    changes : dict
        Fields of `colorlib.config.TrainConfig`.
    random_crops : bool
        Validate on crops that are drawn anew after each epoch.
    wrapped : bool
        The network sees `wrap_lightness` of L, in training and in validation.
    repeated : bool
        Train on `RepeatedBatches`.
    """

    changes: dict = dataclasses.field(default_factory=dict)
    random_crops: bool = False
    wrapped: bool = False
    repeated: bool = False


FAULTS = {
    "sound": Fault(),
    "batch size 1": Fault({"batch_size": 1}),
    "random validation crops": Fault(random_crops=True),
    "uint8 wrap of L": Fault(wrapped=True),
    "repeated batches": Fault(repeated=True),
    "time decay 1e-3": Fault({"decay": 1e-3}),
    "L2 in the wrong units": Fault({"l2": PAPERS_L2}),
    "BatchNorm momentum 0.99": Fault({"batch_norm_momentum": 0.99}),
    "momentum 0.99, rate 1e-4": Fault({"learning_rate": 1e-4, "batch_norm_momentum": 0.99}),
}
"""Six that the report invites; a seventh, Keras' own momentum; and that at the report's rate."""


def train(fault, images, validation, settings=SOUND, callbacks=()):
    """Train the sound way but for one fault, and follow the validation loss.

    Parameters
    ----------
    fault : Fault
    images, validation : ndarray of uint8, shape (n, size, size, 3)
        sRGB: to train on, and to measure on after each epoch.
    settings : colorlib.config.TrainConfig
        Of the sound training.
    callbacks : sequence of keras.callbacks.Callback

    Returns
    -------
    dict of str to list of float
        For each epoch, in nats per pixel: ``loss`` in training and ``val_loss``, both with the L2
        penalty as Keras reports them, and ``val_cross_entropy`` without it.

    Raises
    ------
    colorlib.callbacks.DivergedError
        If a loss is no finite number any more.
    KeyboardInterrupt
        After the batch during which Ctrl-C was pressed.
    """
    settings = settings.replace(**fault.changes)
    training.make_deterministic(settings.seed)
    cut = dict(crop=settings.crop, seed=settings.seed)
    seen = generator.ColorBatches(images, settings.batch_size, flip=settings.flip, **cut)
    measured = generator.ColorBatches(validation, 250, train=fault.random_crops, **cut)
    prior = quantizer.prior(quantizer.code_histogram(images))
    network = training.new_network(settings, len(seen), prior)
    batches = RepeatedBatches(seen, settings.batch_size) if fault.repeated else seen
    spoil = WrappedLightness if fault.wrapped else lambda sound: sound
    without_penalty = CrossEntropy()
    set_epochs = [training_callbacks.SetEpoch(batches) for batches in (seen, measured)]
    with training_callbacks.Interrupt() as interrupt:
        stops = [interrupt, training_callbacks.StopWhenDiverged("the ablation")]
        network.fit(
            spoil(batches),
            validation_data=spoil(measured),
            epochs=settings.epochs,
            callbacks=[*set_epochs, *stops, without_penalty, *callbacks],
            shuffle=False,  # Keras would shuffle with a global random state
            verbose=0,
        )
    history = {name: network.history.history[name] for name in ("loss", "val_loss")}
    return {**history, "val_cross_entropy": without_penalty.curve}


class CrossEntropy(keras.callbacks.Callback):
    """Collect the validation loss without the L2 penalty, in `curve`."""

    def __init__(self):
        super().__init__()
        self.curve = []

    def on_epoch_end(self, epoch, logs=None):
        """Add a point."""
        self.curve.append(l2_search.cross_entropy(self.model, logs["val_loss"]))


class RepeatedBatches(keras.utils.PyDataset):
    """A generator that takes its index, the number of a *batch*, for that of an image.

    It divides by the batch size what counts batches already, and so gives only the first few
    batches of an epoch, each as often in a row as a batch has images.

    Parameters
    ----------
    batches : keras.utils.PyDataset
        Sound ones.
    batch_size : int
    """

    def __init__(self, batches, batch_size):
        super().__init__()
        self.batches, self.batch_size = batches, batch_size

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        """Return the wrong batch."""
        return self.batches[index // self.batch_size]


class WrappedLightness(keras.utils.PyDataset):
    """Batches whose lightness went through `wrap_lightness`.

    Parameters
    ----------
    batches : keras.utils.PyDataset
        Sound ones.
    """

    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        """Return a batch with spoilt lightness and sound codes."""
        lightness, codes = self.batches[index]
        return wrap_lightness(lightness), codes


def wrap_lightness(lightness):
    """Do what ``lab[..., 0] - 128`` does to OpenCV's 8-bit L: below 128 it wraps to the top.

    Parameters
    ----------
    lightness : ndarray of float, any shape
        L in 0..100.

    Returns
    -------
    ndarray of float32, same shape
        In 0..100: a sawtooth of L that falls from 100 to 0 at L = 50.
    """
    eight_bits = np.round(np.asarray(lightness) * 255 / 100).astype(np.uint8)
    return (eight_bits - np.uint8(128)).astype(np.float32) * np.float32(100 / 255)


def roughness(curve):
    """Say how far, on average, a point of a curve lies from the middle of its two neighbors.

    Parameters
    ----------
    curve : array-like of float, shape (n,)
        A value for each epoch, n at least 3.

    Returns
    -------
    float
        The mean of |v[k] - (v[k-1] + v[k+1]) / 2|, in the curve's unit: 0 for a straight line
        however steep, and the whole height of the teeth for a sawtooth that goes up and down.

    Raises
    ------
    ValueError
        If there are fewer than 3 points.
    """
    values = np.asarray(curve, dtype=float)
    if values.ndim != 1 or len(values) < 3:
        raise ValueError(f"a curve of at least 3 points is needed, not {values.shape}")
    return float(np.abs(values[1:-1] - (values[:-2] + values[2:]) / 2).mean())
