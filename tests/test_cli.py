"""The command line, each call in a process of its own."""

import os
import pickle
import shutil
import signal
import subprocess
import sys

import cv2
import numpy as np
import processes
import pytest
from PIL import Image
from processes import colorlib

from colorlib import config, images, samples


@pytest.fixture(scope="module")
def bad_call(tmp_path_factory):
    """One call with a good photograph among every kind of bad file."""
    folder = tmp_path_factory.mktemp("cli")
    images.write(folder / "good.jpg", samples.square("chelsea", 120))
    cut = (folder / "good.jpg").read_bytes()
    (folder / "text.jpg").write_text("not an image")
    (folder / "cut.jpg").write_bytes(cut[: len(cut) // 2])
    deep = cv2.imencode(".png", np.full((9, 9, 3), 999, np.uint16))[1].tobytes()
    (folder / "cut16.png").write_bytes(deep[:-20])  # libpng has something to say, too
    (folder / "empty.png").touch()
    (folder / "folder").mkdir()
    Image.fromarray(np.full((30, 20), 90, np.uint8)).save(folder / "also_good.png")
    names = "text.jpg missing.jpg cut.jpg cut16.png good.jpg empty.png folder also_good.png"
    result = colorlib("colorize", *(folder / name for name in names.split()), "-o", folder / "out")
    return folder, result


def test_help_teaches():
    result = colorlib("--help")
    assert result.returncode == 0 and "colorize" in result.stdout
    result = colorlib("colorize", "--help")
    assert result.returncode == 0
    words = "Example --temperature --vividness --saturation --working-size --run --recursive"
    words += " --overwrite --side-by-side --smoothing --scribbles --hints --shard"
    assert [word for word in words.split() if word not in result.stdout] == []


def test_help_fills_its_lines():
    text = colorlib("colorize", "--help", COLUMNS="80").stdout
    lines = [line.strip() for line in text.split("Arguments")[0].splitlines()]
    paragraph = lines[lines.index("", 4) + 1 :]
    paragraph = paragraph[: paragraph.index("")]
    assert len(paragraph) > 3 and min(len(line) for line in paragraph[:-1]) > 60, paragraph


def test_help_answers_at_once():
    heavy = "{'numpy', 'cv2', 'PIL'}"
    code = f"import sys, colorlib.__main__; print(sorted({heavy} & set(sys.modules)))"
    assert processes.python(code) == "[]"


def test_presets_are_listed():
    result = colorlib("train", "--help", COLUMNS="400")
    assert result.returncode == 0 and "--start-from" in result.stdout
    assert all(name in result.stdout for name in config.PRESETS)
    needed = ["--data", "x.h5", "--val", "x.h5", "--run", "x"]
    result = colorlib("train", "NOSUCH", *needed)
    assert result.returncode == 2 and "MODEL_64" in result.stderr


def test_good_files_are_done_among_bad_ones(bad_call):
    folder, result = bad_call
    assert result.returncode == 2
    names = sorted(path.name for path in (folder / "out").glob("[!.]*"))
    assert names == ["also_good.png", "good.jpg"]
    assert images.read(folder / "out" / "good.jpg").shape == (120, 120, 3)
    assert images.read(folder / "out" / "also_good.png").shape == (30, 20, 3)
    assert result.stdout.splitlines()[-1] == "2 colored, 0 kept, 6 failed"


def test_each_bad_file_gets_one_line_with_its_name_and_a_remedy(bad_call):
    folder, result = bad_call
    lines = result.stderr.strip().splitlines()
    bad = ["text.jpg", "missing.jpg", "cut.jpg", "cut16.png", "empty.png", "folder"]
    assert len(lines) == len(bad), result.stderr
    for line, name in zip(lines, bad, strict=True):
        assert str(folder / name) in line and ";" in line


def test_a_folder_a_second_time(tmp_path):
    (tmp_path / "in" / "deeper").mkdir(parents=True)
    images.write(tmp_path / "in" / "x.png", samples.square("coffee", 32))
    images.write(tmp_path / "in" / "deeper" / "x.webp", samples.square("coffee", 32))
    (tmp_path / "in" / "notes.txt").touch()
    call = ["colorize", tmp_path / "in", "--recursive", "-o", tmp_path / "out"]
    first = colorlib(*call, "--side-by-side").stdout
    assert "2 colored" in first and "skipped because of their names: 1 file (1 .txt)" in first
    assert images.read(tmp_path / "out" / "deeper" / "x.webp").shape == (32, 64, 3)
    before = (tmp_path / "out" / "x.png").read_bytes()
    again = colorlib(*call, "--side-by-side")
    assert again.returncode == 0 and "0 colored, 2 kept" in again.stdout
    assert (tmp_path / "out" / "x.png").read_bytes() == before
    assert colorlib(*call).stdout.count("(again, with other settings)") == 2
    assert images.read(tmp_path / "out" / "x.png").shape == (32, 32, 3)
    assert "2 colored" in colorlib(*call, "--overwrite", "--saturation", "0").stdout
    assert np.ptp(images.read(tmp_path / "out" / "x.png"), axis=-1).max() <= 1


def test_ctrl_c_keeps_finished_files_and_names_the_remedy(tmp_path):
    (tmp_path / "in").mkdir()
    images.write(tmp_path / "in" / "0.png", samples.square("coffee", 400))
    for number in range(1, 400):
        (tmp_path / "in" / f"{number}.png").hardlink_to(tmp_path / "in" / "0.png")
    call = [sys.executable, "-m", "colorlib", "colorize", tmp_path / "in", "-o", tmp_path / "out"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(call, **pipes, env={**os.environ, "PYTHONUNBUFFERED": "1"}) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    written = list((tmp_path / "out").glob("[!.]*"))
    assert process.returncode == 2 and len(stderr.splitlines()) == 1
    assert "the same call resumes" in stderr
    assert 0 < len(written) < 400
    assert all(images.read(path).shape == (400, 400, 3) for path in written)


def test_a_pickle_for_weights_is_refused_in_a_line(tmp_path):
    run = shutil.copytree(config.RECORDED / config.DEFAULT_RUN, tmp_path / "run")
    (run / "weights.weights.h5").write_bytes(pickle.dumps({"weights": [1, 2, 3]}))
    images.write(tmp_path / "x.png", samples.square("coffee", 32))
    result = colorlib("colorize", tmp_path / "x.png", "-o", tmp_path / "out", "--run", run)
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1, result.stderr
    assert str(run) in result.stderr and not (tmp_path / "out").exists()


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


def test_strokes_color_one_photograph(tmp_path):
    grey = np.repeat(samples.square("coffee", 96)[..., 1:2], 3, axis=2)
    images.write(tmp_path / "grey.png", grey)
    grey[20:26, 10:60] = (200, 30, 40)
    images.write(tmp_path / "painted.jpg", grey, quality=85)
    call = ["colorize", tmp_path / "grey.png", "--scribbles", tmp_path / "painted.jpg", "-o"]
    first = colorlib(*call, tmp_path / "out.png")
    assert first.returncode == 0 and "1 colored" in first.stdout, first.stderr
    assert np.ptp(images.read(tmp_path / "out.png"), axis=-1).max() > 50
    assert "1 kept" in colorlib(*call, tmp_path / "out.png").stdout
    images.write(tmp_path / "painted.jpg", grey, quality=95)
    assert "1 colored" in colorlib(*call, tmp_path / "out.png").stdout
    wrong = {"--run": ["--run", "model-64"], "2 files": [tmp_path / "grey.png"]}
    wrong["none.png: no such file; "] = ["--scribbles", tmp_path / "none.png"]
    for words, more in wrong.items():
        result = colorlib(*call, tmp_path / "folder", *more)
        assert result.returncode == 2 and words in result.stderr
        assert len(result.stderr.splitlines()) == 1
    call[3] = tmp_path / "grey.png"
    result = colorlib(*call, tmp_path / "x.png")
    assert result.returncode == 2 and "no strokes" in result.stderr
    assert not (tmp_path / "x.png").exists() and not (tmp_path / "folder").exists()


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
