"""Measure networks with weights interpolated between the start and the end of a fine-tuning.

    python benchmarks/interpolation.py RUN --images STORE --before STORE [--share 0 1] [--json FILE]

Share 0 is the start of the training, 1 its end. The networks are measured on validation images like
those of the fine-tuning, and on images like those of the training before. ``interpolation`` in
`config.MODEL_256` was chosen from these numbers. ``above_recorded`` is the cross-entropy over that
of the recorded share on the same images, with a bootstrap's interval. The end of a training whose
recorded weights are interpolated is computed from them and the start.
"""

import harness
import numpy as np
from tqdm.auto import tqdm

from colorlib import colorize, evaluate, generator, metrics, model, quantizer, runs, store
from colorlib.experiments import bootstrap

SHARES = (0.0, 0.25, 0.4, 0.5, 0.6, 0.75, 1.0)


def networks(run, origin, shares):
    """Yield the share and the network, for each share; it is the same object each time."""
    network = run.model()
    recorded = network.get_weights()
    model.start_from(network, origin.model(), run.settings.seed)
    start = network.get_weights()
    for share in shares:
        network.set_weights(recorded)
        model.interpolate(network, start, share / run.settings.interpolation)
        yield share, network


def measure(run, network, opened, settings, limit):
    """Measure a network, plainly decoded, on the centre crops of images."""
    weights = quantizer.rebalancing_weights(run.prior)
    colorizer = colorize.Colorizer(network, run.decoding.replace(vividness=0), weights)
    indices = evaluate.chosen(len(opened), limit)
    sides = settings.image_size, settings.crop
    batches = list(evaluate.pairs_of_crops(opened, indices, *sides))
    found = evaluate.measure(colorizer, run.prior, batches)
    nats = np.concatenate([nats_of_images(network, crops) for crops, _ in batches])
    summary = found["distributions"]["network"] | found["colors"]["plain"]
    return {"count": len(indices)} | summary, nats


def nats_of_images(network, rgb):
    """Return the cross-entropy of each image in nats per pixel."""
    lightness, codes = generator.encode(rgb)
    return metrics.cross_entropy(colorize.predict(network, lightness), codes).mean(axis=(1, 2))


def sweep(run, opened, before, shares, limit):
    """Measure all shares on both kinds of images; return a list of dicts."""
    origin = runs.load_run(run.settings.start_from)
    kinds = {"images": (opened, run.settings), "before": (before, origin.settings)}
    rows, nats = [], {}
    for share, network in networks(run, origin, tqdm(shares, unit=" shares")):
        rows.append({"share": share})
        for kind, (images, settings) in kinds.items():
            found, nats[share, kind] = measure(run, network, images, settings, limit)
            rows[-1][kind] = found
    for row in rows:
        for kind in kinds:
            above = nats[row["share"], kind] - nats[run.settings.interpolation, kind]
            row[kind]["above_recorded"] = bootstrap.mean(above)
    return rows


def print_table(rows):
    """Print a row for each share."""
    keys = {
        "cross_entropy": "nats",
        "auc": "AuC %",
        "rebalanced_auc": "rebal.",
        "colorfulness": "M3",
    }
    heads = [f"{short:>7}" for short in keys.values()]
    print(f"{'share':>7} |", *heads, "|", *heads, " (images | those before)")
    for row in rows:
        found = (row["images"], row["before"])
        cells = [" ".join(f"{one[key]:7.3f}" for key in keys) for one in found]
        print(f"{row['share']:7.2f} | {' | '.join(cells)}")


def main():
    """Parse the arguments, measure, print."""
    parser = harness.parser(__doc__)
    parser.add_argument("run", help="a recorded run: its name, or its folder")
    parser.add_argument("--images", required=True, help="validation images of the run")
    parser.add_argument("--before", required=True, help="those of the run that it started from")
    parser.add_argument("--share", type=float, nargs="+", default=SHARES, help="of the run's end")
    parser.add_argument("--limit", type=int, default=200, help="images of a kind (default: 200)")
    arguments = parser.parse_args()
    run = runs.load_run(arguments.run)
    opened, before = store.Store(arguments.images), store.Store(arguments.before)
    shares = sorted({*arguments.share, run.settings.interpolation})
    rows = sweep(run, opened, before, shares, arguments.limit)
    print_table(rows)
    result = {"run": run.path.name, "interpolation": run.settings.interpolation, "rows": rows}
    harness.write(arguments.json, result)


if __name__ == "__main__":
    main()
