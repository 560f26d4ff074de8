"""How much faster two processes train than one, each on a core of its own.

    python benchmarks/distributed.py [--images 256] [--epochs 3] [--json FILE.json]

`MODEL_64_QUARTER` in float32 on patches of the sample photographs, with the backend JAX, in
batches of 64: one process on one core, then two processes on two cores, connected as `colorlib
train --processes 2` does it. Numbers are those of the best epoch; the first one compiles. Images
per CPU second, of all processes together, suffer less from other work on the machine: two processes
that lose nothing by working together have as many as one. The losses are to agree.
"""

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

NAMES = "processes", "images_per_second", "images_per_cpu_second", "loss"

ROW = "{:>9} {:>9} {:>13} {:>9}"


def train(folder, images, epochs):
    """Train as one of the processes, on the core of its number."""
    import keras

    from colorlib import config, samples, training

    rank = (distributed.announced() or (0,))[0]
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[rank]})
    distributed.join()
    settings = config.MODEL_64_QUARTER.replace(epochs=epochs, precision="float32")
    patches = samples.patches(images + 64, 64)
    times = []
    clock = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: times.append(time.process_time())
    )
    train_, val = patches[64:], patches[:64]
    training.train(settings, train_, val, folder, [clock], progress=False, workers=1)
    if rank == 0:
        harness.write(Path(folder) / "cpu.json", float(min(np.diff(times))))


def measure(folder, processes, given):
    """Run so many processes; return the table's row."""
    run = folder / f"run-{processes}"
    command = [sys.executable, __file__, "--images", str(given.images)]
    command += ["--epochs", str(given.epochs), "--worker", str(run)]
    if processes == 1:
        subprocess.run(command, check=True)
    elif failure := distributed.launch(command, processes):
        raise SystemExit(failure)
    from colorlib import runs

    history = runs.load_run(run).history
    cpu = json.loads((run / "cpu.json").read_text())
    best = max(history["images_per_second"])
    row = processes, best, given.images / cpu / processes, history["loss"][-1]
    return dict(zip(NAMES, row, strict=True))


def main():
    parser = harness.parser(__doc__)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--cache", type=Path, help="folder for JAX's compiled programs")
    parser.add_argument("--worker", help="train into this run, as one of the processes")
    given = parser.parse_args()
    os.environ["KERAS_BACKEND"] = "jax"
    if given.cache:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(given.cache)
    if given.worker:
        train(given.worker, given.images, given.epochs)
        return
    print(ROW.format("processes", "images/s", "images/CPU s", "loss"))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for processes in (1, 2):
            rows.append(measure(Path(folder), processes, given))
            count, *numbers = rows[-1].values()
            print(ROW.format(count, *(f"{number:.4f}" for number in numbers)), flush=True)
    about = {"images": given.images, "epochs": given.epochs, **harness.machine()}
    harness.write(given.json, {**about, "rows": harness.rounded(rows, ".5g")})


if __name__ == "__main__":
    main()
