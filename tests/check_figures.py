"""Hold the committed figures to what the notebooks draw.

    python tests/check_figures.py [DRAWN [COMMITTED]]    which differ to the eye; exit code 1 if any

Not compared: bytes. Processors differ in the last digits of a computation, so a pixel may be a
level lighter, a live training's curve a line's width higher. So the data of the curves, bars,
points and images are compared, which `colorlib.figures.save` puts into each file: they may differ
by `SHARE` of their range. What has no data, such as texts and arrows, is compared as pixels: each
figure is shrunk until what may differ vanishes, and what is left may differ by `TOLERANCE`.
"""

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent

PATCH = 20
"""Side in pixels of what is averaged: about two letters."""

TOLERANCE = 24
"""Levels of 255 that an average may differ by."""

SHARE = 0.05
"""Of the range of a curve, or of an image's levels, that a value may differ by."""


def moved(drawn, committed):
    """Return by what share of their range the data of two figures differ most.

    It is 0 where one was saved without data, and infinite where they hold other curves.
    """
    data = []
    for path in (drawn, committed):
        with Image.open(path) as figure:
            data.append(_data(figure.info.get("Data") or figure.info.get("comment", "null")))
    if None in data:
        return 0.0
    if [len(values) for values in data[0]] != [len(values) for values in data[1]]:
        return float("inf")
    shares = [0.0]
    for ours, theirs in zip(*data, strict=True):
        ours, theirs = np.asarray(ours), np.asarray(theirs)
        if ours.size:
            scale = max(np.ptp(theirs), 1e-3 * np.abs(theirs).max(), 1e-9)
            shares.append(float(np.nanmax(np.abs(ours - theirs), initial=0) / scale))
    return max(shares)


def _data(text):
    try:
        return json.loads(text)
    except ValueError:  # cut off: it was too long
        return None


def difference(drawn, committed):
    """Return by how many levels two figures differ in their worst patch, or None: other sizes."""
    shrunk = []
    for path in (drawn, committed):
        with Image.open(path) as figure:
            size = [max(1, side // PATCH) for side in figure.size]
            shrunk.append(np.float32(figure.convert("RGB").resize(size, Image.Resampling.BOX)))
    if shrunk[0].shape != shrunk[1].shape:
        return None
    return float(np.abs(shrunk[0] - shrunk[1]).max())


def problems(drawn, committed):
    """List what is wrong, one line for each figure."""
    names = [{path.name for path in folder.glob("*.[jp][pn]g")} for folder in (drawn, committed)]
    found = [f"{name}: drawn, but not committed" for name in sorted(names[0] - names[1])]
    found += [f"{name}: committed, but not drawn" for name in sorted(names[1] - names[0])]
    for name in sorted(names[0] & names[1]):
        levels = difference(drawn / name, committed / name)
        if levels is None or levels > TOLERANCE:
            how = "another size" if levels is None else f"{levels:.0f} levels somewhere"
            found.append(f"{name}: not what is committed ({how}); run `make figures`")
        elif (share := moved(drawn / name, committed / name)) > SHARE:
            how = f"data differ by {share:.0%} of their range"
            found.append(f"{name}: not what is committed ({how}); run `make figures`")
    return found


def main(arguments):
    """Compare two folders; return the exit code."""
    places = [Path(argument) for argument in arguments]
    drawn, committed = [*places, *[ROOT / "build" / "figures", ROOT / "figures"][len(places) :]]
    found = problems(drawn, committed)
    print("\n".join(found) or "the committed figures are what the notebooks draw")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
