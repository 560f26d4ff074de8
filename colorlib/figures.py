"""Draw the report's figures from arrays, with matplotlib.

Not here: the computation of what is drawn. A function takes arrays and returns a figure; `save`
writes it into `config.FIGURES`.
"""

import io
import itertools
import json
import sys

import cv2
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.container import BarContainer
from PIL import Image, PngImagePlugin

from colorlib import colorspace, config, files, images, quantizer

DPI = 110

JPEG = {"quality": 75, "subsampling": 0}
"""Options for figures with photographs: a sixth of a PNG file, without color subsampling."""

STYLE = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "0.9",
    "axes.axisbelow": True,
}
"""The style of every figure."""

LAYER_COLORS = {
    "input": "0.7",
    "convolution": "#4c78a8",
    "dilated by 2": "#72b7b2",
    "1x1": "#e45756",
}
"""Colors of the layers in `architecture`, by kind."""

DATA, LONGEST_COMMENT = "Data", 65_533
"""Name of the text in a PNG file that holds a figure's data; most bytes of a JPEG's comment."""

MOST_POINTS = 64
"""Approximate number of points of a curve in a figure's data."""

CELLS = 4
"""Cells along an image's side in a figure's data."""

LIGHTNESS = 50.0
"""L of the colors in pictures of the ab plane."""

COLOR_MAP = "magma"
"""For values in pictures of the ab plane."""


def new(rows=1, columns=1, size=(6.0, 4.0), **settings):
    """Make a figure in the course's style.

    Parameters
    ----------
    rows, columns : int
        Number of rows and columns of axes.
    size : tuple of float
        Width and height in inches.
    **settings
        For `matplotlib.figure.Figure.subplots`.

    Returns
    -------
    figure : matplotlib.figure.Figure
    axes : ndarray of matplotlib.axes.Axes, shape (rows, columns)
    """
    # outside of the context: the first figure starts matplotlib's backend, which sets options
    figure = plt.figure(figsize=size, layout="constrained")
    with plt.rc_context(STYLE):
        return figure, figure.subplots(rows, columns, squeeze=False, **settings)


def save(figure, name):
    """Write a figure and its data into `config.FIGURES`, and show in a notebook what was written.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    name : str
        Without ending; it begins with ``local/`` for pictures that may not be published.

    Returns
    -------
    str
        Path of the file, relative to the repository's root if it is inside. It is a JPEG file if
        the figure holds images, else a PNG file.
    """
    kind = "jpg" if any(axis.images for axis in figure.axes) else "png"
    path = config.FIGURES / f"{name}.{kind}"
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=DPI)
    with files.replacing(path) as temporary, Image.open(drawn) as picture:
        _compress(picture, temporary, kind, json.dumps(_drawn_data(figure)))
    ipython = sys.modules.get("IPython")
    if ipython and ipython.get_ipython():
        ipython.display.display(ipython.display.Image(path))
        plt.close(figure)
    return str(path.relative_to(config.ROOT) if path.is_relative_to(config.ROOT) else path)


# A PNG file gets a palette of 256 colors. The data are its text, or a JPEG file's comment, which is
# cut if it is too long.
def _compress(picture, path, kind, data):
    picture = picture.convert("RGB")
    if kind == "jpg":
        images.save(picture, path, "JPEG", **JPEG, comment=data[:LONGEST_COMMENT])
        return
    text = PngImagePlugin.PngInfo()
    text.add_text(DATA, data)
    palette = picture.quantize(256, dither=Image.Dither.NONE)
    images.save(palette, path, "PNG", optimize=True, pnginfo=text)


# What a figure shows, as lists of numbers with four digits: some y values of each curve, the bars'
# widths and heights, the points' coordinates, each image's means over a grid.
def _drawn_data(figure):
    found = []
    for axis in figure.axes:
        found += [_thinned(line.get_ydata(orig=False)) for line in axis.lines]
        bars = itertools.chain(*(x for x in axis.containers if isinstance(x, BarContainer)))
        sizes = [(bar.get_width(), bar.get_height()) for bar in bars]
        found.append(_thinned(np.ravel(sizes)))
        found += [_thinned(np.asarray(x.get_offsets()).ravel()) for x in axis.collections]
        found += [_cells(image.get_array()) for image in axis.images]
    return [[float(f"{value:.4g}") for value in np.ravel(values)] for values in found]


def _thinned(values):
    values = np.asarray(values, np.float64)
    return values[:: max(1, len(values) // MOST_POINTS)]


def _cells(image):
    pixels = np.ma.filled(np.ma.asarray(image, np.float32), 0)
    return cv2.resize(pixels, (CELLS, CELLS), interpolation=cv2.INTER_AREA)


def image_grid(rows, column_titles=(), row_titles=(), height=1.6):
    """Show images in a grid.

    Parameters
    ----------
    rows : sequence of sequences of ndarray
        Images, shape (h, w, 3) in color or (h, w) in grey (L in 0..100).
    column_titles, row_titles : sequence of str
        Above the first row, left of the first column.
    height : float
        Height of a row, in inches.

    Returns
    -------
    matplotlib.figure.Figure
    """
    shapes = [image.shape[1] / image.shape[0] for image in rows[0]]
    size = (height * sum(shapes) + 0.1 * len(shapes) + 0.3, height * len(rows) + 0.4)
    figure, axes = new(len(rows), len(rows[0]), size, width_ratios=shapes)
    for line, row in zip(axes, rows, strict=True):
        for axis, image in zip(line, row, strict=True):
            show_image(axis, image)
    for axis, title in zip(axes[0], column_titles, strict=False):
        axis.set_title(title, fontsize=9)
    for axis, title in zip(axes[:, 0], row_titles, strict=False):
        axis.set_ylabel(title, fontsize=9)
    return figure


def contact_sheet(sets, titles, across=4):
    """Show many images of one size, each with the same versions side by side.

    Parameters
    ----------
    sets : ndarray of uint8, shape (n, versions, side, side, 3)
        sRGB; arranged row by row.
    titles : sequence of str
        Names of the versions, written above each column.
    across : int
        Number of sets in a row.

    Returns
    -------
    matplotlib.figure.Figure
    """
    count, versions, side = sets.shape[:3]
    gap = max(2, side // 16)
    pitch, width = side + gap, versions * (side + gap) + 2 * gap
    rows = -(-count // across)
    sheet = np.full((rows * pitch - gap, across * width - 3 * gap, 3), 255, np.uint8)
    lefts = [
        column * width + version * pitch for column in range(across) for version in range(versions)
    ]
    for number, image in enumerate(sets.reshape(-1, side, side, 3)):
        row, column = divmod(number, across * versions)
        top, left = row * pitch, lefts[column]
        sheet[top : top + side, left : left + side] = image
    scale = 0.8 / pitch  # inches of a row
    figure, ((axis,),) = new(size=(sheet.shape[1] * scale, sheet.shape[0] * scale + 0.4))
    show_image(axis, sheet)
    for left, title in zip(lefts, list(titles) * across, strict=True):
        axis.text(left + side / 2, -gap, title, ha="center", va="bottom", fontsize=8)
    return figure


def show_image(axis, image, title=""):
    """Show an image without ticks.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
    image : ndarray
        Shape (h, w, 3) in color or (h, w) in grey (L in 0..100).
    title : str
    """
    if image.ndim == 2:
        image = grey(image)
    axis.imshow(image)
    axis.set(xticks=[], yticks=[])
    axis.set_title(title, fontsize=9)
    axis.grid(False)
    axis.spines[:].set_visible(False)


def grey(lightness):
    """Convert lightness to a grey image.

    Parameters
    ----------
    lightness : ndarray of float32, shape (height, width)
        L in 0..100.

    Returns
    -------
    ndarray of uint8, shape (height, width, 3)
        sRGB.
    """
    lab = np.zeros((*lightness.shape, 3), np.float32)
    lab[..., 0] = lightness
    return colorspace.to_uint8(colorspace.lab_to_rgb(lab))


def architecture(rows):
    """Draw the network (figure 1 of the report).

    The height of a box is the resolution of the layer's output, its width the number of channels.
    A text above a box says that the resolution changes; a dark edge is a BatchNorm after the layer.

    Parameters
    ----------
    rows : sequence of dict
        From `model.describe`: name, resolution, channels, stride, dilation and batch_norm of each
        layer.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, ((axis,),) = new(size=(11, 3.6))
    side = rows[0]["resolution"] * rows[0]["stride"]
    blocks = [("L", [{"resolution": side, "channels": 1, "kind": "input"}])]
    for name, layers in itertools.groupby(rows, lambda row: row["name"].rpartition("_")[0]):
        kind = {1: "convolution", 2: "dilated by 2"}
        layers = [{**row, "kind": kind[row["dilation"]]} for row in layers]
        blocks.append((name, layers))
    blocks[-1] = ("1x1", [{**rows[-1], "kind": "1x1"}])
    x = 0.0
    for name, layers in blocks:
        start = x = x + 1.0
        for layer in layers:
            x = _layer(axis, x, layer, side) + 0.15
        x -= 0.15
        sizes = dict.fromkeys(f"{row['resolution']} x {row['resolution']}" for row in layers)
        channels = f"{layers[-1]['channels']} channel{'s' * (name != 'L')}"
        text = "\n".join([name, channels, *sizes])
        axis.text((start + x) / 2, -0.56, text, ha="center", va="top", fontsize=6.8)
        if name != "1x1":
            axis.annotate("", (x + 0.9, 0), (x + 0.1, 0), arrowprops={"arrowstyle": "->"})
    for label, color in {**LAYER_COLORS, "BatchNorm": "black"}.items():
        axis.add_patch(plt.Rectangle((0, 0), 0, 0, color=color, label=label))
    axis.legend(loc="upper right", ncols=5, frameon=False)
    axis.set(xlim=(0.3, x + 0.7), ylim=(-0.95, 0.68))
    axis.axis("off")
    return figure


def _layer(axis, x, layer, side):
    width, height = 0.12 + layer["channels"] / 700, layer["resolution"] / side
    color = LAYER_COLORS[layer["kind"]]
    axis.add_patch(plt.Rectangle((x, -height / 2), width, height, color=color))
    if layer.get("batch_norm"):
        edge = (x + width, x + width), (-height / 2, height / 2)
        axis.plot(*edge, color="black", lw=2, solid_capstyle="butt")
    change = {2: "stride 2", 0.5: "upsampled by 2"}.get(layer.get("stride"))
    if change:
        axis.text(x, height / 2 + 0.03, change, fontsize=6.5)
    return x + width


def ab_plane(axis, ab, values, title="", label="", marker_size=38):
    """Draw colors or values at points of the ab plane (figure 2 of the report).

    Parameters
    ----------
    axis : matplotlib.axes.Axes
    ab : ndarray, shape (n, 2)
        The points: the bins' centers, or many colors.
    values : ndarray, shape (n,) or (n, 3)
        Numbers, explained by a color bar, or sRGB colors in 0..1 to show as they are.
    title, label : str
        Title of the axes, and label of the color bar.
    marker_size : float
        Area of each point's square, in points squared.
    """
    colors = {"c": values, "cmap": COLOR_MAP} if np.ndim(values) == 1 else {"color": values}
    drawn = axis.scatter(ab[:, 1], ab[:, 0], marker="s", s=marker_size, linewidths=0, **colors)
    if np.ndim(values) == 1:
        axis.figure.colorbar(drawn, ax=axis, label=label, shrink=0.8)
    _label_ab(axis, title)


def code_plane(axis, codes, values, title="", label=""):
    """Draw a value for each of many ab codes, a pixel for each.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
    codes : ndarray of int, shape (n,)
        ab codes.
    values : ndarray, shape (n,)
    title, label : str
        Title of the axes, and label of the color bar.
    """
    plane = np.full(quantizer.CODES, np.nan)
    plane[codes] = values
    edges = (-128.5, 127.5, 127.5, -128.5)
    drawn = axis.imshow(plane.reshape(256, 256), extent=edges, cmap=COLOR_MAP, interpolation="none")
    axis.figure.colorbar(drawn, ax=axis, label=label, shrink=0.8)
    _label_ab(axis, title)
    axis.grid(False)


def _label_ab(axis, title):
    axis.set(xlim=(-120, 120), ylim=(115, -105), xlabel="b", ylabel="a")
    axis.set_title(title, fontsize=10)
    axis.set_aspect("equal")


def bin_colors():
    """Return the bins' colors at L = `LIGHTNESS`, clipped to sRGB's gamut.

    Returns
    -------
    ndarray of float32, shape (313, 3)
        sRGB in 0..1.
    """
    centers = quantizer.bin_centers()
    lab = np.column_stack([np.full(len(centers), LIGHTNESS, np.float32), centers])
    return colorspace.lab_to_rgb(lab)


def curves(axis, series, xlabel, ylabel, title="", at=None):
    """Draw curves.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
    series : dict of str to sequence of float
        Label and values of each curve.
    xlabel, ylabel, title : str
    at : sequence of float, optional
        Positions of the values on the x axis; 1, 2, 3, ... by default.
    """
    for label, values in series.items():
        axis.plot(np.arange(1, len(values) + 1) if at is None else at, values, label=label, lw=1.4)
    axis.set(xlabel=xlabel, ylabel=ylabel)
    axis.set_title(title, fontsize=10)
    if len(series) > 1:
        axis.legend(frameon=False)


def against(series, reference, xlabel, ylabel, columns=3, level=None):
    """Draw groups of curves as small multiples, each together with the same reference curves.

    A thin line is a curve, a thick one the mean of a group.

    Parameters
    ----------
    series : dict of str to ndarray, shape (curves, n)
        Title of each axes and its curves, drawn in red at 1, 2, 3, ...
    reference : tuple of str and ndarray, shape (curves, n)
        Its name in the legend, and its curves, drawn in grey in all axes.
    xlabel, ylabel : str
    columns : int
    level : tuple of str and float, optional
        Name and height of a dashed line.

    Returns
    -------
    matplotlib.figure.Figure
    """
    rows = -(-len(series) // columns)
    figure, axes = new(rows, columns, (3 * columns, 2.2 * rows + 0.4), sharex=True, sharey=True)
    (name, grey), dashed = reference, {"color": "black", "ls": "--", "lw": 0.8}
    for axis, (title, red) in zip(axes.flat, series.items(), strict=False):
        if level:
            axis.axhline(level[1], label=level[0], **dashed)
        for label, group, color in ((name, grey, "0.55"), ("as titled", red, "#e45756")):
            x = np.arange(1, len(group[0]) + 1)
            axis.plot(x, np.transpose(group), color=color, lw=0.7)
            axis.plot(x, np.mean(group, axis=0), color=color, lw=2, label=f"{label}: mean")
        axis.set_title(title, fontsize=10)
    lines, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside upper center", ncols=3, frameon=False, fontsize=9)
    for axis in axes.flat[len(series) :]:
        axis.remove()
    figure.supxlabel(xlabel, fontsize=9)
    figure.supylabel(ylabel, fontsize=9)
    return figure
