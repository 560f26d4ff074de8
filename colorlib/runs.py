"""Recorded runs: save and load the results of a training.

Not here: the training itself (`colorlib.training`).

A run is a folder:

=================== ================================================================
config.json         the `TrainConfig`, and what it was trained on
history.csv         one row an epoch: losses, accuracies, rate, images/s
environment.json    versions and machine
weights.weights.h5  weights of the epoch with the lowest validation loss (`training.train`),
                    kernels in half precision: plain arrays, nothing is executed
prior.json          how often each bin occurs in the training images
decoding.json       the `DecodeConfig` that suits the run; may be missing
predictions.npz     colors of the sample photographs after each epoch; may be missing
checkpoints/        what the training needs to resume (`callbacks`); may be missing
=================== ================================================================
"""

import collections
import contextlib
import csv
import dataclasses
import io
import json
import math
import os
import platform
import time
import warnings
from pathlib import Path

import h5py
import numpy as np

from colorlib import config, files, inference, table

WEIGHTS = "weights.weights.h5"

KINDS = {
    "Conv2D": "conv2d",
    "DepthwiseConv2D": "depthwise_conv2d",
    "Conv2DTranspose": "conv2d_transpose",
    "BatchNormalization": "batch_normalization",
}
"""The layers that have weights, and Keras' names for them in files of weights."""

PREDICTIONS = "predictions.npz"

CHECKPOINTS = "checkpoints"
"""A folder with the checkpoint of a training, and the lock of its process."""

REMEDY = "train, fetch or import it again, or choose another run"


class RunError(ValueError):
    """A recorded run that can't be used; the message names the file and the remedy."""


@dataclasses.dataclass(frozen=True)
class Run:
    """A recorded run; see `load_run`.

    Attributes
    ----------
    path : pathlib.Path
        The run's folder.
    settings : colorlib.config.TrainConfig
        Settings of the training.
    data : dict
        Numbers of images, and their checksums (`store.checksum`).
    history : dict of str to list of float
        The columns of history.csv; ``history["loss"][0]`` is the first epoch's.
    environment : dict
        Versions, backend and machine.
    prior : ndarray of float64, shape (313,)
        Smoothed frequency of each bin in the training images.
    decoding : colorlib.config.DecodeConfig
        How its output is best turned into colors.
    """

    path: Path
    settings: config.TrainConfig
    data: dict
    history: dict
    environment: dict
    prior: np.ndarray
    decoding: config.DecodeConfig

    def model(self):
        """Build the Keras model in float32 and load its weights: to train or compute with Keras.

        Returns
        -------
        keras.Model

        Raises
        ------
        RunError
            If the weights are missing, damaged or those of another network.
        """
        from colorlib import model  # here, since Keras takes seconds to start

        built = model.model_for(self.settings.replace(precision="float32"))
        load_weights(built, self.path / WEIGHTS)
        return built

    def network(self):
        """Load the network for coloring, without Keras, whose start takes seconds.

        Returns
        -------
        colorlib.inference.Network

        Raises
        ------
        RunError
            If the weights are missing, damaged or those of another network.
        """
        return inference.Network(*self.weights(), table.input_multiple(self.settings.network))

    def weights(self):
        """Read the weights, without Keras.

        Returns
        -------
        rows : list of table.Layer
            The layers of the network.
        weights : dict of str to dict of str to ndarray of float32
            As `inference.read_weights` gives them.

        Raises
        ------
        RunError
            If the weights are missing, damaged or those of another network.
        """
        path = self.path / WEIGHTS
        with _explained_weights(path):
            rows = table.layers(self.settings.network, self.settings.width)
            return rows, inference.read_weights(path, rows)


def place(run):
    """Return the folder of a run that exists or will be created, given its name or folder.

    A text with a separator (``/``), or with ``.`` or ``~`` at its start, is a folder, and so is
    a path object. Any other text is a name in `config.RUNS`.

    Parameters
    ----------
    run : str or path-like

    Returns
    -------
    pathlib.Path
        The folder; it need not exist.
    """
    return config.RUNS / run if _is_name(run) else Path(run).expanduser()


def find(run):
    """Find a recorded run by the rule of `place`; names are looked up in `config.RECORDED` too.

    Parameters
    ----------
    run : str or path-like

    Returns
    -------
    pathlib.Path
        Its folder. If there are two runs of this name, the user's own is taken.

    Raises
    ------
    RunError
        If there is no such folder.
    """
    folders = [place(run), config.RECORDED / run] if _is_name(run) else [place(run)]
    for folder in folders:
        if folder.is_dir():
            return folder
    if not _is_name(run):
        raise RunError(f"no recorded run {str(run)!r}: there is no such folder; {REMEDY}")
    hint = f"; the folder here is ./{run}" if Path(run).is_dir() else ""
    raise RunError(f"no recorded run {run!r}; there are: {', '.join(known()) or 'none'}{hint}")


def _is_name(run):
    return isinstance(run, str) and not (run.startswith((".", "~")) or {"/", os.sep} & set(run))


def known():
    """List the names of the runs that a photograph can be colored with.

    Returns
    -------
    list of str
    """
    places = config.RUNS, config.RECORDED
    return sorted({path.parent.name for home in places for path in home.glob(f"*/{WEIGHTS}")})


def load_run(path):
    """Load a recorded run.

    Parameters
    ----------
    path : str or path-like
        The run's name, or its folder (`find`).

    Returns
    -------
    Run

    Raises
    ------
    RunError
        If there is no such run or one of its files is missing or damaged.
    """
    folder = find(path)
    try:
        recorded = _read_json(folder / "config.json")
        decoding = folder / "decoding.json"
        return Run(
            path=folder,
            settings=config.TrainConfig(**recorded["settings"]),
            data=dict(recorded["data"]),
            history=_read_history(folder / "history.csv"),
            environment=dict(_read_json(folder / "environment.json")),
            prior=_prior(_read_json(folder / "prior.json")),
            decoding=_decoding(_read_json(decoding) if decoding.exists() else {}),
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError, csv.Error) as error:
        raise RunError(f"{folder}: not a complete recorded run ({error}); {REMEDY}") from None


def save_weights(network, path):
    """Save a network's weights, the kernels in half precision, without the optimizer's state.

    Parameters
    ----------
    network : keras.Model
    path : path-like
        Ending in ``.weights.h5``; written under a temporary name and renamed.

    Raises
    ------
    ValueError
        If a weight is too large for half precision or not a number.
    OSError
        If the file can't be written.

    Notes
    -----
    HDF5 crashes if the disk is full. So it writes into memory, and the file is written from there.
    """
    memory, counts = io.BytesIO(), collections.Counter()
    with h5py.File(memory, "w") as file:
        for layer in network.layers:
            if not layer.weights:
                continue
            kind = KINDS[type(layer).__name__]
            name = f"layers/{kind}_{counts[kind]}" if counts[kind] else f"layers/{kind}"
            counts[kind] += 1
            for number, values in enumerate(layer.get_weights()):
                file[f"{name}/vars/{number}"] = _halved(layer.name, values)
    with files.replacing(path) as temporary:
        temporary.write_bytes(memory.getvalue())


def load_weights(network, path):
    """Load the weights of `save_weights`; nothing in the file is executed.

    Parameters
    ----------
    network : keras.Model
        A network of the same width; its precision does not matter.
    path : path-like

    Raises
    ------
    RunError
        If the file is missing, damaged, or of another network.
    """
    with _explained_weights(path), warnings.catch_warnings():
        # Keras only warns if a layer is missing in the file and keeps its random weights
        warnings.simplefilter("error", UserWarning)
        network.load_weights(path)


@contextlib.contextmanager
def locked(path):
    """Create and lock a run's folder, so that no other process trains in it.

    Parameters
    ----------
    path : path-like
        The folder.

    Yields
    ------
    pathlib.Path
        The folder.

    Raises
    ------
    RunError
        If another process trains in it, or it can't be made or written.
    """
    path = Path(path)
    import filelock  # it starts slowly, and coloring does without

    with files.explained_writing(path, RunError):
        (path / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
        try:
            lock = filelock.FileLock(path / CHECKPOINTS / "lock").acquire(timeout=0)
        except filelock.Timeout:
            raise RunError(
                f"{path}: another process is training this run; wait for it, or choose another name"
            ) from None
    with lock:
        yield path


def begin(path, settings, data, prior):
    """Write a run's configuration and environment, before the training.

    Parameters
    ----------
    path : pathlib.Path
        The folder, `locked`.
    settings : colorlib.config.TrainConfig
    data : dict
        Numbers and checksums of the images. For a run that was recorded before images had
        checksums, the priors are compared instead.
    prior : ndarray, shape (313,)
        Smoothed frequency of each bin in the training images.

    Raises
    ------
    RunError
        If the folder holds a run with other settings or other data, or can't be written.
    """
    wanted = {"settings": settings.to_dict(), "data": data}
    with files.explained_writing(path, RunError):
        if (path / "config.json").exists():
            found = _read_json(path / "config.json")
            shown = differences(found, wanted)
            if not shown and found["data"].keys() < data.keys():
                same = np.allclose(_read_json(path / "prior.json"), prior, rtol=1e-3, atol=1e-6)
                shown = "" if same else "the colors of its training images differ"
            if shown:
                raise RunError(
                    f"{path}: holds another run ({shown}); choose another name or its settings"
                )
        files.write_json(path / "config.json", wanted)
        files.write_json(path / "environment.json", environment())
        files.write_json(path / "prior.json", prior.tolist())


def differences(found, wanted):
    """Describe how the configurations of two trainings differ.

    Parameters
    ----------
    found, wanted : dict
        Each with ``settings`` (as from `TrainConfig.to_dict`) and ``data``. A setting that is
        missing in `found`, because it was added later, has its default; missing entries of the
        data count as equal.

    Returns
    -------
    str
        "width is 0.5 there and 1.0 here, ..."; empty if they agree.
    """
    known = config.TrainConfig(**found["settings"]).to_dict()
    there = {**known, **wanted["data"], **found["data"]}
    here = {**wanted["settings"], **wanted["data"]}
    return ", ".join(
        f"{name} is {there.get(name)} there and {here.get(name)} here"
        for name in sorted(there.keys() | here.keys())
        if there.get(name) != here.get(name)
    )


def record(path, rows):
    """Write the history of the training so far.

    Parameters
    ----------
    path : pathlib.Path
        The run's folder.
    rows : list of dict
        One for each epoch, all with the same keys.
    """
    lines = [",".join(rows[0]), *(",".join(f"{v:.6g}" for v in row.values()) for row in rows)]
    with files.replacing(path / "history.csv") as temporary:
        temporary.write_text("\n".join(lines) + "\n")


def best_epoch(rows):
    """Find the epoch whose weights a run keeps.

    Parameters
    ----------
    rows : list of dict
        One for each epoch, with ``val_loss``.

    Returns
    -------
    int
        The first epoch with the lowest validation loss, counted from 1; NaN is ignored.
    """
    losses = [row["val_loss"] for row in rows]
    return 1 + min(range(len(rows)), key=lambda i: (math.isnan(losses[i]), losses[i]))


def environment():
    """Describe the versions and the machine of a training.

    Returns
    -------
    dict of str to str
        Versions, backend, machine and date.
    """
    import keras

    return {
        "python": platform.python_version(),
        "keras": keras.__version__,
        "backend": keras.backend.backend(),
        "numpy": np.__version__,
        "cpus": os.cpu_count(),
        "machine": platform.machine(),
        "date": time.strftime("%Y-%m-%d"),
    }


@contextlib.contextmanager
def _explained_weights(path):
    if not Path(path).is_file():
        raise RunError(f"{path}: no such weights file; {REMEDY}")
    try:
        yield
    except Exception as error:  # h5py raises nearly anything on damaged files
        why = f"damaged, or not this network's weights ({files.reason(error)})"
        raise RunError(f"{path}: {why}; {REMEDY}") from None


def _halved(name, values):
    if values.ndim > 1:  # kernels; biases and BatchNorm's statistics are few, and can be large
        with np.errstate(over="ignore"):
            values = values.astype(np.float16)
    if not np.isfinite(values).all():
        raise ValueError(f"{name}: has values that no half-precision number can hold")
    return values


def _prior(values):
    prior = np.array(values, np.float64).reshape(table.BINS)
    if not ((prior >= 0).all() and np.isclose(prior.sum(), 1, rtol=0, atol=1e-3)):
        raise ValueError("prior.json: its numbers have to be frequencies, which sum to 1")
    return prior


def _decoding(values):
    plain = config.DecodeConfig().to_dict()
    for name in plain.keys() & values:
        kinds = (int, float) if type(plain[name]) is float else (type(plain[name]),)
        if type(values[name]) not in kinds:
            raise ValueError(f"decoding.json: {name} is {values[name]!r}, no {kinds[0].__name__}")
    return config.DecodeConfig(**values)


def _read_history(path):
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name]) for row in rows] for name in rows[0]} if rows else {}


def _read_json(path):
    return json.loads(path.read_text())
