"""Listing folders, unusual names, and names in text files."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from colorlib import files, images, samples, store
from colorlib.__main__ import app

PIXELS = samples.square("coffee", 80)


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "album"
    for name in ("a.jpg", "sub/b.jpg", ".hidden/c.jpg", "sub/.d.jpg", "notes.txt", "README"):
        (root / name).parent.mkdir(exist_ok=True, parents=True)
        images.write(root / name, PIXELS) if name.endswith("jpg") else (root / name).touch()
    return root


def locked(monkeypatch, place):
    """Make a folder one that can be listed, but not entered, even for root."""
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != str(place) and access(path, mode))


def test_hidden_files_and_folders_are_left_out(folder):
    names = [path.relative_to(folder).as_posix() for path in files.below(folder).files]
    assert names == ["README", "a.jpg", "notes.txt", "sub/b.jpg"]
    assert len(files.below(folder, recursive=False).files) == 3
    assert len(files.below(folder, skip=folder / "sub").files) == 3
    assert len(store.find_images(folder).files) == 2


def test_skipped_files_are_counted(folder):
    assert store.skipped_files(folder) == "2 files (1 without an ending, 1 .txt)"
    assert files.counted([]) == ""
    many = files.counted([Path(f"a.{i}") for i in range(9)])
    assert many.startswith("9 files (1 .0, ") and many.endswith("...)")


def test_a_locked_folder_gets_a_line(folder, monkeypatch):
    locked(monkeypatch, folder / "sub")
    found = files.below(folder)
    assert [path.name for path in found.files] == ["README", "a.jpg", "notes.txt"]
    ((place, why),) = found.problems
    assert place == folder / "sub" and why.endswith(files.REMEDY) and str(place) in why


def test_pack_tells_what_it_passes_over_and_cannot_enter(folder, tmp_path, monkeypatch):
    locked(monkeypatch, folder / "sub")
    result = CliRunner().invoke(app, ["pack", str(folder), str(tmp_path / "x.h5"), "--size", "16"])
    assert result.exit_code == 0
    assert "skipped because of their names: 2 files" in result.stdout
    assert f"{folder / 'sub'}: can't be looked into" in result.stderr
    assert [name for name, _ in store.Store(tmp_path / "x.h5").dropped] == ["sub"]


def test_odd_endings_of_jpeg_and_heif_are_taken(tmp_path):
    for name in ("a.jfif", "a.jpe", "a.hif", "a.gif"):
        images.write(tmp_path / "x.jpg", PIXELS)
        (tmp_path / "x.jpg").rename(tmp_path / name)
    assert len(store.find_images(tmp_path).files) == 4
    assert images.format_of("a.JFIF") == images.format_of("a.jpe") == "JPEG"
    assert images.format_of("a.hif") == "HEIF"


def test_names_are_escaped():
    assert files.escaped("写真 ünï.jpg") == "写真 ünï.jpg"
    assert files.escaped(os.fsdecode(b"caf\xe9.jpg")) == r"caf\xe9.jpg"
    under_ascii = "写.jpg".encode().decode("ascii", "surrogateescape")
    assert files.escaped(under_ascii) == "写.jpg"


@pytest.fixture
def latin(tmp_path):
    place = tmp_path / "latin"
    inner = place / os.fsdecode(b"\xfcber")
    try:
        inner.mkdir(parents=True)
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    for i, patch in enumerate(samples.patches(3, 80)):
        images.write(inner / os.fsdecode(b"caf\xe9%d.png" % i), patch)
    return place


def test_names_that_are_not_utf_8_are_packed(latin, tmp_path):
    packed = store.pack(latin, tmp_path / "x.h5", 16)
    assert packed.names[0] == r"\xfcber/caf\xe90.png" and packed.classes == [r"\xfcber"]


def test_what_was_colored_is_known_again_in_another_language(latin, tmp_path):
    images.write(latin / "с.png", PIXELS)
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    call = [sys.executable, "-m", "colorlib", "colorize", latin, "-r", "-o", tmp_path / "out"]
    for environment, summary in ((plain, b"4 colored"), ({}, b"4 kept"), (plain, b"4 kept")):
        done = subprocess.run(call, capture_output=True, env={**os.environ, **environment})
        assert done.returncode == 0 and summary in done.stdout, done.stderr.decode()


@pytest.mark.parametrize(
    ("encoding", "named"), [("cp1252", r"\u0441.png"), ("utf-8", "с.png"), ("ascii", "")]
)
def test_no_terminal_ends_the_work(tmp_path, encoding, named):
    images.write(tmp_path / "с.png", PIXELS)
    done = subprocess.run(
        [sys.executable, "-m", "colorlib", "colorize", tmp_path, "-o", tmp_path / "out"],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": encoding},
    )
    assert done.returncode == 0, done.stderr.decode()
    assert named in done.stdout.decode("utf-8") and b"1 colored" in done.stdout
