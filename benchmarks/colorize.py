"""How fast photographs are colored, and in how much memory: `colorlib colorize` as a user calls it.

    python benchmarks/colorize.py [--run RUN] [--repeats 3] [--against CHECKOUT] [--json FILE.json]

One table from one run:

1. start-up: `colorlib --help`;
2. the command with one JPEG of 0.3, 1, 12 and 100 megapixels, start included; its peak memory;
3. the command with a folder of 1-megapixel JPEGs, its start included;
4. the same folder with other numbers of photographs at once and of ONNX Runtime's threads, without
   the start: what the command does was chosen from these rows;
5. the same photographs in three parts, each alone in one thread: a file to L, L to (a, b), (a, b)
   to a file. Where the parts overlap, a folder takes little longer than the slowest of them, or,
   on few cores, than the CPU seconds of all parts divided by the cores.

With ``--against`` another checkout of this repository runs the commands of 1 to 3 in turn with this
one, and a second line says by how many times its numbers are larger.

Seconds are the fastest of the repeats; CPU seconds, over all cores, suffer less from other work on
the machine (how much there was is in the JSON as ``load``, its load average at the end). The
photographs are a sample photograph, enlarged, with grain.
"""

import os
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import cv2
import harness
import numpy as np
from PIL import Image

from colorlib import config, samples

SHAPES = {0.3: (480, 640), 1: (1000, 1000), 12: (3000, 4000), 100: (10_000, 10_000)}
"""Megapixels -> height and width."""

FOLDER = 96
"""Photographs in the folder."""

ROW = "{what:58} {seconds:>8} {cpu:>8} {rate:>9} {peak:>8}"

COLUMNS = {"what": "", "seconds": "s", "cpu": "CPU s", "rate": "images/s", "peak": "peak MB"}

WITHOUT_START = """
import sys, time
from colorlib import colorize, inference
from colorlib.photos import batch
inference.AT_ONCE = int(sys.argv[5])
colorizer = colorize.colorizer_for(sys.argv[1])
jobs = batch.plan([sys.argv[2]], sys.argv[3])
begin, cpu = time.perf_counter(), time.process_time()
statuses = [x.status for x in batch.color_all(colorizer, jobs, True, at_once=int(sys.argv[4]))]
assert set(statuses) == {"colored"}
print(time.perf_counter() - begin, time.process_time() - cpu)
"""

IN_PARTS = """
import pathlib, sys, time
import cv2
from colorlib import colorize, inference
cv2.setNumThreads(1)
inference.AT_ONCE = 1
from colorlib.photos import photo
colorizer = colorize.colorizer_for(sys.argv[1])
sources, out = sorted(pathlib.Path(sys.argv[2]).iterdir()), pathlib.Path(sys.argv[3])
def decode(path):
    photograph = photo.read(path)
    return photograph, colorize.Lightness(photograph.lightness(slice(0, photograph.shape[0])))
def predict(item):
    view = colorizer.view(item[1])
    ab = colorizer.decode(colorizer.predict(view))
    return *item, colorize.fit_guided_filter(view, ab)
def encode(item):
    photograph, lightness, colors = item
    photo.write(out / "part.jpg", colorize.paint(lightness, colors, threads=1), photograph.profile)
items = sources
for part in decode, predict, encode:
    begin, cpu = time.perf_counter(), time.process_time()
    items = [part(item) for item in items]
    print(time.perf_counter() - begin, time.process_time() - cpu)
"""


def photograph(folder, megapixels):
    """Write an enlarged sample photograph with grain, as JPEG."""
    height, width = SHAPES[megapixels]
    enlarged = cv2.resize(samples.load("china"), (width, height), interpolation=cv2.INTER_CUBIC)
    grain = np.random.default_rng(0).integers(0, 12, (512, 512, 1), dtype=np.uint8)
    tiles = np.tile(grain, (-(-height // 512), -(-width // 512), 1))[:height, :width]
    Image.fromarray(cv2.add(enlarged, np.repeat(tiles, 3, axis=2))).save(
        folder / f"{megapixels}.jpg", quality=92
    )


def measure(folder, run, repeats, against=None):
    """Yield the rows."""
    # elsewhere, since a process hands its own peak of memory on to those it starts
    with ProcessPoolExecutor(1, get_context("spawn")) as elsewhere:
        list(elsewhere.map(partial(photograph, folder), SHAPES))
    places = harness.places(against)
    colorlib = [sys.executable, "-m", "colorlib"]
    yield from harness.compared(
        "start-up: colorlib --help", harness.in_turn([*colorlib, "--help"], repeats, places)
    )
    coloring = [*colorlib, "colorize", "--overwrite", "--run", run, "-o", folder / "out"]
    for megapixels in SHAPES:
        times = repeats if megapixels < 100 else 1
        best = harness.in_turn([*coloring, folder / f"{megapixels}.jpg"], times, places)
        yield from harness.compared(
            f"one photograph of {megapixels} megapixels, start included", best
        )
    many = folder / "many"
    many.mkdir()
    for number in range(FOLDER):
        (many / f"{number}.jpg").write_bytes((folder / "1.jpg").read_bytes())
    best = harness.in_turn([*coloring, many], repeats, places)
    for measured in best:
        measured["rate"] = FOLDER / measured["seconds"]
    yield from harness.compared(f"a folder of {FOLDER} of 1 megapixel, start included", best)
    for threads, at_once in ((1, 1), (1, 2), (1, 4), (2, 1), (2, 2)):
        yield without_start(folder, run, at_once, threads, repeats)
    yield from in_parts(folder, run, repeats)


def without_start(folder, run, at_once, threads, repeats):
    """Color the folder in a process with so many photographs at once and ONNX Runtime's threads."""
    command = [WITHOUT_START, run, folder / "many", folder / "out", str(at_once), str(threads)]
    [best] = fewest(command, repeats)
    what = f"the same without start, {at_once} at once, ONNX Runtime with {threads}"
    return {"what": what, **best}


def in_parts(folder, run, repeats):
    """Yield the parts of coloring the folder, each alone in one thread."""
    names = "decoding", "the network", "painting and encoding"
    best = fewest([IN_PARTS, run, folder / "many", folder / "out"], repeats)
    for name, row in zip(names, best, strict=True):
        yield {"what": f"{name} alone, in one thread", **row}
    cpu, cores = sum(row["cpu"] for row in best), os.cpu_count()
    least = max(cpu / cores, *(row["seconds"] for row in best))
    yield {"what": f"at least: the slowest part, or all in {cores} threads", "seconds": least}


def fewest(command, repeats):
    """Run Python on a text that prints lines of seconds and CPU seconds; return the fewest."""
    runs = []
    for _ in range(repeats):
        done = subprocess.run(
            [sys.executable, "-c", *command],
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
            check=True,
            capture_output=True,
            text=True,
        )
        runs.append([[float(x) for x in line.split()] for line in done.stdout.splitlines()])
    return [
        {"seconds": seconds, "cpu": cpu, "rate": FOLDER / seconds}
        for seconds, cpu in np.min(runs, axis=0).tolist()
    ]


def main():
    parser = harness.parser(__doc__, against=True)
    parser.add_argument("--run", default=config.DEFAULT_RUN)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    print(ROW.format(**COLUMNS))
    measured = []
    with tempfile.TemporaryDirectory() as folder:
        for row in measure(Path(folder), given.run, given.repeats, given.against):
            measured.append(row)
            shown = {"seconds": "{:.2f}", "cpu": "{:.2f}", "rate": "{:.2f}", "peak": "{:.4g}"}
            cells = {name: form.format(row[name]) for name, form in shown.items() if name in row}
            print(
                ROW.format(**{**dict.fromkeys(COLUMNS, ""), "what": row["what"], **cells}),
                flush=True,
            )
    about = {"run": given.run, **harness.machine()}
    harness.write(given.json, {**about, "rows": harness.rounded(measured)})


if __name__ == "__main__":
    main()
