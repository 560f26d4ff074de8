"""Write state dicts as PyTorch does, old format and new, without PyTorch."""

import io
import pickle
import sys
import types
import zipfile
from collections import OrderedDict

import numpy as np

from colorlib import state_dicts

NAMES = {np.dtype(dtype): name for name, dtype in state_dicts.DTYPES.items()}


class Storage:
    """Numbers that tensors share."""

    def __init__(self, key, numbers):
        self.key, self.numbers = key, numbers


class Tensor:
    """A view of a storage; strides in numbers, not in bytes."""

    def __init__(self, storage, shape, strides, offset=0):
        self.storage, self.shape, self.strides, self.offset = storage, shape, strides, offset

    def __reduce__(self):
        rebuild = sys.modules["torch._utils"]._rebuild_tensor_v2
        return rebuild, (self.storage, self.offset, self.shape, self.strides, False, OrderedDict())


def tensor(key, array):
    """Describe an array, in whatever order its numbers lie in memory."""
    order = np.argsort([-stride for stride in array.strides], kind="stable")
    numbers = np.ascontiguousarray(array.transpose(order)).ravel()
    strides = tuple(stride // array.itemsize for stride in array.strides)
    return Tensor(Storage(key, numbers), array.shape, strides)


class Pickler(pickle.Pickler):
    def __init__(self, file, old):
        super().__init__(file, protocol=2)
        self.old = old

    def persistent_id(self, value):
        if not isinstance(value, Storage):
            return None
        kind = getattr(sys.modules["torch"], NAMES[value.numbers.dtype])
        identity = ("storage", kind, value.key, "cpu", len(value.numbers))
        return (*identity, None) if self.old else identity


def fake_torch(monkeypatch):
    """Make the names importable that a state dict's pickle mentions."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    utils._rebuild_tensor_v2 = type("_rebuild_tensor_v2", (), {"__module__": "torch._utils"})
    for name in state_dicts.DTYPES:
        setattr(torch, name, type(name, (), {"__module__": "torch"}))
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)


def pickled(value, old):
    file = io.BytesIO()
    Pickler(file, old).dump(value)
    return file.getvalue()


def write_old(path, value, storages):
    with path.open("wb") as file:
        for part in (state_dicts.OLD_MAGIC, 1001, {"little_endian": True}, value):
            file.write(pickled(part, True))
        file.write(pickle.dumps([storage.key for storage in storages], protocol=2))
        for storage in storages:
            file.write(len(storage.numbers).to_bytes(8, "little") + storage.numbers.tobytes())


def write_zip(path, value, storages):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled(value, False))
        archive.writestr("archive/byteorder", "little")
        for storage in storages:
            archive.writestr(f"archive/data/{storage.key}", storage.numbers.tobytes())


WRITERS = {"old": write_old, "zip": write_zip}
