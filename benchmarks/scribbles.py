"""How fast strokes spread, in how much memory, and how well when the system is solved small.

    python benchmarks/scribbles.py [--solvers lu amg] [--json FILE.json]

1. A photograph of 0.1, 0.3, 1 and 4 megapixels with 40 strokes (a sample photograph, resized, with
   grain): the matrix and SciPy's sparse LU (`scribbles.propagate`), the same by pyamg's
   Ruge-Stueben multigrid with BiCGSTAB to a relative residual of 1e-5 (needs `pip install pyamg`),
   and what the command does (`scribbles.colors`: solved small, enlarged by the guided filter).
   Each in a process of its own, for its peak of memory; "start" is what Python itself takes.
2. PSNR of sample photographs whose 40 strokes have the true colors, solved at several sizes.

Seconds are those of one run; CPU seconds suffer less from other work on the machine. How much there
was is in the JSON as ``load``.
"""

import argparse
import json
import resource
import subprocess
import sys
import time

import cv2
import harness
import numpy as np

from colorlib import colorize, colorspace, metrics, samples, scribbles

MEGAPIXELS = (0.1, 0.3, 1.0, 4.0)

SOLVED = (50_000, 100_000, scribbles.PIXELS, None)
"""Pixels at which the photographs of the second part are solved; None is their own size."""

QUALITY = ("astronaut", "china", "chelsea", "coffee", "motorcycle")

STROKES = 40

LONGEST = 600
"""Seconds after which a row is given up."""


def strokes_of(rgb, seed=0):
    """Draw strokes on random places, as wide as a hundredth of the shorter side."""
    rng, (height, width) = np.random.default_rng(seed), rgb.shape[:2]
    marked, side = np.zeros((height, width), np.uint8), min(height, width)
    for _ in range(STROKES):
        start = rng.uniform(0, [width, height])
        end = start + rng.uniform(-0.1, 0.1, 2) * side
        ends = [tuple(int(x) for x in point) for point in (start, end)]
        cv2.line(marked, *ends, 1, max(1, side // 100))
    return scribbles.Strokes(marked > 0, rgb)


def amg(lightness, marked, ab):
    """Do what `scribbles.propagate` does with pyamg."""
    import pyamg
    import scipy.sparse

    free, held = np.flatnonzero(~marked), np.flatnonzero(marked)
    of_free = scribbles.system(lightness)[free]
    sums = -(of_free[:, held] @ ab.reshape(-1, 2)[held].astype(np.float64))
    matrix = scipy.sparse.csr_matrix(of_free[:, free])
    levels = pyamg.ruge_stuben_solver(matrix, max_coarse=300, coarse_solver="splu")
    for channel in range(2):
        ab.reshape(-1, 2)[free, channel] = levels.solve(
            sums[:, channel], tol=1e-5, accel="bicgstab", maxiter=100
        )
    return ab


def measured(way, megapixels):
    """Do one thing in this process; return seconds, CPU seconds and the peak in MB."""
    side = round((megapixels * 1e6) ** 0.5)
    rgb = cv2.resize(samples.load("china"), (side, side), interpolation=cv2.INTER_CUBIC)
    grain = np.random.default_rng(0).integers(0, 12, (side, side, 1), dtype=np.uint8)
    rgb = cv2.add(rgb, np.repeat(grain, 3, axis=2))
    strokes, lab = strokes_of(rgb), colorspace.rgb_to_lab(rgb)
    lightness, ab = lab[..., 0].copy(), lab[..., 1:].copy()
    begin, cpu = time.perf_counter(), time.process_time()
    if way == "lu":
        scribbles.propagate(lightness, strokes.marked, ab)
    elif way == "amg":
        amg(lightness, strokes.marked, ab)
    elif way == "command":
        photograph = colorize.Lightness(lightness)
        colorize.paint(photograph, scribbles.colors(photograph, strokes))
    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return {"seconds": round(seconds, 2), "cpu": round(cpu, 2), "peak": peak}


def quality(name):
    """Return the PSNR of a sample photograph for each number of pixels in `SOLVED`."""
    rgb = samples.load(name)
    lightness = colorize.Lightness(colorspace.rgb_to_lab(rgb)[..., 0])
    strokes, found = strokes_of(rgb), {}
    for pixels in SOLVED:
        size = pixels or rgb.shape[0] * rgb.shape[1]
        painted = colorize.paint(lightness, scribbles.colors(lightness, strokes, pixels=size))
        found["own" if pixels is None else str(pixels)] = round(
            float(metrics.psnr(painted, rgb)), 2
        )
    return {"name": name, "pixels": rgb.shape[0] * rgb.shape[1], "psnr": found}


def main():
    parser = harness.parser(__doc__)
    parser.add_argument("--solvers", nargs="*", default=["lu"], choices=["lu", "amg"])
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measured(given.one[0], float(given.one[1]))))
        return
    rows = []
    for megapixels in MEGAPIXELS:
        for way in ("start", *given.solvers, "command"):
            command = [sys.executable, __file__, "--one", way, str(megapixels)]
            how = dict(check=True, capture_output=True, text=True, timeout=LONGEST)
            try:
                found = json.loads(subprocess.run(command, **how).stdout)
                shown = "{seconds:8} s {cpu:8} CPU s {peak:6} MB".format(**found)
            except subprocess.TimeoutExpired:
                found = dict.fromkeys(("seconds", "cpu", "peak"))
                shown = f"more than {LONGEST} s"
            rows.append({"megapixels": megapixels, "way": way, **found})
            print(f"{megapixels:4} MP {way:8}{shown}", flush=True)
    scores = [quality(name) for name in QUALITY]
    for score in scores:
        shown = f"{score['name']:12}{score['pixels']:9} pixels"
        print(f"{shown}, PSNR by pixels solved: {score['psnr']}")
    harness.write(given.json, {**harness.machine(), "rows": rows, "quality": scores})


if __name__ == "__main__":
    main()
