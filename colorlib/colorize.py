"""Image in -> color image out, any size.

Not here: the command line (`colorlib.__main__`) and training. Section 2.3 of Zhang et al. 2016.

The network sees a small copy of the photograph and says which (a, b) belongs where; the
photograph keeps its own lightness at its own resolution.
"""

from pathlib import Path

import cv2
import numpy as np

from colorlib import colorspace, config, images, quantizer, runs
from colorlib.table import INPUT_MULTIPLE

MAX_ASPECT = 8
"""The longer side of what the network sees is at most this many times the shorter one."""

BAND = 2**20
"""Pixels that are brought to sRGB at once."""


class Colorizer:
    """A trained network, ready to color photographs.

    Parameters
    ----------
    network : colorlib.inference.Network or keras.Model
        From L, shape (1, height, width, 1), to logits at a quarter of that.
    decoding : colorlib.config.DecodeConfig
        Working size, temperature and vividness.
    weights : ndarray, shape (313,), optional
        `quantizer.rebalancing_weights` of the training images; needed for a vividness other
        than 0.

    Raises
    ------
    ValueError
        If the working size is smaller than 8, or weights are needed and missing.
    """

    def __init__(self, network, decoding, weights=None):
        if decoding.working_size < INPUT_MULTIPLE:
            raise ValueError(f"the working size has to be at least {INPUT_MULTIPLE} pixels")
        if decoding.vividness and weights is None:
            raise ValueError("a vividness other than 0 needs the rebalancing weights")
        self.network, self.decoding, self.weights = network, decoding, weights

    def __call__(self, rgb):
        """Color a photograph.

        Parameters
        ----------
        rgb : ndarray of uint8, shape (height, width, 3)
            sRGB, grey or not: only its L is looked at.

        Returns
        -------
        ndarray of uint8, shape (height, width, 3)
            The same L, new colors, all of which sRGB can show.
        """
        lightness = colorspace.rgb_to_lab(rgb)[..., 0]
        return apply_colors(lightness, self.predict_ab(lightness))

    def predict_ab(self, lightness):
        """Predict the colors of a photograph, at the network's output resolution.

        Parameters
        ----------
        lightness : ndarray of float32, shape (height, width)
            L in 0..100.

        Returns
        -------
        ndarray of float32, shape (h, w, 2)
            (a, b), with h and w a quarter of the working resolution.
        """
        return self.decode(self.predict_logits(lightness))

    def decode(self, logits):
        """Turn the network's answer into colors.

        Parameters
        ----------
        logits : ndarray of float32, shape (h, w, 313)
            From `predict_logits`.

        Returns
        -------
        ndarray of float32, shape (h, w, 2)
            (a, b).
        """
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
        height, width = working_shape(*lightness.shape, self.decoding.working_size)
        small = _shrink(lightness, height, width)
        return np.asarray(self.network.predict_on_batch(small[None, ..., None])[0])


def working_shape(height, width, working_size):
    """Choose the shape in which the network sees a photograph.

    Parameters
    ----------
    height, width : int
        Of the photograph.
    working_size : int
        Wished for the shorter side, in pixels.

    Returns
    -------
    tuple of int
        Height and width, multiples of 8, in nearly the photograph's proportions.
    """
    scale = working_size / min(height, width)
    limit = MAX_ASPECT * working_size
    sides = (min(side * scale, limit) for side in (height, width))
    return tuple(INPUT_MULTIPLE * max(1, round(side / INPUT_MULTIPLE)) for side in sides)


def apply_colors(lightness, ab):
    """Put predicted colors on a photograph's own lightness.

    Parameters
    ----------
    lightness : ndarray of float32, shape (height, width)
        L in 0..100.
    ab : ndarray of float32, shape (h, w, 2)
        (a, b) at any resolution; brought smoothly to the photograph's.

    Returns
    -------
    ndarray of uint8, shape (height, width, 3)
        sRGB.
    """
    height, width = lightness.shape
    full = cv2.resize(ab, (width, height), interpolation=cv2.INTER_LINEAR)
    out = np.empty((height, width, 3), np.uint8)
    # a band of rows at a time, so that little memory goes into what clipping keeps in between
    rows = max(1, BAND // width)
    for top in range(0, height, rows):
        band = slice(top, top + rows)
        lab = colorspace.clip_to_gamut(np.dstack([lightness[band], full[band]]))
        out[band] = colorspace.to_uint8(colorspace.lab_to_rgb(lab))
    return out


def colorizer_for(run=config.DEFAULT_RUN, **decoding):
    """Make a colorizer of a recorded run.

    Parameters
    ----------
    run : str, path-like or colorlib.runs.Run
        The run, its name in ``data/runs``, or its folder; by default the one that ships with
        the course.
    **decoding
        What to change in the run's `DecodeConfig`: ``working_size``, ``temperature``,
        ``vividness``. None leaves the run's own value.

    Returns
    -------
    Colorizer

    Raises
    ------
    colorlib.runs.RunError
        If there is no such run, or it is damaged.
    """
    run = run if isinstance(run, runs.Run) else runs.load_run(run)
    weights = quantizer.rebalancing_weights(run.prior)
    return Colorizer(run.network(), run.decoding.replace(**decoding), weights)


def plan_outputs(sources, output):
    """Decide where each colored photograph goes, and see that it can go there.

    Parameters
    ----------
    sources : sequence of path-like
        Image files.
    output : path-like
        An image file's name for a single photograph, else a folder, which is made if missing.

    Returns
    -------
    list of (pathlib.Path, pathlib.Path)
        Source and target. Photographs of the same name get ``-2``, ``-3``, ... appended.

    Raises
    ------
    colorlib.images.ImageError
        If several photographs are to go into one file, or the folder can't be made.
    """
    output = Path(output)
    sources = [Path(source) for source in sources]
    if output.suffix.lower() in images.EXTENSIONS and not output.is_dir():
        if len(sources) > 1:
            raise images.ImageError(f"{output}: is one file for several photographs; name a folder")
        return [(sources[0], output)]
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise images.ImageError(f"{output}: can't be made ({reason}); choose another") from None
    taken, targets = set(), []
    for source in sources:
        target = _free_name(output, source, taken)
        taken.add(target)
        targets.append((source, target))
    return targets


def colorize_file(colorizer, source, target):
    """Color one image file.

    Parameters
    ----------
    colorizer : Colorizer
    source, target : path-like
        Read from and written to; the target's ending decides its format.

    Raises
    ------
    colorlib.images.ImageError
        If the source can't be read, or the target can't be written or is the source.
    """
    if Path(target).exists() and Path(target).samefile(source):
        raise images.ImageError(f"{source}: would overwrite itself; choose another output")
    images.write(target, colorizer(images.read(source)))


def _free_name(folder, source, taken):
    suffix = source.suffix if source.suffix.lower() in images.EXTENSIONS else ".png"
    target, number = folder / f"{source.stem}{suffix}", 1
    while target in taken:
        number += 1
        target = folder / f"{source.stem}-{number}{suffix}"
    return target


def _shrink(lightness, height, width):
    shrinks = height * width < lightness.size
    how = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    resized = cv2.resize(lightness, (width, height), interpolation=how)
    return np.clip(resized, 0, colorspace.L_MAX)
