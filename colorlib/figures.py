"""Draw the report's figures from arrays, with matplotlib.

Not here: any computation of what is drawn. A function takes arrays and gives a figure; `save`
writes it where `config.FIGURES` says.
"""

import sys

import matplotlib.pyplot as plt
import numpy as np

from colorlib import colorspace, config, files, quantizer

DPI = 110

JPEG = {"quality": 80, "subsampling": 0}
"""How a figure with photographs is written: a fifth of a PNG file, color at full resolution."""

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

LIGHTNESS = 50.0
"""L at which colors of the ab plane are shown."""


def new(rows=1, columns=1, size=(6.0, 4.0), **settings):
    """Make a figure in the course's style.

    Parameters
    ----------
    rows, columns : int
        Of axes.
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
    """Write a figure into `config.FIGURES`, and show in a notebook what was written.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    name : str
        Without ending; ``local/`` before it for pictures that may not be published.

    Returns
    -------
    str
        Where it is: from the repository's root, or in full if it is elsewhere. A JPEG file if it
        holds images, else a PNG file.
    """
    kind = "jpg" if any(axis.images for axis in figure.axes) else "png"
    options = {"pil_kwargs": JPEG} if kind == "jpg" else {"metadata": {"Software": None}}
    path = config.FIGURES / f"{name}.{kind}"
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(path) as temporary:
        figure.savefig(temporary, dpi=DPI, format=kind, **options)
    ipython = sys.modules.get("IPython")
    if ipython and ipython.get_ipython():
        ipython.display.display(ipython.display.Image(path))
        plt.close(figure)
    return str(path.relative_to(config.ROOT) if path.is_relative_to(config.ROOT) else path)


def image_grid(rows, column_titles=(), row_titles=(), height=1.6):
    """Show images in a grid.

    Parameters
    ----------
    rows : sequence of sequences of ndarray
        Images, shape (h, w, 3) in color or (h, w) in grey (L in 0..100).
    column_titles, row_titles : sequence of str
        Above the first row, left of the first column.
    height : float
        Of a row, in inches.

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


def contact_sheet(sets, titles, across=4, height=0.8):
    """Show many images of one size, each with the same versions side by side.

    Parameters
    ----------
    sets : ndarray of uint8, shape (n, versions, side, side, 3)
        sRGB; filled in row by row.
    titles : sequence of str
        Of the versions, above each column.
    across : int
        Sets in a row.
    height : float
        Of a row, in inches.

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
    scale = height / pitch
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

    Parameters
    ----------
    rows : sequence of dict
        `model.describe`'s: name, resolution, channels, stride, dilation of each layer.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, ((axis,),) = new(size=(11, 3.4))
    colors = {1: "#4c78a8", 2: "#72b7b2"}
    x, starts, top = 0.0, {}, rows[0]["resolution"]
    for row in rows:
        block = row["name"].rpartition("_")[0]
        x += 0.15 if block in starts else 1.0
        start = starts.setdefault(block, x)
        width, height = 0.12 + row["channels"] / 700, row["resolution"] / top
        color = colors[row["dilation"]] if row is not rows[-1] else "#e45756"
        axis.add_patch(plt.Rectangle((x, -height / 2), width, height, color=color))
        x += width
        if block != _next_block(rows, row):
            name = block if row is not rows[-1] else "1x1"
            text = f"{name}\n{row['channels']} channels\n{row['resolution']} x {row['resolution']}"
            axis.text((start + x) / 2, -0.56, text, ha="center", va="top", fontsize=7.5)
    for label, color in {
        "convolution": colors[1],
        "dilated by 2": colors[2],
        "1x1": "#e45756",
    }.items():
        axis.add_patch(plt.Rectangle((0, 0), 0, 0, color=color, label=label))
    axis.legend(loc="upper right", ncols=3, frameon=False)
    axis.set(xlim=(0, x + 1.0), ylim=(-0.9, 0.62))
    axis.axis("off")
    return figure


def _next_block(rows, row):
    following = rows[rows.index(row) + 1 :]
    return following[0]["name"].rpartition("_")[0] if following else None


def ab_plane(axis, ab, values, title="", label="", marker_size=38, cmap="magma"):
    """Draw colors or values at points of the ab plane (figure 2 of the report).

    Parameters
    ----------
    axis : matplotlib.axes.Axes
    ab : ndarray, shape (n, 2)
        The points: the bins' centers, or many colors.
    values : ndarray, shape (n,) or (n, 3)
        Numbers, explained by a color bar, or sRGB colors in 0..1 to show as they are.
    title, label : str
        Of the axes, and of the color bar.
    marker_size : float
        Of each point's square, in points squared.
    cmap : str
        For numbers.
    """
    colors = {"c": values, "cmap": cmap} if np.ndim(values) == 1 else {"color": values}
    drawn = axis.scatter(ab[:, 1], ab[:, 0], marker="s", s=marker_size, linewidths=0, **colors)
    if np.ndim(values) == 1:
        axis.figure.colorbar(drawn, ax=axis, label=label, shrink=0.8)
    _label_ab(axis, title)


def code_plane(axis, codes, values, title="", label="", cmap="magma"):
    """Draw a value for each of many ab codes, a pixel for each.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
    codes : ndarray of int, shape (n,)
        ab codes.
    values : ndarray, shape (n,)
    title, label : str
        Of the axes, and of the color bar.
    cmap : str
    """
    plane = np.full(quantizer.CODES, np.nan)
    plane[codes] = values
    edges = (-128.5, 127.5, 127.5, -128.5)
    drawn = axis.imshow(plane.reshape(256, 256), extent=edges, cmap=cmap, interpolation="none")
    axis.figure.colorbar(drawn, ax=axis, label=label, shrink=0.8)
    _label_ab(axis, title)
    axis.grid(False)


def _label_ab(axis, title):
    axis.set(xlim=(-120, 120), ylim=(115, -105), xlabel="b", ylabel="a")
    axis.set_title(title, fontsize=10)
    axis.set_aspect("equal")


def bin_colors(lightness=LIGHTNESS):
    """Return the bins' colors, clipped to sRGB's gamut.

    Parameters
    ----------
    lightness : float
        L in 0..100.

    Returns
    -------
    ndarray of float32, shape (313, 3)
        sRGB in 0..1. A bin that sRGB can't show at this L is shown clipped.
    """
    centers = quantizer.bin_centers()
    lab = np.column_stack([np.full(len(centers), lightness, np.float32), centers])
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
        Where on the x axis the values are; at 1, 2, 3, ... by default.
    """
    for label, values in series.items():
        axis.plot(np.arange(1, len(values) + 1) if at is None else at, values, label=label, lw=1.4)
    axis.set(xlabel=xlabel, ylabel=ylabel)
    axis.set_title(title, fontsize=10)
    if len(series) > 1:
        axis.legend(frameon=False)


def against(series, reference, xlabel, ylabel, columns=3):
    """Draw groups of curves over 1, 2, 3, ... as small multiples, each over the same reference.

    Parameters
    ----------
    series : dict of str to ndarray, shape (curves, n)
        Title of each axes, and its curves, in red.
    reference : ndarray, shape (curves, n)
        In grey.
    xlabel, ylabel : str
    columns : int

    Returns
    -------
    matplotlib.figure.Figure
    """
    rows = -(-len(series) // columns)
    figure, axes = new(rows, columns, (3 * columns, 2.3 * rows), sharex=True, sharey=True)
    for axis, (title, values) in zip(axes.flat, series.items(), strict=False):
        for group, color in ((reference, "0.6"), (values, "#e45756")):
            axis.plot(np.arange(1, len(group[0]) + 1), np.transpose(group), color=color, lw=1.1)
        axis.set_title(title, fontsize=10)
    figure.supxlabel(xlabel, fontsize=9)
    figure.supylabel(ylabel, fontsize=9)
    return figure
