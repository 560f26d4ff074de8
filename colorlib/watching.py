"""What a person sees of a training while it goes on: a bar, lines, and colored photographs.

Not here: what a training needs to go on (`colorlib.checkpoints`), and its history
(`colorlib.runs`). The colored photographs are the report's figures 6 and 8.
"""

import time
import warnings
import zipfile

import keras
import numpy as np
from tqdm.auto import tqdm

from colorlib import generator, images, optimizers, quantizer

SHOWN = ("accuracy", "loss", "val_accuracy", "val_loss")

VIVIDNESS = 0.6
"""How far rare colors are favored (`quantizer.rebalance`) in the second kind of predictions."""


class ProgressBar(keras.callbacks.Callback):
    """One bar over all steps, with the losses of the epoch before and the time left."""

    def __init__(self, epochs, done=0):
        super().__init__()
        self.epochs, self.done = epochs, done

    def on_train_begin(self, logs=None):
        """Open the bar."""
        steps = self.params["steps"]
        self.bar = tqdm(total=self.epochs * steps, initial=self.done * steps, unit=" steps")

    def on_train_batch_end(self, batch, logs=None):
        """Move it."""
        self.bar.update()

    def on_epoch_end(self, epoch, logs=None):
        """Show how it goes."""
        shown = {name: f"{value:.3f}" for name, value in (logs or {}).items()}
        self.bar.set_postfix(epoch=epoch + 1, **shown)

    def on_train_end(self, logs=None):
        """Close it."""
        self.bar.close()


class EpochLines(keras.callbacks.Callback):
    """Print a line for each epoch, above the progress bar."""

    def __init__(self, image_count):
        super().__init__()
        self.image_count = image_count

    def on_epoch_begin(self, epoch, logs=None):
        """Start the clock."""
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        """Print it."""
        logs, seconds = logs or {}, time.perf_counter() - self.start
        shown = "  ".join(f"{name} {logs[name]:.4f}" for name in sorted(logs) if name in SHOWN)
        rate = optimizers.current_rate(self.model.optimizer)
        left = (self.params["epochs"] - epoch - 1) * seconds / 60
        tqdm.write(
            f"epoch {epoch + 1}/{self.params['epochs']}  {shown}  rate {rate:.2e}  "
            f"{self.image_count / seconds:.0f} images/s  {left:.0f} min left"
        )


class Predictions(keras.callbacks.Callback):
    """Color the same photographs after each epoch, and keep the colors in one small file.

    The file holds two arrays of int8, shape (epochs, n, size / 4, size / 4, 2): (a, b) of
    ``plain`` predictions and of ``vivid`` ones, with rare colors favored by `VIVIDNESS`.

    Parameters
    ----------
    path : pathlib.Path
        The file, ending in ``.npz``. What it holds of epochs to come is replaced; an epoch that
        it lacks, since it could not be written, stays grey.
    rgb : ndarray of uint8, shape (n, size, size, 3)
        The photographs; the size is a multiple of 8.
    weights : ndarray, shape (313,)
        `quantizer.rebalancing_weights` of the training images.
    """

    def __init__(self, path, rgb, weights):
        super().__init__()
        self.path, self.weights = path, weights
        self.seen, self.warned = None, False
        self.lightness, _ = generator.encode(rgb)

    def on_epoch_end(self, epoch, logs=None):
        """Color them, and add the colors to the file."""
        logits = np.asarray(self.model.predict_on_batch(self.lightness))
        favored = quantizer.rebalance(logits, self.weights, VIVIDNESS)
        new = {"plain": quantizer.annealed_mean(logits), "vivid": quantizer.annealed_mean(favored)}
        if self.seen is None:
            self.seen = _load(self.path)
        for name, ab in new.items():
            grown = np.zeros((epoch + 1, *ab.shape), np.int8)
            old = self.seen.get(name, grown[:0])[:epoch]
            grown[: len(old)], grown[epoch] = old, np.rint(ab)
            self.seen[name] = grown
        self._write()

    def _write(self):
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with images.replacing(self.path) as temporary, temporary.open("wb") as file:
                np.savez_compressed(file, **self.seen)
        except OSError as error:
            if not self.warned:
                warnings.warn(f"{self.path}: can't be written ({error})", stacklevel=2)
            self.warned = True


def _load(path):
    if not path.exists():
        return {}
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        warnings.warn(f"{path} is damaged ({error}); it is begun anew", stacklevel=2)
        return {}
