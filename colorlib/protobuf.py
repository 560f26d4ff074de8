"""The parts of an ONNX graph as bytes: nodes, tensors, and the model around them.

Not here: which parts a network has (`colorlib.graph`). A message of protobuf is a list of numbered
fields (https://protobuf.dev/programming-guides/encoding). Their numbers here, and those of the
types, are from ``onnx.proto`` (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto). The package
``onnx`` writes the same bytes, but takes as long to start as a tenth of a photograph's coloring.
"""

import functools
import struct

import numpy as np

TENSOR_TYPES = {np.dtype(np.float32): 1, np.dtype(np.int64): 7}
"""The number of a tensor's type."""

ATTRIBUTE_TYPES = {float: (2, 1), int: (3, 2), str: (4, 3), list: (8, 7)}
"""The field of an attribute's value, and the number of its type; a list is one of integers."""

EXTERNAL = 1
"""The place of a tensor whose numbers are not in the file."""


def message(fields):
    """Write a message.

    Parameters
    ----------
    fields : dict of int to int, float, str or bytes, or a list of these
        By their numbers. Integers are not negative; a list is a repeated field, and an empty list
        none.

    Returns
    -------
    bytes
    """
    return b"".join(
        _field(number, one)
        for number, value in fields.items()
        for one in (value if isinstance(value, list) else [value])
    )


def node(kind, inputs, outputs, name="", **settings):
    """Write a node of a graph.

    Parameters
    ----------
    kind : str
        ONNX's name of the operator.
    inputs, outputs : list of str
        Names of tensors.
    name : str
    **settings : float, int, str or list of int
        The operator's attributes.

    Returns
    -------
    bytes
    """
    attributes = [_attribute(*setting) for setting in sorted(settings.items())]
    return message({1: inputs, 2: outputs, 3: name or [], 4: kind, 5: attributes})


def tensor(array, name):
    """Write an array with its numbers.

    Parameters
    ----------
    array : ndarray of float32 or int64
    name : str

    Returns
    -------
    bytes
    """
    kind = TENSOR_TYPES[array.dtype]
    data = array.astype(array.dtype.newbyteorder("<")).tobytes()
    return message({1: [*array.shape], 2: kind, 8: name, 9: data})


def placeholder(array, name):
    """Write an array without its numbers; what computes the graph gets them by its name.

    Parameters
    ----------
    array : ndarray of float32 or int64
    name : str

    Returns
    -------
    bytes
    """
    kind, where = TENSOR_TYPES[array.dtype], message({1: "location", 2: "elsewhere"})
    return message({1: [*array.shape], 2: kind, 8: name, 13: where, 14: EXTERNAL})


def value(name, shape):
    """Write the description of an input or output, float32.

    Parameters
    ----------
    name : str
    shape : list of int or str
        A side that is a text can have any length.

    Returns
    -------
    bytes
    """
    sides = [message({1 if isinstance(side, int) else 2: side}) for side in shape]
    array = message({1: TENSOR_TYPES[np.dtype(np.float32)], 2: message({1: sides})})
    return message({1: name, 2: message({1: array})})


def model(name, nodes, inputs, outputs, tensors, opset, version):
    """Write a model.

    Parameters
    ----------
    name : str
        The graph's.
    nodes, inputs, outputs, tensors : list of bytes
        From `node`, `value`, and `tensor` or `placeholder`.
    opset, version : int
        Versions of the operators and of the format.

    Returns
    -------
    bytes
    """
    graph = message({1: nodes, 2: name, 5: tensors, 11: inputs, 12: outputs})
    return message({1: version, 7: graph, 8: message({1: "", 2: opset})})


def _attribute(name, value):
    field, kind = ATTRIBUTE_TYPES[type(value)]
    return message({1: name, field: value, 20: kind})


def _field(number, value):
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    if isinstance(value, float):
        return _varint(number << 3 | 5) + struct.pack("<f", value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


# Seven bits a byte, the lowest first; all but the last one have the highest bit set.
@functools.cache
def _varint(number):
    if number < 128:
        return number.to_bytes()
    return (number & 127 | 128).to_bytes() + _varint(number >> 7)
