"""The authors' released networks: from a state dict as PyTorch writes it to colors."""

import hashlib
import itertools
import os
import pickle
from collections import OrderedDict

import numpy as np
import pytest
import state_dict_writer as writer
from misbehaving_server import Server
from processes import colorlib

from colorlib import colorize, config, evaluate, export, quantizer, runs, table
from colorlib.app import studio
from colorlib.data import download, released, sharing
from colorlib.data.validation import FetchError

WIDTH = 1 / 16
NAMES = tuple(released.RELEASED)


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    """The released networks, at a sixteenth of their width; and no pauses between attempts."""
    for name, one in released.RELEASED.items():
        settings = one.settings.replace(width=WIDTH)
        decoding = one.decoding.replace(working_size=32)
        thin = one._replace(settings=settings, decoding=decoding)
        monkeypatch.setitem(released.RELEASED, name, thin)
    monkeypatch.setattr(download.time, "sleep", lambda _: None)
    monkeypatch.setattr(download, "TIMEOUT", 10)
    monkeypatch.setattr(download, "PATIENCE", 2)


def shapes(name):
    """The arrays of the authors' state dict, written down from their code, at `WIDTH`."""
    c1, c2, c3, c4 = (int(c * WIDTH) for c in (64, 128, 256, 512))
    first = 4 if name == "zhang-2017" else 1
    blocks = {
        "model1": (first, c1, c1),
        "model2": (c1, c2, c2),
        "model3": (c2, c3, c3, c3),
        "model4": (c3, c4, c4, c4),
        "model5": (c4, c4, c4, c4),
        "model6": (c4, c4, c4, c4),
        "model7": (c4, c4, c4, c4),
    }
    found = {}
    for block, channels in blocks.items():
        for i, (given, out) in enumerate(itertools.pairwise(channels)):
            found[f"{block}.{2 * i}"] = (out, given, 3, 3)
        found[f"{block}.{2 * len(channels) - 2}"] = (channels[-1],)
    if name == "zhang-2016":
        return found | {
            "model8.0": (c4, c3, 4, 4),
            "model8.2": (c3, c3, 3, 3),
            "model8.4": (c3, c3, 3, 3),
            "model8.6": (313, c3, 1, 1),
            "model_out": (2, 313, 1, 1),
        }
    return found | {
        "model8up.0": (c4, c3, 4, 4),
        "model8.1": (c3, c3, 3, 3),
        "model8.3": (c3, c3, 3, 3),
        "model8.5": (c3,),
        "model9up.0": (c3, c2, 4, 4),
        "model9.1": (c2, c2, 3, 3),
        "model9.3": (c2,),
        "model10up.0": (c2, c2, 4, 4),
        "model10.1": (c2, c2, 3, 3),
        "model3short8.0": (c3, c3, 3, 3),
        "model2short9.0": (c2, c2, 3, 3),
        "model1short10.0": (c2, c1, 3, 3),
        "model_class.0": (529, c3, 1, 1),
        "model_out.0": (2, c2, 1, 1),
    }


def state_of(name, seed=0):
    """A state dict of random numbers, in the shape of the authors'."""
    rng, state = np.random.default_rng(seed), {}
    for layer, shape in shapes(name).items():
        if len(shape) == 1:
            for part, low in (("weight", 0.5), ("bias", -1), ("running_mean", 0)):
                state[f"{layer}.{part}"] = rng.uniform(low, 1, shape)
            state[f"{layer}.running_var"] = rng.uniform(0.3, 1, shape)
            continue
        transposed = shape[2] == 4
        fan_in = shape[0] * 4 if transposed else np.prod(shape[1:])
        state[f"{layer}.weight"] = rng.normal(0, np.sqrt(2 / fan_in), shape)
        state[f"{layer}.bias"] = rng.uniform(-0.1, 0.1, shape[1 if transposed else 0])
    if name == "zhang-2016":
        del state["model_out.bias"]
        state["model_out.weight"] = quantizer.bin_centers().T.reshape(2, 313, 1, 1) / 110
    state = {key: value.astype(np.float32) for key, value in state.items()}
    return state | {"model1.4.num_batches_tracked": np.array(7, np.int64)}


def write_state(path, state, monkeypatch, kind="zip"):
    value = OrderedDict((key, writer.tensor(str(i), x)) for i, (key, x) in enumerate(state.items()))
    with monkeypatch.context() as patch:
        writer.fake_torch(patch)
        writer.WRITERS[kind](path, value, [tensor.storage for tensor in value.values()])
    return path


def known(monkeypatch, name, data):
    """Let a file count as the authors': name it by the digits of its own hash."""
    digits = hashlib.sha256(data).hexdigest()[:8]
    one = released.RELEASED[name]._replace(file=f"some_release-{digits}.pth")
    monkeypatch.setitem(released.RELEASED, name, one)
    return one.file


@pytest.fixture(params=NAMES)
def file(request, tmp_path, monkeypatch):
    """A file that counts as the authors': which network, its path, its state dict."""
    name = request.param
    state = state_of(name)
    path = write_state(tmp_path / "copy.pth", state, monkeypatch)
    known(monkeypatch, name, path.read_bytes())
    return name, path, state


# What PyTorch computes, in float64: (channels, height, width).
def conv(x, weight, bias, stride=1, dilation=1):
    reach = dilation * (weight.shape[2] // 2)
    x = np.pad(x, ((0, 0), (reach, reach), (reach, reach)))
    height, width = (side - 2 * reach for side in x.shape[1:])
    out = np.zeros((len(weight), height, width))
    for i in range(weight.shape[2]):
        for j in range(weight.shape[3]):
            rows, columns = i * dilation, j * dilation
            seen = x[:, rows : rows + height, columns : columns + width]
            out += np.tensordot(weight[:, :, i, j], seen, 1)
    return (out + bias[:, None, None])[:, ::stride, ::stride]


# Each input pixel adds the kernel, times its value, at its place in the output.
def transposed(x, weight, bias):
    _, height, width = x.shape
    out = np.zeros((weight.shape[1], 2 * height + 2, 2 * width + 2))
    for i in range(4):
        for j in range(4):
            seen = np.tensordot(weight[:, :, i, j].T, x, 1)
            out[:, i : i + 2 * height : 2, j : j + 2 * width : 2] += seen
    return out[:, 1:-1, 1:-1] + bias[:, None, None]


class Reference:
    """The authors' networks in NumPy, written from the paper and their code, layer by layer."""

    def __init__(self, state):
        self.state = {key: value.astype(np.float64) for key, value in state.items()}

    def parts(self, name):
        return self.state[f"{name}.weight"], self.state[f"{name}.bias"]

    def norm(self, x, name):
        mean, variance = (self.state[f"{name}.running_{x}"] for x in ("mean", "var"))
        weight, bias = self.parts(name)
        scale = weight / np.sqrt(variance + 1e-5)
        return x * scale[:, None, None] + (bias - mean * scale)[:, None, None]

    def block(self, x, number, count, stride=1, dilation=1):
        for i in range(count):
            step = stride if i == count - 1 else 1
            name = f"model{number}.{2 * i}"
            x = np.maximum(conv(x, *self.parts(name), step, dilation), 0)
        return self.norm(x, f"model{number}.{2 * count}")

    def first_seven(self, x, stride):
        half = slice(None, None, 1 if stride == 2 else 2)
        features = []
        for number, count in ((1, 2), (2, 2), (3, 3)):
            features.append(self.block(x, number, count, stride))
            x = features[-1][:, half, half]
        for number, dilation in ((4, 1), (5, 2), (6, 2), (7, 1)):
            x = self.block(x, number, 3, 1, dilation)
        return x, features

    def of_2016(self, lightness):
        x, _ = self.first_seven((lightness[None] - 50) / 100, 2)
        x = np.maximum(transposed(x, *self.parts("model8.0")), 0)
        for name in ("model8.2", "model8.4"):
            x = np.maximum(conv(x, *self.parts(name)), 0)
        return conv(x, *self.parts("model8.6"))

    def of_2017(self, lightness, hints):
        x = np.concatenate([(lightness[None] - 50) / 100, hints[:2] / 110, hints[2:]])
        x, (one, two, three) = self.first_seven(x, 1)
        joins = {8: (three, 3), 9: (two, 2), 10: (one, 1)}
        for number, (features, source) in joins.items():
            up = transposed(x, *self.parts(f"model{number}up.0"))
            side = conv(features, *self.parts(f"model{source}short{number}.0"))
            x = np.maximum(up + side, 0)
            for name in {8: ("model8.1", "model8.3"), 9: ("model9.1",)}.get(number, ()):
                x = np.maximum(conv(x, *self.parts(name)), 0)
            if number < 10:
                x = self.norm(x, {8: "model8.5", 9: "model9.3"}[number])
        x = conv(x, *self.parts("model10.1"))
        x = np.where(x > 0, x, 0.2 * x)
        return 110 * np.tanh(conv(x, *self.parts("model_out.0")))

    def __call__(self, lightness, hints=None):
        hints = np.zeros((3, *lightness.shape)) if hints is None else hints
        first = "model_out.0.bias" not in self.state
        answer = self.of_2016(lightness) if first else self.of_2017(lightness, hints)
        return answer.transpose(1, 2, 0)


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_the_whole_way_gives_what_the_reference_gives(file, tmp_path, rng):
    name, path, state = file
    run = runs.load_run(released.fetch(name, path, tmp_path / "runs"))
    lightness = rng.uniform(0, 100, (24, 40)).astype(np.float32)
    expected = Reference(state)(lightness)
    network = run.network()
    close(network.predict_on_batch(lightness[None, ..., None])[0], expected)
    if name == "zhang-2017":
        hints = rng.uniform(-60, 60, (24, 40, 3)).astype(np.float32)
        hints[..., 2] = rng.integers(0, 2, (24, 40))
        found = network.predict_on_batch(lightness[None, ..., None], hints[None])[0]
        close(found, Reference(state)(lightness, hints.transpose(2, 0, 1)))
        assert np.abs(found - expected).max() > 1


def test_keras_gives_the_same(file, tmp_path, rng):
    name, path, _ = file
    run = runs.load_run(released.fetch(name, path, tmp_path))
    lightness = rng.uniform(0, 100, (1, 16, 24, 1)).astype(np.float32)
    given = [lightness, np.zeros((1, 16, 24, 3), np.float32)] if "2017" in name else lightness
    expected = run.network().predict_on_batch(lightness)
    close(np.asarray(run.model()(given, training=False)), expected)


def test_mean_and_annealed_mean(tmp_path, monkeypatch, rng):
    state = state_of("zhang-2016")
    path = write_state(tmp_path / "copy.pth", state, monkeypatch)
    known(monkeypatch, "zhang-2016", path.read_bytes())
    folder = released.fetch("zhang-2016", path, tmp_path)
    lightness = rng.uniform(0, 100, (32, 32)).astype(np.float32)
    logits = Reference(state)(lightness)
    shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares /= shares.sum(axis=-1, keepdims=True)
    # the authors' last layer, times 110
    mean = 110 * shares @ state["model_out.weight"][:, :, 0, 0].T
    close(colorize.colorizer_for(folder).predict_ab(lightness), mean)
    annealed = colorize.colorizer_for(folder, temperature=0.38).predict_ab(lightness)
    close(annealed, quantizer.annealed_mean(logits))
    assert np.abs(annealed - mean).max() > 1


@pytest.mark.parametrize("size", [(33, 50), (90, 70)])
def test_photographs_of_any_size_are_colored(file, tmp_path, rng, size):
    name, path, _ = file
    colorizer = colorize.colorizer_for(released.fetch(name, path, tmp_path))
    photograph = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    assert colorizer(photograph).shape == photograph.shape


def test_bins_in_another_order_are_sorted(tmp_path, monkeypatch, rng):
    state = state_of("zhang-2016")
    order = rng.permutation(313)
    mixed = state | {key: state[key][order] for key in ("model8.6.weight", "model8.6.bias")}
    mixed["model_out.weight"] = state["model_out.weight"][:, order]
    expected = released.weights_of(state, "zhang-2016")[1]["conv_1x1"]
    found = released.weights_of(mixed, "zhang-2016")[1]["conv_1x1"]
    for part, array in expected.items():
        np.testing.assert_array_equal(found[part], array)


def test_a_released_network_as_onnx(file, tmp_path, rng):
    import onnxruntime

    name, path, state = file
    run = runs.load_run(released.fetch(name, path, tmp_path))
    export.export(run, tmp_path / "x.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "x.onnx")
    lightness = rng.uniform(0, 100, (1, 16, 24, 1)).astype(np.float32)
    given = {table.INPUT: lightness, table.HINTS: np.zeros((1, 16, 24, 3), np.float32)}
    taken = {one.name: given[one.name] for one in session.get_inputs()}
    close(session.run(None, taken)[0][0], Reference(state)(lightness[0, ..., 0]))
    said = session.get_modelmeta().custom_metadata_map
    assert ("a, b" if name == "zhang-2017" else "logits") in said["output"]


def test_a_network_that_gives_ab_is_measured_and_shown(tmp_path, monkeypatch, rng):
    path = write_state(tmp_path / "copy.pth", state_of("zhang-2017"), monkeypatch)
    known(monkeypatch, "zhang-2017", path.read_bytes())
    monkeypatch.setattr(config, "RUNS", tmp_path / "runs")
    released.fetch("zhang-2017", path, config.RUNS)
    images = rng.integers(0, 256, (2, 256, 256, 3), dtype=np.uint8)
    result = evaluate.evaluate("zhang-2017", images, progress=False)
    assert "network" not in result["distributions"] and "prior" in result["distributions"]
    assert 0 < result["colors"]["plain"]["auc"] < 100
    shown = evaluate.table(result)
    assert "zhang-2017" in shown and "no distribution" in shown and "0.38" not in shown
    for name in ("temperature", "vividness"):
        with pytest.raises(ValueError, match=f"zhang-2017 predicts one color.*no {name}"):
            evaluate.evaluate("zhang-2017", images, **{name: 0.3})
    card = sharing.card(runs.load_run("zhang-2017"), "zhang-2017")
    assert "learning_rate 1e-05" in card and "bsd-2-clause" in card
    assert "epochs" not in card and "seed" not in card
    (one,) = [one for one in sharing.summaries() if one.name == "zhang-2017"]
    assert one.origin == "fetched" and not one.problem
    page = studio.Studio(models=["zhang-2017"])
    assert "no distribution" in page.chart.value
    assert [name for name, slider in page.sliders.items() if not slider.disabled] == ["saturation"]
    assert "Zhang-2017 saw" in page.status.value
    page.sliders["saturation"].value = 0.5
    assert page.save()[1]


# --- fetching ---


@pytest.fixture
def served(monkeypatch, tmp_path):
    """A server with a file that counts as the authors'."""
    path = write_state(tmp_path / "served.pth", state_of("zhang-2016"), monkeypatch)
    data = path.read_bytes()
    file = known(monkeypatch, "zhang-2016", data)
    with Server() as server:
        server.files[file] = data
        yield server


def fetch(server, tmp_path, kind="files", file=None):
    return released.fetch("zhang-2016", file, tmp_path / "home" / "runs", server.url(f"/{kind}"))


def test_fetched_once(served, tmp_path):
    folder = fetch(served, tmp_path)
    assert folder == tmp_path / "home" / "runs" / "zhang-2016"
    assert [path.name for path in folder.parent.iterdir()] == ["zhang-2016"]
    before = (folder / runs.WEIGHTS).stat().st_mtime_ns
    served.hits.clear()
    assert fetch(served, tmp_path) == folder
    assert not served.hits and (folder / runs.WEIGHTS).stat().st_mtime_ns == before


def test_a_cut_download_is_continued_by_the_next_call(served, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "PATIENCE", 1)
    (data,) = served.files.values()
    with pytest.raises(FetchError, match=f"{len(data) // 2} bytes are kept.*--file"):
        fetch(served, tmp_path, "cut")
    runs.load_run(fetch(served, tmp_path)).weights()
    assert served.ranges[-1] == f"bytes={len(data) // 2}-"


@pytest.mark.parametrize("way", ["download", "file"])
def test_a_wrong_hash_is_refused(served, tmp_path, way):
    (file,) = served.files
    served.files[file] = served.files[file][:-1] + b"x"
    if way == "file":
        (tmp_path / "copy.pth").write_bytes(served.files[file])
        with pytest.raises(
            FetchError, match=r"copy\.pth: its SHA-256 does not begin with [0-9a-f]"
        ):
            fetch(served, tmp_path, file=tmp_path / "copy.pth")
        assert (tmp_path / "copy.pth").exists()
    else:
        with pytest.raises(FetchError, match=r"another hash than sha256:.*deleted.*--file"):
            fetch(served, tmp_path)
    assert list((tmp_path / "home" / "runs").iterdir()) == []


@pytest.mark.parametrize("kind", ["status/404", "status/503", "reset"])
def test_a_server_that_fails(served, tmp_path, kind):
    with pytest.raises(FetchError, match="--file"):
        fetch(served, tmp_path, kind)
    assert list((tmp_path / "home" / "runs").iterdir()) == []


def test_no_connection(tmp_path):
    with pytest.raises(FetchError, match="--file"):
        released.fetch("zhang-2017", home=tmp_path, address="http://127.0.0.1:1")


@pytest.mark.parametrize("way", ["download", "file"])
@pytest.mark.parametrize("size", [0, 50_000])
def test_a_full_disk(served, tmp_path, small_files, way, size):
    file = tmp_path / "served.pth" if way == "file" else None
    with small_files(size), pytest.raises(FetchError, match="make room"):
        fetch(served, tmp_path, file=file)
    left = [path.name for path in (tmp_path / "home" / "runs").iterdir()]
    assert set(left) <= {f"{name}.partial" for name in served.files}
    runs.load_run(fetch(served, tmp_path)).weights()


class Attack:
    def __reduce__(self):
        return os.system, ("touch attacked",)


@pytest.mark.parametrize("kind", writer.WRITERS)
def test_a_hostile_file_is_refused_by_name(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    writer.fake_torch(monkeypatch)
    path = tmp_path / "hostile.pth"
    writer.WRITERS[kind](path, {"a": Attack()}, [])
    known(monkeypatch, "zhang-2017", path.read_bytes())
    with pytest.raises(FetchError, match=r"hostile\.pth: names \w+\.system"):
        released.fetch("zhang-2017", path, tmp_path / "runs")
    assert not (tmp_path / "attacked").exists() and list((tmp_path / "runs").iterdir()) == []


def test_a_pickle_is_no_file_of_the_authors(tmp_path):
    path = tmp_path / "some.pth"
    path.write_bytes(pickle.dumps(Attack()))
    with pytest.raises(FetchError, match=r"some\.pth: its SHA-256 does not begin with 9b330a0b"):
        released.fetch("zhang-2016", path, tmp_path / "runs")


SPOILS = {
    "a missing array": (lambda s: s.pop("model5.2.bias"), r"model5\.2\.bias"),
    "another shape": (lambda s: s.update({"model1.0.weight": np.zeros((4, 1, 5, 5))}), "conv1_1"),
    "no numbers": (lambda s: s["model8.4.bias"].fill(np.nan), "conv8_3: its bias"),
    "other bins": (lambda s: s["model_out.weight"].fill(0), "bins are others"),
    "too few bins": (lambda s: s.update({"model_out.weight": np.zeros((2, 9, 1, 1))}), "bins"),
}


@pytest.mark.parametrize("case", SPOILS)
def test_other_weights_are_refused(tmp_path, monkeypatch, case):
    spoil, message = SPOILS[case]
    state = state_of("zhang-2016")
    spoil(state)
    path = write_state(tmp_path / "other.pth", state, monkeypatch)
    known(monkeypatch, "zhang-2016", path.read_bytes())
    with pytest.raises(FetchError, match=message):
        released.fetch("zhang-2016", path, tmp_path / "runs")
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_folder_that_holds_something_else_is_left_alone(served, tmp_path):
    thesis = tmp_path / "home" / "runs" / "zhang-2016" / "thesis.txt"
    thesis.parent.mkdir(parents=True)
    thesis.write_text("three years of work")
    with pytest.raises(FetchError, match="holds something else"):
        fetch(served, tmp_path)
    assert thesis.exists() and not served.hits


def test_unknown_names_and_missing_files(tmp_path):
    with pytest.raises(FetchError, match="there are: zhang-2016, zhang-2017"):
        released.fetch("zhang-2018", home=tmp_path)
    with pytest.raises(FetchError, match=r"none\.pth: can't be read.*name another"):
        released.fetch("zhang-2016", tmp_path / "none.pth", tmp_path)


def test_the_command_says_what_went_wrong_in_a_line(tmp_path):
    done = colorlib("fetch", "weights", "zhang-2016", "--file", tmp_path / "none.pth")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "none.pth" in done.stderr


def test_the_released_settings_are_those_of_the_authors():
    assert config.TrainConfig(network="zhang_2016").network in table.NETWORKS
    for name, digits in (("zhang-2016", "9b330a0b"), ("zhang-2017", "df00044c")):
        assert released._hash(released.RELEASED[name]) == f"sha256:{digits}"


# --- against PyTorch ---


def torch_network(torch, name):
    """Build the authors' network of `torch.nn`, at `WIDTH`."""
    nn, sizes = torch.nn, shapes(name)

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            for key in {key.split(".")[0]: None for key in sizes}:
                self.add_module(key, nn.Module())
            for key, shape in sizes.items():
                block, _, number = key.partition(".")
                layer = self.layer(block, shape)
                if number:
                    getattr(self, block).add_module(number, layer)
                else:
                    setattr(self, block, layer)

        @staticmethod
        def layer(block, shape):
            if len(shape) == 1:
                return nn.BatchNorm2d(*shape)
            if shape[2] == 4:
                return nn.ConvTranspose2d(*shape[:2], 4, stride=2, padding=1)
            dilation = 2 if block in ("model5", "model6") else 1
            padding = dilation * (shape[2] // 2)
            bias = block != "model_out" or name == "zhang-2017"
            out, given = shape[:2]
            return nn.Conv2d(given, out, shape[2], 1, padding, dilation, bias=bias)

        def run(self, block, x, relu_first=False):
            x = x.relu() if relu_first else x
            for layer in getattr(self, block).children():
                x = layer(x)
                x = x if isinstance(layer, nn.BatchNorm2d) else x.relu()
            return x

        def forward(self, x):
            stride = 2 if name == "zhang-2016" else 1
            features = []
            for number in (1, 2, 3):
                last = list(getattr(self, f"model{number}").children())[-2]
                last.stride = (stride, stride)
                features.append(self.run(f"model{number}", x))
                x = features[-1] if stride == 2 else features[-1][:, :, ::2, ::2]
            for number in (4, 5, 6, 7):
                x = self.run(f"model{number}", x)
            if name == "zhang-2016":
                up, second, third, last = self.model8.children()
                return last(third(second(up(x).relu()).relu()).relu())
            one, two, three = features
            up = next(self.model8up.children())(x) + next(self.model3short8.children())(three)
            x = self.run("model8", up, True)
            up = next(self.model9up.children())(x) + next(self.model2short9.children())(two)
            x = self.run("model9", up, True)
            up = next(self.model10up.children())(x) + next(self.model1short10.children())(one)
            x = nn.functional.leaky_relu(next(self.model10.children())(up.relu()), 0.2)
            return 110 * next(self.model_out.children())(x).tanh()

    return Network().eval()


@pytest.mark.parametrize("name", NAMES)
def test_the_whole_network_against_pytorch(name, tmp_path, monkeypatch, rng):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    network = torch_network(torch, name)
    state = {key: torch.from_numpy(np.array(x)) for key, x in state_of(name).items()}
    network.load_state_dict(state, strict=False)
    path = tmp_path / "copy.pth"
    torch.save(OrderedDict(state), path)
    known(monkeypatch, name, path.read_bytes())
    run = runs.load_run(released.fetch(name, path, tmp_path / "runs"))
    lightness = rng.uniform(0, 100, (2, 40, 64, 1)).astype(np.float32)
    seen = torch.from_numpy((lightness - 50) / 100).permute(0, 3, 1, 2)
    if name == "zhang-2017":
        seen = torch.nn.functional.pad(seen, (0, 0, 0, 0, 0, 3))
    with torch.no_grad():
        expected = network(seen).permute(0, 2, 3, 1).numpy()
    close(run.network().predict_on_batch(lightness), expected)
