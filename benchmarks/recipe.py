"""What each change from the report's recipe buys: one change at a time, on an equal small budget.

    python benchmarks/recipe.py --train TRAIN.h5 --val VAL.h5 [--images 32768] [--only NAME ...]

Every row trains the preset MODEL_64_QUARTER at an eighth of the width on 32x32 crops, for one pass
over the same images, with one setting changed, and is measured on the same validation images. Rows
that are done already are kept, so that it can be stopped at any time; notebook 05 shows the table.
"""

import argparse
import json
import tempfile
from pathlib import Path

import keras

from colorlib import config, evaluate, images, runs, store, training

BASE = config.MODEL_64_QUARTER.replace(width=1 / 8, crop=32, epochs=1)

RECIPE_OF_THE_REPORT = config.REPORT_64.replace(
    width=BASE.width, crop=BASE.crop, epochs=1, precision=BASE.precision
)

ROWS = {
    "ours": {},
    "ours, another seed": {"seed": 1},
    "output not started from the prior": {"start_from_prior": False},
    "no flips": {"flip": False},
    "batches of 16": {"batch_size": 16},
    "batches of 256": {"batch_size": 256},
    "rate 3e-4": {"learning_rate": 3e-4},
    "rate 3e-3": {"learning_rate": 3e-3},
    "Adam, constant rate": {"optimizer": "adam", "schedule": "constant"},
    "L2 1e-4, as the report": {"l2": 1e-4},
    "L2 7.8e-6, the paper's 1e-3": {"l2": 7.8e-6},
    "average of the weights (EMA)": {"ema": 0.99},
    "BatchNorm momentum 0.9": {"batch_norm_momentum": 0.9},
    "Glorot-normal": {"initializer": "glorot_normal"},
    "rebalanced, lambda 0.5": {"rebalance": 0.5},
}

RESULTS = config.RUNS / "recipe" / "recipe.json"


def main():
    arguments = parse()
    train = evenly(arguments.train, arguments.images)
    validation = evenly(arguments.val, arguments.validation)
    rows = {"the report's recipe": RECIPE_OF_THE_REPORT}
    rows |= {name: BASE.replace(**changes) for name, changes in ROWS.items()}
    data = {"train_images": len(train), "validation_images": len(validation)}
    found = {"environment": runs.environment(), "data": data, "ours": BASE.to_dict(), "rows": []}
    if RESULTS.exists():
        found = json.loads(RESULTS.read_text())
        if found["data"] != data:
            raise SystemExit(f"{RESULTS}: was made of {found['data']}; delete it to start anew")
    for name in arguments.only or rows:
        settings = rows[name]
        if any(row["name"] == name for row in found["rows"]):
            continue
        found["rows"].append({"name": name, **measure(settings, train, validation)})
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        with images.replacing(RESULTS) as temporary:
            temporary.write_text(json.dumps(found, indent=1) + "\n")
        print(json.dumps(found["rows"][-1]), flush=True)


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", required=True, help="a packed set to train on")
    parser.add_argument("--val", required=True, help="a packed set to measure on")
    parser.add_argument("--images", type=int, default=32768, help="seen in each training")
    parser.add_argument("--validation", type=int, default=2000, help="measured on")
    parser.add_argument("--only", nargs="+", help="rows to do; all by default")
    return parser.parse_args()


def evenly(path, count):
    """Read so many images of a packed set, spread evenly."""
    packed = store.Store(path)
    return packed.read(evaluate.chosen(len(packed), count))


def measure(settings, train, validation):
    """Train, and measure without the vividness that the recorded runs add."""
    keras.backend.clear_session()
    with tempfile.TemporaryDirectory() as folder:
        run = training.train(settings, train, validation, Path(folder) / "run")
        return evaluate.evaluate(run, validation)


if __name__ == "__main__":
    main()
