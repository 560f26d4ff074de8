"""A recorded network's forward pass, by ONNX Runtime: L in, logits out.

Not here: training, which is Keras' (`colorlib.model`, `colorlib.training`), and the graph that is
computed (`colorlib.graph`). A test holds both to the same answers.

Starting Keras and its backend takes seconds, coloring a photograph a fraction of one; so coloring
goes without them.
"""

import collections
import os

import h5py
import numpy as np

from colorlib import table

LARGEST = 3 * 3 * 1024 * 1024
"""Limit on the size of an array in a weights file: twice the paper's width."""

KERAS_NAMES = {
    "convolution": "conv2d",
    "depthwise": "depthwise_conv2d",
    "batch_norm": "batch_normalization",
    "frozen_batch_norm": "batch_normalization",
}
"""Keras' names, in a weights file, for the layers that have weights, by kind."""

AT_ONCE = 8
"""Threads of a forward pass; a small network does not use more."""


class Network:
    """A network for prediction; several threads may call it at once.

    Parameters
    ----------
    rows : list of table.Layer
        From `table.layers`.
    weights : dict of str to dict of str to ndarray of float32
        As for `graph.build`.
    input_multiple : int
        What the sides of the input have to be multiples of.
    """

    def __init__(self, rows, weights, input_multiple):
        from colorlib import graph

        self.input_multiple = input_multiple
        empty = graph.build(rows, weights, embed=False)
        self._session = _session(empty.SerializeToString(), graph.by_name(weights))

    def predict_on_batch(self, lightness):
        """Predict the distribution over the bins; called as a Keras model is.

        Parameters
        ----------
        lightness : ndarray of float32, shape (n, height, width, 1)
            L in 0..100; the sides are multiples of `input_multiple`.

        Returns
        -------
        ndarray of float32, shape (n, height / 4, width / 4, 313)
            Logits.

        Raises
        ------
        ValueError
            If the sides are no such multiples.
        """
        lightness = np.ascontiguousarray(lightness, np.float32)
        if any(side % self.input_multiple for side in lightness.shape[1:3]):
            raise ValueError(
                f"the sides have to be multiples of {self.input_multiple}: {lightness.shape[1:3]}"
            )
        return self._session.run(None, {table.INPUT: lightness})[0]


def read_weights(path, rows):
    """Read the weights that a training recorded; nothing in the file is executed.

    Parameters
    ----------
    path : path-like
        Written by `runs.save_weights`.
    rows : list of table.Layer
        From `table.layers`.

    Returns
    -------
    dict of str to dict of str to ndarray of float32
        As `graph.build` takes them.

    Raises
    ------
    OSError, ValueError
        If the file can't be read, holds the weights of another network, or leads to other files.
    """
    weights, seen, channels = {}, collections.Counter(), {table.INPUT: 1}
    with h5py.File(path) as file:
        for row in rows:
            given = [channels[name] for name in row.inputs]
            given = given[0] if row.kind == "add" else sum(given)
            channels[row.name] = row.channels or given
            if row.kind in KERAS_NAMES:
                kind = KERAS_NAMES[row.kind]  # the first is called conv2d, the others conv2d_1, ...
                place = f"layers/{kind}_{seen[kind]}/vars" if seen[kind] else f"layers/{kind}/vars"
                weights[row.name] = _parts(_follow(file, place), place, _shapes(row, given))
                seen[kind] += 1
    return weights


# In the order and the layout of Keras.
def _shapes(row, given):
    if row.kind not in ("convolution", "depthwise"):
        return dict.fromkeys(("gamma", "beta", "mean", "variance"), (given,))
    last = (given, 1) if row.kind == "depthwise" else (given, row.channels)
    shapes = {"kernel": (row.kernel, row.kernel, *last), "bias": (row.channels,)}
    return shapes if row.bias else {"kernel": shapes["kernel"]}


def _parts(group, place, shapes):
    parts = {}
    for number, (part, shape) in enumerate(shapes.items()):
        path = f"{place}/{number}"
        array = _dataset(_follow(group, str(number), path), path, shape)[()]
        if part == "kernel":  # (k, k, in, out) -> (out, in, k, k); depthwise: (in, 1, k, k)
            array = array.transpose((2, 3, 0, 1) if shape[-1] == 1 else (3, 2, 0, 1))
        parts[part] = np.ascontiguousarray(array, np.float32)
        if not np.isfinite(parts[part]).all():
            raise ValueError(f"{path}: not all of it is numbers")
    if "variance" in parts and (parts["variance"] < 0).any():
        raise ValueError(f"{place}: has a negative variance")
    return parts


# What lies in the file itself: HDF5 would follow links to other files, too.
def _follow(place, path, shown=None):
    for part in path.split("/"):
        link = place.get(part, getlink=True)
        if not isinstance(link, h5py.HardLink):
            fault = "missing" if link is None else "leads elsewhere"
            raise ValueError(f"{shown or path}: {fault}")
        place = place[part]
    return place


def _dataset(found, path, shape):
    if not isinstance(found, h5py.Dataset) or found.dtype.kind != "f":
        raise ValueError(f"{path}: no array of floating point numbers")
    if found.is_virtual or found.external:
        raise ValueError(f"{path}: its numbers are in another file")
    if found.shape != shape:
        raise ValueError(f"{path}: has the shape {found.shape} instead of {shape}")
    if found.size > LARGEST:
        raise ValueError(f"{path}: far too large")
    return found


def _session(graph, arrays):
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # it would report to its makers
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # named, since it else binds threads to cores, which fails where only some may be used
    options.intra_op_num_threads = min(AT_ONCE, _cores())
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads sleep
    options.enable_mem_pattern = False  # sizes differ from call to call
    options.enable_cpu_mem_arena = False  # it never gives memory back
    options.log_severity_level = 3  # errors
    # copied while the session is made
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in arrays.values()]
    options.add_external_initializers(list(arrays), values)
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _cores():
    usable = getattr(os, "sched_getaffinity", None)  # not everywhere
    return len(usable(0)) if usable else os.cpu_count() or 1
