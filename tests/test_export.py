"""An exported network runs in ONNX Runtime, gives the same output, and has its metadata."""

import json
import re

import numpy as np
import onnx
import onnxruntime
import pytest
from processes import colorlib

from colorlib import colorize, config, export, graph, images, runs, samples


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The default run, exported by the command."""
    path = tmp_path_factory.mktemp("export") / "network.onnx"
    result = colorlib("export", config.DEFAULT_RUN, path)
    assert result.returncode == 0 and str(path) in result.stdout and not result.stderr
    return path


def test_it_gives_what_coloring_sees_at_any_size(exported, rng):
    session = onnxruntime.InferenceSession(exported)
    network = runs.load_run(config.DEFAULT_RUN).network()
    for shape in ((1, 64, 32, 1), (2, 32, 96, 1)):
        lightness = rng.uniform(0, 100, shape).astype(np.float32)
        logits = session.run(["logits"], {"lightness": lightness})[0]
        expected = network.predict_on_batch(lightness)
        np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4)


def test_the_metadata_say_how_answers_become_colors(exported):
    run = runs.load_run(config.DEFAULT_RUN)
    model = onnx.load(exported)
    said = {entry.key: entry.value for entry in model.metadata_props}
    assert said == export.metadata(run)
    assert said["run"] == config.DEFAULT_RUN
    assert config.DecodeConfig(**json.loads(said["decoding"])) == run.decoding
    assert json.loads(said["bins"])[:2] == [[-90, 50], [-90, 60]]
    assert len(json.loads(said["weights"])) == len(json.loads(said["bins"])) == 313
    assert model.producer_name == "colorlib"


@pytest.mark.parametrize("embed", [True, False])
def test_the_file_is_as_its_own_library_would_write_it(embed):
    for run in ("model-64", "hints"):
        graph_of_run = graph.build(*runs.load_run(run).weights(), embed=embed)
        assert onnx.load_from_string(graph_of_run).SerializeToString() == graph_of_run


def test_a_fixed_size(tmp_path, rng):
    result = colorlib("export", "model-64", tmp_path / "x.onnx", "--size", "40x64")
    assert result.returncode == 0, result.stderr
    session = onnxruntime.InferenceSession(tmp_path / "x.onnx")
    assert session.get_inputs()[0].shape == [1, 40, 64, 1]
    assert session.get_outputs()[0].shape == [1, 10, 16, 313]
    assert session.run(None, {"lightness": np.zeros((1, 40, 64, 1), np.float32)})[0].any()


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("nosuch", "x.onnx"), "nosuch"),
        (("model-64", "x.bin"), ".onnx"),
        (("model-64", "x.onnx", "--size", "40x41"), "multiples of 8: 40x41"),
        (("model-64", "x.onnx", "--size", "40"), "256x256"),
        (("model-64", "nowhere/x.onnx"), "nowhere"),
    ],
)
def test_a_wrong_call_is_answered_in_a_line(arguments, why, tmp_path):
    run, name, *options = arguments
    result = colorlib("export", run, tmp_path / name, *options)
    assert result.returncode == 2 and why in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_the_lines_in_the_readme_color_a_photograph(exported, tmp_path, monkeypatch):
    readme = (config.ROOT / "README.md").read_text()
    code = next(x for x in re.findall(r"```python\n(.*?)```", readme, re.S) if "onnx" in x)
    (tmp_path / "transfer.onnx").symlink_to(exported)
    photograph = samples.square("coffee", 240)
    images.write(tmp_path / "photograph.png", photograph)
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    expected = colorize.colorizer_for(follow_edges=False)(photograph)
    difference = np.abs(images.read("colored.png").astype(int) - expected)
    assert difference.mean() < 2
