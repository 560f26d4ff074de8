"""The recorded models next to each other and to chance: by subject, clutter and temperature.

    python benchmarks/compare.py --photos TEST.h5 --tiny VAL.h5 [--runs RUN...] [--classes TABLE]

The numbers behind notebook 07, written into data/runs/comparison/. Both stores are files that
`colorlib pack` wrote: photographs of 256 pixels, and Tiny ImageNet's validation images, of which
the classes are known. Each set of images is measured in its own way (`VIEWS`), with the same
weights for all models, and every interval is a bootstrap's (`colorlib.experiments.bootstrap`).
"""

import csv
import dataclasses
import json
import re
from pathlib import Path

import harness
import numpy as np
from skimage.segmentation import felzenszwalb
from tqdm.auto import tqdm

from colorlib import (
    colorize,
    colorspace,
    config,
    evaluate,
    generator,
    images,
    metrics,
    quantizer,
    runs,
    store,
)
from colorlib.experiments import bootstrap, claims

RUNS = ("model-64", "model-256", "transfer")
"""What is compared by default, as far as it is recorded; the others are compared with the first."""

OUTPUT = config.RUNS / "comparison" / "comparison.json"

CLASSES = config.RECORDED / "comparison" / "class_groups.csv"

TEMPERATURES = (0.05, 0.1, 0.2, 0.3, 0.38, 0.5, 0.7, 0.85, 1.0)

VIVIDNESS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)

SWEPT = 600
"""Most images on which temperature and vividness are swept."""

SHOWN, SAMPLE = 4, 200
"""So many good and so many bad images are named, of so many that a seed draws."""

WAYS = ("plain", "vivid")
"""Of decoding a model's output, as `evaluate.decoders_of` names them."""

STRANGERS = ("mean", "random")
"""Guesses that are left out of parts of the images."""

QUARTERS = ("fewest regions", "few regions", "many regions", "most regions")


@dataclasses.dataclass(frozen=True)
class View:
    """How images are measured.

    Attributes
    ----------
    store : {"tiny", "photos"}
        The set of images.
    side, crop : int
        In pixels; the centre crop of a square of this side.
    as_is : bool
        Whether the network sees the crop as it is. If not, the crop goes the way of a photograph
        in `colorlib colorize`: the network sees it at the run's working size.
    """

    store: str
    side: int
    crop: int
    as_is: bool


VIEWS = {
    "Tiny ImageNet": View("tiny", 64, 56, True),
    "photographs, crops": View("photos", 256, 176, True),
    "photographs, whole": View("photos", 256, 256, False),
}
"""The first two are the validations of Model-64 and Model-256; the last is what one looks at."""


def model_names(recorded):
    """Name runs of Table 1 as the report does, by the side of their images: Model-64, Model-256."""
    named = {}
    for run in recorded:
        of_the_report = run.settings.network == "table_1"
        name = f"Model-{run.settings.image_size}" if of_the_report else run.path.name.capitalize()
        named[run.path.name if name in named else name] = run
    return named


def logits_of(colorizer, rgb, view):
    """Predict for a batch of crops, uint8 of the shape (n, crop, crop, 3)."""
    if view.as_is:
        return colorize.predict(colorizer.network, generator.encode(rgb)[0])
    return np.stack([colorizer.predict_logits(colorspace.rgb_to_lab(one)[..., 0]) for one in rgb])


def score_batch(rgb, others, colorizers, view, prior):
    """Score a batch, as the models color it and as chance does.

    Returns
    -------
    dict of str to ndarray of float64, shape (n, 8)
        `bootstrap.score` of ``grey``, ``mean``, ``random``, ``truth`` and each model's ``plain``
        and, if its own vividness is not 0, ``vivid`` colors.
    """
    lab = colorspace.rgb_to_lab(rgb)
    lightness, true = lab[..., 0], lab[..., 1:]
    codes = generator.encode(rgb)[1]
    mean = (prior @ quantizer.bin_centers()).astype(np.float32)
    guesses = {
        "grey": (np.zeros_like(true), None),
        "mean": (np.broadcast_to(mean, true.shape), metrics.cross_entropy(np.log(prior), codes)),
        "random": (colorspace.rgb_to_lab(others)[..., 1:], None),
        "truth": (true, metrics.target_entropy(codes)),
    }
    for name, colorizer in colorizers.items():
        logits = logits_of(colorizer, rgb, view)
        nats = metrics.cross_entropy(logits, codes) if view.as_is else None
        for way, decoder in evaluate.decoders_of(colorizer).items():
            guesses[f"{name} {way}"] = (evaluate.decode(decoder, logits, lightness), nats)
    weights = quantizer.rebalancing_weights(prior, 0)
    scores = {}
    for name, (ab, nats) in guesses.items():
        painted = rgb if name == "truth" else evaluate.paint(lightness, ab)
        nats = None if nats is None else nats.mean(axis=(1, 2))
        scores[name] = bootstrap.score(ab, true, painted, rgb, weights, nats)
    return scores


def batches_of(opened, indices, view):
    """Give shuffled batches, and which images they hold."""
    order = np.random.default_rng(0).permutation(indices)
    start = 0
    for rgb, others in evaluate.pairs_of_crops(opened, indices, view.side, view.crop):
        yield order[start : start + len(rgb)], rgb, others
        start += len(rgb)


def measure(opened, view, colorizers, prior, limit, groups):
    """Measure models and chance on a set of images: as a whole, by group, by clutter."""
    indices = evaluate.chosen(len(opened), limit)
    parts, numbers, regions = [], [], []
    bar = tqdm(total=len(indices), unit=" images")
    for drawn, rgb, others in batches_of(opened, indices, view):
        parts.append(score_batch(rgb, others, colorizers, view, prior))
        numbers.append(drawn)
        regions += [count_regions(one) for one in rgb]
        bar.update(len(rgb))
    bar.close()
    numbers, regions = np.concatenate(numbers), np.array(regions)
    scores = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    classes = np.array(opened.classes)[opened.class_ids][numbers]
    units = classes if len(opened.classes) > 1 else None
    result = {
        "count": len(indices),
        "classes": len(set(classes)) if units is not None else 0,
        **dataclasses.asdict(view),
        **summary(scores, units),
        "shown": {
            name: shown(scores[name], scores["grey"], [opened.names[i] for i in numbers])
            for name in scores
            if name.endswith(WAYS)
        },
        "regions": by_part(scores, units, quarters(regions)),
    }
    if units is not None:
        group_of = np.array([groups.get(name, "") for name in classes])
        members = {group: group_of == group for group in sorted(set(group_of) - {""})}
        result["groups"] = by_part(scores, units, members)
    return result


def summary(scores, units):
    """Return metrics, gains over grey, and what the others gain over the first, plainly decoded."""
    models = [name for name in scores if name.endswith(WAYS)]
    first = models[0]
    others = [name for name in models if not name.startswith(first.removesuffix(WAYS[0]))]
    return {
        "metrics": {name: bootstrap.summarize(one, units) for name, one in scores.items()},
        "over_grey": {
            name: bootstrap.gains(scores[name], scores["grey"], units)
            | bootstrap.shares(scores[name], scores["truth"], units)
            for name in models
        },
        "over_first": {
            name: bootstrap.gains(scores[name], scores[first], units) for name in others
        },
    }


def by_part(scores, units, members):
    """Return the summary of each part of the images, with their number and their classes'."""
    parts = {}
    for name, mask in members.items():
        of_part = None if units is None else units[mask]
        kept = {guess: one[mask] for guess, one in scores.items() if guess not in STRANGERS}
        parts[name] = {
            "count": int(mask.sum()),
            "classes": 0 if units is None else len(set(of_part)),
            **summary(kept, of_part),
        }
    return parts


def shown(scores, grey, names):
    """Name the best and the worst of a sample, with their gains in rebalanced AuC over grey."""
    *ends, gain = bootstrap.best_and_worst(scores, grey, SHOWN, SAMPLE)
    return {
        title: [{"name": names[row], "gain": float(gain[row])} for row in rows]
        for title, rows in zip(("best", "worst"), ends, strict=True)
    }


def count_regions(rgb):
    """Count the regions of an image's lightness: a stand-in for how many things it shows."""
    lightness = colorspace.rgb_to_lab(images.square(rgb, 56))[..., 0] / colorspace.L_MAX
    return 1 + int(felzenszwalb(lightness, scale=100, sigma=0.8, min_size=20).max())


def quarters(values):
    """Split into four parts of nearly the same size, by rank; equal values by position."""
    ranks = np.argsort(np.argsort(values, kind="stable"))
    return {name: ranks * 4 // len(values) == k for k, name in enumerate(QUARTERS)}


def sweep(opened, view, colorizers, prior, limit):
    """Measure each model at all temperatures and vividnesses; a list of dicts."""
    indices = evaluate.chosen(len(opened), min(limit or SWEPT, SWEPT))
    tallies, truth = {}, metrics.ColorTally()
    for _, rgb, _ in tqdm(batches_of(opened, indices, view), unit=" batches"):
        lab = colorspace.rgb_to_lab(rgb)
        lightness, true = lab[..., 0], lab[..., 1:]
        truth.add(true, true, rgb, rgb)
        for name, colorizer in colorizers.items():
            logits = logits_of(colorizer, rgb, view)
            for temperature, vividness in ways_of(colorizer.decoding):
                way = colorizer.decoding.replace(temperature=temperature, vividness=vividness)
                decoder = colorize.Colorizer(colorizer.network, way, colorizer.weights)
                ab = evaluate.decode(decoder, logits, lightness)
                tally = tallies.setdefault((name, temperature, vividness), metrics.ColorTally())
                tally.add(ab, true, evaluate.paint(lightness, ab), rgb)
    weights = quantizer.rebalancing_weights(prior, 0)
    rows = [
        {"model": name, "temperature": t, "vividness": v, **tally.result(weights)}
        for (name, t, v), tally in tallies.items()
    ]
    colorfulness = truth.result(weights)["colorfulness"]
    return {"count": len(indices), "true_colorfulness": colorfulness, "rows": rows}


def ways_of(decoding):
    """List the (temperature, vividness) to try: one is swept while the other is the run's own."""
    ways = [(t, v) for v in (0.0, decoding.vividness) for t in TEMPERATURES]
    ways += [(decoding.temperature, v) for v in VIVIDNESS]
    return sorted(set(ways))


def describe(run):
    """Say in a few numbers what a run is."""
    best = runs.best_epoch([{"val_loss": loss} for loss in run.history["val_loss"]])
    return {
        "run": run.path.name,
        "width": run.settings.width,
        "parameters": sum(
            array.size
            for parts in run.weights()[1].values()
            for part, array in parts.items()
            if part not in ("mean", "variance")
        ),
        "image_size": run.settings.image_size,
        "crop": run.settings.crop,
        "epochs": len(run.history["val_loss"]),
        "best_epoch": best,
        "val_loss": run.history["val_loss"][best - 1],
        "val_loss_first": run.history["val_loss"][0],
        "val_loss_rises": claims.rises(run.history["val_loss"]),
        "start_from": run.settings.start_from,
        **run.data,
        **dataclasses.asdict(run.decoding),
    }


def read_groups(path):
    """Read the table of classes and their groups."""
    try:
        with Path(path).open(newline="") as file:
            return {row["class"]: row["group"] for row in csv.DictReader(file)}
    except (OSError, KeyError) as error:
        reason = f"no table with the columns class and group ({error})"
        raise SystemExit(f"{path}: {reason}; leave --classes out for the course's own") from None


def as_text(value):
    """Write as JSON, with each list of numbers on one line."""
    indented = json.dumps(value, indent=1)
    return re.sub(r"\[[-+.,\d\se]+\]", lambda found: " ".join(found[0].split()), indented) + "\n"


def recorded_runs(names):
    """Load the named runs, or those of `RUNS` that are there."""
    names = names or [name for name in RUNS if name in runs.known()]
    return [runs.load_run(name) for name in names]


def compare(recorded, stores, groups, limit=None):
    """Measure everything; return what goes into the file."""
    models = model_names(recorded)
    colorizers = {name: colorize.colorizer_for(run) for name, run in models.items()}
    prior = np.maximum(recorded[0].prior, quantizer.PRIOR_FLOOR)
    sets, swept = {}, {}
    for name, view in VIEWS.items():
        opened = stores[view.store]
        sets[name] = measure(opened, view, colorizers, prior, limit, groups)
        if name != "photographs, crops":
            swept[name] = sweep(opened, view, colorizers, prior, limit)
    return {
        "environment": runs.environment(),
        "weights_from": recorded[0].path.name,
        "intervals": bootstrap.COVERAGE,
        "sample": SAMPLE,
        "models": {name: describe(run) for name, run in models.items()},
        "sets": sets,
        "sweep": swept,
    }


def main():
    """Parse the arguments, measure, write."""
    parser = harness.parser(__doc__, to_json=False)
    parser.add_argument("--photos", required=True, type=Path, help="a store of photographs")
    parser.add_argument("--tiny", required=True, type=Path, help="Tiny ImageNet's validation store")
    parser.add_argument("--runs", nargs="+", help=f"recorded runs (default: {' '.join(RUNS)})")
    parser.add_argument("--classes", type=Path, default=CLASSES, help="a table: class,group")
    parser.add_argument("--limit", type=int, help="measure on so many images at most")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    groups = read_groups(arguments.classes)
    try:
        recorded = recorded_runs(arguments.runs)
        stores = {name: store.Store(getattr(arguments, name)) for name in ("tiny", "photos")}
    except (runs.RunError, store.StoreError) as error:
        raise SystemExit(str(error)) from None
    result = compare(recorded, stores, groups, arguments.limit)
    for name, view in VIEWS.items():
        result["sets"][name]["images"] = getattr(arguments, view.store).name
    harness.write(arguments.output, as_text(harness.rounded(result, ".5g")))
    print(f"{arguments.output}: {', '.join(result['models'])}")


if __name__ == "__main__":
    main()
