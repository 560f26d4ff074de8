"""Hold the committed figures to what the notebooks draw.

    python tests/check_figures.py [DRAWN [COMMITTED]]    which differ to the eye; exit code 1 if any

Not compared: bytes. Processors differ in the last digits of a computation, so a pixel may be a
level lighter, a live training's curve a line's width higher. Each figure is shrunk until that
vanishes, and what is left may differ by `TOLERANCE`.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent

PATCH = 20
"""Side in pixels of what is averaged: about two letters."""

TOLERANCE = 24
"""Levels of 255 that an average may differ by."""


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
