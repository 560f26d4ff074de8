"""How a training ends before its time: Ctrl-C between two batches, and a loss that is no number.

Not here: what is kept then (`colorlib.training`, `colorlib.checkpoints`).
"""

import math
import signal
import threading

import keras
import numpy as np

LARGEST = float(np.finfo(np.float16).max)
"""Of a kernel's weights: recorded runs hold kernels in half precision."""


class DivergedError(ValueError):
    """A training that leads nowhere any more; the message says since when and what to try."""


class Interrupt(keras.callbacks.Callback):
    """Let Ctrl-C stop a training between two batches, and nowhere else.

    Python drops an exception that is raised in some places, such as a weak reference's callback
    while Keras builds a graph. So Ctrl-C is only noted down, in a ``with`` block around the
    training, and raised as KeyboardInterrupt by this callback, or else at the end of the block. A
    second Ctrl-C is raised at once. Outside of the main thread, and where Ctrl-C means something
    else already, it is left alone.
    """

    def __init__(self):
        super().__init__()
        self.pressed, self.usual = False, None

    def __enter__(self):
        """Note Ctrl-C down from here on."""
        usual = signal.getsignal(signal.SIGINT)
        main = threading.current_thread() is threading.main_thread()
        if main and usual is signal.default_int_handler:
            self.usual = usual
            signal.signal(signal.SIGINT, self._press)
        return self

    def __exit__(self, kind, error, traceback):
        """Give Ctrl-C its usual meaning back."""
        if self.usual is not None:
            signal.signal(signal.SIGINT, self.usual)
        if kind is None:
            self._check()

    def on_train_begin(self, logs=None):
        """Stop if Ctrl-C was pressed."""
        self._check()

    def on_train_batch_end(self, batch, logs=None):
        """Stop if Ctrl-C was pressed."""
        self._check()

    def on_test_batch_end(self, batch, logs=None):
        """Stop if Ctrl-C was pressed."""
        self._check()

    def _press(self, number, frame):
        if self.pressed:
            self.usual(number, frame)
        self.pressed = True

    def _check(self):
        if self.pressed:
            raise KeyboardInterrupt


class StopWhenDiverged(keras.callbacks.Callback):
    """Stop as soon as a loss is no finite number, or a kernel is too large for half precision.

    Parameters
    ----------
    name : str or path-like
        Of the run, for the message.

    Raises
    ------
    DivergedError
        From within `keras.Model.fit`.
    """

    def __init__(self, name):
        super().__init__()
        self.name, self.epoch = name, 0

    def on_epoch_begin(self, epoch, logs=None):
        """Note which epoch it is."""
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        """Check the loss so far."""
        if not math.isfinite(logs["loss"]):
            self._stop(f"after batch {batch + 1} the loss is {logs['loss']}")

    def on_epoch_end(self, epoch, logs=None):
        """Check the validation loss and the weights."""
        if not math.isfinite(logs.get("val_loss", 0.0)):
            self._stop(f"the validation loss is {logs['val_loss']}")
        for variable in self.model.weights:
            values = np.abs(np.asarray(variable))
            if not values.max() < (LARGEST if values.ndim > 1 else math.inf):
                self._stop(f"a weight of {variable.path} is {values.max():.3g}")

    def _stop(self, what):
        raise DivergedError(
            f"{self.name}: the training has diverged in epoch {self.epoch + 1}: {what}. The epochs "
            "before are kept. Try a lower learning rate or a warm-up, in a run of another name"
        )
