"""Films: sound, time stamps and metadata are kept, flicker is reduced, stopped films resume."""

import itertools
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
from fractions import Fraction
from unittest.mock import Mock

import av
import cv2
import filelock
import numpy as np
import pytest
from processes import FULL_DISK

from colorlib import colorize, colorspace, config, images, samples
from colorlib.photos import batch
from colorlib.video import io, pipeline, segments, smoothing

CLOCK = Fraction(1, 90_000)

INTERLACED = av.codec.context.Flags.interlaced_dct | av.codec.context.Flags.interlaced_me


class Fickle:
    """A network in two minds: grain decides between two colors."""

    calls = 0

    def predict_on_batch(self, lightness):
        self.calls += 1
        small = lightness[:, 2::4, 2::4, 0]
        logits = np.full((*small.shape, 313), -99, np.float32)
        logits[..., 200], logits[..., 60] = small - 50, 50 - small
        return logits


class Stop(Exception):
    """What a progress bar raises when it was asked to."""


@pytest.fixture
def colorizer():
    return colorize.Colorizer(Fickle(), config.DecodeConfig(working_size=32))


@pytest.fixture(autouse=True)
def short_segments(monkeypatch):
    monkeypatch.setattr(pipeline, "SEGMENT", 10)


def pictures(count, shape=(48, 64), noise=8, cut=None):
    """Coffee, with grain of its own in each frame; from `cut` on it is another scene."""
    rng = np.random.default_rng(0)
    scenes = [cv2.resize(samples.load(name), shape[::-1]) for name in ("coffee", "china")]
    for number in range(count):
        scene = scenes[cut is not None and number >= cut]
        grain = rng.integers(-noise, noise + 1, (*shape, 1))
        yield np.clip(scene.astype(int) + grain, 0, 255).astype(np.uint8)


def write(
    path, frames, sound="aac", codec="libx264", pix_fmt="yuv420p", times=None, words=None,
    seconds=None, layout="mono", rate=44_100, rotation=None, **stream
):  # fmt: skip
    """Write a film of 25 frames a second, or with `times`, with a tone; return its path."""
    frames = list(frames)
    height, width = frames[0].shape[:2]
    with av.open(str(path), "w", options={"movflags": "use_metadata_tags"}) as out:
        out.metadata.update(words or {})
        video = out.add_stream(codec, rate=25)
        video.width, video.height, video.pix_fmt = width, height, pix_fmt
        video.codec_context.gop_size = 12
        for name, value in stream.items():
            setattr(video.codec_context, name, value)
        if rotation is not None:
            video.set_display_rotation(rotation)
        if times:
            video.codec_context.time_base = CLOCK
        audio = out.add_stream(sound, rate=rate, layout=layout) if sound else None
        for number, rgb in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(format=pix_fmt)
            frame.pts = times[number] if times else number
            frame.time_base = CLOCK if times else Fraction(1, 25)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        if audio:
            count = int((seconds or len(frames) / 25) * rate)
            tone = (np.sin(np.arange(count) / 16) * 9000).astype(np.int16)
            for start in range(0, count, 1024):
                part = tone[start : start + 1024].repeat(2 if layout == "stereo" else 1)
                piece = av.AudioFrame.from_ndarray(part[None], "s16", layout)
                piece.sample_rate, piece.pts, piece.time_base = rate, start, Fraction(1, rate)
                out.mux(audio.encode(piece))
            out.mux(audio.encode(None))
    return path


def decoded(path):
    """Return a film's pictures, RGB, and their times in seconds."""
    with av.open(str(path)) as film:
        frames = list(film.decode(video=0))
    colors = [frame.to_ndarray(format="rgb24") for frame in frames]
    return np.stack(colors), [frame.pts * frame.time_base for frame in frames]


def sound_of(path):
    """Return the packets of a film's sound: their bytes and times, and the codec."""
    with av.open(str(path)) as film:
        stream = film.streams.audio[0]
        packets = [packet for packet in film.demux(stream) if packet.size]
        times = [float(packet.pts * packet.time_base) for packet in packets]
        return [bytes(packet) for packet in packets], times, stream.codec_context.name


def lab(rgb):
    return colorspace.rgb_to_lab(rgb)


def interrupted(after):
    """A progress bar that stops the work after so many frames."""

    def progress(frames, total, initial):
        yield from itertools.islice(frames, after)
        raise Stop

    return progress


def test_the_lists_of_endings_agree():
    assert tuple(io.FORMATS) == batch.FILMS


def test_lightness_times_and_sound_are_kept(tmp_path, colorizer):
    times = [0, 3600, 5000, 12_000, 30_000, 30_900, 61_000, 61_001, 70_000, 90_000, 91_000, 99_000]
    source = write(tmp_path / "in.mp4", pictures(12), times=times)
    assert pipeline.color_film(colorizer, source, tmp_path / "out.mp4") == ""
    before, told = decoded(source)
    after, shown = decoded(tmp_path / "out.mp4")
    assert shown == told == [moment * CLOCK for moment in times]
    assert np.abs(lab(before)[..., 0] - lab(after)[..., 0]).mean() < 1.5
    assert np.abs(lab(after)[..., 1:]).mean() > 10
    assert sound_of(tmp_path / "out.mp4") == sound_of(source)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "out.mp4"]


@pytest.mark.parametrize("ending", [".mkv", ".mov", ".webm"])
def test_other_formats(tmp_path, colorizer, ending):
    source = write(tmp_path / "in.mp4", pictures(25))
    target = tmp_path / f"out{ending}"
    assert pipeline.color_film(colorizer, source, target) == ""
    shape = decoded(target)[0].shape
    assert shape == (25, 48, 64, 3)
    steps = np.diff([float(moment) for moment in decoded(target)[1]])
    assert np.abs(steps - 0.04).max() < 0.0011  # Matroska counts milliseconds
    packets, times, codec = sound_of(target)
    assert codec == ("opus" if ending == ".webm" else "aac")
    assert ending == ".webm" or packets == sound_of(source)[0]
    assert times[-1] == pytest.approx(1, abs=0.06)


def test_sound_that_few_players_support_is_encoded_again(tmp_path, colorizer):
    source = write(tmp_path / "in.mkv", pictures(25), sound="pcm_s16le")
    pipeline.color_film(colorizer, source, tmp_path / "out.mp4")
    assert sound_of(tmp_path / "out.mp4")[2] == "aac"
    with av.open(str(tmp_path / "out.mp4")) as film:
        heard = np.concatenate([x.to_ndarray()[0] for x in film.decode(audio=0)])
    assert len(heard) == pytest.approx(44_100, abs=2100)
    loudest = np.abs(np.fft.rfft(heard[4000:36_768])).argmax() * 44_100 / 32_768
    assert loudest == pytest.approx(44_100 / (2 * np.pi * 16), rel=0.02)


def test_silent_odd_grey_limited_range(tmp_path, colorizer):
    ramp = np.linspace(0, 255, 35).astype(np.uint8)
    grey = np.broadcast_to(ramp[None, :, None], (21, 35, 3)).copy()
    source = tmp_path / "in.mkv"
    with av.open(str(source), "w") as out:
        video = out.add_stream("ffv1", rate=25)
        video.width, video.height, video.pix_fmt = 35, 21, "gray"
        video.codec_context.color_range = 1
        for number in range(3):
            limited = np.rint(16 + grey[..., 0] * (219 / 255)).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(limited, "gray")
            frame.pts, frame.time_base, frame.color_range = number, Fraction(1, 25), 1
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
    assert pipeline.color_film(colorizer, source, tmp_path / "out.mp4") == ""
    after, _ = decoded(tmp_path / "out.mp4")
    assert after.shape == (3, 22, 36, 3)
    difference = lab(after)[:, :21, :35, 0] - lab(grey)[..., 0]
    assert np.abs(difference).mean() < 2


@pytest.mark.parametrize("rotation, turns", [(90, 1), (-90, 3), (180, 2)])
def test_turned_films_are_set_upright(tmp_path, colorizer, rotation, turns):
    source = write(tmp_path / "in.mp4", pictures(3, noise=0), rotation=rotation)
    pipeline.color_film(colorizer, source, tmp_path / "out.mp4")
    after, _ = decoded(tmp_path / "out.mp4")
    upright = np.rot90(decoded(source)[0][0], turns)
    assert after.shape[1:] == upright.shape
    assert np.abs(lab(after)[0, ..., 0] - lab(upright)[..., 0]).mean() < 2
    with av.open(str(tmp_path / "out.mp4")) as film:
        assert next(film.decode(video=0)).rotation == 0


def test_interlaced_films_are_deinterlaced(tmp_path, colorizer):
    """Odd rows are filmed later than even ones: a bar that moves has a comb for an edge."""
    moments = np.full((40, 64, 96, 3), 60, np.uint8)
    for number, moment in enumerate(moments):
        moment[:, 2 * number : 2 * number + 16] = 200
    frames = moments[::2].copy()
    frames[:, 1::2] = moments[1::2, 1::2]
    how = dict(codec="mpeg2video", bit_rate=8_000_000, flags=INTERLACED)
    source = write(tmp_path / "in.mkv", frames, **how)

    def comb(rgb):
        rows = rgb[2:-2].astype(int).mean(axis=-1)[:, 2:-2]  # (frames, rows, columns)
        return np.abs(np.diff(rows, axis=1)).mean()

    pipeline.color_film(colorizer, source, tmp_path / "out.mp4")
    (before, told), (after, shown) = decoded(source), decoded(tmp_path / "out.mp4")
    assert len(before) == len(after) == 20
    assert shown == pytest.approx([time - told[0] for time in told], abs=1e-3)
    assert comb(after) < comb(before) / 5
    progressive = write(tmp_path / "still.mkv", frames, codec="mpeg2video", bit_rate=8_000_000)
    pipeline.color_film(colorizer, progressive, tmp_path / "still.mp4")
    assert comb(decoded(tmp_path / "still.mp4")[0]) > comb(before) / 2


def test_an_interlaced_film_that_was_interrupted(tmp_path, colorizer):
    how = dict(codec="mpeg2video", bit_rate=8_000_000, flags=INTERLACED)
    source = write(tmp_path / "in.mkv", pictures(35), **how)
    pipeline.color_film(colorizer, source, tmp_path / "whole.mp4")
    with pytest.raises(Stop):
        pipeline.color_film(colorizer, source, tmp_path / "out.mp4", progress=interrupted(23))
    pipeline.color_film(colorizer, source, tmp_path / "out.mp4")
    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()


def test_pixels_that_are_not_square(tmp_path, colorizer):
    source = write(
        tmp_path / "in.mp4", pictures(2), rotation=90, sample_aspect_ratio=Fraction(4, 3)
    )
    pipeline.color_film(colorizer, source, tmp_path / "out.mp4", side_by_side=True)
    with av.open(str(tmp_path / "out.mp4")) as film:
        assert film.streams.video[0].sample_aspect_ratio == Fraction(3, 4)
        rgb = next(film.decode(video=0)).to_ndarray(format="rgb24")
    assert rgb.shape == (64, 96, 3)
    grey, colored = np.abs(lab(rgb)[..., 1:]).mean(axis=(0, 2)).reshape(2, 48).mean(axis=1)
    assert grey < 2 and colored > 10


def test_smoothing_removes_flicker_and_stops_at_a_cut(tmp_path, colorizer):
    source = write(tmp_path / "in.mp4", pictures(30, (144, 192), 20, cut=20), sound=None)
    colors = {}
    colorizer.decoding = config.DecodeConfig(working_size=32, saturation=0.4)  # in the gamut
    for strength in (0, 0.9):
        pipeline.color_film(colorizer, source, tmp_path / f"{strength}.mp4", strength)
        shown = lab(decoded(tmp_path / f"{strength}.mp4")[0])[..., 1:]
        # over areas, since what 8 bits and the encoding round flickers in each pixel
        small = [cv2.resize(ab, (24, 18), interpolation=cv2.INTER_AREA) for ab in shown]
        colors[strength] = np.stack(small)
    raw, smoothed = (smoothing.flicker(colors[key][:20]) for key in (0, 0.9))
    assert raw > 0.5 and smoothed < raw / 2
    distance = np.linalg.norm(colors[0] - colors[0.9], axis=-1).mean(axis=(1, 2))
    # behind the cut nothing is left of what was before it
    assert distance[20] < distance[19] / 4, distance
    assert distance[0] < distance[19] / 4


def test_a_jump_of_the_brightness_is_no_movement():
    rng = np.random.default_rng(0)
    scene = rng.uniform(20, 60, (12, 16)).astype(np.float32)
    red, blue = (np.full((12, 16, 2), value, np.float32) for value in (40, -40))
    before = smoothing.TemporalSmoothing(red, scene)
    assert smoothing.smooth(before, blue, scene + 15, 0.9).ab.mean() == pytest.approx(32)
    moved = scene.copy()
    moved[:4] += 20
    new = smoothing.smooth(before, blue, moved, 0.9).ab
    assert new[:4].mean() == pytest.approx(-40) and new[4:].mean() == pytest.approx(32)
    assert smoothing.smooth(before, blue, scene, 0).ab is blue
    assert smoothing.smooth(before, blue, scene[::-1, ::-1], 0.9).ab is blue


@pytest.mark.parametrize("trusted", [True, False])
def test_an_interrupted_film_becomes_the_same(tmp_path, colorizer, monkeypatch, trusted):
    source = write(tmp_path / "in.mp4", pictures(47, cut=33))
    pipeline.color_film(colorizer, source, tmp_path / "whole.mp4")
    for after in (24, 14):
        with pytest.raises(Stop):
            pipeline.color_film(
                colorizer, source, tmp_path / "out.mp4", progress=interrupted(after)
            )
    assert not (tmp_path / "out.mp4").exists()
    colorizer.network.calls, jumps, inner = 0, [], io.Reader.frames

    def frames(reader, since=None):
        jumps.append(since)
        return inner(reader, since)

    monkeypatch.setattr(io.Reader, "frames", frames)
    if not trusted:
        monkeypatch.setattr(pipeline, "_frame_checksum", lambda _: -1)
    assert pipeline.color_film(colorizer, source, tmp_path / "out.mp4") == ""
    assert colorizer.network.calls == 47 - 30 + 1  # and once to tell whether the colorizer is it
    assert len(jumps) == (1 if trusted else 2) and jumps[0] is not None
    for one, other in zip(
        decoded(tmp_path / "out.mp4"), decoded(tmp_path / "whole.mp4"), strict=True
    ):
        assert np.array_equal(one, other)
    assert sound_of(tmp_path / "out.mp4") == sound_of(source)
    assert not (tmp_path / ".out.mp4.partial").exists()


def test_other_settings_start_again(tmp_path, colorizer):
    source = write(tmp_path / "in.mp4", pictures(25))
    with pytest.raises(Stop):
        pipeline.color_film(colorizer, source, tmp_path / "out.mp4", progress=interrupted(22))
    assert (tmp_path / ".out.mp4.partial" / "00001.mp4").exists()
    pipeline.color_film(colorizer, source, tmp_path / "out.mp4", 0.2)
    pipeline.color_film(colorizer, source, tmp_path / "whole.mp4", 0.2)
    assert np.array_equal(decoded(tmp_path / "out.mp4")[0], decoded(tmp_path / "whole.mp4")[0])


def an_array(path):
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


def other_arrays(path):
    with path.open("wb") as file:
        np.savez(file, ab=np.zeros(3), lightness=np.array(["x"]), frames=20)


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def become_a_folder(path):
    path.unlink()
    (path / "inner").mkdir(parents=True)


DAMAGE = {
    "empty": lambda path: path.write_bytes(b""),
    "two bytes": lambda path: path.write_bytes(b"PK"),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "without its end": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "a bit": flip_a_bit,
    "garbage": lambda path: path.write_bytes(np.random.default_rng(0).bytes(5000)),
    "text": lambda path: path.write_text("hello " * 99),
    "an array": an_array,
    "other arrays": other_arrays,
    "a folder": become_a_folder,
    "missing": lambda path: path.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", ["00001.mp4", "00001.npz"])
def test_a_damaged_segment_is_colored_again(tmp_path, colorizer, unfinished_film, name, damage):
    source, whole = unfinished_film
    DAMAGE[damage](tmp_path / ".out.mp4.partial" / name)
    colorizer.network.calls = 0
    assert pipeline.color_film(colorizer, source, tmp_path / "out.mp4") == ""
    assert colorizer.network.calls == 35 - 10 + 1
    assert (tmp_path / "out.mp4").read_bytes() == whole


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_settings_start_again(tmp_path, colorizer, unfinished_film, damage):
    source, whole = unfinished_film
    DAMAGE[damage](tmp_path / ".out.mp4.partial" / "settings.json")
    colorizer.network.calls = 0
    assert pipeline.color_film(colorizer, source, tmp_path / "out.mp4") == ""
    assert colorizer.network.calls == 35 + 1
    assert (tmp_path / "out.mp4").read_bytes() == whole


@pytest.mark.parametrize("name", ["lock", "concatenated", ".00003.mp4.x.partial", "notes.txt"])
def test_odd_files_in_the_hidden_folder_do_not_matter(tmp_path, colorizer, unfinished_film, name):
    source, whole = unfinished_film
    (tmp_path / ".out.mp4.partial" / name).write_bytes(b"PK")
    assert pipeline.color_film(colorizer, source, tmp_path / "out.mp4") == ""
    assert (tmp_path / "out.mp4").read_bytes() == whole
    assert not (tmp_path / ".out.mp4.partial").exists()


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A folder with a film of 35 frames, what it becomes, and three segments of it."""
    folder = tmp_path_factory.mktemp("stopped")
    colorizer = colorize.Colorizer(Fickle(), config.DecodeConfig(working_size=32))
    source = write(folder / "in.mp4", pictures(35))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "SEGMENT", 10)
        pipeline.color_film(colorizer, source, folder / "whole.mp4")
        with pytest.raises(Stop):
            pipeline.color_film(colorizer, source, folder / "out.mp4", progress=interrupted(32))
    assert len(list((folder / ".out.mp4.partial").glob("*.mp4"))) == 3
    return folder


@pytest.fixture
def unfinished_film(stopped, tmp_path):
    """A copy of it: the film, and the bytes of what it becomes."""
    shutil.copytree(stopped, tmp_path, dirs_exist_ok=True)
    return tmp_path / "in.mp4", (tmp_path / "whole.mp4").read_bytes()


@pytest.mark.parametrize("error", [ValueError, OSError, MemoryError, struct.error, RuntimeError])
def test_an_error_inside_the_network_is_reported_as_such(tmp_path, colorizer, monkeypatch, error):
    source = write(tmp_path / "in.mp4", pictures(35))
    inner = Fickle.predict_on_batch

    def fail(network, lightness):
        if network.calls == 25:
            raise error("shapes do not match")
        return inner(network, lightness)

    monkeypatch.setattr(Fickle, "predict_on_batch", fail)
    with pytest.raises(error, match="shapes do not match"):
        pipeline.color_film(colorizer, source, tmp_path / "out.mp4")
    jobs = [batch.Job(source, tmp_path / "out.mp4")]
    (outcome,) = pipeline.color_all(colorizer, jobs)
    assert outcome.status == "failed" and "written" not in outcome.why
    assert str(source) in outcome.why and "shapes do not match" in outcome.why


@pytest.mark.parametrize("name", ["Writer.add", "Writer.__exit__"])
def test_an_error_while_writing_is_reported_as_such(tmp_path, colorizer, monkeypatch, name):
    source = write(tmp_path / "in.mp4", pictures(15))
    monkeypatch.setattr(f"colorlib.video.io.{name}", Mock(side_effect=FULL_DISK))
    with pytest.raises(images.ImageError, match=r"out.mp4: can't be written \(No space"):
        pipeline.color_film(colorizer, source, tmp_path / "out.mp4")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4"]


def test_two_processes_do_not_color_the_same_film(tmp_path, colorizer):
    source = write(tmp_path / "in.mp4", pictures(3))
    (tmp_path / ".out.mp4.partial").mkdir()
    held = filelock.FileLock(tmp_path / ".out.mp4.partial" / "lock")
    with held, pytest.raises(images.ImageError, match="another process"):
        pipeline.color_film(colorizer, source, tmp_path / "out.mp4")
    pipeline.color_film(colorizer, source, tmp_path / "out.mp4")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "out.mp4"]


@pytest.mark.parametrize(("transfer", "flat"), [(1, False), (16, True), (18, True)])
def test_a_film_of_high_dynamic_range_is_named(tmp_path, colorizer, transfer, flat):
    source = write(tmp_path / "in.mp4", pictures(3), color_trc=transfer)
    note = pipeline.color_film(colorizer, source, tmp_path / "out.mp4")
    assert ("HDR" in note) == flat
    assert len(decoded(tmp_path / "out.mp4")[0]) == 3


def test_a_film_that_is_cut_off_is_colored_as_far_as_it_goes(tmp_path, colorizer):
    data = write(tmp_path / "in.mkv", pictures(100, noise=30)).read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) // 2])
    note = pipeline.color_film(colorizer, tmp_path / "cut.mkv", tmp_path / "out.mp4")
    assert "of 4 seconds" in note and str(tmp_path / "out.mp4") in note
    count = len(decoded(tmp_path / "cut.mkv")[0])
    assert 20 < count < 80 and len(decoded(tmp_path / "out.mp4")[0]) == count


def test_damage_in_the_middle_is_skipped_and_reported(tmp_path, colorizer):
    data = bytearray(write(tmp_path / "in.mp4", pictures(60, noise=30)).read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = np.random.default_rng(0).bytes(3000)
    (tmp_path / "bad.mp4").write_bytes(data)
    note = pipeline.color_film(colorizer, tmp_path / "bad.mp4", tmp_path / "out.mp4")
    assert "damaged places" in note
    assert 30 < len(decoded(tmp_path / "out.mp4")[0]) <= 60


def test_files_that_are_no_film_are_refused(tmp_path, colorizer):
    good = write(tmp_path / "good.mp4", pictures(3)).read_bytes()
    with av.open(str(tmp_path / "sound.mkv"), "w") as out:
        audio = out.add_stream("pcm_s16le", rate=8000, layout="mono")
        piece = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        piece.sample_rate = 8000
        out.mux([*audio.encode(piece), *audio.encode(None)])
    images.write(tmp_path / "photograph.png", samples.square("coffee", 32))
    playlist = f"#EXTM3U\n#EXTINF:1,\n{tmp_path}/good.mp4\n#EXT-X-ENDLIST\n"
    hostile = {
        "cut.mp4": good[: len(good) // 2],
        "empty.mp4": b"",
        "text.mp4": b"hello " * 99,
        "concat.mp4": f"ffconcat version 1.0\nfile '{tmp_path}/good.mp4'\n".encode(),
        "playlist.mp4": playlist.encode(),
        "photograph.mp4": (tmp_path / "photograph.png").read_bytes(),
        "sound.mp4": (tmp_path / "sound.mkv").read_bytes(),
    }
    for name, data in hostile.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "folder.mp4").mkdir()
    names = [*hostile, "folder.mp4", "missing.mp4"]
    jobs = [batch.Job(tmp_path / name, tmp_path / "out.mp4") for name in names]
    for outcome in pipeline.color_all(colorizer, jobs):
        assert outcome.status == "failed" and str(outcome.job.source) in outcome.why
        assert ";" in outcome.why and "\n" not in outcome.why
    assert not (tmp_path / "out.mp4").exists() and not (tmp_path / ".out.mp4.partial").exists()


def test_a_place_that_cannot_be_written(tmp_path, colorizer):
    source = write(tmp_path / "in.mp4", pictures(3))
    job = batch.Job(source, tmp_path / "nowhere" / "out.mp4")
    (outcome,) = pipeline.color_all(colorizer, [job])
    assert outcome.status == "failed" and "nowhere" in outcome.why


def test_films_have_their_places_among_photographs(tmp_path):
    for name in ("a.mp4", "b.AVI", "c.jpg", ".hidden.mp4", "b.avi.mp4"):
        (tmp_path / name).touch()
    (tmp_path / ".a.mp4.partial").mkdir()
    jobs = batch.plan([tmp_path], tmp_path / "out", recursive=True)
    names = {job.source.name: job.target.name for job in jobs}
    assert names == {
        "a.mp4": "a.mp4",
        "b.AVI": "b.AVI.mp4",
        "b.avi.mp4": "b.avi-2.mp4",
        "c.jpg": "c.jpg",
    }
    assert batch.plan(["a.avi"], tmp_path / "x.mkv")[0].target == tmp_path / "x.mkv"
    for source, target in (("a.mp4", "x.jpg"), ("a.jpg", "x.mp4"), ("a.mp4", "x.avi")):
        with pytest.raises(images.ImageError, match="becomes one of"):
            batch.plan([source], tmp_path / target)


def test_sound_and_pictures_are_interleaved(tmp_path, colorizer):
    source = write(tmp_path / "in.mp4", pictures(50))
    pipeline.color_film(colorizer, source, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as film:
        order = [float(packet.dts * packet.time_base) for packet in film.demux() if packet.size]
    assert len(order) > 100 and np.diff(order).min() > -0.5


def test_the_command_killed_and_called_again(tmp_path):
    source = write(tmp_path / "in.mp4", pictures(300))
    out = tmp_path / "out.mp4"
    partial = tmp_path / ".out.mp4.partial"
    call = [sys.executable, "-m", "colorlib", "colorize", source, "--working-size", "32", "-o"]
    whole = subprocess.Popen([*call, tmp_path / "whole.mp4"])
    for number, sent in enumerate((signal.SIGINT, signal.SIGKILL)):
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        with subprocess.Popen([*call, out], stderr=subprocess.PIPE, env=environment) as process:
            deadline = time.monotonic() + 60
            while not (partial / f"{number:05}.mp4").exists() and time.monotonic() < deadline:
                time.sleep(0.01)
            process.send_signal(sent)
            _, stderr = process.communicate(timeout=60)
        if sent == signal.SIGINT:
            assert process.returncode == 2 and len(stderr.splitlines()) == 1, stderr
            assert b"the same call resumes" in stderr
            first = (partial / "00000.mp4").stat().st_mtime_ns
    assert process.returncode == -signal.SIGKILL and not out.exists()
    assert (partial / "00000.mp4").stat().st_mtime_ns == first  # it was not colored again
    done = subprocess.run([*call, out], capture_output=True, text=True)
    assert done.returncode == 0 and "1 colored" in done.stdout and not partial.exists()
    assert whole.wait(60) == 0
    for one, other in zip(decoded(out), decoded(tmp_path / "whole.mp4"), strict=True):
        assert np.array_equal(one, other)
    again = subprocess.run([*call, out], capture_output=True, text=True)
    assert "0 colored, 1 kept" in again.stdout


CONTAINERS = {
    ".mpg": ("mpeg2video", "mp2"),
    ".vob": ("mpeg2video", "ac3"),
    ".ts": ("libx264", "aac"),
    ".3g2": ("libx264", "aac"),
    ".dv": ("dvvideo", "pcm_s16le"),
}


@pytest.mark.parametrize("ending", [".mpg", ".vob", ".ts"])
def test_a_clock_that_restarts_goes_on(tmp_path, colorizer, ending):
    codec, sound = CONTAINERS[ending]
    how = dict(sound=sound, codec=codec, max_b_frames=2)
    parts = [write(tmp_path / f"{n}{ending}", pictures(n), **how) for n in (50, 40, 30)]
    source = tmp_path / f"joined{ending}"
    source.write_bytes(b"".join(path.read_bytes() for path in parts))
    target = tmp_path / "out.mp4"
    assert pipeline.color_film(colorizer, source, target) == ""
    shown, times = decoded(target)
    steps = np.diff([float(moment) for moment in times])
    assert len(shown) == 120 and steps.min() > 0.039 and np.sort(steps)[-3] < 0.041
    assert steps.max() < 0.3, "the sound of a part may last longer than its pictures"
    heard, moments, _ = sound_of(target)
    header = 7 if ending == ".ts" else 0  # of ADTS, which MP4 does without
    assert heard == [packet[header:] for path in parts for packet in sound_of(path)[0]]
    assert np.diff(moments).min() > 0 and np.diff(moments).max() < 0.3
    assert abs(moments[-1] - float(times[-1])) < 0.3


def test_a_film_whose_clock_restarts_goes_on_after_a_stop(tmp_path, colorizer):
    """The same film twice: every time and every picture is in it twice."""
    part = write(tmp_path / "part.mpg", pictures(35), sound="mp2", codec="mpeg2video")
    source = tmp_path / "in.mpg"
    source.write_bytes(2 * part.read_bytes())
    pipeline.color_film(colorizer, source, tmp_path / "whole.mp4")
    for after in (24, 33):
        with pytest.raises(Stop):
            pipeline.color_film(
                colorizer, source, tmp_path / "out.mp4", progress=interrupted(after)
            )
    assert pipeline.color_film(colorizer, source, tmp_path / "out.mp4") == ""
    assert len(decoded(tmp_path / "whole.mp4")[0]) == 70
    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()


@pytest.mark.parametrize("ending", [".vob", ".ts", ".3g2", ".dv"])
def test_further_containers_become_mp4(tmp_path, colorizer, ending):
    codec, sound = CONTAINERS[ending]
    dv = dict(rate=48_000, layout="stereo") if ending == ".dv" else {}
    frames = pictures(5, (576, 720)) if dv else pictures(25)
    source = write(tmp_path / f"in{ending}", frames, codec=codec, sound=sound, **dv)
    assert pipeline.color_film(colorizer, source, tmp_path / f"in{ending}.mp4") == ""
    shown, times = decoded(tmp_path / f"in{ending}.mp4")
    assert len(shown) == len(decoded(source)[0])
    assert times[-1] - times[0] == Fraction(len(shown) - 1, 25)
    assert sound_of(tmp_path / f"in{ending}.mp4")[2] == ("ac3" if ending == ".vob" else "aac")


def test_sound_that_lasts_longer_than_the_pictures_is_no_fault(tmp_path, colorizer):
    source = write(tmp_path / "in.mkv", pictures(25), sound="pcm_s16le", rate=8000, seconds=5)
    assert pipeline.color_film(colorizer, source, tmp_path / "out.mp4") == ""
    with pytest.raises(Stop):
        pipeline.color_film(colorizer, source, tmp_path / "on.mp4", progress=interrupted(22))
    assert pipeline.color_film(colorizer, source, tmp_path / "on.mp4") == ""
    (tmp_path / "cut.mkv").write_bytes(source.read_bytes()[:-60_000])
    note = pipeline.color_film(colorizer, tmp_path / "cut.mkv", tmp_path / "cut.mp4")
    assert re.search("only [12] of 5 seconds", note)


WORDS = {
    "title": "Holidays",
    "artist": "Anna",
    "creation_time": "2011-05-06T07:08:09.000000Z",
    "location": "+48.1000+011.5000/",
    "comment": "by the lake",
}


def words_of(path):
    with av.open(str(path)) as film:
        return {key.lower(): words for key, words in film.metadata.items()}


@pytest.mark.parametrize("before", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("after", [".mp4", ".mov", ".mkv", ".webm"])
def test_when_and_where_a_film_was_made_is_kept(tmp_path, colorizer, before, after):
    source = write(tmp_path / f"in{before}", pictures(3), words=WORDS)
    assert pipeline.color_film(colorizer, source, tmp_path / f"out{after}") == ""
    found = words_of(tmp_path / f"out{after}")
    assert {key: found.get(key) for key in WORDS} == WORDS


def test_the_metadata_of_a_phone_is_kept_or_its_loss_reported(tmp_path, colorizer):
    words = {
        "com.apple.quicktime.location.ISO6709": "+48.1000+011.5000+500.000/",
        "com.apple.quicktime.creationdate": "2011-05-06T09:08:09+0200",
        "com.apple.quicktime.make": "Apple",
    }
    source = write(tmp_path / "in.mov", pictures(3), words=words)
    note = pipeline.color_film(colorizer, source, tmp_path / "out.mp4")
    assert note.endswith("out.mp4: without its camera's make, which the format can't hold")
    found = words_of(tmp_path / "out.mp4")
    assert found["location"].startswith("+48.1000+011.5000") and found["date"].startswith("2011")
    assert pipeline.color_film(colorizer, source, tmp_path / "out.mkv") == ""
    assert words_of(tmp_path / "out.mkv")["make"] == "Apple"


def test_the_network_is_shown_of_a_frame_what_it_is_shown_of_a_photograph(colorizer, monkeypatch):
    seen = []
    monkeypatch.setattr(colorizer, "predict", lambda x, *_: seen.append(x) or np.zeros((8, 8, 313)))
    rgb = next(pictures(1, (32, 32)))
    start = segments.SegmentCheckpoint()
    (picture,) = pipeline._colored([io.Frame(rgb, 0, 0)], colorizer, start, 1, 0, False)
    np.testing.assert_array_equal(picture.rgb, colorizer(rgb))
    np.testing.assert_array_equal(*seen)
