"""Why was validation erratic? Each fault switched on alone, on an equal small budget.

    python benchmarks/ablation.py --train TRAIN.h5 --val VAL.h5 [--only NAME ...] [--seeds 0 1 2]

Every run sees the same number of images, of the same 768, and is measured on the same 1000.
Runs that are in the record already are not made again, so it can be stopped at any time, and two
may run at once with different names. Notebook 08 reads the record.
"""

import json
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import harness
import keras

from colorlib import config, evaluate, runs, store
from colorlib.experiments import ablation

RECORD = config.RUNS / "ablation" / "ablation.json"


def main():
    """Make the runs that are missing."""
    arguments = parse()
    train = evenly(arguments.train, arguments.images)
    validation = evenly(arguments.val, arguments.validation)
    data = {"train_images": len(train), "validation_images": len(validation)}
    for seed in arguments.seeds:
        for name in arguments.only or ablation.FAULTS:
            if any((run["fault"], run["seed"]) == (name, seed) for run in load(data)["runs"]):
                continue
            run = measure(name, seed, train, validation)
            write(data, run)
            print(json.dumps(run), flush=True)


def parse():
    """Read the command line."""
    parser = harness.parser(__doc__, to_json=False)
    parser.add_argument("--train", required=True, help="a packed set to train on")
    parser.add_argument("--val", required=True, help="a packed set to measure on")
    parser.add_argument("--images", type=int, default=768, help="in an epoch")
    parser.add_argument("--validation", type=int, default=1000, help="measured on")
    parser.add_argument("--only", nargs="+", choices=ablation.FAULTS, help="runs; all by default")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    return parser.parse_args()


def evenly(path, count):
    """Read so many images of a packed set, spread evenly."""
    packed = store.Store(path)
    return packed.read(evaluate.chosen(len(packed), count))


def measure(name, seed, train, validation):
    """Make a run; return what is recorded of it."""
    keras.backend.clear_session()
    start = time.perf_counter()
    fault = ablation.FAULTS[name]
    history = ablation.train(fault, train, validation, ablation.SOUND.replace(seed=seed))
    seconds = round(time.perf_counter() - start)
    curves = {key: [round(float(v), 4) for v in curve] for key, curve in history.items()}
    return {"fault": name, "seed": seed, "seconds": seconds, **curves}


def load(data):
    """Read the record, or begin one."""
    if not RECORD.exists():
        settings = ablation.SOUND.to_dict()
        return {"environment": runs.environment(), "data": data, "sound": settings, "runs": []}
    record = json.loads(RECORD.read_text())
    if (record["data"], config.TrainConfig(**record["sound"])) != (data, ablation.SOUND):
        raise SystemExit(f"{RECORD}: was made with other data or settings; delete it to start anew")
    return record


def write(data, run):
    """Add a run to the record, which is replaced whole: a line for each run, in fixed order."""
    record = load(data)
    names = list(ablation.FAULTS)
    done = [*record.pop("runs"), run]
    done.sort(key=lambda row: (names.index(row["fault"]), row["seed"]))
    lines = ",\n".join(json.dumps(row) for row in done)
    harness.write(RECORD, f'{json.dumps(record)[:-1]}, "runs": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
