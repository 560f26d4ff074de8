"""A recorded network's forward pass, by ONNX Runtime: L in, logits out (or a and b).

Not here: training, which is Keras' (`colorlib.model`, `colorlib.training`), and the graph that is
computed (`colorlib.graph`). A test holds both to the same outputs.

Starting Keras and its backend takes seconds, coloring a photograph a fraction of one; so coloring
goes without them.
"""

import collections
import io
import math
import os
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np

from colorlib import table

LARGEST = 3 * 3 * 1024 * 1024
"""Limit on the size of an array in a weights file: twice the paper's width."""

KERAS_NAMES = {
    "convolution": "conv2d",
    "depthwise": "depthwise_conv2d",
    "transposed": "conv2d_transpose",
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
        Number of which the sides of the input have to be multiples.

    Attributes
    ----------
    takes_hints : bool
        Whether there is a second input, for a user's hints.
    """

    def __init__(self, rows, weights, input_multiple):
        from colorlib import graph

        self.input_multiple = input_multiple
        empty = graph.build(rows, weights, embed=False)
        # in the background: a caller has to import and decode as long as this takes
        executor = ThreadPoolExecutor(1)
        self._session = executor.submit(_session, empty.SerializeToString(), graph.by_name(weights))
        executor.shutdown(wait=False)
        self.takes_hints = table.HINTS in table.inputs(rows)

    def predict_on_batch(self, lightness, hints=None):
        """Predict the distribution over the bins; called as a Keras model is.

        Parameters
        ----------
        lightness : ndarray of float32, shape (n, height, width, 1)
            L in 0..100; the sides are multiples of `input_multiple`.
        hints : ndarray of float32, shape (n, height, width, 3), optional
            For a network that takes hints: a, b, and 1 where they are given, else three zeros;
            by default none is given.

        Returns
        -------
        ndarray of float32, shape (n, height / 4, width / 4, 313)
            Logits; of the released network of 2017, shape (n, height, width, 2), (a, b).

        Raises
        ------
        ValueError
            If the sides are not multiples of it, or hints are given to a network that takes none.
        """
        lightness = np.ascontiguousarray(lightness, np.float32)
        if any(side % self.input_multiple for side in lightness.shape[1:3]):
            raise ValueError(
                f"the sides have to be multiples of {self.input_multiple}: {lightness.shape[1:3]}"
            )
        given = {table.INPUT: lightness}
        if self.takes_hints:
            shape = (*lightness.shape[:3], table.CHANNELS[table.HINTS])
            none = np.zeros(shape, np.float32) if hints is None else hints
            given[table.HINTS] = np.ascontiguousarray(none, np.float32)
        elif hints is not None:
            raise ValueError("this network takes no hints; choose one that does")
        return self._session.result().run(None, given)[0]


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
    with h5py.File(path) as file:
        return {
            row.name: _parts(_follow(file.id, place), place, shapes)
            for row, place, shapes in _places(rows)
        }


def weights_file(rows, weights):
    """Write weights as Keras does; the inverse of `read_weights`, without Keras.

    Parameters
    ----------
    rows : list of table.Layer
        From `table.layers`.
    weights : dict of str to dict of str to ndarray
        As `graph.build` takes them, in any precision.

    Returns
    -------
    bytes
        The file's bytes. HDF5 itself crashes where a disk is full, so it writes into memory.

    Raises
    ------
    ValueError
        If an array is missing, has another shape, or holds something else than numbers.
    """
    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        for row, place, shapes in _places(rows):
            for number, (part, shape) in enumerate(shapes.items()):
                array = weights[row.name].get(part)
                if array is not None and part == "kernel":
                    array = array.transpose(_from_keras(shape, inverse=True))
                if array is None or array.shape != shape or not np.isfinite(array).all():
                    raise ValueError(f"{row.name}: its {part} is missing, or no {shape} numbers")
                file[f"{place}/{number}"] = array
    return memory.getvalue()


# Each layer that has weights: its row, where its arrays are in the file, and their shapes.
def _places(rows):
    seen, channels = collections.Counter(), dict(table.CHANNELS)
    for row in rows:
        given = [channels[name] for name in row.inputs]
        given = given[0] if row.kind == "add" else sum(given)
        channels[row.name] = row.channels or given
        if row.kind in KERAS_NAMES:
            kind = KERAS_NAMES[row.kind]  # the first is called conv2d, the others conv2d_1, ...
            place = f"layers/{kind}_{seen[kind]}/vars" if seen[kind] else f"layers/{kind}/vars"
            yield row, place, _shapes(row, given)
            seen[kind] += 1


# In the order and the layout of Keras.
def _shapes(row, given):
    sizes = {
        "convolution": (given, row.channels),
        "depthwise": (given, 1),
        "transposed": (row.channels, given),
    }
    if row.kind not in sizes:
        return dict.fromkeys(("gamma", "beta", "mean", "variance"), (given,))
    shapes = {"kernel": (row.kernel, row.kernel, *sizes[row.kind]), "bias": (row.channels,)}
    return shapes if row.bias else {"kernel": shapes["kernel"]}


# The axes of a kernel: (k, k, in, out) -> (out, in, k, k), and of a transposed convolution
# (k, k, out, in) -> (in, out, k, k); depthwise, (k, k, in, 1) -> (in, 1, k, k).
def _from_keras(shape, inverse=False):
    axes = (2, 3, 0, 1) if shape[-1] == 1 else (3, 2, 0, 1)
    return tuple(np.argsort(axes)) if inverse else axes


def _parts(group, place, shapes):
    parts = {}
    for number, (part, shape) in enumerate(shapes.items()):
        path = f"{place}/{number}"
        array = _array(_follow(group, str(number), path), path, shape)
        if part == "kernel":
            array = array.transpose(_from_keras(shape))
        parts[part] = np.ascontiguousarray(array, np.float32)
        if not np.isfinite(parts[part]).all():
            raise ValueError(f"{path}: not all of it is numbers")
    if "variance" in parts and (parts["variance"] < 0).any():
        raise ValueError(f"{place}: has a negative variance")
    return parts


# What lies in the file itself: HDF5 would follow links to other files, too. These functions take
# HDF5's own objects; h5py's classes around them would make the start of coloring longer.
def _follow(place, path, shown=None):
    for name in path.encode().split(b"/"):
        if not place.links.exists(name):
            raise ValueError(f"{shown or path}: missing")
        if place.links.get_info(name).type != h5py.h5l.TYPE_HARD:
            raise ValueError(f"{shown or path}: leads elsewhere")
        place = h5py.h5o.open(place, name)
    return place


def _array(found, path, shape):
    if not isinstance(found, h5py.h5d.DatasetID) or found.dtype.kind != "f":
        raise ValueError(f"{path}: no array of floating point numbers")
    storage = found.get_create_plist()
    if storage.get_layout() == h5py.h5d.VIRTUAL or storage.get_external_count():
        raise ValueError(f"{path}: its numbers are in another file")
    if found.shape != shape:
        raise ValueError(f"{path}: has the shape {found.shape} instead of {shape}")
    if math.prod(shape) > LARGEST:
        raise ValueError(f"{path}: far too large")
    array = np.empty(shape, found.dtype)
    found.read(h5py.h5s.ALL, h5py.h5s.ALL, array)
    return array


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
