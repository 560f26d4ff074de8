"""PyTorch's state dicts: both formats, strides, and unsafe files."""

import os
from collections import OrderedDict

import numpy as np
import pytest
import state_dict_writer as writer

from colorlib import state_dicts


@pytest.fixture(autouse=True)
def torch_names(monkeypatch):
    writer.fake_torch(monkeypatch)


def write(path, kind, value):
    storages = {t.storage.key: t.storage for t in value.values() if isinstance(t, writer.Tensor)}
    writer.WRITERS[kind](path, value, list(storages.values()))
    return path


@pytest.mark.parametrize("kind", writer.WRITERS)
def test_arrays_come_back(tmp_path, kind):
    rng = np.random.default_rng(0)
    arrays = {
        "plain": rng.standard_normal((3, 4), np.float32),
        "transposed": rng.standard_normal((3, 3, 5, 2), np.float32).transpose(3, 2, 0, 1),
        "whole": np.arange(6),
        "half": rng.standard_normal(3).astype(np.float16),
        "scalar": np.array(7, np.int64),
        "empty": np.zeros((0, 4), np.float32),
    }
    value = OrderedDict((n, writer.tensor(str(i), a)) for i, (n, a) in enumerate(arrays.items()))
    found = state_dicts.read(write(tmp_path / "net.pth", kind, value))
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        assert found[name].flags.c_contiguous
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("kind", writer.WRITERS)
def test_tensors_may_share_a_storage(tmp_path, kind):
    storage = writer.Storage("0", np.arange(12, dtype=np.float32))
    value = {
        "rows": writer.Tensor(storage, (2, 3), (3, 1), 6),
        "columns": writer.Tensor(storage, (3, 2), (1, 3), 0),
    }
    found = state_dicts.read(write(tmp_path / "net.pth", kind, value))
    np.testing.assert_array_equal(found["rows"], [[6, 7, 8], [9, 10, 11]])
    np.testing.assert_array_equal(found["columns"], [[0, 3], [1, 4], [2, 5]])


class Attack:
    def __reduce__(self):
        return os.system, ("touch attacked",)


NUMBERS = writer.Storage("0", np.zeros(4, np.float32))
HOSTILE = {
    "calls a function": ({"a": Attack()}, r"system"),
    "reaches beyond its storage": ({"a": writer.Tensor(NUMBERS, (5,), (1,))}, "beyond"),
    "reaches beyond by a stride": ({"a": writer.Tensor(NUMBERS, (2, 2), (3, 1))}, "beyond"),
    "begins before its storage": ({"a": writer.Tensor(NUMBERS, (2,), (1,), -3)}, "describes"),
    "goes backwards": ({"a": writer.Tensor(NUMBERS, (2,), (-1,), 3)}, "describes"),
    "is huge": ({"a": writer.Tensor(NUMBERS, (2**40,), (0,))}, "too many"),
    "is no dict": ([1, 2], "no state dict"),
    "holds something else": ({"a": 3}, "something else"),
    "is empty": ({}, "no state dict"),
}


@pytest.mark.parametrize("kind", writer.WRITERS)
@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_refused(tmp_path, monkeypatch, kind, case):
    monkeypatch.chdir(tmp_path)
    value, message = HOSTILE[case]
    path = tmp_path / "hostile.pth"
    writer.WRITERS[kind](path, value, [NUMBERS])
    with pytest.raises(state_dicts.StateDictError, match=rf"hostile\.pth.*{message}"):
        state_dicts.read(path)
    assert not (tmp_path / "attacked").exists()


@pytest.mark.parametrize("kind", writer.WRITERS)
def test_a_file_cut_off_anywhere_is_refused(tmp_path, kind):
    value = {"a": writer.tensor("0", np.zeros((3, 4), np.float32))}
    whole = write(tmp_path / "whole.pth", kind, value).read_bytes()
    for length in range(0, len(whole), 7):
        path = tmp_path / "cut.pth"
        path.write_bytes(whole[:length])
        with pytest.raises(state_dicts.StateDictError, match=r"cut\.pth"):
            state_dicts.read(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(state_dicts.StateDictError, match=r"none\.pth: can't be read"):
        state_dicts.read(tmp_path / "none.pth")
