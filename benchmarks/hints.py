"""What hints are worth: PSNR against their number, beside Levin's method; and the suggestions.

    python benchmarks/hints.py --images STORE_OR_FOLDER [--curve 20] [--json FILE.json]

For photographs (squares of 192 pixels) that no run here was trained on:

1. for some of them (``--curve``), hints are drawn at random as for the training
   (`hints.random_patches`), 0 to 500 of them, and the network and Levin's method
   (`scribbles.propagate`) get the same ones: PSNR, of the network as the run is decoded, and as the
   mean of its distribution, which is best for PSNR;
2. all photographs without hints: the run beside the default run, from which it was trained;
3. at random pixels, how often one of the first suggestions is at most 10 units of (a, b), a bin's
   width, from the true color; the likeliest bins beside them.

The numbers of notebook 12 are in ``data/runs/hints/hints.json``.
"""

import harness
import numpy as np
from tqdm.auto import tqdm

from colorlib import (
    colorize,
    colorspace,
    config,
    evaluate,
    generator,
    hints,
    images,
    metrics,
    quantizer,
    runs,
    scribbles,
)
from colorlib.app import distribution

COUNTS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500)

SIDE = 192

NEAR = 10.0
"""Distance in (a, b) up to which a suggestion is the true color: the spacing of the bins."""

FIRST = (1, 3, 9)

PIXELS = 20
"""Pixels of each photograph for the suggestions."""


def drawn(rgb, count, seed):
    """Draw hints of one photograph: an array (height, width, 3)."""
    ab8 = np.moveaxis(colorspace.rgb_to_lab8(rgb)[None, ..., 1:], -1, 0)
    rng = np.random.default_rng((seed, count))
    return hints.patches(ab8, *hints.random_patches([count], rgb.shape[:2], rng))[0]


def by_network(colorizer, lightness, given=None):
    """Color one photograph at its own size: as the run is decoded, and by the mean."""
    seen = None if given is None else given[None]
    logits = colorize.predict(colorizer.network, lightness[None, ..., None], seen)[0]
    for ab in (colorizer.decode(logits), quantizer.annealed_mean(logits, 1.0)):
        yield colorize.apply_colors(lightness, ab, follow_edges=colorizer.decoding.follow_edges)


def by_strokes(lightness, given):
    """Color one photograph by Levin's method."""
    marked = given[..., 2] > 0
    if not marked.any():
        return colorize.apply_colors(lightness, np.zeros((1, 1, 2), np.float32))
    return colorize.apply_colors(lightness, scribbles.propagate(lightness, marked, given[..., :2]))


def cross_entropy(network, lightness, codes):
    """Return the loss of one photograph without hints, in nats a pixel."""
    logits = colorize.predict(network, lightness[None, ..., None])[0].astype(np.float64)
    logits -= logits.max(axis=-1, keepdims=True)
    logits -= np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    return float(-(quantizer.encode_dense(codes) * logits).sum(axis=-1).mean())


def ranks(network, rgb, rng):
    """Say for random pixels which suggestion, and which likeliest bin, is near the truth."""
    lightness, codes = generator.encode(rgb[None])
    logits = colorize.predict(network, lightness)[0]
    centers, found = quantizer.bin_centers(), []
    for row, column in rng.integers(0, len(logits), (PIXELS, 2)):
        true = np.array(divmod(int(codes[0, row, column]), 256)) - 128.0
        p = distribution.probabilities(logits[row, column])
        ways = hints.suggestions(p, centers), centers[np.argsort(-p, kind="stable")[: FIRST[-1]]]
        near = [np.linalg.norm(way - true, axis=1) <= NEAR for way in ways]
        found.append([int(x.argmax()) if x.any() else FIRST[-1] for x in near])
    return found


def interval(values):
    """Return the mean over photographs and half of its 95% interval."""
    values = np.asarray(values)
    half = 1.96 * values.std(axis=0, ddof=1) / len(values) ** 0.5
    return {"mean": values.mean(axis=0).tolist(), "half": half.tolist()}


def main():
    parser = harness.parser(__doc__)
    parser.add_argument("--images", required=True)
    parser.add_argument("--curve", type=int, default=20, help="photographs for the first part")
    parser.add_argument("--run", default=config.HINTS_RUN)
    options = parser.parse_args()
    run = runs.load_run(options.run)
    colorizer = colorize.colorizer_for(run)
    before = colorize.colorizer_for(config.DEFAULT_RUN)
    psnr = {"network": [], "mean": [], "strokes": []}
    without = {"run": [], config.DEFAULT_RUN: []}
    seen = []
    with evaluate.open_images(options.images, SIDE) as opened:
        curve = set(evaluate.chosen(len(opened), options.curve))
        for index in tqdm(range(len(opened)), unit=" photographs"):
            rgb = images.square(generator.read_images(opened, [index])[0], SIDE)
            lightness = colorspace.rgb_to_lab(rgb)[..., 0].copy()
            if index in curve:
                given = [drawn(rgb, count, index) for count in COUNTS]
                rows = [
                    [*by_network(colorizer, lightness, one), by_strokes(lightness, one)]
                    for one in given
                ]
                for name, pictures in zip(psnr, zip(*rows, strict=True), strict=True):
                    psnr[name].append([float(metrics.psnr(x, rgb)) for x in pictures])
            _, (codes,) = generator.encode(rgb[None])
            for row, one in zip(without.values(), (colorizer, before), strict=True):
                loss = cross_entropy(one.network, lightness, codes)
                row.append([loss, float(metrics.psnr(next(by_network(one, lightness)), rgb))])
            seen.append(ranks(colorizer.network, rgb, np.random.default_rng(index)))
    shares = np.array([[np.mean(np.array(x) < first, axis=0) for first in FIRST] for x in seen])
    result = {
        "photographs": len(seen),
        "photographs_of_curve": len(psnr["network"]),
        "side": SIDE,
        "counts": COUNTS,
        "psnr": {name: interval(rows) for name, rows in psnr.items()},
        "difference": {
            name: interval(np.subtract(psnr[name], psnr["strokes"])) for name in ("network", "mean")
        },
        "without_hints": {name: interval(rows) for name, rows in without.items()},
        "without_hints_difference": interval(np.subtract(*without.values())),
        "near": NEAR,
        "first": FIRST,
        "suggestions": interval(shares[..., 0]),
        "likeliest_bins": interval(shares[..., 1]),
    }
    for name in ("psnr", "without_hints", "suggestions", "likeliest_bins"):
        print(name, harness.rounded(result[name]))
    harness.write(options.json, harness.rounded(result))


if __name__ == "__main__":
    main()
