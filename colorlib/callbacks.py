"""What happens while Keras' `fit` runs: checkpoints, history, progress, interruption.

Not here: what is trained (`colorlib.training`) and how a run is stored (`colorlib.runs`). The
photographs that `Predictions` colors are the report's figures 6 and 8.

A checkpoint is a numbered ``.npz`` file: the network's and the optimizer's variables as arrays,
and the rest as JSON. Nothing in it can be executed. The two newest are kept, so that a damaged
one costs no more than the epochs since the one before.

Keras' own callbacks are used where a resumed training stays the same bit for bit; otherwise the
class below names the one that was weighed.
"""

import json
import math
import signal
import threading
import time
import warnings

import keras
import numpy as np
from tqdm.auto import tqdm

from colorlib import distributed, files, generator, hints, optimizers, quantizer, runs


class SetEpoch(keras.callbacks.Callback):
    """Tell the batches which epoch it is; Keras itself also counts an epoch before the first."""

    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def on_epoch_begin(self, epoch, logs=None):
        """Set the epoch."""
        self.batches.epoch = epoch


PATTERN = "checkpoint-*.npz"
KEPT = 2
STATE = "state"
COUNTERS = ("best", "wait", "cooldown_counter")


def capture(network):
    """Copy all variables of a network and its optimizer.

    Parameters
    ----------
    network : keras.Model
        Compiled, its optimizer built.

    Returns
    -------
    dict of str to ndarray
    """
    return {
        f"v{i:04}": np.asarray(variable).copy() for i, variable in enumerate(_variables(network))
    }


def assign(network, arrays):
    """Give the variables the values that `capture` copied.

    Parameters
    ----------
    network : keras.Model
        Compiled, its optimizer built; like the one that was captured.
    arrays : dict of str to ndarray

    Raises
    ------
    ValueError
        If they are those of another network; nothing is changed then.
    """
    variables, values = _variables(network), [arrays[name] for name in sorted(arrays)]
    shapes = [[tuple(x.shape) for x in each] for each in (variables, values)]
    if shapes[0] != shapes[1] or any(value.dtype.kind not in "biuf" for value in values):
        raise ValueError("its arrays are not this network's")
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _variables(network):
    return [*network.variables, *network.optimizer.variables]


class EpochLog(keras.callbacks.Callback):
    """Keep a row of numbers for each epoch: losses, accuracies, rate, speed.

    It adds rate and speed to the numbers that Keras hands to the callbacks after it. Keras'
    CSVLogger was weighed: it writes each epoch at once, so after a kill its file would be ahead of
    the checkpoint. Here `Checkpoint` writes the rows, as ``history.csv``.

    Parameters
    ----------
    image_count : int
        Number of images in an epoch.
    """

    def __init__(self, image_count):
        super().__init__()
        self.image_count, self.rows = image_count, []

    def on_epoch_begin(self, epoch, logs=None):
        """Start the clock."""
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch, logs):
        """Add a row."""
        logs["learning_rate"] = optimizers.current_rate(self.model.optimizer)
        logs["images_per_second"] = self.image_count / (time.perf_counter() - self.start)
        row = {name: float(value) for name, value in logs.items()}
        self.rows.append({"epoch": epoch + 1, **row})


class BestWeights(keras.callbacks.Callback):
    """Keep the weights of the epoch with the lowest validation loss.

    Keras' ModelCheckpoint was weighed: it writes full precision, through HDF5, which crashes where
    a disk is full, and a resumed training does not know which epoch was the best before.

    Parameters
    ----------
    path : pathlib.Path
        The file, ending in ``.weights.h5`` (`runs.save_weights`).
    log : EpochLog
        It comes before this one in the list of callbacks.
    finish : callable
        Called with the network before the weights are saved; changes the saved weights only.
    """

    def __init__(self, path, log, finish=lambda network: None):
        super().__init__()
        self.path, self.log, self.finish, self.unsaved = path, log, finish, None

    def on_epoch_end(self, epoch, logs=None):
        """Keep the weights if the epoch is the best so far."""
        if runs.best_epoch(self.log.rows) == epoch + 1:
            self.unsaved = capture(self.model)

    def save(self):
        """Write what is not written yet; the network itself stays as it is."""
        if self.unsaved is None:
            return
        with distributed.alone(self.model):
            current = capture(self.model)
            assign(self.model, self.unsaved)
            try:
                self.finish(self.model)
                runs.save_weights(self.model, self.path)
            finally:
                assign(self.model, current)
        self.unsaved = None


class Checkpoint(keras.callbacks.Callback):
    """Save what a stopped training needs to resume: at intervals, and when its block ends.

    It has to be the last callback, and `fit` is called inside its ``with`` block. An interrupted
    epoch is lost; the epochs before it are saved. Keras' BackupAndRestore was weighed: it keeps
    neither the plateau rule's counters nor the history in step with the weights.

    Parameters
    ----------
    path : pathlib.Path
        The run's folder.
    log : EpochLog
    best : BestWeights
    plateau : keras.callbacks.ReduceLROnPlateau or None
        Keras resets its counters whenever `fit` begins; here they are restored.
    seconds : float
        Time between two writings.
    writes : bool
        False in all processes but one, where several train together; they only restore.

    Raises
    ------
    colorlib.runs.RunError
        At the end of the block, if the last epochs could not be written.
    """

    def __init__(self, path, log, best, plateau=None, seconds=60.0, writes=True):
        super().__init__()
        self.path, self.folder = path, path / runs.CHECKPOINTS
        self.log, self.best, self.plateau = log, best, plateau
        self.seconds, self.saved_at = seconds, time.perf_counter()
        self.unsaved, self.warned, self.counters, self.writes = None, False, {}, writes

    def restore(self, network):
        """Load the newest checkpoint that is not damaged into network, log and plateau rule.

        Parameters
        ----------
        network : keras.Model
            Compiled; built like the one that was saved.

        Returns
        -------
        int
            Number of completed epochs.

        Warns
        -----
        UserWarning
            If a damaged checkpoint had to be passed over.
        """
        network.optimizer.build(network.trainable_variables)
        for leftover in self.folder.glob(".*.partial"):  # of a process killed while it wrote
            leftover.unlink(missing_ok=True)
        for path in sorted(self.folder.glob(PATTERN), reverse=True):
            try:
                arrays = _read_arrays(path)
                state = json.loads(arrays.pop(STATE).tobytes())
                rows, counters = list(state["rows"]), dict(state["plateau"])
                assign(network, arrays)
            except Exception as error:  # NumPy and zipfile raise nearly anything on damaged files
                why = f"is damaged ({files.reason(error)}); using the one before it"
                warnings.warn(f"{path} {why}", stacklevel=2)
                continue
            self.log.rows, self.counters = rows, counters
            break
        return len(self.log.rows)

    def on_train_begin(self, logs=None):
        """Restore the plateau rule's counters."""
        if self.plateau:
            vars(self.plateau).update(self.counters)

    def on_epoch_end(self, epoch, logs=None):
        """Copy everything; write it if the last time was a while ago."""
        if not self.writes:
            return
        counters = {name: getattr(self.plateau, name) for name in COUNTERS if self.plateau}
        self.unsaved = capture(self.model), {"rows": [*self.log.rows], "plateau": counters}
        if time.perf_counter() - self.saved_at >= self.seconds:
            self.save()

    def save(self):
        """Write what is not written yet; if that fails, warn once and keep it for later."""
        if self.unsaved is None:
            return
        self.saved_at = time.perf_counter()
        try:
            # in this order, a kill in between only repeats the same epochs with the same result
            self.best.save()
            self._write(*self.unsaved)
            self.unsaved = None
        except OSError as error:
            if not self.warned:
                message = f"{self.path}: can't be written ({error}); the last checkpoint is kept"
                warnings.warn(f"{message}, make room there", stacklevel=2)
            self.warned = True

    def _write(self, arrays, state):
        self.folder.mkdir(parents=True, exist_ok=True)
        coded = np.frombuffer(json.dumps(state).encode(), np.uint8)
        path = self.folder / f"checkpoint-{len(state['rows']):06}.npz"
        with files.replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays, **{STATE: coded})
        for old in sorted(self.folder.glob(PATTERN))[:-KEPT]:
            old.unlink()
        runs.record(self.path, state["rows"])

    def __enter__(self):
        """Begin."""
        return self

    def __exit__(self, kind, error, traceback):
        """Save what is done, however the training ends."""
        self.save()
        if kind is None and self.unsaved is not None:
            raise runs.RunError(
                f"{self.path}: the last epochs could not be written; make room there, and the same "
                "call goes on from the last checkpoint"
            )


LARGEST = float(np.finfo(np.float16).max)
"""Largest weight of a kernel: recorded runs store kernels in half precision."""


class DivergedError(ValueError):
    """A training that has diverged; the message says in which epoch and what to try."""


class Interrupt(keras.callbacks.Callback):
    """Stop a training on Ctrl-C, between two batches only.

    Python drops an exception that is raised in some places, such as a weak reference's callback
    while Keras builds a graph. So in a ``with`` block of this class Ctrl-C is only recorded. The
    callback raises KeyboardInterrupt after the current batch, or the block does at its end; a
    second Ctrl-C is raised at once. Nothing is changed outside of the main thread, or if Ctrl-C
    has another handler already.
    """

    def __init__(self):
        super().__init__()
        self.pressed, self.usual = False, None

    def __enter__(self):
        """Begin to record Ctrl-C."""
        usual = signal.getsignal(signal.SIGINT)
        main = threading.current_thread() is threading.main_thread()
        if main and usual is signal.default_int_handler:
            self.usual = usual
            signal.signal(signal.SIGINT, self._press)
        return self

    def __exit__(self, kind, error, traceback):
        """Restore the usual handler of Ctrl-C."""
        if self.usual is not None:
            signal.signal(signal.SIGINT, self.usual)
        if kind is None:
            self._check()

    def _press(self, number, frame):
        if self.pressed:
            self.usual(number, frame)
        self.pressed = True

    def _check(self, *_, **__):
        if self.pressed:
            raise KeyboardInterrupt

    on_train_begin = on_train_batch_end = on_test_batch_end = _check


class StopWhenDiverged(keras.callbacks.Callback):
    """Stop as soon as a loss is not finite, or a kernel is too large for half precision.

    Keras' TerminateOnNaN was weighed: it looks at no weights, and ends `fit` as if all were well.

    Parameters
    ----------
    name : str or path-like
        Name of the run, for the message.

    Raises
    ------
    DivergedError
        From within `keras.Model.fit`.
    """

    def __init__(self, name):
        super().__init__()
        self.name, self.epoch = name, 0

    def on_epoch_begin(self, epoch, logs=None):
        """Keep the number of the epoch."""
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


VIVIDNESS = 0.6
"""Rebalancing strength (`quantizer.rebalance`) of the second kind of predictions."""


class ProgressBar(keras.callbacks.Callback):
    """Show one progress bar over all steps, with the last epoch's numbers and the time left.

    tqdm's TqdmCallback was weighed: it has a bar of epochs and a bar of batches, and in the first
    epoch neither shows when the whole training will end.
    """

    def __init__(self, epochs, done=0):
        super().__init__()
        self.epochs, self.done = epochs, done

    def on_train_begin(self, logs=None):
        """Open the bar."""
        steps = self.params["steps"]
        self.bar = tqdm(total=self.epochs * steps, initial=self.done * steps, unit=" steps")

    def on_train_batch_end(self, batch, logs=None):
        """Advance the bar."""
        self.bar.update()

    def on_epoch_end(self, epoch, logs=None):
        """Show the epoch's numbers."""
        shown = {name: f"{value:.4g}" for name, value in (logs or {}).items()}
        self.bar.set_postfix(epoch=epoch + 1, **shown)

    def on_train_end(self, logs=None):
        """Close the bar."""
        self.bar.close()


class Predictions(keras.callbacks.Callback):
    """Color the same photographs after each epoch, and keep the colors in one small file.

    The file holds two arrays of int8, shape (epochs, n, size / 4, size / 4, 2): (a, b) of
    ``plain`` predictions and of ``vivid`` ones, with rare colors favored by `VIVIDNESS`.

    Parameters
    ----------
    path : pathlib.Path
        The file, ending in ``.npz``. Epochs after the current one are removed from it; an epoch
        that could not be written is grey.
    rgb : ndarray of uint8, shape (n, size, size, 3)
        The photographs; their size is a multiple of 8.
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
        seen = self.lightness
        if len(self.model.inputs) > 1:
            seen = [seen, hints.nothing(*seen.shape[:3])]
        with distributed.alone(self.model):
            logits = np.asarray(self.model.predict_on_batch(seen))
        favored = quantizer.rebalance(logits, self.weights, VIVIDNESS)
        new = {"plain": quantizer.annealed_mean(logits), "vivid": quantizer.annealed_mean(favored)}
        if self.seen is None:
            self.seen = _load(self.path)
        for name, ab in new.items():
            grown = np.zeros((epoch + 1, *ab.shape), np.int8)
            old = self.seen.get(name, grown)
            if old.dtype == grown.dtype and old.shape[1:] == ab.shape:  # else it is damaged
                grown[: min(len(old), epoch)] = old[:epoch]
            grown[epoch] = np.rint(ab)
            self.seen[name] = grown
        self._write()

    def _write(self):
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with files.replacing(self.path) as temporary, temporary.open("wb") as file:
                np.savez_compressed(file, **self.seen)
        except OSError as error:
            if not self.warned:
                warnings.warn(f"{self.path}: can't be written ({error})", stacklevel=2)
            self.warned = True


def _load(path):
    if not path.exists():
        return {}
    try:
        return _read_arrays(path)
    except Exception as error:  # NumPy and zipfile raise nearly anything on damaged files
        why = f"is damaged ({files.reason(error)}); a new file is begun"
        warnings.warn(f"{path} {why}", stacklevel=2)
        return {}


def _read_arrays(path):
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return {name: np.asarray(array) for name, array in arrays.items()}  # some are bytes
