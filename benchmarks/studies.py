"""Record the studies of notebook 13: rebalancing, initialization, regression, and a search.

    python benchmarks/studies.py run --train TRAIN.h5 --val VAL.h5 [--studies NAME ...]
    python benchmarks/studies.py join

TRAIN.h5 and VAL.h5 are as for ``benchmarks/ablation.py``, but packed with ``--size 40``; the same
images of them are used. ``run`` makes the trainings that the record lacks and writes each to a file
of its own; it can be stopped at any time, and any number of processes can share the work. ``join``
adds those files to the record, which the notebook reads. ``KERAS_BACKEND=jax`` is faster for
networks as small as these.
"""

import argparse
import itertools
import json
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import ablation as scale
import filelock
import harness
import keras
import numpy as np
from tqdm.auto import tqdm

from colorlib import callbacks, config, generator, initializers, model, runs, samples, training
from colorlib.experiments import studies, tuning

RECORD = config.RUNS / "studies" / "studies.json"
PARTS = config.HOME / "build" / "studies"
SEEDS = (0, 1, 2)
COUNTS = {"plain": 6, "lambda 0.5": 6, "lambda 1": 1}
"""Seeds of the variants that have more or fewer than three. Three were too few to compare the first
two, and "lambda 1" only has to be the same as "plain"."""

TRIALS = 40
PHOTOGRAPH = "flower"

ABOUT, DATABASE = "about.json", "trials.db"
"""The files beside those of the runs: what all runs have in common, and the search's trials."""


def planned():
    """Return, for each study, the function that makes a run, and the arguments of all runs."""
    variants = grid(seed=range(max(COUNTS.values())), variant=studies.VARIANTS)
    variants = [one for one in variants if one["seed"] < COUNTS.get(one["variant"], len(SEEDS))]
    first = dict(initializer=studies.INITIALIZERS)
    finalists = ("first", "second", "untuned")
    return {
        "variants": (variant, variants),
        "weights": (weights, grid(width=(1 / 16, 1), **first)),
        "overfit": (
            overfitted,
            grid(rate=studies.RATES, way=[*studies.OVERFIT], seed=SEEDS, **first),
        ),
        "trials": (None, []),
        "untuned": (untuned, grid(seed=SEEDS)),
        "finalists": (finalist, grid(seed=SEEDS, finalist=finalists)),
    }


def grid(**values):
    """Return all combinations as dicts; the last name changes fastest."""
    return [dict(zip(values, one, strict=True)) for one in itertools.product(*values.values())]


class Images:
    """The photographs that all runs are made with."""

    def __init__(self, arguments):
        self.train = scale.of_classes(arguments.train)
        self.validation = scale.of_classes(arguments.val)
        self.arguments = arguments

    def described(self):
        """Describe them for the record."""
        return {"classes": scale.CLASSES, **training.described(self.train, self.validation)}


def variant(images, variant, seed):
    """Train a variant and measure it."""
    chosen = studies.VARIANTS[variant]
    chosen = studies.Variant(chosen.settings.replace(seed=seed), chosen.regression)
    network, curve = studies.train(chosen, images.train, images.validation)
    found = studies.report(chosen, network, images.train, images.validation)
    return {"curve": curve, **found}


def weights(images, initializer, width):
    """Measure a network's first weights: means, variances and rates of change of each layer."""
    seen, other = np.split(images.train[:: len(images.train) // 128][:128], 2)
    seen, other = (generator.encode(one[:, 4:36, 4:36])[0] for one in (seen, other))
    from_data = studies.FROM_DATA.get(initializer)
    own = "he_normal" if from_data else initializer
    network = model.build_model(width=width, initializer=own)
    if from_data:
        from_data(network, seen)
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
    return {"layers": layers}


def overfitted(images, way, rate, initializer, seed):
    """Learn one photograph by heart."""
    plan = dict(studies.OVERFIT[way])
    settings = plan.pop("settings")
    settings = settings.replace(learning_rate=rate, initializer=initializer, seed=seed)
    photograph = samples.square(PHOTOGRAPH, settings.image_size)
    seen = images.train[:: len(images.train) // studies.SEEN][: studies.SEEN]
    return studies.overfit(photograph, settings, seen, **plan)


def finalist(images, finalist, seed):
    """Train at the next scale with the settings of one of the two best trials, or our own."""
    settings, params = tuning.NEXT, {}
    if finalist != "untuned":
        trials = [one for one in finished(images.arguments)["trials"] if one["curve"]]
        best = sorted(trials, key=lambda one: one["curve"][-1])
        params = best[("first", "second").index(finalist)]["params"]
        settings = tuning.tuned(settings, params)
    settings = settings.replace(learning_rate=settings.learning_rate / 2, seed=seed)
    return {"params": params, "curve": curve_of(images, settings)}


def untuned(images, seed):
    """Train with our own settings, at the scale of a trial."""
    return {"curve": curve_of(images, tuning.TUNED.replace(seed=seed))}


def search(images):
    """Do the trials that are missing, together with other processes."""

    def curve(params):
        keras.backend.clear_session()
        return curve_of(images, tuning.tuned(tuning.TUNED, params))

    known = finished(images.arguments)["trials"]
    tuning.search(images.arguments.parts / DATABASE, curve, TRIALS, known)


def curve_of(images, settings):
    """Train; return the validation losses, or none if they diverge."""
    try:
        return studies.train(studies.Variant(settings), images.train, images.validation)[1]
    except callbacks.DivergedError:
        return []


def run(arguments):
    """Make the runs that are missing and that no other process is making."""
    images = Images(arguments)
    begun = about(images)
    for path in (arguments.record, arguments.parts / ABOUT):
        check(path, begun)
    begun["environments"] = environments(read(arguments.parts / ABOUT), begun)
    harness.write(arguments.parts / ABOUT, begun)
    for study in arguments.studies:
        make, items = planned()[study]
        if study == "trials":
            search(images)
        there = finished(arguments)[study]
        for given in tqdm(items, unit=" runs", desc=study):
            if not find(there, given):
                attempt(images, make, study, given)


def attempt(images, make, study, given):
    """Make a run, unless another process is making or has made it."""
    path = images.arguments.parts / study / f"{' '.join(map(str, given.values()))}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(path.with_suffix(".lock"), timeout=0):
            if path.exists():
                return
            keras.backend.clear_session()
            begin = time.perf_counter()
            found = {**given, **make(images, **given)}
            found["seconds"] = round(time.perf_counter() - begin)
            harness.write(path, harness.rounded(found, ".5g"))
    except filelock.Timeout:
        pass


def check(path, begun):
    """Stop if a file is about other data or settings."""
    found, wanted = read(path), json.loads(json.dumps(begun))
    if any(found.get(key) != wanted[key] for key in wanted if found and key != "environments"):
        raise SystemExit(f"{path}: is about other data or settings; delete it to start anew")


def read(path):
    """Read a JSON file; a missing one is empty."""
    return json.loads(path.read_text()) if path.exists() else {}


def environments(*records):
    """List the environments of some records, each once."""
    found = [one for record in records for one in record.get("environments", [])]
    return scale.united(found)


def find(found, given):
    """List the runs that were made with these arguments."""
    return [run for run in found if given.items() <= run.items()]


def finished(arguments):
    """Return the finished runs of each study, new or recorded, in the order of the plan."""
    parts, record, found = arguments.parts, read(arguments.record), {}
    for study, (_, items) in planned().items():
        there = [*map(read, (parts / study).glob("*.json")), *record.get(study, [])]
        found[study] = [run for given in items for run in find(there, given)[:1]]
    database = parts / DATABASE
    if database.exists():
        found["trials"] = harness.rounded(tuning.finished_trials(database), ".5g")
    else:
        found["trials"] = record.get("trials", [])
    return found


def about(images):
    """Describe what all runs have in common."""
    described = {
        name: {"settings": one.settings.to_dict(), "regression": one.regression}
        for name, one in studies.VARIANTS.items()
    }
    return {
        "environments": [runs.environment()],
        "data": images.described(),
        "point": scale.ablation.POINT,
        "settings": described,
        "tuned": tuning.TUNED.to_dict(),
        "searched": tuning.SEARCHED,
        "next": tuning.NEXT.to_dict(),
        "photograph": PHOTOGRAPH,
        "iterations": config.OVERFIT.epochs,
    }


def join(arguments):
    """Add the files of all runs to the record, a line for each, in the order of the plan."""
    record, begun = read(arguments.record), read(arguments.parts / ABOUT)
    head = {key: value for key, value in {**record, **begun}.items() if key not in planned()}
    head["environments"] = environments(record, begun)
    lines = [
        f'"{study}": [\n' + ",\n".join(map(json.dumps, found)) + "\n]"
        for study, found in finished(arguments).items()
    ]
    harness.write(arguments.record, f"{json.dumps(head)[:-1]}, " + ",\n".join(lines) + "}\n")


def parse():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("run", "join"))
    parser.add_argument("--train", help="a packed set to train on")
    parser.add_argument("--val", help="a packed set to measure on")
    parser.add_argument("--studies", nargs="+", choices=planned(), default=[*planned()])
    parser.add_argument("--parts", type=Path, default=PARTS, help=f"default: {PARTS}")
    parser.add_argument("--record", type=Path, default=RECORD, help=f"default: {RECORD}")
    arguments = parser.parse_args()
    if arguments.what == "run" and not (arguments.train and arguments.val):
        parser.error("to run, --train and --val are needed")
    return arguments


if __name__ == "__main__":
    given = parse()
    {"run": run, "join": join}[given.what](given)
