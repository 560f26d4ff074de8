"""Color a photograph of any size.

Not here: files (`colorlib.photos`) and training. Section 2.3 of Zhang et al. 2016.

The network predicts (a, b) for a small copy of the photograph; the photograph keeps its own
lightness at its own resolution. The paper enlarges (a, b) smoothly, so colors cross the edges of
objects. Here a guided filter enlarges them (He, Sun and Tang 2013,
"Guided Image Filtering"; in its fast form, He and Sun 2015, arXiv 1505.00996): near each pixel
(a, b) is a linear function of L, fitted on the small copy; where L has an edge, the color gets one.
"""

import math
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np

from colorlib import augmentation, colorspace, config, hints, icc, images, quantizer, runs, table
from colorlib.table import BINS, INPUT_MULTIPLE

GUIDE_RADIUS = 8
"""Half the side of a neighborhood in pixels of the network's input: two pixels of its output."""

GUIDE_EPSILON = 50.0
"""Epsilon of the guided filter: a neighborhood with a smaller variance of L gets one color."""


def fit_guided_filter(lightness, ab):
    """Fit (a, b) as a linear function of L around each pixel.

    Parameters
    ----------
    lightness : ndarray of float32, shape (height, width)
        L in 0..100, of a small copy of the photograph.
    ab : ndarray of float32, shape (h, w, 2)
        (a, b) at any resolution.

    Returns
    -------
    ndarray of float32, shape (height, width, 4)
        Slopes of a and b, in units of (a, b) per unit of L, then their offsets.
    """
    ab = cv2.resize(ab, lightness.shape[::-1], interpolation=cv2.INTER_CUBIC)
    mean_l, mean_ab = _mean(lightness)[..., None], _mean(ab)
    variance = _mean(lightness * lightness)[..., None] - mean_l**2
    covariance = _mean(lightness[..., None] * ab) - mean_l * mean_ab
    slopes = covariance / (np.maximum(variance, 0) + np.float32(GUIDE_EPSILON))
    return _mean(np.concatenate([slopes, mean_ab - slopes * mean_l], axis=-1))


def _mean(image):
    side = 2 * GUIDE_RADIUS + 1
    return cv2.blur(image, (side, side), borderType=cv2.BORDER_REPLICATE)


LARGEST_WORKING_SIZE = 1024
"""Four times the largest training size; larger inputs need too much memory."""

MAX_ASPECT = 8
"""Largest ratio of the longer to the shorter side of the network's input."""

KEPT = 2**20
"""Pixels of a photograph, at most, of which L is kept instead of computed twice."""

PIECE = 2**17
"""Pixels that are shrunk, or that a thread converts to sRGB, at once: with fewer, threads wait for
Python's lock more often; more do not stay in a processor's cache."""

THREADS = 2
"""Threads that paint a photograph; OpenCV uses the other cores."""

FINE_TOLERANCE = 2e-6
"""Tolerance of the gamut, in linear RGB, for 16 bits: a rounding error."""

FINENESS = 4
"""Pixels of the network's input for each pixel of its output, along a side."""


class Lightness:
    """Precomputed L, as a photograph for `render` and `Colorizer.view`.

    Parameters
    ----------
    values : ndarray of float32, shape (height, width)
        L in 0..100.
    alpha : ndarray of uint8 or uint16, shape (height, width), optional
        Opacity.
    """

    def __init__(self, values, alpha=None):
        self.shape, self.lightness, self.alpha = values.shape, values.__getitem__, alpha


class Colorizer:
    """A trained network, ready to color photographs.

    Parameters
    ----------
    network : colorlib.inference.Network or keras.Model
        From L, shape (1, height, width, 1), to logits at a quarter of that.
    decoding : colorlib.config.DecodeConfig
        Working size, temperature, vividness and saturation.
    weights : ndarray, shape (313,), optional
        `quantizer.rebalancing_weights` of the training images; needed for a vividness other
        than 0.

    Raises
    ------
    ValueError
        If the working size is smaller than 8 or larger than 1024, the temperature or the saturation
        negative or not finite, or weights are needed and missing.
    """

    def __init__(self, network, decoding, weights=None):
        if not INPUT_MULTIPLE <= decoding.working_size <= LARGEST_WORKING_SIZE:
            limits = f"at least {INPUT_MULTIPLE} and at most {LARGEST_WORKING_SIZE} pixels"
            raise ValueError(f"the working size has to be {limits}: {decoding.working_size}")
        for name in ("temperature", "saturation"):
            if not 0 <= (value := getattr(decoding, name)) < np.inf:
                raise ValueError(f"the {name} has to be finite and not negative: {value}")
        if decoding.vividness and weights is None:
            raise ValueError("a vividness other than 0 needs the rebalancing weights")
        self.network, self.decoding, self.weights = network, decoding, weights

    def __call__(self, rgb, points=None):
        """Color a photograph.

        Parameters
        ----------
        rgb : ndarray of uint8, shape (height, width, 3)
            sRGB, grey or not: only its L is used.
        points : colorlib.hints.Points, optional
            A user's hints, for a network that takes them.

        Returns
        -------
        ndarray of uint8, shape (height, width, 3)
            The same L, new colors, all of which sRGB can show.
        """
        return render(self, Lightness(icc.srgb()(rgb)), points=points)

    def predict_ab(self, lightness):
        """Predict the colors of a photograph, at the network's output resolution.

        Parameters
        ----------
        lightness : ndarray of float32, shape (height, width)
            L in 0..100.

        Returns
        -------
        ndarray of float32, shape (h, w, 2)
            (a, b), with h and w a quarter of the working resolution, or as the network has it.
        """
        return self.decode(self.predict_logits(lightness))

    def decode(self, logits):
        """Decode the network's output to colors.

        Parameters
        ----------
        logits : ndarray of float32, shape (h, w, 313)
            From `predict_logits`. Of a network that gives (a, b) themselves, shape (h, w, 2):
            they have no temperature and no vividness.

        Returns
        -------
        ndarray of float32, shape (h, w, 2)
            (a, b).
        """
        return self._chosen(logits) * np.float32(self.decoding.saturation)

    def _chosen(self, logits):
        if not has_bins(logits):
            return logits
        if self.decoding.vividness:
            logits = quantizer.rebalance(logits, self.weights, self.decoding.vividness)
        return quantizer.annealed_mean(logits, self.decoding.temperature)

    def predict_logits(self, lightness):
        """Predict the distribution over the bins; `predict_ab` without the decoding.

        Parameters
        ----------
        lightness : ndarray of float32, shape (height, width)
            L in 0..100.

        Returns
        -------
        ndarray of float32, shape (h, w, 313)
            Logits.
        """
        return self.predict(self.view(Lightness(lightness)))

    def view(self, photograph):
        """Shrink a photograph's L to the network's input.

        Parameters
        ----------
        photograph : colorlib.photos.photo.Photograph
            Or any object with its ``shape`` and ``lightness``.

        Returns
        -------
        ndarray of float32, shape `working_shape`
            L in 0..100. It does not depend on `PIECE`, up to rounding.
        """
        return resized_lightness(
            photograph, *working_shape(*photograph.shape, self.decoding.working_size)
        )

    def predict(self, view, points=None):
        """Run the network's forward pass.

        Parameters
        ----------
        view : ndarray of float32, shape (height, width)
            From `view`.
        points : colorlib.hints.Points, optional
            A user's hints.

        Returns
        -------
        ndarray of float32, shape (h, w, 313)
            Logits, with h and w a quarter of the view's.

        Raises
        ------
        ValueError
            If there are hints, and the network takes none.
        """
        if self.decoding.jpeg_quality:
            view = augmentation.compress(view, self.decoding.jpeg_quality)
        given = None if points is None else hints.placed(points, *view.shape)[None]
        return predict(self.network, view[None, ..., None], given)[0]


def predict(network, lightness, given=None):
    """Predict for images with any sides; they are padded by mirroring.

    Parameters
    ----------
    network : colorlib.inference.Network or keras.Model
        Its attribute ``input_multiple`` says what it needs; 8 by default.
    lightness : ndarray of float32, shape (n, height, width, 1)
        L in 0..100; the sides are multiples of 4.
    given : ndarray of float32, shape (n, height, width, 3), optional
        Hints (`hints.placed`).

    Returns
    -------
    ndarray of float32, shape (n, height / 4, width / 4, 313)
        Logits; or (a, b), shape (n, height, width, 2), of a network that gives them.
    """
    height, width = lightness.shape[1:3]
    multiple = getattr(network, "input_multiple", INPUT_MULTIPLE)
    margins = (0, 0), (0, -height % multiple), (0, -width % multiple), (0, 0)
    seen = [lightness] if given is None else [lightness, given]
    padded = [np.pad(one, margins, mode="symmetric") for one in seen]
    logits = np.asarray(network.predict_on_batch(*padded))
    stride = padded[0].shape[1] // logits.shape[1]
    return logits[:, : height // stride, : width // stride]


def has_bins(output):
    """Return whether the output of a network is a distribution over the bins, or (a, b).

    Parameters
    ----------
    output : ndarray, shape (..., 313) or (..., 2)

    Returns
    -------
    bool
    """
    return output.shape[-1] == BINS


def working_shape(height, width, working_size):
    """Choose the shape of the network's input for a photograph.

    Parameters
    ----------
    height, width : int
        Size of the photograph.
    working_size : int
        Requested length of the shorter side, in pixels.

    Returns
    -------
    tuple of int
        Height and width, multiples of 8, in nearly the photograph's proportions.
    """
    scale = working_size / min(height, width)
    limit = MAX_ASPECT * working_size
    sides = (min(side * scale, limit) for side in (height, width))
    return tuple(INPUT_MULTIPLE * max(1, round(side / INPUT_MULTIPLE)) for side in sides)


def apply_colors(lightness, ab, follow_edges=False):
    """Combine predicted colors with a photograph's own lightness.

    Parameters
    ----------
    lightness : ndarray of float32, shape (height, width)
        L in 0..100.
    ab : ndarray of float32, shape (h, w, 2)
        (a, b) at any resolution; resized to the photograph's.
    follow_edges : bool
        Whether the colors change where L does (`colorlib.colorize`), or smoothly.

    Returns
    -------
    ndarray of uint8, shape (height, width, 3)
        sRGB.
    """
    return paint(Lightness(lightness), fit_to_lightness(lightness, ab, follow_edges))


def enlarge(lightness, ab, follow_edges=False):
    """Enlarge predicted colors to a photograph's resolution, as `apply_colors` does.

    Parameters
    ----------
    lightness, ab, follow_edges
        As for `apply_colors`.

    Returns
    -------
    ndarray of float32, shape (height, width, 2)
        (a, b), which sRGB may not be able to show.
    """
    colors = fit_to_lightness(lightness, ab, follow_edges)
    return cv2.merge(_colors_of_band(lightness, colors, slice(0, len(lightness)), len(lightness)))


def render(colorizer, photograph, depth=np.uint8, side_by_side=False, points=None, threads=THREADS):
    """Color a photograph of any size, a band of rows at a time.

    Parameters
    ----------
    colorizer : Colorizer
    photograph : colorlib.photos.photo.Photograph
        Or any object with its ``shape``, ``lightness`` and ``alpha``.
    depth : {np.uint8, np.uint16}
        Type of the result.
    side_by_side : bool
        Put the grey photograph to the left of the colored one.
    points : colorlib.hints.Points, optional
        A user's hints.
    threads : int
        As for `paint`.

    Returns
    -------
    ndarray of `depth`, shape (height, width, 3 or 4)
        sRGB, and alpha if the photograph has it. `width` is doubled if side by side.
    """
    height, width = photograph.shape
    source = photograph
    if height * width <= KEPT:
        source = Lightness(photograph.lightness(slice(0, height)), photograph.alpha)
    view = colorizer.view(source)
    ab = colorizer.decode(colorizer.predict(view, points))
    colors = fit_to_lightness(view, ab, colorizer.decoding.follow_edges)
    return paint(source, colors, depth, side_by_side, threads)


def fit_to_lightness(lightness, ab, follow_edges):
    """Make what `paint` takes of predicted colors.

    Parameters
    ----------
    lightness : ndarray of float32, shape (height, width)
        L in 0..100, of the photograph or of a small copy of it, such as the network's input.
    ab : ndarray of float32, shape (h, w, 2)
        (a, b) at any resolution.
    follow_edges : bool
        As for `apply_colors`.

    Returns
    -------
    ndarray of float32
        `ab`, or its fit to L (`fit_guided_filter`) on `FINENESS` times as many pixels a side.
    """
    if not follow_edges:
        return ab
    height, width = (FINENESS * side for side in ab.shape[:2])
    return fit_guided_filter(resized_lightness(Lightness(lightness), height, width), ab)


def paint(photograph, colors, depth=np.uint8, side_by_side=False, threads=THREADS):
    """Put colors on a photograph of any size, a band of rows at a time.

    Parameters
    ----------
    photograph : colorlib.photos.photo.Photograph
        Or any object with its ``shape``, ``lightness`` and ``alpha``.
    colors : ndarray of float32, shape (h, w, 2 or 4)
        From `fit_to_lightness`.
    depth, side_by_side
        As for `render`.
    threads : int
        1 suits those who paint several photographs at once: it starts none.

    Returns
    -------
    ndarray of `depth`, shape (height, width, 3 or 4)
        As from `render`.
    """
    height, width = photograph.shape
    channels = 3 if photograph.alpha is None else 4
    out = np.empty((height, width * (1 + side_by_side), channels), depth)

    def fill(rows):
        lightness = photograph.lightness(rows)
        out[rows, -width:, :3] = _color_band(lightness, colors, rows, height, depth)
        if side_by_side:
            grey = np.zeros((1, 1, 2), np.float32)
            out[rows, :width, :3] = _color_band(lightness, grey, rows, height, depth)
        if photograph.alpha is not None:
            alpha = images.to_depth(photograph.alpha[rows], depth)
            out[rows, :, 3] = np.tile(alpha, 1 + side_by_side)

    bands = _bands(height, width, PIECE)
    if threads == 1:
        for rows in bands:
            fill(rows)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(fill, bands))
    return out


def colorizer_for(run=config.DEFAULT_RUN, network=None, **decoding):
    """Make a colorizer of a recorded run.

    Parameters
    ----------
    run : str, path-like or colorlib.runs.Run
        The run, its name, or its folder (`runs.find`); by default the one that ships with
        the course.
    network : colorlib.inference.Network, optional
        The run's, from `runs.Run.network`, if it is loaded already.
    **decoding
        Changes of the run's `DecodeConfig`: ``working_size``, ``temperature``,
        ``vividness``, ``saturation``. None leaves the run's own value.

    Returns
    -------
    Colorizer

    Raises
    ------
    colorlib.runs.RunError
        If there is no such run, or it is damaged.
    ValueError
        If a change is out of range, or the network's colors don't depend on it.
    """
    run = run if isinstance(run, runs.Run) else runs.load_run(run)
    if table.layers(run.settings.network, run.settings.width)[-1].channels != BINS:
        for name in ("temperature", "vividness"):
            if decoding.get(name) is not None:
                why = f"it has no {name}; leave that out"
                raise ValueError(f"{run.path.name} predicts one color for each pixel, so {why}")
    weights = quantizer.rebalancing_weights(run.prior)
    return Colorizer(network or run.network(), run.decoding.replace(**decoding), weights)


def _bands(height, width, pixels):
    rows = max(1, pixels // width)
    return [slice(top, min(top + rows, height)) for top in range(0, height, rows)]


def resized_lightness(photograph, height, width):
    """Resize a photograph's L, a band of rows at a time.

    Parameters
    ----------
    photograph : colorlib.photos.photo.Photograph
        Or any object with its ``shape`` and ``lightness``.
    height, width : int
        Size of the result.

    Returns
    -------
    ndarray of float32, shape (height, width)
        L in 0..100: the mean over areas where it shrinks, interpolated where it grows.
    """
    # a band adds its share to every row that it touches; rows first, as one product of matrices
    old_height, old_width = photograph.shape
    shrinks = height <= old_height
    out = np.zeros((height if shrinks else old_height, width), np.float32)
    how = cv2.INTER_AREA if width <= old_width else cv2.INTER_CUBIC
    for rows in _bands(old_height, old_width, PIECE):
        lightness, touched = photograph.lightness(rows), rows
        if shrinks:
            touched, shares = _shares(rows, old_height, height)
            lightness = shares @ lightness
        out[touched] += cv2.resize(lightness, (width, len(lightness)), interpolation=how)
    if not shrinks:
        out = cv2.resize(out, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(out, 0, colorspace.L_MAX)


# The new rows that old ones touch, and the weight of each old row (across) in each of them (down).
def _shares(rows, old_height, height):
    scale = old_height / height
    touched = slice(int(rows.start / scale), min(math.ceil(rows.stop / scale), height))
    edges = np.arange(touched.start, touched.stop + 1)[:, None] * scale
    old = np.arange(rows.start, rows.stop)
    overlap = np.minimum(edges[1:], old + 1) - np.maximum(edges[:-1], old)
    return touched, (np.maximum(overlap, 0) / scale).astype(np.float32)


def _color_band(lightness, colors, rows, height, depth):
    lab = cv2.merge([lightness, *_colors_of_band(lightness, colors, rows, height)])
    if depth == np.uint16:
        return colorspace.lab_to_rgb16(colorspace.clip_to_gamut(lab, tolerance=FINE_TOLERANCE))
    return colorspace.lab_to_rgb8(lab)


# a and b, each (rows, width). `colors` are both, or the result of `fit_guided_filter`: a linear
# function of L at each pixel.
def _colors_of_band(lightness, colors, rows, height):
    planes = _resized_band(colors, rows, height, lightness.shape[1])
    if len(planes) == 2:
        return planes
    slope_a, slope_b, a, b = planes
    a += slope_a * lightness
    b += slope_b * lightness
    return a, b


# These rows of the result of cv2.resize for the whole image, which is linear in each direction:
# an array for each channel, which OpenCV resizes faster than channels that alternate.
def _resized_band(small, rows, height, width):
    y = (np.arange(rows.start, rows.stop) + 0.5) * (len(small) / height) - 0.5
    y = np.clip(y, 0, len(small) - 1)
    above = y.astype(int)
    below = np.minimum(above + 1, len(small) - 1)
    share = (y - above).astype(np.float32)[:, None, None]
    stretched = small[above] * (1 - share) + small[below] * share
    size = width, len(stretched)
    return [cv2.resize(x, size, interpolation=cv2.INTER_LINEAR) for x in cv2.split(stretched)]
