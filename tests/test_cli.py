"""The command as a user calls it, in a process of its own."""

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from colorlib import images, samples


def colorlib(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "colorlib", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "200", **environment},
    )


@pytest.fixture(scope="module")
def bad_call(tmp_path_factory):
    """One call with a good photograph among every kind of bad file."""
    folder = tmp_path_factory.mktemp("cli")
    images.write(folder / "good.jpg", samples.square("chelsea", 120))
    cut = (folder / "good.jpg").read_bytes()
    (folder / "text.jpg").write_text("not an image")
    (folder / "cut.jpg").write_bytes(cut[: len(cut) // 2])
    (folder / "empty.png").touch()
    (folder / "folder").mkdir()
    Image.fromarray(np.full((30, 20), 90, np.uint8)).save(folder / "also_good.png")
    names = [
        "text.jpg",
        "missing.jpg",
        "cut.jpg",
        "good.jpg",
        "empty.png",
        "folder",
        "also_good.png",
    ]
    result = colorlib("colorize", *(folder / name for name in names), "-o", folder / "out")
    return folder, result


def test_help_teaches():
    result = colorlib("--help")
    assert result.returncode == 0 and "colorize" in result.stdout
    result = colorlib("colorize", "--help")
    assert result.returncode == 0
    for word in ("Example", "--temperature", "--vividness", "--working-size", "--run"):
        assert word in result.stdout


def test_good_files_are_done_among_bad_ones(bad_call):
    folder, result = bad_call
    assert result.returncode == 2
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["also_good.png", "good.jpg"]
    assert images.read(folder / "out" / "good.jpg").shape == (120, 120, 3)
    assert images.read(folder / "out" / "also_good.png").shape == (30, 20, 3)


def test_each_bad_file_gets_one_line_with_its_name_and_a_remedy(bad_call):
    folder, result = bad_call
    lines = result.stderr.strip().splitlines()
    bad = ["text.jpg", "missing.jpg", "cut.jpg", "empty.png", "folder"]
    assert len(lines) == len(bad), result.stderr
    for line, name in zip(lines, bad, strict=True):
        assert str(folder / name) in line and ";" in line


def test_an_output_that_cannot_be_made(tmp_path):
    images.write(tmp_path / "x.png", samples.square("coffee", 32))
    (tmp_path / "file").touch()
    result = colorlib("colorize", tmp_path / "x.png", "-o", tmp_path / "file" / "out")
    assert result.returncode == 2 and str(tmp_path / "file") in result.stderr
    result = colorlib("colorize", tmp_path / "x.png", "-o", tmp_path / "nowhere" / "y.png")
    assert result.returncode == 2 and "nowhere" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "x.png"]


def test_an_unknown_run_is_answered_with_the_known_ones(tmp_path):
    result = colorlib("colorize", tmp_path / "x.png", "-o", tmp_path, "--run", "nosuch")
    assert result.returncode == 2 and "nosuch" in result.stderr and "model-64" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_pack_says_what_it_left_out(tmp_path):
    (tmp_path / "in" / "cat").mkdir(parents=True)
    for i, patch in enumerate(samples.patches(3, 32)):
        images.write(tmp_path / "in" / "cat" / f"{i}.png", patch)
    images.write(tmp_path / "in" / "cat" / "grey.png", np.full((32, 32, 3), 7, np.uint8))
    (tmp_path / "in" / "cat" / "bad.jpg").touch()
    result = colorlib("pack", tmp_path / "in", tmp_path / "out.h5", "--size", 32)
    assert result.returncode == 0, result.stderr
    assert "3 images; left out: 1 grey, 1 broken" in result.stdout
    result = colorlib("pack", tmp_path / "nowhere", tmp_path / "out.h5")
    assert result.returncode == 2 and "nowhere" in result.stderr


def test_fetch_folder_and_urls_report(tmp_path):
    (tmp_path / "mine").mkdir()
    images.write(tmp_path / "mine" / "a.jpg", samples.square("coffee", 80))
    result = colorlib("fetch", "folder", tmp_path / "mine", tmp_path / "kept")
    assert result.returncode == 0 and "1 good" in result.stdout
    assert (tmp_path / "kept" / "report.csv").is_file()
    (tmp_path / "list.txt").write_text("http://127.0.0.1:1/dead.jpg\n")
    result = colorlib("fetch", "urls", tmp_path / "list.txt", tmp_path / "web")
    assert result.returncode == 0 and "1 unreachable" in result.stdout
    result = colorlib("fetch", "tiny-imagenet", tmp_path / "t", "--archive", tmp_path / "none.zip")
    assert result.returncode == 2 and "none.zip" in result.stderr
