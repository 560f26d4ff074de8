"""Files as cameras, scanners and browsers leave them."""

import io
import os
import re
import stat
import tracemalloc
from unittest.mock import Mock

import numpy as np
import odd_files
import pytest
from PIL import Image
from processes import FULL_DISK

from colorlib import files, images
from colorlib.photos import photo

RGB = np.zeros((24, 40, 3), np.uint8)
RGB[:, :20] = (200, 40, 40)
RGB[:12, 20:] = (40, 90, 220)


def saved(tmp_path, image, name, **settings):
    path = tmp_path / name
    image.save(path, **settings)
    return path


@pytest.mark.parametrize(
    "name", ["a.png", "a.bmp", "a.tif", "a.webp", "a.jpg", "a.JPG", "a.avif", "a.heic"]
)
def test_formats(tmp_path, name):
    path = saved(tmp_path, Image.fromarray(RGB), name)
    read = images.read(path)
    assert read.dtype == np.uint8 and read.shape == RGB.shape
    assert np.abs(read.astype(int) - RGB).mean() < 12


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    path = saved(tmp_path, Image.fromarray(RGB), "turned.png", exif=exif)
    np.testing.assert_array_equal(images.read(path), np.rot90(RGB, -1))


@pytest.mark.parametrize("mode", ["CMYK", "P", "L", "LA", "RGBA", "1", "I;16"])
def test_modes_become_rgb(tmp_path, mode):
    source = Image.fromarray(RGB)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(source.convert("L")).astype(np.uint16) * 257)
    else:
        image = source.quantize(16) if mode == "P" else source.convert(mode)
    path = saved(tmp_path, image, "mode.tif" if mode in ("CMYK", "I;16") else "mode.png")
    read = images.read(path)
    assert read.shape == RGB.shape and read.dtype == np.uint8
    expected = RGB if mode in ("CMYK", "P", "RGBA") else np.asarray(source.convert("L"))[..., None]
    if mode != "1":
        assert np.abs(read.astype(int) - expected).max() <= 3


def test_transparency_is_laid_over_white(tmp_path):
    clear = np.dstack([RGB, np.zeros(RGB.shape[:2], np.uint8)])
    assert (images.read(saved(tmp_path, Image.fromarray(clear), "clear.png")) == 255).all()


def bad_files(tmp_path):
    jpeg = io.BytesIO()
    Image.fromarray(RGB.repeat(8, 0).repeat(8, 1)).save(jpeg, "JPEG")
    contents = {
        "text.jpg": b"this is no image",
        "empty.jpg": b"",
        "cut.jpg": jpeg.getvalue()[:-300],
        "header.png": b"\x89PNG\r\n\x1a\n" + b"\0" * 40,
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder.jpg").mkdir()
    return [*contents, "folder.jpg", "missing.jpg"]


def test_bad_files_are_named_with_a_remedy(tmp_path):
    for name in bad_files(tmp_path):
        with pytest.raises(images.ImageError, match=re.escape(str(tmp_path / name))) as caught:
            images.read(tmp_path / name)
        assert "\n" not in str(caught.value) and ";" in str(caught.value)


def test_a_pipe_is_not_waited_for(tmp_path):
    with pytest.raises(images.ImageError, match="pipe"):
        images.read(odd_files.pipe(tmp_path))


def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch):
    path = saved(tmp_path, Image.fromarray(RGB), "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(images.ImageError, match="megapixels"):
        images.read(path)


def test_writing_is_all_or_nothing(tmp_path, monkeypatch):
    target = tmp_path / "out.png"
    images.write(target, RGB)
    np.testing.assert_array_equal(images.read(target), RGB)
    monkeypatch.setattr(Image.Image, "save", Mock(side_effect=FULL_DISK))
    with pytest.raises(images.ImageError, match="No space left"):
        images.write(target, RGB[::-1])
    monkeypatch.undo()
    np.testing.assert_array_equal(images.read(target), RGB)
    assert [path.name for path in tmp_path.iterdir()] == ["out.png"]


@pytest.mark.parametrize("name", ["out.xyz", "out", "missing/out.png"])
def test_unwritable_outputs_are_named(tmp_path, name):
    with pytest.raises(images.ImageError, match=re.escape(str(tmp_path / name))):
        images.write(tmp_path / name, RGB)
    assert not list(tmp_path.iterdir())


def test_grey_is_distinguished_from_color():
    grey = np.broadcast_to(np.arange(64, dtype=np.uint8)[:, None, None], (64, 64, 3)).copy()
    assert images.is_grey(grey)
    noisy = grey.copy()
    noisy[:, :, 0] += np.uint8(3)
    assert images.is_grey(noisy)
    spot = grey.copy()
    spot[:20, :20, 0] += np.uint8(60)
    assert not images.is_grey(spot)


@pytest.mark.parametrize("size", [8, 24, 60])
def test_square_takes_the_middle(size):
    tall = np.zeros((40, 24, 3), np.uint8)
    tall[8:32] = 255
    middle = images.square(tall, size)
    assert middle.shape == (size, size, 3)
    assert (middle == 255).all()


@pytest.mark.parametrize("is_small", [True, False])
@pytest.mark.parametrize("ending", images.EXTENSIONS)
def test_a_file_that_a_full_disk_cuts_off_is_an_error(
    tmp_path, rng, small_files, monkeypatch, ending, is_small
):
    if not is_small:
        monkeypatch.setattr(images, "IN_MEMORY", 0)
    noise = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = tmp_path / f"x{ending}"
    for write in (images.write, photo.write):
        with small_files(2000), pytest.raises(images.ImageError, match="can't be written"):
            write(path, noise)
        assert not list(tmp_path.iterdir())


def test_large_and_small_photographs_become_the_same_jpeg(tmp_path, rng, monkeypatch):
    noise = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    images.write(tmp_path / "small.jpg", noise)
    monkeypatch.setattr(images, "IN_MEMORY", 64 * 64 - 1)
    images.write(tmp_path / "large.jpg", noise)
    assert (tmp_path / "small.jpg").read_bytes() == (tmp_path / "large.jpg").read_bytes()


def test_frames_that_are_only_announced_take_no_memory():
    with images.opened(io.BytesIO(odd_files.ODD["many_frames.png"])) as image:
        tracemalloc.start()
        try:
            assert len(images.page_numbers(image)) == 2**24
            assert tracemalloc.get_traced_memory()[1] < 2**20
        finally:
            tracemalloc.stop()


def test_what_a_killed_process_left_is_written_over(tmp_path):
    with files.replacing(tmp_path / "a") as temporary:
        left = temporary
    left.write_text("half of a longer text")
    with files.replacing(tmp_path / "a") as temporary:
        assert temporary.read_text() == ""
        temporary.write_text("whole")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "whole"


def test_two_writers_of_one_file_leave_each_other_alone(tmp_path):
    with files.replacing(tmp_path / "a") as first:
        first.write_text("first")
        with files.replacing(tmp_path / "a") as second:
            second.write_text("second")
        assert (tmp_path / "a").read_text() == "second"
        with pytest.raises(ZeroDivisionError), files.replacing(tmp_path / "a"):
            1 / 0  # noqa: B018
    assert (tmp_path / "a").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_new_files_have_the_usual_rights_and_the_umask_is_left_alone(tmp_path, monkeypatch):
    before = os.umask(0o027)
    try:
        with monkeypatch.context() as patch:
            # while one thread looks the umask up by changing it, another's file is open to all
            patch.setattr(os, "umask", lambda mask: pytest.fail("the umask is the whole process's"))
            with files.replacing(tmp_path / "a") as temporary:
                temporary.write_text("b")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640
