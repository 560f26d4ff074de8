"""A recorded run: what a training leaves behind, and how to get it back.

Not here: the training itself (`colorlib.training`).

A run is a folder:

=================== ================================================================
config.json         the `TrainConfig`, and what it was trained on
history.csv         one row an epoch: losses, accuracies, rate, images/s
environment.json    versions and machine
weights.weights.h5  weights of the epoch with the lowest validation loss, kernels in half
                    precision: plain arrays, nothing is executed
prior.json          how often each bin occurs in the training images
decoding.json       the `DecodeConfig` that suits the run; may be missing
predictions.npz     colors of the sample photographs after each epoch; may be missing
=================== ================================================================
"""

import csv
import dataclasses
import json
import os
import platform
import time
import warnings
from pathlib import Path

import h5py
import numpy as np

from colorlib import config, images, inference, table

WEIGHTS = "weights.weights.h5"

PREDICTIONS = "predictions.npz"

REMEDY = "train the run again or choose another"


class RunError(ValueError):
    """A recorded run that can't be used; the message names the file and the remedy."""


@dataclasses.dataclass(frozen=True)
class Run:
    """A recorded run, as `load_run` gives it.

    Attributes
    ----------
    path : pathlib.Path
        The run's folder.
    settings : colorlib.config.TrainConfig
        How it was trained.
    data : dict
        On what: number of images, names of the files.
    history : dict of str to list of float
        The columns of history.csv; ``history["loss"][0]`` is the first epoch's.
    environment : dict
        Versions, backend and machine.
    prior : ndarray of float64, shape (313,)
        Smoothed frequency of each bin in the training images.
    decoding : colorlib.config.DecodeConfig
        How its answers are best turned into colors.
    """

    path: Path
    settings: config.TrainConfig
    data: dict
    history: dict
    environment: dict
    prior: np.ndarray
    decoding: config.DecodeConfig

    def model(self, dtype="float32"):
        """Build the Keras model and load its weights: to train on, or to compute with Keras.

        Parameters
        ----------
        dtype : str
            The precision to compute in.

        Returns
        -------
        keras.Model

        Raises
        ------
        RunError
            If the weights are missing, damaged or those of another network.
        """
        from colorlib import model  # here, since Keras takes seconds to start

        built = model.model_for(self.settings.replace(precision=dtype))
        load_weights(built, self.path / WEIGHTS)
        return built

    def network(self):
        """Load the network to color with; starts at once, without Keras.

        Returns
        -------
        colorlib.inference.Network

        Raises
        ------
        RunError
            If the weights are missing or damaged.
        """
        path = self.path / WEIGHTS
        if not path.is_file():
            raise RunError(f"{path}: no such weights file; {REMEDY}")
        try:
            return inference.load(path)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            reason = str(error).splitlines()[0]
            raise RunError(f"{path}: damaged, or not a network's weights ({reason})") from None


def place(run):
    """Say where a run is or will be, by the one rule for names and folders.

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
    """Find a recorded run: as `place` says, and a name also among `config.RECORDED`.

    Parameters
    ----------
    run : str or path-like

    Returns
    -------
    pathlib.Path
        Its folder. Of two runs of one name the person's own is taken.

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
            data=recorded["data"],
            history=_read_history(folder / "history.csv"),
            environment=_read_json(folder / "environment.json"),
            prior=np.array(_read_json(folder / "prior.json"), np.float64).reshape(table.BINS),
            decoding=config.DecodeConfig(**_read_json(decoding) if decoding.exists() else {}),
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError, csv.Error) as error:
        raise RunError(f"{folder}: not a complete recorded run ({error}); train it again") from None


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
    """
    path = Path(path)
    full = path.with_name(f".{path.name.removesuffix('.weights.h5')}-full.weights.h5")
    try:
        network.save_weights(full)
        with images.replacing(path) as half, h5py.File(full) as old, h5py.File(half, "w") as new:
            old.visititems(lambda name, item: _copy_halved(name, item, new))
    finally:
        full.unlink(missing_ok=True)


def load_weights(network, path):
    """Load what `save_weights` wrote; nothing in the file is executed.

    Parameters
    ----------
    network : keras.Model
        Of the same width; its precision does not matter.
    path : path-like

    Raises
    ------
    RunError
        If the file is missing, damaged, or of another network.
    """
    if not Path(path).is_file():
        raise RunError(f"{path}: no such weights file; {REMEDY}")
    try:
        with warnings.catch_warnings():
            # Keras only warns where layers find nothing in the file and keep random weights
            warnings.simplefilter("error", UserWarning)
            network.load_weights(path)
    except (OSError, ValueError, KeyError, TypeError, UserWarning) as error:
        reason = str(error).splitlines()[0]
        raise RunError(f"{path}: damaged, or not this network's weights ({reason})") from None


def begin(path, settings, data, prior):
    """Make a run's folder and write what is known before the training.

    Parameters
    ----------
    path : path-like
        The folder.
    settings : colorlib.config.TrainConfig
    data : dict
        What it will be trained on.
    prior : ndarray, shape (313,)
        Smoothed frequency of each bin in the training images.

    Returns
    -------
    pathlib.Path
        The folder.

    Raises
    ------
    RunError
        If the folder holds a run with other settings or other data.
    """
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    wanted = {"settings": settings.to_dict(), "data": data}
    if (path / "config.json").exists():
        shown = differences(_read_json(path / "config.json"), wanted)
        if shown:
            raise RunError(
                f"{path}: holds another run ({shown}); choose another name or its settings"
            )
    _write_json(path / "config.json", wanted)
    _write_json(path / "environment.json", environment())
    _write_json(path / "prior.json", prior.tolist())
    return path


def differences(found, wanted):
    """Say in what two trainings differ.

    Parameters
    ----------
    found, wanted : dict
        Each with ``settings`` (as from `TrainConfig.to_dict`) and ``data``. Fields that `found`
        lacks, since it was written before they were added, have their defaults.

    Returns
    -------
    str
        "width is 0.5 there and 1.0 here, ..."; empty if they agree.
    """
    known = config.TrainConfig(**found["settings"]).to_dict()
    there, here = {**known, **found["data"]}, {**wanted["settings"], **wanted["data"]}
    return ", ".join(
        f"{name} is {there.get(name)} there and {here.get(name)} here"
        for name in sorted(there.keys() | here.keys())
        if there.get(name) != here.get(name)
    )


def record(path, rows):
    """Write how the training has gone so far.

    Parameters
    ----------
    path : pathlib.Path
        The run's folder.
    rows : list of dict
        One for each epoch, all with the same keys.
    """
    lines = [",".join(rows[0]), *(",".join(f"{v:.6g}" for v in row.values()) for row in rows)]
    with images.replacing(path / "history.csv") as temporary:
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
        The first of those with the lowest validation loss, counted from 1.
    """
    return 1 + min(range(len(rows)), key=lambda i: rows[i]["val_loss"])


def environment():
    """Describe what a run was made with.

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


def _copy_halved(name, item, target):
    if name.split("/")[0] == "optimizer":
        return
    if isinstance(item, h5py.Group):
        target.require_group(name).attrs.update(item.attrs)
        return
    values = item[()]
    if values.ndim > 1:  # kernels; biases and BatchNorm's statistics are few, and can be large
        with np.errstate(over="ignore"):
            values = values.astype(np.float16)
    if not np.isfinite(values).all():
        raise ValueError(f"{name}: has values that no half-precision number can hold")
    target.create_dataset(name, data=values).attrs.update(item.attrs)


def _read_history(path):
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name]) for row in rows] for name in rows[0]} if rows else {}


def _read_json(path):
    return json.loads(path.read_text())


def _write_json(path, value):
    with images.replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1) + "\n")
