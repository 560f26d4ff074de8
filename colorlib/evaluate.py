"""Evaluate a recorded run on images, compared with chance.

Not here: the metrics (`colorlib.metrics`). Section 3.1 of Zhang et al. 2016.

The protocol is that of the validation during training: the network sees the centre crop of each
image. Its (a, b) have a quarter of the resolution and are enlarged; all pixels are evaluated.
"""

import contextlib
import tempfile
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from colorlib import colorize, colorspace, generator, images, metrics, quantizer, runs, store

PIXELS = 100 * 56 * 56
"""Approximate batch size of the prediction."""

PAIRING_SEED = 0
"""Decides which other image gives its colors to the row ``random``."""

UNITS = {
    "cross_entropy": "nats per pixel, not rebalanced",
    "accuracy": "share of pixels, 0..1",
    "auc": "%",
    "rebalanced_auc": "%",
    "psnr": f"dB, averaged over images, at most {metrics.PSNR_MAX:.0f}",
    "colorfulness": "Hasler and Suesstrunk's M3, averaged over images",
}

LABELS = {
    "network": "the network",
    "prior": "the training colors' frequencies",
    "uniform": "all 313 colors alike",
    "target": "the soft-encoded truth",
    "plain": "the network, plainly decoded",
    "vivid": "the network, vividly decoded",
    "grey": "grey",
    "mean": "the training mean",
    "random": "a random image's colors",
    "truth": "the true colors",
}
"""The rows' names in the printed table."""


def evaluate(run, source, limit=None, temperature=None, vividness=None, progress=True):
    """Evaluate a recorded run on images, compared with chance.

    Parameters
    ----------
    run : str, path-like or colorlib.runs.Run
        The run, its name, or its folder (`runs.find`).
    source : path-like, colorlib.store.Store, or ndarray of uint8, shape (n, size, size, 3)
        A folder of image files, of which grey ones are measured as well; or a file that
        `colorlib pack` wrote. Images of another size than the run's are resized.
    limit : int, optional
        Measure only so many, spread evenly.
    temperature, vividness : float, optional
        How to decode; the run's own by default.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    dict
        ``distributions``: cross-entropy and accuracy of the network, if it predicts one, of the
        training images' prior everywhere, of a uniform guess, and of the soft-encoded truth.
        ``colors``: AuC, rebalanced AuC, PSNR and colorfulness of the network decoded with
        vividness 0 (``plain``) and with its own (``vivid``, if that differs), of no color
        (``grey``), of the ``mean`` color of the training images, of the colors of a ``random``
        other image, and of the ``truth``. ``units`` are the units; the rest is what was done.

    Raises
    ------
    colorlib.runs.RunError
        If there is no such run, or it is damaged.
    colorlib.store.StoreError
        If there are no images, fewer than two, or they can't be read.
    """
    run = run if isinstance(run, runs.Run) else runs.load_run(run)
    colorizer = colorize.colorizer_for(run, temperature=temperature, vividness=vividness)
    settings = run.settings
    with open_images(source, settings.image_size, limit) as opened:
        indices = chosen(len(opened), limit)
        batches = pairs_of_crops(opened, indices, settings.image_size, settings.crop)
        bar = tqdm(total=len(indices), unit=" images", disable=not progress)
        with bar:
            measured = measure(colorizer, run.prior, batches, bar.update)
        left_out = len(getattr(opened, "dropped", ()))
    return {
        "run": run.path.name,
        "images": str(source) if isinstance(source, str | Path) else "in memory",
        "count": len(indices),
        "left_out": left_out,
        "image_size": settings.image_size,
        "crop": settings.crop,
        "temperature": colorizer.decoding.temperature,
        "vividness": colorizer.decoding.vividness,
        "units": UNITS,
        **measured,
    }


@contextlib.contextmanager
def open_images(source, size, limit=None):
    """Open a folder of image files or a store; pass on an open one.

    Parameters
    ----------
    source : path-like, colorlib.store.Store, or ndarray of uint8, shape (n, size, size, 3)
        A folder is packed into a temporary store, in the system's folder for such files.
    size : int
        Side in pixels to which a folder's images are resized.
    limit : int, optional
        Read only so many files of a folder.

    Yields
    ------
    Store or ndarray
        The images.

    Raises
    ------
    colorlib.store.StoreError
        If there is no such folder or store, or it holds no usable image.
    """
    if not isinstance(source, str | Path):
        yield source
    elif Path(source).is_dir():
        with tempfile.TemporaryDirectory() as folder:
            yield store.pack(source, Path(folder) / "images.h5", size, limit, keep_grey=True)
    elif Path(source).exists():
        yield store.Store(source)
    else:
        remedy = "name a folder of image files, or a file that `colorlib pack` wrote"
        raise store.StoreError(f"{source}: no such folder or store; {remedy}")


def chosen(count, limit=None):
    """Choose images to measure, spread evenly.

    Parameters
    ----------
    count : int
        Number of images that there are.
    limit : int, optional
        Number of images to choose.

    Returns
    -------
    ndarray of int64

    Raises
    ------
    colorlib.store.StoreError
        If fewer than two would be left: an image needs another one to take random colors from.
    """
    indices = np.arange(count)
    if limit is not None and limit < count:
        indices = np.linspace(0, count - 1, limit).astype(int)
    if len(indices) < 2:
        raise store.StoreError(f"{len(indices)} images are too few to measure on; give at least 2")
    return indices


def pairs_of_crops(opened, indices, size, crop):
    """Yield centre crops batch by batch, each paired with the crop of a random other image.

    Parameters
    ----------
    opened : Store or ndarray of uint8, shape (n, side, side, 3)
        The images; resized if they have another size.
    indices : ndarray of int, shape (k,)
        Numbers of the images.
    size, crop : int
        Side in pixels of the images and of the crops.

    Yields
    ------
    crops, others : ndarray of uint8, shape (batch, crop, crop, 3)
        sRGB. Over all batches both hold every image once, and no image is paired with itself.
    """
    order = np.random.default_rng(PAIRING_SEED).permutation(indices)
    middle = slice((size - crop) // 2, (size - crop) // 2 + crop)
    step = max(1, PIXELS // crop**2)
    for start in range(0, len(order), step):
        # each image is paired with the one before it in the random order, the first with the last
        numbers = order[np.arange(start - 1, min(start + step, len(order)))]
        squares = [images.square(rgb, size) for rgb in generator.read_images(opened, numbers)]
        crops = np.stack(squares)[:, middle, middle]
        yield crops[1:], crops[:-1]


def measure(colorizer, prior, batches, done=lambda count: None):
    """Evaluate a network and chance on crops, in bounded memory.

    Parameters
    ----------
    colorizer : colorlib.colorize.Colorizer
        The network and its decoding; the working size is not used.
    prior : ndarray, shape (313,)
        Frequency of each bin in the training images.
    batches : iterable of (ndarray, ndarray)
        From `pairs_of_crops`.
    done : callable
        Called with the number of images after each batch.

    Returns
    -------
    dict of str to dict
        ``distributions`` and ``colors``, as in `evaluate`.
    """
    decoders = decoders_of(colorizer)
    mean = (prior @ quantizer.bin_centers()).astype(np.float32)
    prior = np.maximum(prior, quantizer.PRIOR_FLOOR)
    pixels, distributions, tallies = 0, {}, {}
    for rgb, others in batches:
        lightness, codes = generator.encode(rgb)
        lab = colorspace.rgb_to_lab(rgb)
        logits = colorize.predict(colorizer.network, lightness)
        pixels += codes.size
        for name, sums in _distribution_sums(logits, np.log(prior), codes).items():
            distributions[name] = distributions.get(name, 0) + sums
        guesses = {
            **{name: decode(one, logits, lab[..., 0]) for name, one in decoders.items()},
            "grey": np.zeros_like(lab[..., 1:]),
            "mean": np.broadcast_to(mean, lab[..., 1:].shape),
            "random": colorspace.rgb_to_lab(others)[..., 1:],
        }
        for name, ab in guesses.items():
            tally = tallies.setdefault(name, metrics.ColorTally())
            tally.add(ab, lab[..., 1:], paint(lab[..., 0], ab), rgb)
        tallies.setdefault("truth", metrics.ColorTally()).add(lab[..., 1:], lab[..., 1:], rgb, rgb)
        done(len(rgb))
    weights = quantizer.rebalancing_weights(prior, 0)
    keys = ("cross_entropy", "accuracy")
    return {
        "distributions": {
            name: dict(zip(keys, (sums / pixels).tolist(), strict=True))
            for name, sums in distributions.items()
        },
        "colors": {name: tally.result(weights) for name, tally in tallies.items()},
    }


def decoders_of(colorizer):
    """Return colorizers that decode with vividness 0 and, if it differs, with the run's own.

    Parameters
    ----------
    colorizer : colorlib.colorize.Colorizer

    Returns
    -------
    dict of str to colorlib.colorize.Colorizer
        ``plain``, and perhaps ``vivid``; both use the same network.
    """
    decoding = colorizer.decoding.replace(vividness=0.0)
    plain = {"plain": colorize.Colorizer(colorizer.network, decoding, colorizer.weights)}
    return {**plain, "vivid": colorizer} if colorizer.decoding.vividness else plain


def decode(colorizer, logits, lightness):
    """Decode a network's outputs to colors at the images' resolution.

    Parameters
    ----------
    colorizer : colorlib.colorize.Colorizer
    logits : ndarray of float32, shape (n, h, w, 313)
    lightness : ndarray of float32, shape (n, height, width)
        L in 0..100.

    Returns
    -------
    ndarray of float32, shape (n, height, width, 2)
        (a, b).
    """
    follow = colorizer.decoding.follow_edges
    pairs = zip(lightness, colorizer.decode(logits), strict=True)
    return np.stack([colorize.enlarge(one, ab, follow) for one, ab in pairs])


def paint(lightness, ab):
    """Combine colors and lightness; L is kept, colors outside sRGB's gamut are clipped.

    Parameters
    ----------
    lightness : ndarray of float32, shape (..., height, width)
        L in 0..100.
    ab : ndarray of float32, shape (..., height, width, 2)
        (a, b).

    Returns
    -------
    ndarray of uint8, shape (..., height, width, 3)
        sRGB.
    """
    lab = np.concatenate([lightness[..., None], ab], axis=-1)
    return colorspace.lab_to_rgb8(lab)


def table(result):
    """Format the result of `evaluate` as a table.

    Parameters
    ----------
    result : dict

    Returns
    -------
    str
        Lines; accuracy in percent.
    """
    images_of, crop = f"{result['count']:,} images of {result['images']}", result["crop"]
    how = f"decoded with temperature {result['temperature']:g}, vividness {result['vividness']:g}"
    if "network" not in result["distributions"]:
        how = "the network predicts colors, no distribution to decode"
    lines = [
        f"{result['run']} on {images_of}, centre crops of {crop}x{crop} pixels",
        f"(left out: {result['left_out']:,}); {how}",
        "",
        f"{'predicted distribution':34}{'cross-entropy':>16}{'accuracy':>10}",
        f"{'':34}{'nats per pixel':>16}{'%':>10}",
    ]
    for name, row in result["distributions"].items():
        lines.append(f"{LABELS[name]:34}{row['cross_entropy']:16.3f}{100 * row['accuracy']:10.2f}")
    lines += [
        "",
        f"{'colors':34}{'AuC':>8}{'rebalanced AuC':>16}{'PSNR':>8}{'colorfulness':>14}",
        f"{'':34}{'%':>8}{'%':>16}{'dB':>8}{'M3':>14}",
    ]
    for name, row in result["colors"].items():
        noise = "–" if name == "truth" else f"{row['psnr']:.2f}"
        numbers = f"{row['auc']:8.2f}{row['rebalanced_auc']:16.2f}{noise:>8}"
        lines.append(f"{LABELS[name]:34}{numbers}{row['colorfulness']:14.1f}")
    return "\n".join(lines)


def _distribution_sums(logits, log_prior, codes):
    uniform = (codes.size * np.log(quantizer.BINS), codes.size / quantizer.BINS)
    # a network that gives (a, b) predicts no distribution
    network = {"network": logits} if colorize.has_bins(logits) else {}
    sums = {
        name: (metrics.cross_entropy(one, codes).sum(), metrics.accuracy(one, codes).sum())
        for name, one in (network | {"prior": log_prior}).items()
    }
    sums |= {"uniform": uniform, "target": (metrics.target_entropy(codes).sum(), codes.size)}
    return {name: np.array(pair) for name, pair in sums.items()}
