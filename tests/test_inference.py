"""ONNX Runtime gives the same as Keras for every network; unusable weights are refused."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import keras
import numpy as np
import processes
import pytest

from colorlib import inference, model, runs, samples, table

WIDTH = 1 / 16


@pytest.fixture(scope="module")
def saved(request, tmp_path_factory):
    """A network whose BatchNorm has seen something, and its weights file."""
    name = getattr(request, "param", "table_1")
    network = model.build_model(WIDTH, seed=3, network=name)
    rng = np.random.default_rng(0)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 2, w.shape) for w in layer.get_weights()])
    path = tmp_path_factory.mktemp("network") / "x.weights.h5"
    runs.save_weights(network, path)
    runs.load_weights(network, path)  # both have the halved kernels
    return network, path


def load(path, network="table_1", width=WIDTH):
    rows = table.layers(network, width)
    weights = inference.read_weights(path, rows)
    return inference.Network(rows, weights, table.input_multiple(network))


@pytest.mark.parametrize("saved", table.NETWORKS, indirect=True, ids=table.NETWORKS)
def test_it_predicts_what_keras_predicts(saved, rng, request):
    keras_model, path = saved
    network = load(path, request.node.callspec.params["saved"])
    side = network.input_multiple
    for batch, rows, columns in ((1, 1, 1), (2, 3, 2), (3, 2, 5)):
        shape = (batch, rows * side, columns * side, 1)
        lightness = rng.uniform(0, 100, shape).astype(np.float32)
        given = [lightness]
        if len(keras_model.inputs) > 1:
            hints = rng.uniform(-50, 50, (*shape[:3], 3)).astype(np.float32)
            hints[..., 2] = rng.integers(0, 2, shape[:3])
            given.append(hints)
        expected = np.array(keras_model(given if given[1:] else lightness, training=False))
        logits = network.predict_on_batch(*given)
        assert logits.dtype == np.float32 and logits.shape == expected.shape
        largest = 1 if expected.shape[-1] == table.BINS else table.AB_SCALE
        np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4 * largest)


def test_hints_are_for_networks_that_take_them(saved):
    with pytest.raises(ValueError, match="takes no hints"):
        load(saved[1]).predict_on_batch(
            np.zeros((1, 8, 8, 1), np.float32), np.zeros((1, 8, 8, 3), np.float32)
        )


def test_threads_may_predict_at_once_and_at_different_sizes(saved, rng):
    network = load(saved[1])
    inputs = [rng.uniform(0, 100, (1, 8 * n, 16, 1)).astype(np.float32) for n in range(1, 9)]
    expected = [network.predict_on_batch(x) for x in inputs]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(network.predict_on_batch, inputs * 4))
    for answer, logits in zip(answers, expected * 4, strict=True):
        np.testing.assert_array_equal(answer, logits)


def test_sides_that_do_not_fit_are_refused(saved):
    with pytest.raises(ValueError, match=r"multiples of 8: \(8, 12\)"):
        load(saved[1]).predict_on_batch(np.zeros((1, 8, 12, 1), np.float32))


HEAVY = {"keras", "tensorflow", "jax", "torch", "sklearn", "scipy", "matplotlib"}
HEAVY |= {"onnx", "google", "pillow_heif", "av", "tqdm", "filelock", "rich"}
"""Packages that take long to start, and that coloring one JPEG needs none of."""


def test_coloring_a_photograph_starts_with_no_more_than_it_needs(tmp_path):
    code = "import sys; from colorlib.__main__ import main\n"
    code += f"try: main()\nfinally: print(sorted({HEAVY} & {{*sys.modules}}))"
    call = "colorize", samples.path("china"), "-o", tmp_path
    *_, colored, loaded = processes.run("-c", code, *call, check=True).stdout.splitlines()
    assert colored.startswith("1 colored") and loaded == "[]"


def test_it_starts_silently_and_leaves_nothing_behind(tmp_path):
    """ONNX Runtime would make an identifier for its makers, and report to them."""
    code = "from colorlib import runs; runs.load_run('model-64').network()"
    places = ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME")
    homes = dict.fromkeys(places, str(tmp_path))
    done = processes.run("-c", code, check=True, **homes)
    assert done.stdout == done.stderr == ""
    assert list(tmp_path.iterdir()) == []


LAYER, CHANNELS = "layers/conv2d_2", 8
KERNEL, BIAS = f"{LAYER}/vars/0", f"{LAYER}/vars/1"
VARIANCE = "layers/batch_normalization_1/vars/3"
VIRTUAL = h5py.VirtualLayout((CHANNELS,), "float32")
VIRTUAL[:] = h5py.VirtualSource("/nowhere.h5", "x", (CHANNELS,))
OUTSIDE = [("/etc/hostname", 0, 4 * CHANNELS)]

SPOILS = {
    "shape": (KERNEL, lambda file: file.create_dataset(KERNEL, (3, 3, 5, 8), "f2")),
    # a terabyte that takes no space in the file
    "size": (KERNEL, lambda file: file.create_dataset(KERNEL, (2**20, 2**19), "f2", chunks=True)),
    "numbers": (BIAS, lambda file: file.create_dataset(BIAS, data=[np.nan] * CHANNELS)),
    "variance": (VARIANCE, lambda file: file.create_dataset(VARIANCE, data=[-0.5] * CHANNELS)),
    "layer": ("layers/conv2d_21", lambda file: None),
    "kind": (BIAS, lambda file: file.create_dataset(BIAS, data=["import os"] * CHANNELS)),
    "group": (BIAS, lambda file: file.create_group(BIAS)),
    "link": (LAYER, lambda file: file.update({LAYER: h5py.ExternalLink("/dev/stdin", "/")})),
    "loop": (KERNEL, lambda file: file.update({KERNEL: h5py.SoftLink(f"/{KERNEL}")})),
    "outside": (BIAS, lambda file: file.create_dataset(BIAS, CHANNELS, "f4", external=OUTSIDE)),
    "virtual": (BIAS, lambda file: file.create_virtual_dataset(BIAS, VIRTUAL)),
}
"""What is deleted in a file of weights, and what takes its place."""


@pytest.mark.parametrize("spoil", SPOILS)
def test_what_is_no_network_is_refused(saved, tmp_path, spoil):
    path, (place, put) = tmp_path / "spoiled.weights.h5", SPOILS[spoil]
    path.write_bytes(saved[1].read_bytes())
    with h5py.File(path, "r+") as file:
        del file[place]
        put(file)
    with pytest.raises(ValueError, match="layers/"):
        load(path)


@pytest.mark.parametrize(("network", "width"), [("table_1", 1 / 8), ("lite0", WIDTH)])
def test_weights_of_another_network_are_refused(saved, network, width):
    with pytest.raises(ValueError, match="layers/"):
        load(saved[1], network, width)


class Harmful:
    def __reduce__(self):
        return (Path.touch, (Path("harm.txt"),))


def test_a_pickle_is_refused_and_not_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x.weights.h5"
    path.write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(OSError):
        load(path)
    assert not Path("harm.txt").exists()
