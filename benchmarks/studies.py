"""Record the studies of notebook 13: rebalancing, initialization, regression, and a search.

    python benchmarks/studies.py run --train TRAIN.h5 --val VAL.h5 [--studies NAME ...]
    python benchmarks/studies.py join

TRAIN.h5 and VAL.h5 are as for ``benchmarks/ablation.py``, but packed with ``--size 40``; the same
images of them are used. ``run`` makes the trainings that are missing and writes each to a file of
its own; any number of processes can share the work. ``join`` puts the files together to the record
that the notebook reads. ``KERAS_BACKEND=jax`` is faster for networks as small as these.
"""

import argparse
import contextlib
import json
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import ablation as scale
import harness
import keras
import numpy as np
from tqdm.auto import tqdm

from colorlib import callbacks, config, generator, initializers, model, runs, samples
from colorlib.experiments import studies

RECORD = config.RUNS / "studies" / "studies.json"
PARTS = config.HOME / "build" / "studies"
SEEDS = (0, 1, 2)
COUNTS = {"plain": 6, "lambda 0.5": 6, "lambda 1": 1}
"""Seeds of some variants: three were too few to compare these two; lambda 1 is the plain one."""

TRIALS = 40
PHOTOGRAPH = "flower"


def planned():
    """Return all runs by study: name -> what makes it, a function and its arguments."""
    overfit = [
        (way, rate, initializer, seed)
        for rate in studies.RATES
        for way in reversed(studies.OVERFIT)
        for seed in SEEDS
        for initializer in studies.INITIALIZERS
    ]
    return {
        "variants": {
            f"{name}, seed {seed}": (variant, name, seed)
            for seed in range(max(COUNTS.values()))
            for name in studies.VARIANTS
            if seed < COUNTS.get(name, len(SEEDS))
        },
        "weights": {
            f"{name}, width {width:g}": (weights, name, width)
            for width in (1 / 16, 1)
            for name in studies.INITIALIZERS
        },
        "overfit": {
            f"{way}, {rate:g}, {initializer}, seed {seed}": (
                overfitted,
                way,
                rate,
                initializer,
                seed,
            )
            for way, rate, initializer, seed in overfit
        },
        "trials": {f"trial {number}": (trial, number) for number in range(TRIALS)},
        "untuned": {f"seed {seed}": (untuned, seed) for seed in SEEDS},
        "finalists": {
            f"{name}, seed {seed}": (finalist, name, seed)
            for seed in SEEDS
            for name in ("first", "second", "untuned")
        },
    }


class Images:
    """The photographs of all runs."""

    def __init__(self, arguments):
        self.train = scale.of_classes(arguments.train)
        self.validation = scale.of_classes(arguments.val)
        self.parts = arguments.parts

    def described(self):
        """Say what they are."""
        counts = len(self.train), len(self.validation)
        keys = ("classes", "train_images", "validation_images")
        return dict(zip(keys, (scale.CLASSES, *counts), strict=True))


def variant(images, name, seed):
    """Train a variant and measure it."""
    chosen = studies.VARIANTS[name]
    chosen = studies.Variant(chosen.settings.replace(seed=seed), chosen.regression)
    network, curve = studies.train(chosen, images.train, images.validation)
    found = studies.report(chosen, network, images.train, images.validation)
    return {"variant": name, "seed": seed, "curve": curve, **found}


def weights(images, name, width):
    """Measure a network's first weights: means, variances and rates of change of each layer."""
    seen, other = np.split(images.train[:: len(images.train) // 128][:128], 2)
    seen, other = (generator.encode(one[:, 4:36, 4:36])[0] for one in (seen, other))
    own = "he_normal" if name in studies.FROM_DATA else name
    network = model.build_model(width=width, initializer=own)
    if name in studies.FROM_DATA:
        studies.FROM_DATA[name](network, seen)
    moments = initializers.layer_moments(network, other)
    rates = initializers.change_rates(network, other, seed=1)
    layers = {
        layer: {
            "mean_square": float((mean**2).mean()),
            "variance": float(variance.mean()),
            "rate": rates[layer],
        }
        for layer, (mean, variance) in moments.items()
    }
    return {"initializer": name, "width": width, "layers": layers}


def overfitted(images, way, rate, initializer, seed):
    """Learn one photograph by heart."""
    plan = dict(studies.OVERFIT[way])
    settings = plan.pop("settings")
    settings = settings.replace(learning_rate=rate, initializer=initializer, seed=seed)
    photograph = samples.square(PHOTOGRAPH, settings.image_size)
    seen = images.train[:: len(images.train) // studies.SEEN][: studies.SEEN]
    found = studies.overfit(photograph, settings, seen, **plan)
    return {"way": way, "rate": rate, "initializer": initializer, "seed": seed, **found}


def trial(images, number):
    """Train with settings drawn at random."""
    params = studies.drawn(0, number)
    chosen = studies.Variant(studies.TUNED.replace(**params))
    return {"trial": number, "params": params, "curve": curve_of(images, chosen)}


def finalist(images, name, seed):
    """Train at the next scale with the settings of one of the two best trials, or our own."""
    found = [json.loads(path.read_text()) for path in (images.parts / "trials").glob("*.json")]
    ended = sorted((one for one in found if one["curve"]), key=lambda one: one["curve"][-1])
    params = {"first": ended[0]["params"], "second": ended[1]["params"], "untuned": {}}[name]
    settings = studies.NEXT.replace(**params)
    settings = settings.replace(learning_rate=settings.learning_rate / 2, seed=seed)
    curve = curve_of(images, studies.Variant(settings))
    return {"finalist": name, "seed": seed, "params": params, "curve": curve}


def untuned(images, seed):
    """Train with our own settings, at the scale of a trial."""
    chosen = studies.Variant(studies.TUNED.replace(seed=seed))
    return {"seed": seed, "curve": curve_of(images, chosen)}


def curve_of(images, chosen):
    """Train; return the validation losses, or none if they diverge."""
    try:
        return studies.train(chosen, images.train, images.validation)[1]
    except callbacks.DivergedError:
        return []


def run(arguments):
    """Make the runs that are missing, those that no other process makes."""
    images, end = Images(arguments), time.monotonic() + arguments.seconds
    every = planned()
    todo = [(study, *item) for study in arguments.studies for item in every[study].items()]
    harness.write(arguments.parts / "about.json", about(images))
    for study, name, (make, *given) in tqdm(todo, unit=" runs"):
        path = arguments.parts / study / f"{name}.json"
        if time.monotonic() > end or path.exists() or not claim(path):
            continue
        keras.backend.clear_session()
        start = time.perf_counter()
        found = make(images, *given)
        found["seconds"] = round(time.perf_counter() - start)
        harness.write(path, harness.rounded(found, ".5g"))


def claim(path):
    """Say that a run is made here; False if another process has said so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        path.with_suffix(".claim").open("x").close()
        return True
    return False


def about(images):
    """Describe what all runs have in common."""
    described = {
        name: {"settings": one.settings.to_dict(), "regression": one.regression}
        for name, one in studies.VARIANTS.items()
    }
    return {
        "environment": runs.environment(),
        "data": images.described(),
        "point": scale.ablation.POINT,
        "variants": described,
        "tuned": studies.TUNED.to_dict(),
        "searched": {**studies.SEARCHED, "batch_size": studies.BATCH_SIZES},
        "next": studies.NEXT.to_dict(),
        "photograph": PHOTOGRAPH,
        "iterations": config.OVERFIT.epochs,
    }


def join(arguments):
    """Put the files of all runs together, a line for each, in the order of the plan."""
    record = json.loads((arguments.parts / "about.json").read_text())
    studies_of = []
    for study, items in planned().items():
        paths = [arguments.parts / study / f"{name}.json" for name in items]
        lines = [json.dumps(json.loads(path.read_text())) for path in paths if path.exists()]
        studies_of.append(f'"{study}": [\n' + ",\n".join(lines) + "\n]")
    head = json.dumps(record)
    harness.write(arguments.record, f"{head[:-1]}, " + ",\n".join(studies_of) + "}\n")


def parse():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("run", "join"))
    parser.add_argument("--train", help="a packed set to train on")
    parser.add_argument("--val", help="a packed set to measure on")
    parser.add_argument("--studies", nargs="+", choices=planned(), default=[*planned()])
    parser.add_argument("--parts", type=Path, default=PARTS, help=f"default: {PARTS}")
    parser.add_argument("--record", type=Path, default=RECORD, help=f"default: {RECORD}")
    parser.add_argument("--seconds", type=float, default=np.inf, help="begin no run after that")
    return parser.parse_args()


if __name__ == "__main__":
    given = parse()
    {"run": run, "join": join}[given.what](given)
