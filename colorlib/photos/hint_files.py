"""Files of hints: points in a table, or pixels painted on a transparent layer.

Not here: how a network gets hints (`colorlib.hints`).

A table is a CSV file with the header ``x,y,color`` and a line for each point: x and y in pixels
of the photograph as it is shown, from its upper left corner, and a color as ``#rrggbb`` or by its
name in CSS.
"""

import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ImageColor

from colorlib import colorspace, hints, images, scribbles

HEADER = ("x", "y", "color")

ENDING = ".csv"

LARGEST = 2**20
"""Bytes of a table: far more points than anybody sets."""


class Mark(NamedTuple):
    """A point with a color.

    Attributes
    ----------
    x, y : float
        From the photograph's upper left corner, in 0..1.
    color : str
        As ``#rrggbb``.
    """

    x: float
    y: float
    color: str


def read(path, photograph):
    """Read the hints for a photograph.

    Parameters
    ----------
    path : path-like
        A table (`parse`), if it ends in ``.csv``; else an image of the photograph's size, of which
        the painted pixels count (`scribbles.read`).
    photograph : path-like
        The photograph's file.

    Returns
    -------
    colorlib.hints.Points

    Raises
    ------
    colorlib.images.ImageError
        If a file can't be read, or holds no hints for this photograph.
    """
    if Path(path).suffix.lower() == ENDING:
        return points(parse(read_text(path), path, *images.read(photograph).shape[:2]))
    strokes = scribbles.read(path, photograph)
    rows, columns = np.nonzero(strokes.marked)
    places = (np.column_stack([columns, rows]) + 0.5) / strokes.marked.shape[::-1]
    return hints.Points(places, colorspace.rgb_to_lab(strokes.rgb[strokes.marked])[..., 1:])


def parse(text, name, height, width):
    """Read a table of hints.

    Parameters
    ----------
    text : str
        The header `HEADER`, and a line for each point.
    name : str or path-like
        Its name in an error.
    height, width : int
        Size of the photograph in pixels.

    Returns
    -------
    list of Mark

    Raises
    ------
    colorlib.images.ImageError
        If it has another header, no points, or a line that is none; the message has its number.
    """
    lines = csv.reader(text.splitlines(), skipinitialspace=True)
    marks, header = [], None
    try:
        for cells in lines:
            cells = [cell.strip() for cell in cells]
            if not any(cells):
                continue
            if header is None:
                header = _header(cells)
            else:
                marks.append(_mark(cells, height, width))
    except (ValueError, csv.Error) as error:
        raise images.ImageError(f"{name}: line {lines.line_num}: {error}") from None
    if not marks:
        remedy = f"begin it with {','.join(HEADER)}, and add a line such as 120,80,#2e6b34"
        raise images.ImageError(f"{name}: has no hints; {remedy}")
    return marks


def formatted(marks, height, width):
    """Write a table of hints; the inverse of `parse`.

    Parameters
    ----------
    marks : iterable of Mark
    height, width : int
        Size of the photograph in pixels.

    Returns
    -------
    str
    """
    lines = [
        f"{min(int(x * width), width - 1)},{min(int(y * height), height - 1)},{color}"
        for x, y, color in marks
    ]
    return "\n".join([",".join(HEADER), *lines, ""])


def points(marks):
    """Turn marks into what a network's colorizer takes.

    Parameters
    ----------
    marks : sequence of Mark

    Returns
    -------
    colorlib.hints.Points
    """
    rgb = np.array([ImageColor.getrgb(mark.color) for mark in marks], np.uint8).reshape(-1, 3)
    places = np.array([mark[:2] for mark in marks], np.float64).reshape(-1, 2)
    return hints.Points(places, colorspace.rgb_to_lab(rgb)[..., 1:])


def read_text(path):
    """Read a small text file.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    str

    Raises
    ------
    colorlib.images.ImageError
        If there is no such file, it can't be read, or is no text or too large for a table.
    """
    if not Path(path).is_file():
        raise images.ImageError(f"{path}: no such file; name a table of hints or an image")
    try:
        with Path(path).open("rb") as file:
            return decode(file.read(LARGEST + 1), path)
    except OSError as error:
        raise images.ImageError(f"{path}: can't be read ({error.strerror}); check it") from None


def decode(data, name):
    """Decode a small text file's bytes.

    Parameters
    ----------
    data : bytes
        UTF-8.
    name : str or path-like
        Its name in an error.

    Returns
    -------
    str

    Raises
    ------
    colorlib.images.ImageError
        If it is no text, or too large for a table.
    """
    check_size(name, len(data))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise images.ImageError(f"{name}: is no text; save it as CSV in UTF-8") from None


def check_size(name, size):
    """Refuse a table by its size.

    Parameters
    ----------
    name : str or path-like
        What to call it in an error.
    size : int
        In bytes.

    Raises
    ------
    colorlib.images.ImageError
        If it is too large for a table.
    """
    if size > LARGEST:
        raise images.ImageError(f"{name}: is too large for a table of hints; check its name")


def _header(cells):
    found = tuple(cell.lower() for cell in cells)
    if found != HEADER:
        shown = ",".join(cells)[:60]
        raise ValueError(f"the header is {shown!r}; write {','.join(HEADER)}, with commas")
    return found


def _mark(cells, height, width):
    if len(cells) != len(HEADER):
        raise ValueError(f"has {len(cells)} columns; write x,y,color, as in 120,80,#2e6b34")
    place = [_inside(*given) for given in zip("xy", cells, (width, height), strict=False)]
    try:
        red, green, blue = ImageColor.getrgb(cells[2])
    except ValueError:
        remedy = "write #rrggbb or a name of CSS such as darkgreen"
        raise ValueError(f"no color {cells[2]!r}; {remedy}") from None
    return Mark(*place, f"#{red:02x}{green:02x}{blue:02x}")


def _inside(axis, cell, side):
    try:
        value = float(cell)
    except ValueError:
        raise ValueError(f"{axis} is {cell!r}, no number; write pixels") from None
    if not 0 <= value <= side - 1:
        raise ValueError(f"{axis} is {cell}, outside of the photograph; write 0 to {side - 1}")
    return (value + 0.5) / side
