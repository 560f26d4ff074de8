"""How much faster two processes train than one, each on a core of its own.

    python benchmarks/distributed.py [--images 256] [--epochs 3] [--json FILE.json]

`MODEL_64_QUARTER` in float32 on patches of the sample photographs, with the backend JAX, in
batches of 64: one process on one core, then two processes on two cores, connected as `colorlib
train --processes 2` does it. Seconds are those of the fastest epoch; the first one compiles.
The losses of both are in the table as well: they are to agree.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import harness

from colorlib import distributed

ROW = "{processes:>9} {images_per_second:>9} {loss:>9}"


def train(folder, images, epochs):
    """Train as one of the processes, on the core of its number."""
    import keras

    from colorlib import config, samples, training

    rank = (distributed.announced() or (0,))[0]
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[rank]})
    distributed.join()
    settings = config.MODEL_64_QUARTER.replace(epochs=epochs, precision="float32")
    patches = samples.patches(images + 64, 64)
    keras.config.disable_interactive_logging()
    training.train(settings, patches[64:], patches[:64], folder, progress=False, workers=1)


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
    return {
        "processes": processes,
        "images_per_second": max(history["images_per_second"]),
        "loss": history["loss"][-1],
    }


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
    print(ROW.format(processes="processes", images_per_second="images/s", loss="loss"))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for processes in (1, 2):
            rows.append(measure(Path(folder), processes, given))
            shown = {"images_per_second": ".1f", "loss": ".5f"}
            cells = {name: format(rows[-1][name], form) for name, form in shown.items()}
            print(ROW.format(processes=processes, **cells), flush=True)
    about = {"images": given.images, "epochs": given.epochs, **harness.machine()}
    harness.write(given.json, {**about, "rows": harness.rounded(rows, ".5g")})


if __name__ == "__main__":
    main()
