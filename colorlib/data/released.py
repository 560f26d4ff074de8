"""Turn the weights that the paper's authors released into a recorded run.

Not here: the layers (`colorlib.table`), the file format (`colorlib.state_dicts`) and the download
itself (`colorlib.data.download`).

There are two networks. That of Zhang et al. 2016, version 1, was trained with class rebalancing on
ImageNet's 1.3 million photographs; that of Zhang et al. 2017 takes hints. Both come from the folder
``colorizers`` of https://github.com/richzhang/colorization, under the BSD 2-clause license.
"""

import re
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from colorlib import config, files, inference, quantizer, runs, state_dicts, table
from colorlib.data import download
from colorlib.data.validation import FetchError

ADDRESS = "https://colorizers.s3.us-east-2.amazonaws.com"
"""Address of the folder with the authors' files."""

LICENSE = "BSD 2-Clause, Richard Zhang, Phillip Isola and Alexei A. Efros"


class Released(NamedTuple):
    """A released network.

    Attributes
    ----------
    file : str
        Its name on the server; it ends with the first eight digits of the file's SHA-256.
    settings : colorlib.config.TrainConfig
        Settings of its training, as far as a `TrainConfig` has them.
    decoding : colorlib.config.DecodeConfig
        As in the authors' code: the shorter side has 256 pixels, and the color is the mean, which
        is a temperature of 1. The paper's annealed mean has 0.38.
    names : dict of str to str
        PyTorch's names of the layers that don't follow the rule of `_torch_name`.
    """

    file: str
    settings: config.TrainConfig
    decoding: config.DecodeConfig
    names: dict


_PAPER = config.TrainConfig(
    image_size=256,
    crop=176,
    network="zhang_2016",
    batch_size=40,
    learning_rate=3e-5,
    weight_decay=1e-3,
    rebalance=0.5,
    pretrained=False,
)

RELEASED = {
    "zhang-2016": Released(
        file="colorization_release_v2-9b330a0b.pth",
        settings=_PAPER,
        decoding=config.DecodeConfig(working_size=256, temperature=1.0),
        names={"conv_1x1": "model8.6"},
    ),
    "zhang-2017": Released(
        file="siggraph17-df00044c.pth",
        settings=_PAPER.replace(network="zhang_2017", rebalance=None, learning_rate=1e-5),
        decoding=config.DecodeConfig(working_size=256),
        names={
            "conv8_1": "model8up.0",
            "conv8_1_shortcut": "model3short8.0",
            "conv8_2": "model8.1",
            "conv8_3": "model8.3",
            "conv8_3_bn": "model8.5",
            "conv9_1": "model9up.0",
            "conv9_1_shortcut": "model2short9.0",
            "conv9_2": "model9.1",
            "conv9_2_bn": "model9.3",
            "conv10_1": "model10up.0",
            "conv10_1_shortcut": "model1short10.0",
            "conv10_2": "model10.1",
            "conv_ab": "model_out.0",
        },
    ),
}
"""The released networks, by the names of their runs."""

CENTERS = "model_out.weight"
"""The last layer of the network of 2016: the bins' centers, divided by `table.AB_SCALE`."""

PARTS = {"gamma": "weight", "beta": "bias", "mean": "running_mean", "variance": "running_var"}
"""PyTorch's names of the weights of BatchNorm."""


def fetch(name, file=None, home=config.RUNS, address=ADDRESS):
    """Download a released network, and record it as a run; do nothing if it exists.

    Parameters
    ----------
    name : {"zhang-2016", "zhang-2017"}
    file : path-like, optional
        A copy of the authors' file that is already on disk, instead of a download.
    home : path-like
        The folder of runs; a run of this name appears there when it is complete.
    address : str
        Address of the folder to download from. An interrupted download is continued.

    Returns
    -------
    pathlib.Path
        The run's folder.

    Raises
    ------
    FetchError
        If there is no such network, the file can't be downloaded or is not the authors',
        or the folder holds something else or can't be written.
    """
    if name not in RELEASED:
        raise FetchError(f"no released network {name!r}; there are: {', '.join(RELEASED)}")
    released, folder = RELEASED[name], Path(home) / name
    if _is_there(folder, released):
        return folder
    if folder.exists():
        raise FetchError(f"{folder}: holds something else; move it away, then fetch again")
    with files.explained_writing(folder, FetchError):
        folder.parent.mkdir(parents=True, exist_ok=True)
        if file:
            _record(_checked(file, released), released, folder)
        else:
            url, path = f"{address}/{released.file}", folder.parent / released.file
            download.download(url, path, _hash(released), option="--file")
            _record(path, released, folder)
            path.unlink()
    return folder


def weights_of(state, name):
    """Sort the arrays of a state dict by the layers of a network.

    Parameters
    ----------
    state : dict of str to ndarray
        From `state_dicts.read`.
    name : {"zhang-2016", "zhang-2017"}

    Returns
    -------
    rows : list of table.Layer
    weights : dict of str to dict of str to ndarray
        As `graph.build` takes them; the bins are in the order of `quantizer.bin_centers`.

    Raises
    ------
    FetchError
        If an array is missing, or the bins are others.
    """
    released = RELEASED[name]
    rows = table.layers(released.settings.network, released.settings.width)
    weights = {}
    try:
        for row in rows:
            if row.kind in inference.KERAS_NAMES:
                torch = _torch_name(row.name, released.names)
                norm = row.kind == "batch_norm"
                parts = PARTS if norm else {"kernel": "weight", "bias": "bias"}
                weights[row.name] = {x: state[f"{torch}.{parts[x]}"] for x in parts}
        if released.settings.network == "zhang_2016":
            order = _order_of_bins(state[CENTERS])
            last = weights[rows[-1].name]
            weights[rows[-1].name] = {part: array[order] for part, array in last.items()}
    except (KeyError, IndexError, ValueError) as error:
        raise FetchError(f"these are not the weights of {name} ({error})") from None
    return rows, weights


# PyTorch's name of a layer: the second convolution of block 3 is ``model3.2``. A block is a
# sequence of convolutions and ReLUs in turn, with BatchNorm at its end.
def _torch_name(layer, exceptions):
    if layer in exceptions:
        return exceptions[layer]
    block, number, norm = re.fullmatch(r"conv(\d+)_(\d)(_bn)?", layer).groups()
    return f"model{block}.{2 * int(number) - (0 if norm else 2)}"


def _is_there(folder, released):
    try:
        run = runs.load_run(folder)
        run.weights()
    except runs.RunError:
        return False
    return run.settings.network == released.settings.network


def _hash(released):
    digits = Path(released.file).stem.rpartition("-")[2]
    return f"sha256:{digits}"


def _checked(file, released):
    try:
        known = download.has_hash(file, _hash(released))
    except OSError as error:
        raise FetchError(f"{file}: can't be read ({error.strerror}); name another file") from None
    if not known:
        raise FetchError(
            f"{file}: its SHA-256 does not begin with {_hash(released)[7:]}: "
            f"damaged, or not {released.file}; get it again"
        )
    return Path(file)


# The run is written beside its final place, and then renamed.
def _record(source, released, folder):
    name = folder.name
    try:
        rows, weights = weights_of(state_dicts.read(source), name)
        data = inference.weights_file(rows, weights)
    except state_dicts.StateDictError as error:
        raise FetchError(str(error)) from None
    except ValueError as error:
        raise FetchError(f"{source}: not the weights of {name} ({error}); get it again") from None
    about = {
        "source": f"{ADDRESS}/{released.file}",
        "license": LICENSE,
        "images": "1.3 million photographs of ImageNet",
        "prior": f"of the run {config.DEFAULT_RUN}: the authors' file holds none",
    }
    texts = {
        "config.json": {"settings": released.settings.to_dict(), "data": about},
        "environment.json": {"trained with": "Caffe", "converted": time.strftime("%Y-%m-%d")},
        "prior.json": runs.load_run(config.DEFAULT_RUN).prior.tolist(),
        "decoding.json": released.decoding.to_dict(),
    }
    with files.staging(folder) as hidden:
        for file, value in texts.items():
            files.write_json(hidden / file, value)
        (hidden / "history.csv").write_text("epoch\n")
        (hidden / runs.WEIGHTS).write_bytes(data)
        hidden.replace(folder)


# For each of our bins its number in the file.
def _order_of_bins(centers):
    centers = centers.reshape(2, -1).T * table.AB_SCALE
    distances = np.linalg.norm(quantizer.bin_centers()[:, None] - centers, axis=-1)
    order = distances.argmin(axis=1)
    if len(set(order)) != table.BINS or distances.min(axis=1).max() > quantizer.SPACING / 2:
        raise ValueError("its bins are others")
    return order
