"""Runs that travel: as a zip file, as a folder for the Hub; and the list of those that are here."""

import shutil
import stat
import zipfile

import numpy as np
import onnxruntime
import pytest
import yaml
from processes import colorlib

from colorlib import config, runs
from colorlib.data import sharing
from colorlib.data.validation import FetchError

NAME = "model-64-quarter"


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """A run as a zip file, by the command."""
    path = tmp_path_factory.mktemp("packed") / "run.zip"
    result = colorlib("runs", "export", NAME, path)
    assert result.returncode == 0 and str(path) in result.stdout, result.stderr
    return path


def rewritten(packed, path, change):
    """Copy a zip file with other members: `change` takes and gives name -> bytes."""
    with zipfile.ZipFile(packed) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in change(files).items():
            archive.writestr(name, data)
    return path


def test_there_and_back(packed, tmp_path, rng):
    folder = sharing.unpack(packed, home=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [NAME] and folder.name == NAME
    there, back = runs.load_run(NAME), runs.load_run(folder)
    assert back.settings == there.settings and back.history == there.history
    lightness = rng.uniform(0, 100, (1, 16, 16, 1)).astype(np.float32)
    expected = there.network().predict_on_batch(lightness)
    np.testing.assert_array_equal(back.network().predict_on_batch(lightness), expected)
    assert not (folder / runs.CHECKPOINTS).exists()


def test_a_run_is_not_overwritten_but_may_have_another_name(packed, tmp_path):
    sharing.unpack(packed, home=tmp_path)
    with pytest.raises(FetchError, match=r"is there already; give another name with --name"):
        sharing.unpack(packed, home=tmp_path)
    assert sharing.unpack(packed, "other", tmp_path).name == "other"
    for name in ("../other", ".other", "a/b", "", "~"):
        if name:
            with pytest.raises(FetchError, match="can't be a run's name"):
                sharing.unpack(packed, name, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([NAME, "other"])


def as_macos_zips(files):
    extras = {f"__MACOSX/{NAME}/._{path.rpartition('/')[2]}": b"\0\5\x16\7" for path in files}
    return {
        f"{NAME}/": b"",
        f"{NAME}/.DS_Store": b"Bud1",
        "__MACOSX/._" + NAME: b"",
        **files,
        **extras,
    }


def test_a_zip_file_that_macos_made(packed, tmp_path):
    path = rewritten(packed, tmp_path / "x.zip", as_macos_zips)
    folder = sharing.unpack(path, home=tmp_path / "runs")
    assert folder == tmp_path / "runs" / NAME
    with zipfile.ZipFile(packed) as archive:
        assert {f"{NAME}/{file.name}" for file in folder.iterdir()} == set(archive.namelist())


def test_a_published_folder_as_a_zip_file(tmp_path):
    sharing.publish(NAME, tmp_path / "hub")
    (tmp_path / "hub" / ".gitattributes").write_text("*.onnx filter=lfs")
    for root in (tmp_path, tmp_path / "hub"):
        name = f"{root.name}-files"
        shutil.make_archive(tmp_path / name, "zip", root, "hub" if root == tmp_path else ".")
        folder = sharing.unpack(tmp_path / f"{name}.zip", home=tmp_path / "runs")
        assert folder.name == ("hub" if root == tmp_path else name)
        assert runs.load_run(folder).settings == runs.load_run(NAME).settings
        assert {file.name for file in folder.iterdir()} <= set(sharing.FILES)
        (tmp_path / f"{name}.zip").unlink()


def test_the_remedy_fits_who_sees_it(packed, tmp_path):
    path = rewritten(packed, tmp_path / "x.zip", truncated)
    with pytest.raises(FetchError, match="ask whoever made it") as caught:
        sharing.unpack(path, home=tmp_path)
    assert "train" not in str(caught.value)
    folder = sharing.unpack(packed, home=tmp_path)
    for name in (runs.WEIGHTS, "history.csv"):
        (folder / name).unlink()
        with pytest.raises(runs.RunError, match="import it again"):
            runs.load_run(folder).weights()


def without(part):
    return lambda files: {name: data for name, data in files.items() if part not in name}


def with_file(name, data=b"x"):
    return lambda files: files | {name: data}


def truncated(files):
    name = f"{NAME}/{runs.WEIGHTS}"
    return files | {name: files[name][:1000]}


REFUSED = {
    "leads out": (with_file("../evil.json"), "leads out of the folder"),
    "absolute": (with_file("/evil.json"), "leads out of the folder"),
    "a program": (with_file(f"{NAME}/evil.py"), r"holds 'evil\.py', which is no part of a run"),
    "a second folder": (with_file("other/prior.json"), "no part of a run"),
    "no weights": (without(runs.WEIGHTS), "holds no complete run .*no such weights file"),
    "damaged weights": (truncated, "holds no complete run .*damaged"),
    "no settings": (without("config.json"), "no complete run|no part of a run"),
    "no JSON": (with_file(f"{NAME}/prior.json", b"[1, 2"), "holds no complete run"),
    "no prior": (with_file(f"{NAME}/prior.json", b"[" + b"0," * 312 + b"0]"), "sum to 1"),
    "nothing": (lambda files: {}, "holds no complete run"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_run_is_refused(packed, tmp_path, case):
    change, message = REFUSED[case]
    path = rewritten(packed, tmp_path / "x.zip", change)
    with pytest.raises(FetchError, match=rf"x\.zip: .*{message}|{message}"):
        sharing.unpack(path, home=tmp_path / "home" / "runs")
    assert list((tmp_path / "home" / "runs").iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "x.zip"]


def test_a_link_is_refused(tmp_path):
    info = zipfile.ZipInfo(f"{NAME}/config.json")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(info, "/etc/hostname")
    with pytest.raises(FetchError, match="a link or a device"):
        sharing.unpack(tmp_path / "x.zip", home=tmp_path / "runs")


def test_a_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(sharing, "LARGEST", 10**6)
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", bytes(10**7))
    with pytest.raises(FetchError, match="unpacks to over"):
        sharing.unpack(tmp_path / "x.zip", home=tmp_path / "runs")
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_missing_and_a_cut_file(packed, tmp_path):
    (tmp_path / "cut.zip").write_bytes(packed.read_bytes()[:5000])
    for name in ("none.zip", "cut.zip"):
        with pytest.raises(FetchError, match=rf"{name}: "):
            sharing.unpack(tmp_path / name, home=tmp_path / "runs")


def test_a_full_disk_leaves_nothing(packed, tmp_path, small_files):
    with small_files(20_000), pytest.raises(FetchError, match="make room"):
        sharing.unpack(packed, home=tmp_path / "runs")
    assert list((tmp_path / "runs").iterdir()) == []
    with small_files(20_000), pytest.raises(OSError):
        sharing.pack(NAME, tmp_path / "run.zip")
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_a_folder_for_the_hub(tmp_path):
    result = colorlib("runs", "publish", NAME, tmp_path / "hub", "--license", "cc-by-4.0")
    assert result.returncode == 0, result.stderr
    names = sorted(path.name for path in (tmp_path / "hub").iterdir())
    assert {"README.md", "config.json", runs.WEIGHTS, f"{NAME}.onnx"} <= set(names)
    _, header, body = (tmp_path / "hub" / "README.md").read_text().split("---\n", 2)
    head = yaml.safe_load(header)
    assert head["license"] == "cc-by-4.0" and head["pipeline_tag"] == "image-to-image"
    images = str(runs.load_run(NAME).data["train_images"])
    assert f"# {NAME}" in body and images in body and "table_1, width 0.25" in body
    assert onnxruntime.InferenceSession(tmp_path / "hub" / f"{NAME}.onnx")
    assert runs.load_run(tmp_path / "hub").settings == runs.load_run(NAME).settings
    with pytest.raises(ValueError, match="is there already"):
        sharing.publish(NAME, tmp_path / "hub")


def test_the_list_names_the_default_and_what_can_be_fetched():
    result = colorlib("runs")
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    (default,) = [line for line in lines if line.startswith("*")]
    assert config.DEFAULT_RUN in default and "MB" in default
    for name in ("zhang-2016", "zhang-2017"):
        (line,) = [line for line in lines if name in line]
        assert f"colorlib fetch weights {name}" in line or "fetched" in line


def test_a_damaged_run_is_in_the_list_with_its_problem(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "RUNS", tmp_path)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / runs.WEIGHTS).write_bytes(b"x")
    found = {one.name: one for one in sharing.summaries()}
    assert "not a complete recorded run" in found["broken"].problem
    assert found[config.DEFAULT_RUN].origin == "with colorlib"
    assert found[config.DEFAULT_RUN].default and not found[config.DEFAULT_RUN].problem


def test_show_says_what_a_run_is():
    result = colorlib("runs", "show", NAME)
    assert result.returncode == 0, result.stderr
    for text in ("table_1, width 0.25", "1.6 million", "train_images", "working_size"):
        assert text in result.stdout


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("show", "nosuch"), "nosuch"),
        (("export", "nosuch", "x.zip"), "nosuch"),
        (("export", NAME, "x.tar"), "has to end in .zip"),
        (("import", "none.zip"), "no such file"),
        (("publish", "nosuch", "hub"), "nosuch"),
        (("export", NAME, "nosuch/x.zip"), "x.zip: can't be written (No such file or directory); "),
        (("publish", NAME, "hub", "--license", "a: [b"), "no license 'a: [b'"),
    ],
)
def test_a_wrong_call_is_answered_in_a_line(arguments, why, tmp_path):
    command, *rest = arguments
    kept = (NAME, "--license", "a: [b")
    result = colorlib("runs", command, *[x if x in kept else tmp_path / x for x in rest])
    assert result.returncode == 2 and why in result.stderr
    assert len(result.stderr.splitlines()) == 1 and ".partial" not in result.stderr
    assert list(tmp_path.iterdir()) == []
