"""Files of several pages or frames: all of them go through, with what belongs to each."""

import io
import re

import numpy as np
import odd_files
import pytest
import tifffile
from PIL import ExifTags, Image
from test_icc import ADOBE

from colorlib import icc, images, samples
from colorlib.photos import batch, pages, photo

RGB = samples.square("chelsea", 48)
SHIFTED = [np.roll(RGB, 8 * number, 0) for number in range(4)]
DURATIONS = [100, 200, 300, 50]


def negative(photograph):
    """Stand in for coloring: what comes out can be told from what went in."""
    pixels = photograph.pixels
    pixels = pixels if pixels.ndim == 3 else np.dstack([pixels] * 3)
    pixels = np.iinfo(pixels.dtype).max - pixels
    if photograph.alpha is not None:
        pixels = np.dstack([pixels, photograph.alpha])
    pixels = np.ascontiguousarray(pixels)
    return pages.Page(pixels, photograph.profile, photograph.kept, photograph.duration)


def animation(path, frames=SHIFTED, **options):
    first, *others = map(Image.fromarray, frames)
    options = {"duration": DURATIONS, "loop": 3, **options}
    first.save(path, save_all=True, append_images=others, **options)
    return path


def frames_of(path):
    """Read an animation with Pillow: pixels, duration in ms, and how often it is shown."""
    with Image.open(path) as image:
        found = []
        for number in range(image.n_frames):
            image.seek(number)
            image.load()
            found.append((np.asarray(image.convert("RGBA")), image.info.get("duration")))
        return found, image.info.get("loop")


def difference(a, b):
    return np.abs(a[..., :3].astype(int) - b[..., :3]).mean()


@pytest.mark.parametrize("target", ["png", "webp", "avif"])
@pytest.mark.parametrize("source", ["png", "webp", "avif", "gif"])
def test_all_frames_keep_their_durations_and_the_loop(tmp_path, source, target):
    path = animation(tmp_path / f"in.{source}")
    assert pages.convert(path, tmp_path / f"out.{target}", negative) == []
    found, loop = frames_of(tmp_path / f"out.{target}")
    assert [duration for _, duration in found] == DURATIONS
    for (pixels, _), before in zip(found, SHIFTED, strict=True):
        assert difference(pixels, 255 - before) < 6
    if "avif" not in (source, target):
        assert loop == (4 if source == "gif" else 3)  # a GIF counts the repetitions


def test_a_gif_that_is_shown_once_is_shown_once(tmp_path):
    path = animation(tmp_path / "in.gif", loop=None)
    pages.convert(path, tmp_path / "out.png", negative)
    assert frames_of(tmp_path / "out.png")[1] == 1


@pytest.mark.parametrize("milliseconds", [0, 10, 1000 / 30, 70_001, 10**9])
def test_delays_that_a_png_can_hold_come_near_to_any(tmp_path, milliseconds):
    made = [pages.Page(x, duration=float(milliseconds)) for x in SHIFTED[:2]]
    pages.write(tmp_path / "x.png", made, 2)
    found, _ = frames_of(tmp_path / "x.png")
    expected = min(milliseconds, 65_535_000)
    assert [duration for _, duration in found] == pytest.approx([expected] * 2, rel=1e-4)


def test_the_picture_of_a_png_for_those_who_show_no_animation_stays_outside_of_it(tmp_path):
    path = animation(tmp_path / "in.png", default_image=True, duration=DURATIONS[:3])
    pages.convert(path, tmp_path / "out.png", negative)
    with Image.open(path) as before, Image.open(tmp_path / "out.png") as after:
        assert before.n_frames == after.n_frames == 4 and after.default_image
        np.testing.assert_array_equal(np.asarray(after), 255 - SHIFTED[0])
        after.seek(1)
        assert after.info["duration"] == 100
        np.testing.assert_array_equal(np.asarray(after), 255 - SHIFTED[1])


@pytest.mark.parametrize("target", ["png", "webp", "avif"])
def test_frames_stay_transparent_where_they_are(tmp_path, target):
    frames = []
    for corner in (slice(30, None), slice(0, 20)):
        frames.append(np.dstack([RGB, np.full(RGB.shape[:2], 255, np.uint8)]))
        frames[-1][corner, corner, 3] = 0
    path = animation(tmp_path / "in.gif", frames, duration=90, disposal=2)
    pages.convert(path, tmp_path / f"out.{target}", negative)
    for (pixels, _), before in zip(frames_of(tmp_path / f"out.{target}")[0], frames, strict=True):
        np.testing.assert_array_equal(pixels[..., 3], before[..., 3])


@pytest.mark.parametrize("opaque_first", [False, True])
@pytest.mark.parametrize("name", ["x.png", "x.webp", "x.avif"])
def test_frames_need_not_be_alike_in_transparency(tmp_path, name, opaque_first):
    clear = np.dstack([RGB, np.zeros(RGB.shape[:2], np.uint8)])
    made = [pages.Page(x, duration=40) for x in (clear, RGB)]
    pages.write(tmp_path / name, made[::-1] if opaque_first else made, 2)
    first, second = (pixels for pixels, _ in frames_of(tmp_path / name)[0])
    if opaque_first:
        assert (first[..., 3] == 255).all() and (second[..., :3] > 250).all()
    else:
        assert not first[..., 3].any() and (second[..., 3] == 255).all()


@pytest.mark.parametrize("name", ["png", "webp", "avif"])
def test_the_metadata_of_an_animation_stay(tmp_path, name):
    exif = Image.Exif()
    exif[ExifTags.Base.Artist] = "Grandmother"
    path = animation(tmp_path / f"in.{name}", exif=exif.tobytes(), icc_profile=ADOBE)
    pages.convert(path, tmp_path / f"out.{name}", negative)
    with Image.open(tmp_path / f"out.{name}") as image:
        assert image.n_frames == 4 and image.getexif()[ExifTags.Base.Artist] == "Grandmother"
        assert image.info["icc_profile"] == icc.srgb_profile()


DEEP = odd_files.RGB16
TURNED = [(274, 3, 1, 6, True)]
PAGES = [
    ((DEEP[..., 0] >> 8).astype(np.uint8), {"photometric": "minisblack"}),
    (DEEP[:30], {"photometric": "rgb", "extratags": TURNED, "compression": "zlib"}),
    (RGB, {"photometric": "rgb", "iccprofile": ADOBE, "resolution": (300, 300)}),
    (DEEP[..., 1], {"photometric": "minisblack", "extratags": TURNED}),
    (DEEP, {"photometric": "rgb", "description": "the last one", "resolution": (72, 72)}),
]


@pytest.fixture
def paged(tmp_path):
    """Pages of several sizes, depths, orientations, profiles and resolutions."""
    with tifffile.TiffWriter(tmp_path / "in.tif") as file:
        for pixels, options in PAGES:
            file.write(pixels, metadata=None, **options)
    return tmp_path / "in.tif"


def test_pages_keep_their_size_depth_orientation_and_words(paged, tmp_path):
    assert pages.convert(paged, tmp_path / "out.tif", negative) == []
    with pages.opened(tmp_path / "out.tif") as opened:
        found = list(opened)
    assert len(found) == len(PAGES)
    for photograph, (pixels, options) in zip(found, PAGES, strict=True):
        expected = np.rot90(pixels, -1) if "extratags" in options else pixels
        expected = expected if expected.ndim == 3 else np.dstack([expected] * 3)
        top = np.iinfo(pixels.dtype).max
        assert photograph.pixels.dtype == pixels.dtype
        np.testing.assert_array_equal(photograph.pixels, top - expected)
        assert (photograph.profile is None) == ("iccprofile" not in options)
        assert photograph.kept.get("dpi", (0,))[0] == options.get("resolution", (0,))[0]
    with tifffile.TiffFile(tmp_path / "out.tif") as file:
        np.testing.assert_array_equal(file.pages[4].asarray(), 65535 - DEEP)
        assert file.pages[4].description == "the last one" and not file.pages[0].description
        assert all(page.tags[273].value[0] % 2 == 0 or page.index for page in file.pages)


def test_pages_come_as_they_are_without_pillow(paged):
    with pages.opened(paged) as opened:
        for photograph, (pixels, options) in zip(opened, PAGES, strict=True):
            expected = np.rot90(pixels, -1) if "extratags" in options else pixels
            np.testing.assert_array_equal(photograph.pixels, expected)


def test_one_page_at_a_time_is_in_memory(paged, tmp_path, monkeypatch):
    events = []
    decode = photo.decode
    monkeypatch.setattr(photo, "decode", lambda *x: events.append("in") or decode(*x))
    write_page = photo._write_page
    monkeypatch.setattr(photo, "_write_page", lambda *x: events.append("out") or write_page(*x))
    pages.convert(paged, tmp_path / "out.tif", negative)
    assert events == ["in", "out"] * len(PAGES)
    path = animation(tmp_path / "in.webp")
    for name in ("out.webp", "out.png", "out.avif"):
        seen = []
        pages.convert(path, tmp_path / name, lambda x, seen=seen: seen.append(x) or negative(x))
        assert len(seen) == 4


def test_a_burst_of_photographs_keeps_its_pages(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Artist] = "Grandmother"
    first, *others = (Image.fromarray(x) for x in (RGB, RGB[:32], RGB[:, :40]))
    options = {"save_all": True, "append_images": others, "quality": 95}
    first.save(tmp_path / "in.heic", exif=exif.tobytes(), icc_profile=ADOBE, **options)
    assert pages.convert(tmp_path / "in.heic", tmp_path / "out.heic", negative) == []
    with pages.opened(tmp_path / "out.heic") as opened:
        found = list(opened)
    for photograph, pixels in zip(found, (RGB, RGB[:32], RGB[:, :40]), strict=True):
        assert difference(photograph.pixels, 255 - pixels) < 8
        assert photograph.profile == icc.srgb_profile() and photograph.kept["exif"]


@pytest.mark.parametrize(
    ("source", "target"),
    [("in.tif", "x.jpg"), ("in.tif", "x.png"), ("in.gif", "x.tif"), ("in.webp", "x.heic")],
)
def test_what_a_format_can_not_hold_is_named(paged, tmp_path, source, target):
    if source != "in.tif":
        animation(tmp_path / source)
    (loss,) = pages.convert(tmp_path / source, tmp_path / target, negative)
    count = 5 if source == "in.tif" else 4
    assert loss.startswith(f"of {count} pages or frames only the first is colored (")
    assert images.read(tmp_path / target).shape


def cut(data, share):
    return data[: int(share * len(data))]


def test_pages_before_a_damaged_one_are_colored(tmp_path):
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as file:
        for pixels in SHIFTED:
            file.write(pixels, photometric="rgb", metadata=None, compression="zlib")
        where = file.filehandle.size
    data = bytearray(buffer.getvalue())
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        where, size = file.pages[2].dataoffsets[0], file.pages[2].databytecounts[0]
    data[where : where + size] = bytes(size)
    (tmp_path / "in.tif").write_bytes(data)
    (loss,) = pages.convert(tmp_path / "in.tif", tmp_path / "out.tif", negative)
    assert re.match(r"of 4 .* only the first 2 are colored \(.*in\.tif.*damaged", loss), loss
    with pages.opened(tmp_path / "out.tif") as opened:
        np.testing.assert_array_equal([x.pixels for x in opened], [255 - x for x in SHIFTED[:2]])


def test_smaller_copies_and_masks_are_no_pages(tmp_path):
    with tifffile.TiffWriter(tmp_path / "in.tif") as file:
        file.write(RGB, photometric="rgb", metadata=None)
        file.write(RGB[::2, ::2], photometric="rgb", metadata=None, subfiletype=1)
        file.write(RGB[..., 0] > 99, photometric="minisblack", metadata=None, subfiletype=4)
    assert photo.read(tmp_path / "in.tif").pages == 1
    assert pages.convert(tmp_path / "in.tif", tmp_path / "out.tif", negative) == []


def test_the_largest_page_counts(paged):
    assert photo.count_pixels(paged) == max(np.prod(pixels.shape[:2]) for pixels, _ in PAGES)


def test_a_tiff_file_of_over_4_gb_is_refused(paged, tmp_path, monkeypatch):
    monkeypatch.setattr(photo, "LARGEST_TIFF", 20_000)
    with pytest.raises(images.ImageError, match=r"out.tif: .*over 4 GB.*split"):
        pages.convert(paged, tmp_path / "out.tif", negative)
    assert [path.name for path in tmp_path.iterdir()] == ["in.tif"]


def test_words_that_can_not_be_written_are_left_out_of_all_pages(paged, tmp_path, monkeypatch):
    def fail(directory, profile, kept):
        if kept:
            raise ValueError("too long")

    monkeypatch.setattr(photo, "_describe", fail)
    losses = pages.convert(paged, tmp_path / "out.tif", negative)
    assert losses == ["the metadata are too long or damaged and left out"]
    with pages.opened(tmp_path / "out.tif") as opened:
        assert len(opened) == len(PAGES)


@pytest.mark.parametrize("name", ["in.tif", "in.webp", "in.gif"])
@pytest.mark.parametrize("side_by_side", [False, True])
def test_the_command_colors_all(paged, tmp_path, colorizer, name, side_by_side):
    if name != "in.tif":
        animation(tmp_path / name)
    jobs = batch.plan([tmp_path / name], tmp_path / "out")
    (outcome,) = batch.color_all(colorizer, jobs, side_by_side=side_by_side)
    assert outcome.status == "colored" and not outcome.why
    with pages.opened(tmp_path / name) as before, pages.opened(outcome.job.target) as after:
        assert len(before) == len(after)
        for old, new in zip(before, after, strict=True):
            assert new.shape == (old.shape[0], old.shape[1] * (1 + side_by_side))
            lightness = new.lightness()[:, -old.shape[1] :]
            assert np.abs(old.lightness() - lightness).mean() < 2
