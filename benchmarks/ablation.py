"""Why was validation erratic? Train with the published settings, and undo one thing at a time.

    python benchmarks/ablation.py --train TRAIN.h5 --val VAL.h5 [--only NAME ...] [--seeds 0 1 2]
    python benchmarks/ablation.py --join PART.json ...

TRAIN.h5 and VAL.h5 are Tiny ImageNet, packed (``colorlib pack FOLDER FILE --size 64``). Only images
of four classes are used (`CLASSES`), so that colors can be learned within a minute. Runs that are
in the record already are not made again, so it can be stopped at any time. Several processes take
a ``--part`` and an ``--output`` each, and ``--join`` puts these together. Most runs take batches of
one image, for which ``KERAS_BACKEND=jax`` is faster than TensorFlow.
Notebook 08 reads the record.
"""

import argparse
import json
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from tqdm.auto import tqdm

from colorlib import config, files, runs, store, training
from colorlib.experiments import ablation

RECORD = config.RUNS / "ablation" / "ablation.json"

CLASSES = ("n01910747", "n02074367", "n07747607", "n07749582")
"""Jellyfish, dugong, orange, lemon: those whose colors differ most (by the Kullback-Leibler
divergence) from the mean of all 200 classes."""


def main():
    """Make the runs that are missing."""
    arguments = parse()
    if arguments.join:
        return write(arguments.output, joined(arguments.join))
    train, validation = of_classes(arguments.train), of_classes(arguments.val)
    data = {"classes": CLASSES, **training.described(train, validation)}
    record = load(arguments.output, data)
    done = {(run["recipe"], run["seed"]) for run in record["runs"]}
    planned = [(n, s) for s in arguments.seeds for n in arguments.only or ablation.RECIPES]
    first, parts = arguments.part
    planned = planned[first::parts]
    with tqdm([pair for pair in planned if pair not in done], unit=" runs") as bar:
        for name, seed in bar:
            bar.set_postfix_str(f"{name}, seed {seed}")
            record["runs"].append(measure(name, seed, train, validation))
            write(arguments.output, record)


def parse():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", help="a packed set to train on")
    parser.add_argument("--val", help="a packed set to measure on")
    parser.add_argument("--join", type=Path, nargs="+", help="records to put together instead")
    parser.add_argument("--only", nargs="+", choices=ablation.RECIPES, help="all by default")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--part", type=int, nargs=2, default=[0, 1], metavar=("K", "N"))
    parser.add_argument("--output", type=Path, default=RECORD, help=f"default: {RECORD}")
    arguments = parser.parse_args()
    if not (arguments.join or (arguments.train and arguments.val)):
        parser.error("--train and --val are needed, or --join")
    return arguments


def of_classes(path):
    """Read the images of `CLASSES` out of a packed set."""
    packed = store.Store(path)
    wanted = [packed.classes.index(name) for name in CLASSES]
    return packed.read(np.flatnonzero(np.isin(packed.class_ids, wanted)))


def measure(name, seed, train, validation):
    """Make a run; return what is recorded of it."""
    keras.backend.clear_session()
    start = time.perf_counter()
    history = ablation.train(ablation.RECIPES[name].replace(seed=seed), train, validation)
    seconds = round(time.perf_counter() - start)
    rounded = {key: np.round(values, 4).tolist() for key, values in history.items()}
    return {"recipe": name, "seed": seed, "seconds": seconds, **rounded}


def load(path, data):
    """Read the record, or begin one; name this machine in it."""
    begun = {"data": data, "recipes": described(), "points": points()}
    begun = json.loads(json.dumps(begun))
    record = {"environments": [], **begun, "runs": []}
    if path.exists():
        record = json.loads(path.read_text())
    if {key: record.get(key) for key in begun} != begun:
        raise SystemExit(f"{path}: was made with other data or settings; delete it to start anew")
    return {**record, "environments": united([*record["environments"], runs.environment()])}


def united(environments):
    """Return each environment once."""
    return [one for k, one in enumerate(environments) if one not in environments[:k]]


def joined(paths):
    """Put the runs of several records of the same data and settings together."""
    records = [json.loads(path.read_text()) for path in paths]
    first, runs_of_all = records[0], {}
    for path, record in zip(paths, records, strict=True):
        if any(record[key] != first[key] for key in ("data", "recipes", "points")):
            raise SystemExit(f"{path}: has other data or settings than {paths[0]}")
        runs_of_all |= {(run["recipe"], run["seed"]): run for run in record["runs"]}
    environments = [one for record in records for one in record["environments"]]
    return {**first, "environments": united(environments), "runs": list(runs_of_all.values())}


def described():
    """Return all recipes, ready for JSON."""
    return {
        name: {**vars(recipe), "settings": recipe.settings.to_dict()}
        for name, recipe in ablation.RECIPES.items()
    }


def points():
    """Return how many images lie between two points, and how many points a run has."""
    return {
        "images": ablation.POINT,
        "still_images": ablation.STILL_POINT,
        "still": ablation.STILL_POINTS,
    }


def write(path, record):
    """Replace the record whole: a line for each run, in fixed order."""
    names = list(ablation.RECIPES)
    done = sorted(record["runs"], key=lambda run: (names.index(run["recipe"]), run["seed"]))
    head = json.dumps({key: value for key, value in record.items() if key != "runs"})
    lines = ",\n".join(json.dumps(run) for run in done)
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(path) as temporary:
        temporary.write_text(f'{head[:-1]}, "runs": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
