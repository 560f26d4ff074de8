"""The forward pass in NumPy gives what Keras gives, and refuses what is no network."""

import pickle
import subprocess
import sys
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from colorlib import inference, model, runs


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A network whose BatchNorm has seen something, and its weights file."""
    network = model.build_model(1 / 16, seed=3)
    rng = np.random.default_rng(0)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 2, w.shape) for w in layer.get_weights()])
    path = tmp_path_factory.mktemp("network") / "x.weights.h5"
    runs.save_weights(network, path)
    runs.load_weights(network, path)  # both have the halved kernels
    return network, path


@pytest.mark.parametrize("shape", [(8, 8), (56, 56), (64, 24), (8, 96)])
def test_it_predicts_what_keras_predicts(saved, shape, rng):
    network, path = saved
    lightness = rng.uniform(0, 100, (2, *shape, 1)).astype(np.float32)
    expected = network.predict_on_batch(lightness)
    logits = inference.load(path).predict_on_batch(lightness)
    assert logits.dtype == np.float32 and logits.shape == expected.shape
    np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("stride", "dilation", "size"), [(1, 1, 3), (2, 1, 3), (1, 2, 3), (1, 1, 1)]
)
def test_convolution_by_hand(stride, dilation, size, rng):
    x = rng.normal(size=(1, 8, 10, 2)).astype(np.float32)
    kernel = rng.normal(size=(size, size, 2, 3)).astype(np.float32)
    out = inference.convolve(x, kernel, stride, dilation)
    reach = dilation * (size - 1)
    before = (reach - (stride - 1)) // 2
    for i, j in np.ndindex(out.shape[1:3]):
        expected = np.zeros(3)
        for k, m in np.ndindex(size, size):
            row, column = i * stride - before + k * dilation, j * stride - before + m * dilation
            if 0 <= row < 8 and 0 <= column < 10:
                expected += x[0, row, column] @ kernel[k, m]
        np.testing.assert_allclose(out[0, i, j], expected, rtol=1e-4, atol=1e-5)


def test_coloring_starts_without_keras():
    code = "import sys; from colorlib import colorize; colorize.colorizer_for(); print("
    code += "sorted({'keras', 'tensorflow', 'jax', 'sklearn', 'matplotlib'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def spoil_shape(file):
    del file["layers/conv2d_2/vars/0"]
    file["layers/conv2d_2/vars/0"] = np.zeros((3, 3, 5, 8), np.float16)


def spoil_size(file):
    del file["layers/conv2d_1/vars/0"]
    # a terabyte that takes no space in the file
    file.create_dataset("layers/conv2d_1/vars/0", (2**20, 2**19), "float16", chunks=True)


def spoil_numbers(file):
    file["layers/conv2d_3/vars/1"][...] = np.nan


def spoil_layer(file):
    del file["layers/conv2d_21"]


def spoil_kind(file):
    del file["layers/conv2d_1/vars/1"]
    file["layers/conv2d_1/vars/1"] = ["import os"] * 4


def spoil_group(file):
    del file["layers/conv2d_1/vars/1"]
    file.create_group("layers/conv2d_1/vars/1")


def spoil_by_a_link_outside(file):
    del file["layers/conv2d_4"]
    file["layers/conv2d_4"] = h5py.ExternalLink("/dev/stdin", "/")


def spoil_by_a_loop_of_links(file):
    del file["layers/conv2d_4/vars/0"]
    file["layers/conv2d_4/vars/0"] = h5py.SoftLink("/layers/conv2d_4/vars/0")


def spoil_by_numbers_outside(file):
    shape = file["layers/conv2d_4/vars/1"].shape
    del file["layers/conv2d_4/vars/1"]
    outside = [("/etc/hostname", 0, 4 * shape[0])]
    file.create_dataset("layers/conv2d_4/vars/1", shape, "float32", external=outside)


def spoil_by_a_virtual_array(file):
    shape = file["layers/conv2d_4/vars/1"].shape
    del file["layers/conv2d_4/vars/1"]
    layout = h5py.VirtualLayout(shape, "float32")
    layout[:] = h5py.VirtualSource("/nowhere.h5", "x", shape)
    file.create_virtual_dataset("layers/conv2d_4/vars/1", layout)


SPOILS = [value for name, value in globals().items() if name.startswith("spoil_")]


@pytest.mark.parametrize("spoil", SPOILS)
def test_what_is_no_network_is_refused(saved, tmp_path, spoil):
    path = tmp_path / "spoiled.weights.h5"
    path.write_bytes(saved[1].read_bytes())
    with h5py.File(path, "r+") as file:
        spoil(file)
    with pytest.raises(ValueError, match=r"layers|kernel"):
        inference.load(path)


class Harmful:
    def __reduce__(self):
        return (Path.touch, (Path("harm.txt"),))


def test_a_pickle_is_refused_and_not_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x.weights.h5"
    path.write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(OSError):
        inference.load(path)
    assert not Path("harm.txt").exists()
