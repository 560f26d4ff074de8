"""How much faster two processes train than one, each on a core of its own.

    python benchmarks/distributed.py [--images 1024] [--epochs 3] [--json FILE.json]

`MODEL_64_QUARTER` in float32 on patches of the sample photographs, with the backend JAX: one
process on one core, then two processes on two cores, connected as `colorlib train --processes 2`
does it. Numbers are those of the best epoch; the first one compiles. Images per CPU second, of all
processes together, suffer less from other work on the machine: two processes that lose nothing by
working together have as many as one. What they lose, they lose in each step, whatever its batch, so
there are rows for small and for large batches. The losses are to agree.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import harness
import numpy as np

from colorlib import distributed

NAMES = "batch", "processes", "images_per_second", "images_per_cpu_second", "loss"

ROW = "{:>6} {:>9} {:>9} {:>13} {:>9}"

BATCHES = 64, 512


def train(folder, images, epochs, batch):
    """Train as one of the processes, on the core of its number."""
    import keras

    from colorlib import config, samples, training

    rank = (distributed.announced() or (0,))[0]
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[rank]})
    distributed.join()
    settings = config.MODEL_64_QUARTER.replace(epochs=epochs, precision="float32", batch_size=batch)
    patches = samples.patches(images + 64, 64)
    times = []
    clock = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: times.append(time.process_time())
    )
    train_, val = patches[64:], patches[:64]
    training.train(settings, train_, val, folder, [clock], progress=False, workers=1)
    if rank == 0:
        harness.write(Path(folder) / "cpu.json", float(min(np.diff(times))))


def measure(folder, batch, processes, given):
    """Run so many processes; return the table's row."""
    run = folder / f"run-{batch}-{processes}"
    command = [sys.executable, __file__, "--images", str(given.images), "--batch", str(batch)]
    command += ["--epochs", str(given.epochs), "--worker", str(run)]
    if processes == 1:
        subprocess.run(command, check=True)
    elif failure := distributed.launch(command, processes):
        raise SystemExit(failure)
    from colorlib import runs

    history = runs.load_run(run).history
    cpu = json.loads((run / "cpu.json").read_text())
    best = max(history["images_per_second"])
    row = batch, processes, best, given.images / cpu / processes, history["loss"][-1]
    return dict(zip(NAMES, row, strict=True))


def main():
    parser = harness.parser(__doc__)
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=BATCHES[0], help=argparse.SUPPRESS)
    parser.add_argument("--cache", type=Path, help="folder for JAX's compiled programs")
    parser.add_argument("--worker", help="train into this run, as one of the processes")
    given = parser.parse_args()
    os.environ["KERAS_BACKEND"] = "jax"
    if given.cache:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(given.cache)
    if given.worker:
        train(given.worker, given.images, given.epochs, given.batch)
        return
    print(ROW.format("batch", "processes", "images/s", "images/CPU s", "loss"))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for batch, processes in itertools.product(BATCHES, (1, 2)):
            rows.append(measure(Path(folder), batch, processes, given))
            *counts, speed, efficiency, loss = rows[-1].values()
            print(ROW.format(*counts, *(f"{x:.4f}" for x in (speed, efficiency, loss))), flush=True)
    about = {"images": given.images, "epochs": given.epochs, **harness.machine()}
    harness.write(given.json, {**about, "rows": harness.rounded(rows, ".5g")})


if __name__ == "__main__":
    main()
