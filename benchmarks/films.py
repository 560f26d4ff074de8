"""Measure the flicker of colored films, and the speed and memory of the coloring.

    python benchmarks/films.py [--run RUN] [--frames 72] [--against CHECKOUT] [--json RESULTS.json]

Two tables from one run. Speed: the command with a film of each size, start and sound included, in
x264's default quality, which gives 1920 x 1080 the bit rate that phones write, 17 Mbit/s; with
``--against`` the code of another checkout of this repository takes turns with this one's, and a
second line says by how many times its numbers are larger.
Flicker: films made of the sample photographs, with a flower that moves
over china, and a cut to coffee; as a good camera takes them (grain) and as old ones are (more
grain, brightness that jumps by 3%, a picture that sways by a pixel). For each smoothing:

- still: mean distance in the ab plane between the colors of a place where nothing moves in two
  frames that follow one another, as predicted, on the network's grid;
- in the file: the same in the film that was written, means over squares of 16 pixels;
- moving: where the flower passes, mean distance from the colors predicted for the same film
  without grain, brightness and sway; flicker and lag both increase it;
- cut: mean distance from the colors without smoothing in the first frame of the second scene.
  The value in brackets is that without the detection of cuts.
"""

import math
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from unittest import mock

import av
import cv2
import harness
import numpy as np

from colorlib import colorize, colorspace, config, samples
from colorlib.video import pipeline, smoothing

SHAPE = (360, 480)
"""Height and width of the films that flicker."""

KINDS = {"clean": (0, 0.0, 0.0), "grain": (6, 0.0, 0.0), "old film": (12, 0.03, 1.0)}
"""Standard deviations of the grain (8-bit levels), the brightness and the swaying (pixels)."""

SMOOTHINGS = (0.0, 0.5, 0.7, 0.85, 0.95)

ROWS = slice(216, 296)
"""Where the flower passes; 24 rows around it count neither as still nor as moving."""

SIZES = {"640 x 480": (480, 640), "1280 x 720": (720, 1280), "1920 x 1080": (1080, 1920)}

FLICKER = "{kind:10} {smoothing:>9} {still:>7} {file:>12} {moving:>8} {cut:>16}"

RATE = 24
"""Frames per second of the films."""

SPEED = "{what:40} {frames:>7} {megabits:>7} {seconds:>8} {cpu:>8} {rate:>9} {peak:>8}"


def scenes(count, kind, shape=SHAPE, cut=None):
    """Yield the frames of a film; from `cut` on they show coffee."""
    grain, brightness, sway = KINDS[kind]
    rng = np.random.default_rng(0)
    china, coffee = (
        cv2.resize(samples.load(name), shape[::-1], interpolation=cv2.INTER_AREA)
        for name in ("china", "coffee")
    )
    flower = cv2.resize(samples.load("flower"), (110, 80), interpolation=cv2.INTER_AREA)
    for number in range(count):
        rgb = (coffee if cut is not None and number >= cut else china).copy()
        left = number * (shape[1] - 110) // count
        if cut is None:
            rgb[ROWS, left : left + 110] = flower
        move = np.float32([[1, 0, sway * rng.normal()], [0, 1, sway * rng.normal()]])
        rgb = cv2.warpAffine(rgb, move, shape[::-1], borderMode=cv2.BORDER_REFLECT)
        rgb = rgb * (1 + brightness * rng.normal()) + grain * rng.normal(size=(*shape, 1))
        yield np.clip(rgb, 0, 255).astype(np.uint8)


def write(path, frames, crf="14"):
    """Write a film with a tone; x264's `crf` is smaller for a better picture."""
    with av.open(str(path), "w") as out:
        video = sound = None
        for number, rgb in enumerate(frames):
            if video is None:
                video = out.add_stream("libx264", rate=RATE, options={"crf": crf})
                video.height, video.width = rgb.shape[:2]
                video.pix_fmt = "yuv420p"
                sound = out.add_stream("aac", rate=48_000, layout="mono")
            out.mux(video.encode(av.VideoFrame.from_ndarray(rgb, "rgb24")))
            tone = np.sin(np.arange(number * 2000, (number + 1) * 2000) / 17)[None]
            piece = av.AudioFrame.from_ndarray((tone * 9000).astype(np.int16), "s16", "mono")
            piece.sample_rate, piece.pts = 48_000, number * 2000
            out.mux(sound.encode(piece))
        out.mux([*video.encode(None), *sound.encode(None)])


def write_scenes(path, *what, **crf):
    write(path, scenes(*what), **crf)


def predicted(colorizer, frames):
    """Predict each frame's colors alone; return them and L, both on the network's grid."""
    pairs = []
    for rgb in frames:
        lightness = colorspace.rgb_to_lab(rgb)[..., 0]
        ab = colorizer.predict_ab(lightness)
        pairs.append((ab, smoothing.on_grid(lightness, ab)))
    return pairs


def smoothed(pairs, strength):
    """Return the colors of the frames, smoothed."""
    state, colors = None, []
    for ab, lightness in pairs:
        state = smoothing.smooth(state, ab, lightness, strength)
        colors.append(state.ab)
    return colors


def distance(one, other, where=slice(None)):
    """Return the mean distance between two frames' colors."""
    return float(np.linalg.norm((one - other)[where], axis=-1).mean())


def rows(height, margin):
    """Say of each of `height` rows whether the flower passes, with a margin in pixels."""
    centers = (np.arange(height) + 0.5) * (SHAPE[0] / height)
    return (centers > ROWS.start - margin) & (centers < ROWS.stop + margin)


def flicker_in_file(colorizer, folder, source, strength):
    """Color a film; return how much its still parts flicker."""
    target = folder / "out.mp4"
    pipeline.color_film(colorizer, source, target, strength)
    colors = []
    with av.open(str(target)) as film:
        for frame in film.decode(video=0):
            ab = colorspace.rgb_to_lab(frame.to_ndarray(format="rgb24"))[..., 1:]
            size = (SHAPE[1] // 16, math.ceil(SHAPE[0] / 16))
            colors.append(cv2.resize(ab, size, interpolation=cv2.INTER_AREA))
    return smoothing.flicker(colors, ~rows(len(colors[0]), 24))


def flickers(colorizer, folder, count):
    """Yield the rows of the first table."""
    clean = [ab for ab, _ in predicted(colorizer, scenes(count, "clean"))]
    for kind in ("grain", "old film"):
        source = folder / "in.mp4"
        write_scenes(source, count, kind)
        pairs = predicted(colorizer, scenes(count, kind))
        cut = predicted(colorizer, scenes(16, kind, cut=12))
        height = len(pairs[0][0])
        passed = rows(height, -8)
        for strength in SMOOTHINGS:
            colors, cut_colors = smoothed(pairs, strength), smoothed(cut, strength)
            with mock.patch.object(smoothing, "CUT", np.inf):
                undetected = smoothed(cut, strength)[12]
            moving = [distance(a, b, passed) for a, b in zip(colors, clean, strict=True)]
            yield {
                "kind": kind,
                "smoothing": strength,
                "still": smoothing.flicker(colors, ~rows(height, 24)),
                "file": flicker_in_file(colorizer, folder, source, strength),
                "moving": float(np.mean(moving)),
                "cut": distance(cut_colors[12], cut[12][0]),
                "cut_undetected": distance(undetected, cut[12][0]),
            }


def speeds(folder, run, count, against):
    """Yield the rows of the second table."""
    for size, shape in SIZES.items():
        source = folder / "speed.mp4"
        # elsewhere, since a process hands its own peak of memory on to those it starts
        with ProcessPoolExecutor(1, get_context("spawn")) as elsewhere:
            elsewhere.submit(write_scenes, source, count, "grain", shape, crf="23").result()
        command = [sys.executable, "-m", "colorlib", "colorize", source, "--overwrite"]
        command += ["--run", run, "-o", folder / "out.mp4"]
        best = harness.in_turn(command, 4, harness.places(against))
        megabits = source.stat().st_size * 8e-6 / (count / RATE)
        for measured in best:
            rate = count / measured["seconds"]
            measured |= {"frames": count, "megabits": megabits, "rate": rate}
        yield from harness.compared(size, best)


def shown(row):
    cells = {key: f"{x:.2f}" if isinstance(x, float) else x for key, x in row.items()}
    if "cut" in cells:
        cells["cut"] = f"{cells['cut']} ({cells['cut_undetected']})"
    return cells


def main():
    parser = harness.parser(__doc__, against=True)
    parser.add_argument("--run", default=config.DEFAULT_RUN)
    parser.add_argument("--frames", type=int, default=72)
    given = parser.parse_args()
    tables = {"speed": [], "flicker": []}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        names = {"what": "film", "frames": "frames", "megabits": "Mbit/s", "seconds": "s"}
        names |= {"cpu": "CPU s", "rate": "frames/s", "peak": "peak MB"}
        print(SPEED.format(**names))
        for row in speeds(folder, given.run, given.frames, given.against):
            tables["speed"].append(row)
            print(SPEED.format(**shown(row)), flush=True)
        names = {"kind": "film", "file": "in the file", "cut": "cut (undetected)"}
        keys = ("smoothing", "still", "moving")
        print("\n" + FLICKER.format(**names, **dict(zip(keys, keys, strict=True))))
        colorizer = colorize.colorizer_for(given.run)
        for row in flickers(colorizer, folder, given.frames):
            tables["flicker"].append(row)
            print(FLICKER.format(**shown(row)), flush=True)
    about = {"run": given.run, **harness.machine()}
    harness.write(given.json, {**about, **harness.rounded(tables)})


if __name__ == "__main__":
    main()
