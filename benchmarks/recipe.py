"""What each change of a recipe buys: one change at a time, on an equal small budget.

    python benchmarks/recipe.py model-64 --train TRAIN.h5 --val VAL.h5 [--only NAME ...]
    python benchmarks/recipe.py transfer --train TRAIN.h5 --val VAL.h5

Every row trains the same base for one pass over the same images, with one setting changed, and is
measured on the same validation images: as it is, and at equal colorfulness, with the rebalancing
strength at which the colors are half as colorful as the true ones. Of model-64 the base is the
preset MODEL_64_QUARTER at an eighth of the width on 32x32 crops (notebook 05 shows the table); of
transfer it is TRANSFER_DECODER (notebook 09). Rows that are done already are kept, so that it can
be stopped at any time.
"""

import json
import tempfile
from pathlib import Path

import harness
import keras
import numpy as np

from colorlib import colorize, colorspace, config, evaluate, metrics, runs, store, training

BASE = config.MODEL_64_QUARTER.replace(width=1 / 8, crop=32, epochs=1)

RECIPE_OF_THE_REPORT = config.REPORT_64.replace(
    network="table_1",
    batch_size=128,  # as recorded, before its code was read
    width=BASE.width,
    crop=BASE.crop,
    epochs=1,
    precision=BASE.precision,
)

MODEL_64_ROWS = {
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

TRANSFER_ROWS = {
    "frozen encoder": {},
    "frozen encoder, another seed": {"seed": 1},
    "all of it, the encoder at 0.2 of the rate": {"encoder_rate": 0.2},
    "from scratch": {"encoder_rate": 1.0, "pretrained": False},
    "frozen encoder, rebalanced, lambda 0.5": {"rebalance": 0.5},
    "frozen encoder, no degradations": {"degrade": 0.0},
    "all of it, one rate": {"encoder_rate": 1.0},
    "frozen encoder of Lite2": {"network": "lite2"},
    "frozen encoder, half the decoder": {"width": 0.5},
    "frozen encoder, crops of at least 8%": {"crop_scale": 0.08},
}

RECIPES = {
    "model-64": (BASE, {"the report's recipe": RECIPE_OF_THE_REPORT.to_dict(), **MODEL_64_ROWS}),
    "transfer": (config.TRANSFER_DECODER.replace(epochs=1), TRANSFER_ROWS),
}
"""The base of each recipe, and what each row changes."""

SHARE = 0.5
"""Of the true images' colorfulness, at which rows are compared."""

STRENGTHS = (-2.0, 2.0)
"""Between which the rebalancing strength is sought."""


def main():
    arguments = parse()
    base, changes = RECIPES[arguments.recipe]
    train = evenly(arguments.train, arguments.images)
    validation = evenly(arguments.val, arguments.validation)
    results = config.RUNS / "recipe" / f"{arguments.recipe}.json"
    data = training.described(train, validation)
    found = {"environment": runs.environment(), "data": data, "ours": base.to_dict(), "rows": []}
    if results.exists():
        found = json.loads(results.read_text())
        if found["data"] != data:
            raise SystemExit(f"{results}: was made of other images; delete it to start again")
    for name in arguments.only or changes:
        if any(row["name"] == name for row in found["rows"]):
            continue
        settings = base.replace(**changes[name])
        found["rows"].append({"name": name, **measure(settings, train, validation)})
        harness.write(results, found)
        print(json.dumps(found["rows"][-1]), flush=True)


def parse():
    parser = harness.parser(__doc__, to_json=False)
    parser.add_argument("recipe", choices=RECIPES, help="whose settings are changed")
    parser.add_argument("--train", nargs="+", required=True, help="packed sets to train on")
    parser.add_argument("--val", nargs="+", required=True, help="packed sets to measure on")
    parser.add_argument("--images", type=int, default=32768, help="seen in each training")
    parser.add_argument("--validation", type=int, default=2000, help="measured on")
    parser.add_argument("--only", nargs="+", help="rows to do; all by default")
    return parser.parse_args()


def evenly(paths, count):
    """Read so many images of packed sets, spread evenly."""
    packed = store.Store(*paths)
    return packed.read(evaluate.chosen(len(packed), count))


def measure(settings, train, validation):
    """Train, and measure: plainly decoded, and at equal colorfulness."""
    keras.backend.clear_session()
    with tempfile.TemporaryDirectory() as folder:
        run = training.train(settings, train, validation, Path(folder) / "run")
        strength = strength_for(run, validation, SHARE)
        return {
            **evaluate.evaluate(run, validation, vividness=strength),
            "images_per_second": run.history["images_per_second"][-1],
        }


def strength_for(run, validation, share, count=100, steps=12):
    """Find the rebalancing strength at which colors reach a share of the true colorfulness."""
    indices = evaluate.chosen(len(validation), count)
    size, crop = run.settings.image_size, run.settings.crop
    batches = evaluate.pairs_of_crops(validation, indices, size, crop)
    crops = np.concatenate([batch for batch, _ in batches])
    lightness = colorspace.rgb_to_lab(crops)[..., 0]
    base = colorize.colorizer_for(run)
    answers = [base.network.predict_on_batch(one[None, ..., None]) for one in lightness]
    logits = np.concatenate(answers)
    wanted = share * metrics.colorfulness(crops).mean()
    low, high = STRENGTHS
    for _ in range(steps):
        middle = (low + high) / 2
        decoding = base.decoding.replace(vividness=middle)
        colorizer = colorize.Colorizer(base.network, decoding, base.weights)
        colored = evaluate.paint(lightness, evaluate.decode(colorizer, logits, lightness))
        less = metrics.colorfulness(colored).mean() < wanted
        low, high = (middle, high) if less else (low, middle)
    return (low + high) / 2


if __name__ == "__main__":
    main()
