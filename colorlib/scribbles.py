"""Spread a few strokes of color over a whole photograph, without a network.

Not here: what the network predicts (`colorlib.colorize`). Levin, Lischinski and Weiss 2004,
"Colorization using Optimization": neighbors of similar lightness have similar colors.

Each pixel without a stroke should have the weighted mean of its neighbors' colors. The sum of the
squared differences from this mean, over these pixels, is zero if a sparse linear system holds,
which is solved here. The authors' program does the same. The sum in their paper includes the pixels
with a stroke; on the sample photographs this is 2 to 7 dB worse, since the colors then overshoot
those of the strokes.
"""

import dataclasses

import cv2
import numpy as np
import scipy.sparse
import scipy.sparse.linalg

from colorlib import colorize, colorspace, images

NEIGHBORS = tuple((y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0))
"""The neighbors of a pixel, the other eight of its 3x3 window, as rows down and columns right."""

WEIGHTINGS = ("gaussian", "correlation")
"""Equations 2 and 3 of the paper."""

VARIANCE_SHARE = 0.6
"""Factor on the local variance in the exponent, as in the authors' program. Their equation 2 has 2,
which costs 0.3 to 0.7 dB with 20 and 100 points on the sample photographs."""

LEAST_WEIGHT = 0.01
"""Least weight of the most similar neighbor (the authors' program), and in equation 3 of each
neighbor: negative weights would let colors go beyond those of all strokes."""

VARIANCE_FLOOR = 0.02
"""Least variance of L, where all neighbors are equal: the authors' 2e-6, for L in 0..100."""

PIXELS = 2**18
"""Maximum number of pixels of a photograph that is solved at its own size. This takes 3 CPU seconds
and 0.6 GB; 1 megapixel takes 2 GB, 4 take 8.5 GB (`benchmarks/scribbles.py`). Colors solved at 0.1
megapixels are within 0.4 dB of those solved at the full size. Multigrid (pyamg) takes less memory,
but not less time up to this size."""

LEAST_DIFFERENCE = 10.0
"""Least difference of a stroke's pixel from the photograph's, in units of Lab; L counts half."""

LEAST_SHIFT = 4.0
"""Least difference of the mean colors around a stroke's pixel, in the same units."""

NOISE_MARGIN = 14
"""The least difference of the means is at least this times their median over the picture: a JPEG
changes single pixels by as much as a stroke does, but not their mean."""

SHIFT_WINDOW = 7
"""Side of the window over which the mean is taken."""

RIM_WINDOW, CORE = 17, 0.6
"""A stroke's pixel differs by at least this share of the largest difference in a window of this
side: soft rims, and what a JPEG smears around a stroke, are left out."""

STROKE_PIXELS = 12
"""Smaller connected groups of pixels are noise."""

MOST = 0.75
"""Largest share of the pixels that strokes may cover. If more differ, it is another picture."""


@dataclasses.dataclass(frozen=True)
class Strokes:
    """Strokes of color on a photograph.

    Attributes
    ----------
    marked : ndarray of bool, shape (height, width)
        Where they are.
    rgb : ndarray of uint8, shape (height, width, 3)
        Their colors, sRGB; elsewhere it does not matter.
    """

    marked: np.ndarray
    rgb: np.ndarray


def weights(lightness, weighting="gaussian"):
    """Weigh the neighbors of each pixel by how similar their lightness is.

    Parameters
    ----------
    lightness : ndarray of floating point, shape (height, width)
        L in 0..100.
    weighting : {"gaussian", "correlation"}
        Equation 2 or 3 of the paper: similarity falls with the squared difference of L, or is the
        correlation of the deviations from the local mean; both relative to the local variance.

    Returns
    -------
    ndarray of float64, shape (8, height, width)
        In the order of `NEIGHBORS`. Those of a pixel sum to 1; a neighbor outside of the image
        has 0. An image of one pixel has none.

    Raises
    ------
    ValueError
        If there is no such weighting.
    """
    if weighting not in WEIGHTINGS:
        raise ValueError(f"no weighting {weighting!r}; choose from {', '.join(WEIGHTINGS)}")
    lightness = np.asarray(lightness, np.float64)
    mean = _window_mean(lightness)
    variance = np.maximum(_window_mean(lightness**2) - mean**2, 0)
    around = _neighbors(lightness, np.nan)
    if weighting == "gaussian":
        squared = (around - lightness) ** 2
        width = VARIANCE_SHARE * variance
        closest = np.min(np.nan_to_num(squared, nan=np.inf), axis=0)
        width = np.maximum(width, closest / -np.log(LEAST_WEIGHT))
        similar = np.exp(-squared / np.maximum(width, VARIANCE_FLOOR))
    else:
        deviations = (lightness - mean) * (around - mean)
        similar = np.maximum(1 + deviations / (variance + VARIANCE_FLOOR), LEAST_WEIGHT)
    similar = np.nan_to_num(similar)
    return similar / np.maximum(similar.sum(axis=0), np.finfo(np.float64).tiny)


def system(lightness, weighting="gaussian"):
    """Return the matrix that takes colors to their difference from their neighbors' mean.

    Parameters
    ----------
    lightness, weighting
        As for `weights`.

    Returns
    -------
    scipy.sparse.csr_array of float64, shape (pixels, pixels)
        The identity minus the weights; the pixels row by row.
    """
    height, width = np.shape(lightness)
    weighed = weights(lightness, weighting)
    numbers = np.arange(height * width, dtype=np.int32).reshape(height, width)
    columns = _neighbors(numbers, -1)
    inside = columns >= 0
    rows = np.broadcast_to(numbers, columns.shape)[inside]
    shape = (numbers.size, numbers.size)
    means = scipy.sparse.csr_array((weighed[inside], (rows, columns[inside])), shape)
    return scipy.sparse.csr_array(scipy.sparse.eye_array(numbers.size, dtype=np.float64) - means)


def propagate(lightness, marked, ab, weighting="gaussian"):
    """Spread the colors of marked pixels over all pixels.

    Parameters
    ----------
    lightness : ndarray of floating point, shape (height, width)
        L in 0..100.
    marked : ndarray of bool, shape (height, width)
        Pixels whose colors are held; at least one.
    ab : ndarray of floating point, shape (height, width, 2)
        (a, b); only those of marked pixels count.
    weighting : {"gaussian", "correlation"}
        As for `weights`.

    Returns
    -------
    ndarray of float32, shape (height, width, 2)
        (a, b): at marked pixels the given ones, elsewhere between the least and the largest of
        them. It takes about 2 kB of memory a pixel.

    Raises
    ------
    ValueError
        If no pixel is marked.
    """
    marked, ab = np.asarray(marked, bool), np.array(ab, np.float32)
    if not marked.any():
        raise ValueError("no pixel is marked, so there is no color to spread; mark some")
    free, held = np.flatnonzero(~marked), np.flatnonzero(marked)
    if free.size:
        of_free = system(lightness, weighting)[free]
        sums = -(of_free[:, held] @ ab.reshape(-1, 2)[held].astype(np.float64))
        # scipy's SuperLU; the matrix needs no pivots, so the order of the pixels keeps it sparse
        factors = scipy.sparse.linalg.splu(
            scipy.sparse.csc_array(of_free[:, free]),
            permc_spec="MMD_AT_PLUS_A",
            diag_pivot_thresh=0.0,
            options={"SymmetricMode": True},
        )
        ab.reshape(-1, 2)[free] = factors.solve(sums)
    return ab


def find_strokes(photograph, painted):
    """Find the strokes in a copy of a photograph that somebody painted on.

    Parameters
    ----------
    photograph, painted : ndarray of uint8, shape (height, width, 3)
        sRGB. The copy may have been saved as a JPEG, once or several times.

    Returns
    -------
    ndarray of bool, shape (height, width)
        Where a stroke covers the photograph; not at its soft rims.
    """
    difference, shift = np.zeros((2, *photograph.shape[:2]), np.float32)
    labs = [colorspace.rgb_to_lab8(rgb) for rgb in (photograph, painted)]
    window = (SHIFT_WINDOW, SHIFT_WINDOW)
    for channel, unit in enumerate((0.5 * colorspace.L_MAX / 255, 1, 1)):
        one, other = (lab[..., channel] for lab in labs)
        change = cv2.subtract(one, other, dtype=cv2.CV_32F) * np.float32(unit)
        difference += change**2
        shift += cv2.blur(change, window) ** 2
    difference, shift = np.sqrt(difference), np.sqrt(shift)
    differs = difference > LEAST_DIFFERENCE
    if differs.mean() > MOST:  # another picture: nothing in it is noise
        return differs
    least = max(LEAST_SHIFT, NOISE_MARGIN * float(np.median(shift)))
    return _without_specks(differs & (shift > least) & _cores(difference, RIM_WINDOW, CORE))


def read(path, photograph):
    """Read the strokes of a file, and check them.

    Parameters
    ----------
    path : path-like
        A copy of the photograph with strokes painted on it, or a file of the same size that is
        transparent where there is no stroke.
    photograph : path-like
        The photograph's file.

    Returns
    -------
    Strokes

    Raises
    ------
    colorlib.images.ImageError
        If a file can't be read, the sizes differ, there is no stroke, or there are strokes nearly
        everywhere, as there are if it is another photograph; if the strokes have several pages or
        frames, or a palette where the photograph has colors.
    """
    with images.opened(path) as image:
        pages, has_palette = len(images.page_numbers(image)), image.mode == "P"
    if pages > 1:
        why = f"has {pages} pages or frames, but strokes are one picture; merge its layers"
        raise images.ImageError(f"{path}: {why}")
    rgb, alpha = images.read_with_alpha(path)
    original, opacity = images.read_with_alpha(photograph)
    if rgb.shape != original.shape:
        sizes = [f"{x.shape[1]} x {x.shape[0]}" for x in (rgb, original)]
        turned = rgb.shape[1::-1] == original.shape[:2]
        remedy = "turn it by 90 degrees" if turned else "save it in that size"
        why = f"is {sizes[0]} pixels, but {photograph} is {sizes[1]}; {remedy}"
        raise images.ImageError(f"{path}: {why}")
    own = alpha is not None and (alpha < 255).any()
    layer = own and (opacity is None or not np.array_equal(alpha, opacity))
    if has_palette and not layer and not images.is_grey(original):
        why = "has a palette, whose few colors look like strokes; save it as a PNG in RGB"
        raise images.ImageError(f"{path}: {why}")
    marked = alpha >= 128 if layer else find_strokes(original, rgb)
    how = f"paint some on a copy of {photograph} or on a transparent layer"
    if not marked.any():
        raise images.ImageError(f"{path}: has no strokes; {how}")
    if (share := marked.mean()) > MOST:
        why = f"differs from {photograph} or has strokes on {share:.0%} of its pixels"
        raise images.ImageError(f"{path}: {why}; {how}")
    return Strokes(marked, rgb)


def colors(photograph, strokes, pixels=PIXELS):
    """Spread strokes over a photograph of any size.

    Parameters
    ----------
    photograph : colorlib.photos.photo.Photograph
        Or any object with its ``shape`` and ``lightness``.
    strokes : Strokes
    pixels : int
        A larger photograph is colored at this size, and the colors are enlarged by the guided
        filter.

    Returns
    -------
    ndarray of float32, shape (h, w, 2 or 4)
        What `colorize.paint` takes: (a, b), or where they were enlarged their fit to L.
    """
    shape = solved_shape(*photograph.shape, pixels)
    if shape == photograph.shape:
        ab = colorspace.rgb_to_lab(strokes.rgb)[..., 1:]
        return propagate(photograph.lightness(slice(None)), strokes.marked, ab)
    lightness = colorize.resized_lightness(photograph, *shape)
    ab = propagate(lightness, *_shrunk(strokes, shape))
    return colorize.fit_guided_filter(lightness, ab)


def solved_shape(height, width, pixels=PIXELS):
    """Choose the shape at which a photograph's colors are solved for.

    Parameters
    ----------
    height, width : int
        Size of the photograph in pixels.
    pixels : int
        Maximum number of pixels.

    Returns
    -------
    tuple of int
        Height and width.
    """
    scale = min(1.0, (pixels / (height * width)) ** 0.5)
    return tuple(max(1, int(side * scale + 0.5)) for side in (height, width))


# A small pixel is held if it contains more of a stroke than most pixels around it. So a stroke that
# is thinner than a small pixel is kept.
def _shrunk(strokes, shape):
    def shrink(values):
        return cv2.resize(values, shape[::-1], interpolation=cv2.INTER_AREA)

    share = shrink(strokes.marked.astype(np.float32))
    sums = [shrink(channel * np.float32(strokes.marked)) for channel in cv2.split(strokes.rgb)]
    rgb = np.dstack(sums) / np.maximum(share, np.finfo(np.float32).tiny)[..., None] / 255
    return (share > 0) & _cores(share, 3, 0.5), colorspace.rgb_to_lab(np.clip(rgb, 0, 1))[..., 1:]


def _cores(values, side, share):
    return values >= share * cv2.dilate(values, np.ones((side, side), np.uint8))


def _without_specks(marked):
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(marked.astype(np.uint8))
    large = statistics[:, cv2.CC_STAT_AREA] >= STROKE_PIXELS
    large[0] = False  # what is not marked
    return large[labels]


# The mean over the part of the 3x3 window that is inside of the image.
def _window_mean(values):
    total, count = (
        cv2.boxFilter(x, -1, (3, 3), normalize=False, borderType=cv2.BORDER_CONSTANT)
        for x in (values, np.ones_like(values))
    )
    return total / count


def _neighbors(values, outside):
    height, width = values.shape
    padded = np.pad(values, 1, constant_values=outside)
    return np.stack([padded[1 + y :, 1 + x :][:height, :width] for y, x in NEIGHBORS])
