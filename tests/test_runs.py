"""The rule for finding a run: a name or a folder, the user's own runs first."""

import shutil

import numpy as np
import processes
import pytest
from PIL import Image

from colorlib import config, inference, runs
from colorlib.experiments import l2_search


def test_a_folder_of_the_same_name_here_is_not_the_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / config.DEFAULT_RUN).mkdir()
    (tmp_path / "l2-search").mkdir()
    assert runs.load_run(config.DEFAULT_RUN).path == config.RECORDED / config.DEFAULT_RUN
    assert l2_search.load_search("l2-search")[0]
    with pytest.raises(runs.RunError, match="not a complete recorded run"):
        runs.load_run(f"./{config.DEFAULT_RUN}")


def test_every_error_of_hdf5_names_the_weights(monkeypatch):
    run = runs.load_run(config.DEFAULT_RUN)

    def fail(*_):
        raise RuntimeError("Unable to check\nlink existence")

    monkeypatch.setattr(inference.h5py, "File", fail)
    with pytest.raises(runs.RunError, match=r"weights\.h5: damaged.*\(Unable to check\);"):
        run.weights()


def test_own_runs_come_before_packaged_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "RUNS", tmp_path / "own")
    monkeypatch.setattr(config, "RECORDED", tmp_path / "packaged")
    for name in ("packaged/a", "packaged/b", "own/b", "own/c"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / runs.WEIGHTS).touch()
    found = [runs.find(name).relative_to(tmp_path).as_posix() for name in "abc"]
    assert found == ["packaged/a", "own/b", "own/c"]
    assert runs.known() == ["a", "b", "c"]


def test_what_is_a_name_and_what_a_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert runs.place("mine") == config.RUNS / "mine"
    places = [runs.place(text) for text in ("./mine", "a/b", "~/x", ".hidden", tmp_path)]
    expected = ["mine", "a/b", tmp_path / "x", ".hidden", tmp_path]
    assert [str(place) for place in places] == [str(place) for place in expected]
    (tmp_path / "nosuch").mkdir()
    with pytest.raises(runs.RunError, match=r"'nosuch'; there are: .*model-64.*\./nosuch"):
        runs.find("nosuch")
    with pytest.raises(runs.RunError, match=r"'~/nowhere': there is no such folder"):
        runs.find("~/nowhere")


@pytest.mark.parametrize("command", ["colorize", "train", "search", "evaluate"])
def test_every_command_states_the_rule(command):
    help_text = processes.colorlib(command, "--help", COLUMNS="400").stdout
    assert "a folder, with a / in it or a . or ~ at its start" in help_text


def pip(*arguments):
    options = "--no-deps", "--no-index", "--disable-pip-version-check"
    processes.run("-m", "pip", *arguments, *options, check=True)


def listing(folder):
    return sorted((path, path.stat().st_size) for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The package as a wheel gives it, in a folder that nobody may write."""
    folder = tmp_path_factory.mktemp("installed")
    source = folder / "source"
    for part in ("colorlib", "data/runs"):
        shutil.copytree(config.ROOT / part, source / part)
    for part in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(config.ROOT / part, source)
    pip("wheel", source, "--no-build-isolation", "--wheel-dir", folder)
    pip("install", *folder.glob("*.whl"), "--target", folder / "site")
    shutil.rmtree(source)
    for path in [*(folder / "site").rglob("*"), folder / "site"]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield folder / "site"
    for path in (folder / "site", *(folder / "site").rglob("*/")):
        path.chmod(0o755)


def test_the_wheel_holds_the_runs_that_color_by_default_and_no_other(installed):
    recorded = installed / "colorlib" / "recorded"
    names = {path.name for path in recorded.iterdir()}
    assert names == {config.DEFAULT_RUN, config.HINTS_RUN}


def test_a_wheel_colors_a_photograph_in_an_empty_folder(installed, tmp_path, monkeypatch):
    Image.fromarray(np.full((40, 60), 90, np.uint8)).save(tmp_path / "grey.png")
    before = listing(installed)
    home = tmp_path / "home"
    home.mkdir()
    call = ["-P", "-B", "-m", "colorlib", "colorize", "grey.png", "-o", "out.png"]
    monkeypatch.chdir(tmp_path)
    done = processes.run(*call, PYTHONPATH=str(installed), HOME=str(home))
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "out.png") as colored:
        assert np.ptp(np.asarray(colored.convert("RGB")), axis=2).max() > 0
    assert listing(installed) == before and not list(home.iterdir())


def test_a_clone_that_can_not_be_written_is_left_alone(tmp_path):
    code = (
        "import os; os.access = lambda path, mode: False\n"
        "from colorlib import config, figures, runs\n"
        "print(figures.save(figures.new()[0], 'x'))\n"
        "run = config.DEFAULT_RUN\n"
        "print(runs.find(run) == config.ROOT / 'data' / 'runs' / run)\n"
        "print(runs.place('mine'))"
    )
    places = dict(COLORLIB_FIGURES="", XDG_DATA_HOME="", HOME=str(tmp_path))
    saved, found, own = processes.python(code, **places).splitlines()
    assert found == "True" and own.endswith("runs/mine")
    assert all(path.startswith(str(tmp_path)) for path in (saved, own))
