"""How to decode a run's answers: working size, temperature and vividness against the metrics.

    python benchmarks/sweep_decoding.py RUN --images STORE_OR_FOLDER [--limit 50] [--json FILE]

The numbers behind a run's ``decoding.json``. Whole images go the way a photograph goes in
`colorlib colorize`; the network runs once for each image and working size, and its answer is
decoded in all ways. No setting wins everywhere: vividness buys rebalanced AuC and colorfulness
with AuC and PSNR (Zhang et al. 2016, table 1, for the trade between the two AuCs).
"""

import argparse
import itertools
import json
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from tqdm.auto import tqdm

from colorlib import colorize, colorspace, evaluate, generator, images, metrics, quantizer, runs

KEYS = ("working_size", "temperature", "vividness")


def sweep(run, opened, indices, sizes, ways):
    """Measure every way of decoding; return a list of dicts, and the true images' colorfulness."""
    base = colorize.colorizer_for(run)
    tallies = {key: metrics.ColorTally() for key in ((s, *way) for s in sizes for way in ways)}
    decoders = {
        key: colorize.Colorizer(
            base.network, base.decoding.replace(**dict(zip(KEYS, key, strict=True))), base.weights
        )
        for key in tallies
    }
    true_colorfulness = []
    for index in tqdm(indices, unit=" images"):
        rgb = np.stack(generator.read_images(opened, [index]))
        lab = colorspace.rgb_to_lab(rgb)
        lightness, true_ab = lab[..., 0], lab[..., 1:]
        true_colorfulness.append(metrics.colorfulness(rgb))
        for size in sizes:
            # any decoder of this size will do: temperature and vividness come after the logits
            logits = decoders[(size, *ways[0])].predict_logits(lightness[0])[None]
            for way in ways:
                ab = evaluate.decode(decoders[(size, *way)], logits, lightness)
                colored = evaluate.paint(lightness, ab)
                tallies[(size, *way)].add(ab, true_ab, colored, rgb)
    prior = np.maximum(run.prior, evaluate.PRIOR_FLOOR)
    weights = quantizer.rebalancing_weights(prior, 0)
    rows = [
        {**dict(zip(KEYS, key, strict=True)), **tally.result(weights)}
        for key, tally in tallies.items()
    ]
    return rows, float(np.mean(true_colorfulness))


def print_table(rows, true_colorfulness):
    """Print a row for each way; the best of each metric is starred."""
    better = {
        "auc": lambda row: row["auc"],
        "rebalanced_auc": lambda row: row["rebalanced_auc"],
        "psnr": lambda row: row["psnr"],
        "colorfulness": lambda row: -abs(row["colorfulness"] - true_colorfulness),
    }
    best = {name: max(rows, key=score) for name, score in better.items()}
    print("| working size | temperature | vividness |  AuC % | rebal. AuC % | PSNR dB | colorful |")
    print("|-------------:|------------:|----------:|-------:|-------------:|--------:|---------:|")
    for row in rows:
        cells = [f"{row[key]:g}" for key in KEYS]
        cells += [f"{row[name]:.2f}{'*' if row is best[name] else ''}" for name in better]
        widths = (12, 11, 9, 6, 12, 7, 8)
        print("|", " | ".join(f"{c:>{w}}" for c, w in zip(cells, widths, strict=True)), "|")
    print(f"\n* the best; of colorfulness, the nearest to the true images' {true_colorfulness:.1f}")


def main():
    """Parse the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="a recorded run: its name, or its folder")
    parser.add_argument("--images", required=True, help="a folder of image files, or a store")
    parser.add_argument(
        "--size", type=int, default=256, help="side to which a folder's are brought"
    )
    parser.add_argument("--limit", type=int, default=50, help="images to measure on (default: 50)")
    parser.add_argument("--working-size", type=int, nargs="+", default=[64, 96, 128])
    parser.add_argument("--temperature", type=float, nargs="+", default=[0.38, 0.6, 1.0])
    parser.add_argument("--vividness", type=float, nargs="+", default=[0.0, 0.3, 0.6, 0.9])
    parser.add_argument("--json", type=Path, help="write the numbers into this file as well")
    arguments = parser.parse_args()
    run = runs.load_run(arguments.run)
    ways = list(itertools.product(arguments.temperature, arguments.vividness))
    with evaluate.open_images(arguments.images, arguments.size, arguments.limit) as opened:
        indices = evaluate.chosen(len(opened), arguments.limit)
        rows, true_colorfulness = sweep(run, opened, indices, arguments.working_size, ways)
    print(f"{run.path.name} on {len(indices)} images of {Path(arguments.images).name}\n")
    print_table(rows, true_colorfulness)
    if arguments.json:
        result = {"run": run.path.name, "count": len(indices), "rows": rows}
        with images.replacing(arguments.json) as temporary:
            temporary.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
