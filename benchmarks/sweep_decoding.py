"""How to decode a run's answers: its DecodeConfig against the metrics, next to grey.

    python benchmarks/sweep_decoding.py RUN --images STORE_OR_FOLDER ... [--limit 50] [--json FILE]

The numbers behind a run's ``decoding.json``. Whole images go the way a photograph goes in
`colorlib colorize`; the network runs once for each image, working size and JPEG quality, and its
answer is decoded in all ways. No setting wins everywhere: rebalancing strength buys rebalanced AuC
and colorfulness with AuC and PSNR (Zhang et al. 2016, table 1, for the trade between the two AuCs).

So the choice is by a rule: the most colorful of the settings whose AuC, on each set of images, is
at least 1.2 above grey's and whose PSNR is at most 0.2 dB below it (`--auc`, `--psnr`); if no
setting is that good, the one with the highest AuC. ``--write`` writes the chosen setting into the
run's folder.
"""

import dataclasses
import itertools
from pathlib import Path

import harness
import numpy as np
from tqdm.auto import tqdm

from colorlib import colorize, colorspace, evaluate, generator, metrics, quantizer, runs

KEYS = ("working_size", "jpeg_quality", "temperature", "vividness")
SEEN = 2
"""How many of the keys, the first ones, decide what the network sees."""


def sweep(run, source, size, limit, ways):
    """Measure ways of decoding on one set of images.

    Returns a tally for each way, that of grey, and the true images' colorfulness.
    """
    base = colorize.colorizer_for(run)
    decoders = {
        way: colorize.Colorizer(
            base.network, base.decoding.replace(**dict(zip(KEYS, way, strict=True))), base.weights
        )
        for way in ways
    }
    tallies = {way: metrics.ColorTally() for way in ways}
    grey, truth = metrics.ColorTally(), []
    with evaluate.open_images(source, size, limit) as opened:
        for index in tqdm(evaluate.chosen(len(opened), limit), unit=" images"):
            rgb = np.stack(generator.read_images(opened, [index]))
            lab = colorspace.rgb_to_lab(rgb)
            lightness, ab = lab[..., 0], lab[..., 1:]
            truth.append(float(metrics.colorfulness(rgb)[0]))
            nothing = np.zeros_like(ab)
            grey.add(nothing, ab, evaluate.paint(lightness, nothing), rgb)
            for _, alike in itertools.groupby(ways, key=lambda way: way[:SEEN]):
                alike = list(alike)
                logits = decoders[alike[0]].predict_logits(lightness[0])[None]
                for way in alike:
                    colors = evaluate.decode(decoders[way], logits, lightness)
                    tallies[way].add(colors, ab, evaluate.paint(lightness, colors), rgb)
    return tallies, grey, truth


def measured(run, sources, size, limit, ways):
    """Measure ways of decoding on each set of images and on all of them together."""
    weights = quantizer.rebalancing_weights(np.maximum(run.prior, quantizer.PRIOR_FLOOR), 0)
    found, tallies, greys, truths = {}, {}, metrics.ColorTally(), []
    for source in sources:
        mine, grey, truth = sweep(run, source, size, limit, ways)
        found[Path(source).stem] = result(mine, grey, truth, weights)
        greys, truths = greys + grey, truths + truth
        tallies = {way: tallies.get(way, metrics.ColorTally()) + mine[way] for way in ways}
    if len(sources) > 1:
        found["all"] = result(tallies, greys, truths, weights)
    return found


def result(tallies, grey, truth, weights):
    """Write tallies as numbers."""
    return {
        "count": grey.images,
        "true_colorfulness": float(np.mean(truth)),
        "grey": grey.result(weights),
        "rows": [
            {**dict(zip(KEYS, way, strict=True)), **tally.result(weights)}
            for way, tally in tallies.items()
        ],
    }


def choose(found, auc, psnr):
    """Choose a way by the rule; return its number, and whether it keeps to the limits."""
    together = list(found.values())[-1]["rows"]
    good = [
        number
        for number in range(len(together))
        if all(keeps(part["rows"][number], part["grey"], auc, psnr) for part in found.values())
    ]
    if good:
        return max(good, key=lambda number: together[number]["colorfulness"]), True
    return max(range(len(together)), key=lambda number: together[number]["auc"]), False


def keeps(row, grey, auc, psnr):
    """Say whether a row keeps to the limits."""
    return row["auc"] >= grey["auc"] + auc and row["psnr"] >= grey["psnr"] + psnr


def print_table(found, chosen):
    """Print a row for each way of decoding, as differences from grey."""
    grey, truth = found["grey"], found["true_colorfulness"]
    print("| size | JPEG | temperature | vividness | AuC % | rebal. AuC % | PSNR dB | colorful |")
    print("|-----:|-----:|------------:|----------:|------:|-------------:|--------:|---------:|")
    widths = (4, 4, 11, 9, 5, 12, 7, 8)
    for number, row in enumerate([dict.fromkeys(KEYS, "–") | grey, *found["rows"]]):
        cells = [str(row[key]) for key in KEYS]
        cells += [f"{row[name]:.2f}" for name in ("auc", "rebalanced_auc", "psnr")]
        cells.append(f"{row['colorfulness'] / truth:.0%}")
        line = " | ".join(f"{c:>{w}}" for c, w in zip(cells, widths, strict=True))
        print("|", line, "| <- chosen" if number == chosen + 1 else "|")
    print(f"\ncolorful: share of the true images' colorfulness, {truth:.1f}")


def parse():
    """Parse the arguments."""
    parser = harness.parser(__doc__)
    parser.add_argument("run", help="a recorded run: its name, or its folder")
    parser.add_argument(
        "--images", required=True, nargs="+", help="folders of image files, or stores"
    )
    parser.add_argument(
        "--size", type=int, default=256, help="side to which a folder's are brought"
    )
    parser.add_argument("--limit", type=int, help="images of each to measure on (default: all)")
    parser.add_argument("--working-size", type=int, nargs="+", default=[64, 96, 128])
    parser.add_argument("--jpeg-quality", type=int, nargs="+", default=[0], help="0 is off")
    parser.add_argument("--temperature", type=float, nargs="+", default=[0.38, 0.6, 1.0])
    parser.add_argument("--vividness", type=float, nargs="+", default=[0.0, 0.2, 0.35, 0.5, 0.7])
    parser.add_argument("--auc", type=float, default=1.2, help="least gain over grey, in %%")
    parser.add_argument("--psnr", type=float, default=-0.2, help="least gain over grey, in dB")
    parser.add_argument("--write", action="store_true", help="write the run's decoding.json")
    return parser.parse_args()


def main():
    """Measure, print, choose."""
    arguments = parse()
    run = runs.load_run(arguments.run)
    dials = arguments.working_size, arguments.jpeg_quality, arguments.temperature
    ways = list(itertools.product(*dials, arguments.vividness))
    found = measured(run, arguments.images, arguments.size, arguments.limit, ways)
    chosen, good = choose(found, arguments.auc, arguments.psnr)
    for name, part in found.items():
        print(f"\n{run.path.name} on {part['count']} images of {name}\n")
        print_table(part, chosen)
    if not good:
        print("no setting keeps to the limits; chosen is the one with the highest AuC")
    decoding = run.decoding.replace(**dict(zip(KEYS, ways[chosen], strict=True)))
    harness.write(arguments.json, {"run": run.path.name, "chosen": chosen, "sets": found})
    if arguments.write:
        harness.write(run.path / "decoding.json", dataclasses.asdict(decoding))


if __name__ == "__main__":
    main()
