"""Read a PyTorch state dict as NumPy arrays, without PyTorch and without executing its code.

Not here: what the arrays mean (`colorlib.pretrained`).

PyTorch writes a pickle that describes tensors, and their numbers beside it: before version 1.6 one
after the other in one file, since then in a zip archive. A pickle may call any function by its
name; here only the few names that describe tensors are understood, and none of them is called.
"""

import collections
import io
import pickle
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

LARGEST_PICKLE = 2**24
"""Maximum bytes of the pickle; a network with a thousand tensors has a hundred kilobytes."""

LARGEST = 2**28
"""Maximum numbers in all tensors: ten times those of the largest network of this project."""

OLD_MAGIC = 0x1950A86A20F9469CFC6C
"""The first thing in a file of the old format (`torch/serialization.py`)."""

DTYPES = {
    "FloatStorage": np.float32,
    "DoubleStorage": np.float64,
    "HalfStorage": np.float16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}
"""The kinds of storage with a NumPy dtype."""


class StateDictError(ValueError):
    """A file that holds no state dict that may be read; the message names the file."""


class Storage(NamedTuple):
    """The storage of a tensor.

    Attributes
    ----------
    dtype : type
        NumPy's type of its numbers.
    key : str
        Names the storage in the file.
    count : int
        Number of its elements.
    """

    dtype: type
    key: str
    count: int


class Tensor(NamedTuple):
    """A tensor as the pickle describes it, in numbers of its storage, not in bytes."""

    storage: Storage
    offset: int
    shape: tuple
    strides: tuple


def read(path):
    """Read a state dict.

    Parameters
    ----------
    path : path-like
        Written by ``torch.save(network.state_dict(), path)``, by any version of PyTorch.

    Returns
    -------
    dict of str to ndarray
        Contiguous copies, in the order of the file.

    Raises
    ------
    StateDictError
        If the file is missing, cut off, no state dict, too large, or names anything that is no
        part of a tensor.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            if zipfile.is_zipfile(file):
                return _read_zip(file)
            file.seek(0)
            return _read_old(file)
    except OSError as error:
        raise StateDictError(f"{path}: can't be read ({error.strerror or error})") from None
    except StateDictError as error:
        raise StateDictError(f"{path}: {error}; use a file from a source that you trust") from None
    except Exception as error:  # a damaged pickle can raise anything
        reason = f"{type(error).__name__}: {error}"
        raise StateDictError(f"{path}: damaged, or no state dict ({reason})") from None


class _Reader(pickle.Unpickler):
    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if module == "torch" and name in DTYPES:
            return name
        raise StateDictError(f"names {module}.{name}, which is no part of a tensor")

    def persistent_load(self, identity):
        kind, storage, key, _, count = identity[:5]
        if kind != "storage" or storage not in DTYPES or type(count) is not int:
            raise StateDictError(f"describes an unknown storage: {identity}")
        return Storage(DTYPES[storage], str(key), count)


def _tensor(storage, offset, shape, strides, *_):
    numbers = (offset, *shape, *strides)
    if not isinstance(storage, Storage) or len(shape) != len(strides):
        raise StateDictError("describes a tensor without a storage")
    if any(type(number) is not int or number < 0 for number in numbers):
        raise StateDictError(f"describes a tensor of the shape {shape} with the strides {strides}")
    return Tensor(storage, offset, tuple(shape), tuple(strides))


def _read_zip(file):
    with zipfile.ZipFile(file) as archive:
        names = [name for name in archive.namelist() if name.rpartition("/")[2] == "data.pkl"]
        if len(names) != 1:
            raise StateDictError("is a zip archive, but not one that PyTorch wrote")
        folder = names[0].removesuffix("data.pkl")
        if archive.getinfo(names[0]).file_size > LARGEST_PICKLE:
            raise StateDictError("its description is far too large")
        described = _described(_Reader(io.BytesIO(archive.read(names[0]))).load())
        order = f"{folder}byteorder"
        if order in archive.namelist() and archive.read(order) != b"little":
            raise StateDictError("its numbers are big-endian")
        storages = {}
        for storage in _storages(described).values():
            info = archive.getinfo(f"{folder}data/{storage.key}")
            if info.file_size != storage.count * np.dtype(storage.dtype).itemsize:
                raise StateDictError(f"storage {storage.key} is not as long as described")
            storages[storage.key] = np.frombuffer(archive.read(info), storage.dtype)
    return _arrays(described, storages)


def _read_old(file):
    if _Reader(file).load() != OLD_MAGIC:
        raise StateDictError("is no file that PyTorch wrote")
    for _ in ("protocol version", "system"):
        _Reader(file).load()
    described = _described(_Reader(file).load())
    wanted, storages = _storages(described), {}
    for key in _Reader(file).load():
        storage = wanted[key]
        count = int.from_bytes(file.read(8), "little")
        size = storage.count * np.dtype(storage.dtype).itemsize
        data = file.read(size)
        if count != storage.count or len(data) != size:
            raise StateDictError("is cut off")
        storages[key] = np.frombuffer(data, storage.dtype)
    return _arrays(described, storages)


def _described(value):
    if not isinstance(value, dict) or not value:
        raise StateDictError("holds no state dict")
    for name, tensor in value.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise StateDictError(f"holds something else than tensors: {name!r}")
    if sum(np.prod(tensor.shape, dtype=object) for tensor in value.values()) > LARGEST:
        raise StateDictError("describes far too many numbers")
    return value


def _storages(described):
    storages = {tensor.storage.key: tensor.storage for tensor in described.values()}
    if not 0 <= sum(storage.count for storage in storages.values()) <= LARGEST:
        raise StateDictError("describes far too many numbers")
    return storages


def _arrays(described, storages):
    return {name: _array(name, t, storages[t.storage.key]) for name, t in described.items()}


# The numbers of a tensor need not lie in order: each axis has a stride of its own.
def _array(name, tensor, numbers):
    steps = zip(tensor.shape, tensor.strides, strict=True)
    last = tensor.offset + sum((size - 1) * stride for size, stride in steps)
    if 0 not in tensor.shape and last >= len(numbers):
        raise StateDictError(f"{name} reaches beyond its storage")
    strides = [stride * numbers.itemsize for stride in tensor.strides]
    view = np.lib.stride_tricks.as_strided(numbers[tensor.offset :], tensor.shape, strides)
    return view.copy()
