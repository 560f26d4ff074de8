"""How fast networks are trained, by each of Keras' backends, next to what the machine can do.

    python benchmarks/training.py [--seconds 5] [--backends tensorflow jax] [--json RESULTS.json]

One table: images per second of a training step of Table 1 at widths 1, 0.5 and 0.25 (56 pixels)
and of the transfer network (128 pixels), in float32, and in bfloat16 where the processor has
instructions for it. Each backend and precision has a process of its own. Steps take turns with the
product of two large matrices, whose speed is the peak; both are the fastest of their turns, since
other work on the machine only makes them slower. The share of the peak is the arithmetic of the
convolutions, three times that of a forward pass, divided by the time of a step and the peak. The
product is the backend's own: PyTorch's is slow in float32 on AMD processors, so its share is high.

Each row is written into the file when it is there, and a row that the file has is not measured
again: a stopped benchmark goes on. With ``--again`` it is, and the faster one is kept, since other
work on the machine only makes it slower.

The parts are differences of times: of a step with another loss, the mean of the logits; and of
one with frozen BatchNorm. The forward pass and the making of a batch in one thread are measured
alone. They are measured for Table 1 at half width, since each needs a compilation of its own, in
two rounds; a part whose rounds differ is left out. With PyTorch its own profiler tells in which
operations a step's time goes.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import harness
import numpy as np

from colorlib import config
from colorlib.cli import shared

NETWORKS = {
    "Table 1, width 1": config.MODEL_64.replace(width=1.0, batch_size=32),
    "Table 1, width 0.5": config.MODEL_64.replace(width=0.5, batch_size=64),
    "Table 1, width 0.25": config.MODEL_64.replace(width=0.25, batch_size=64),
    "transfer": config.TRANSFER_128.replace(batch_size=16, encoder_rate=1.0),
}
"""All layers are trained."""

IN_PARTS = "Table 1, width 0.5"

SIDE = 2048
"""Of the matrices whose product is the machine's peak."""

AGREEMENT = 0.03
"""Shares that differ by more between two rounds are left out."""

ROW = "{backend:10} {precision:14} {network:20} {images_per_second:>8} {share_of_peak:>13}"


def has_bfloat16():
    """Return whether the processor says that it multiplies bfloat16."""
    flags = Path("/proc/cpuinfo")
    return flags.is_file() and "bf16" in flags.read_text()


def in_turns(seconds, *jobs):
    """Do jobs in turn, so that other work slows all alike; return the fewest seconds of each."""
    for job in jobs:
        job()  # compiles it
    took, begin = [], time.perf_counter()
    while len(took) < 3 or time.perf_counter() - begin < seconds:
        took.append([seconds_of(job) for job in jobs])
    return np.min(took, axis=0).tolist()


def seconds_of(job):
    start = time.perf_counter()
    job()
    return time.perf_counter() - start


def matrix_product(precision):
    """Return a job that multiplies two large matrices, by the backend that is set."""
    import keras

    dtype = "bfloat16" if "bfloat16" in precision else "float32"
    a = keras.ops.cast(np.random.default_rng(0).random((SIDE, SIDE), np.float32), dtype)

    def job():  # a number of the result has to be there
        np.asarray(keras.ops.cast(keras.ops.matmul(a, a)[0, 0], "float32"))

    return job


def flop(network):
    """Return the FLOP of all convolutions of a training step, for one image."""
    total = 0
    for layer in network.layers:
        if "conv" in type(layer).__name__.lower():
            # each weight of a kernel is used once for each of these pixels
            pixels = layer.input if "Transpose" in type(layer).__name__ else layer.output
            total += 2 * int(np.prod(layer.kernel.shape) * np.prod(pixels.shape[1:3]))
    return 3 * total


def network_for(settings, loss=None, frozen=()):
    """Build and compile a network, with another loss, or with frozen kinds of layers."""
    import keras

    from colorlib import model, training

    keras.utils.clear_session(free_memory=False)
    network = model.model_for(settings)
    for layer in network.layers:
        if type(layer).__name__ in frozen:
            layer.trainable = False
    training.compile_model(network, settings.replace(rebalance=None), 1000)
    if loss is not None:
        network.compile(optimizer=network.optimizer, loss=loss)
    return network


def measure(precision, seconds, networks):
    """Yield a row for each of these networks, with the backend that is set."""
    import keras

    from colorlib import generator, samples

    product = matrix_product(precision)
    for name in networks:
        settings = NETWORKS[name].replace(precision=precision)
        batches = generator.ColorBatches(
            samples.patches(settings.batch_size, settings.image_size),
            settings.batch_size,
            settings.crop,
            workers=0,
        )
        batch = batches[0]
        network = network_for(settings)
        jobs = (lambda n=network, b=batch: n.train_on_batch(*b)), product
        step, peak = in_turns(seconds, *jobs)
        peak = 2 * SIDE**3 / peak
        row = {
            "backend": keras.backend.backend(),
            "precision": precision,
            "network": name,
            "pixels": settings.crop,
            "batch": settings.batch_size,
            "peak_gflops": peak / 1e9,
            "images_per_second": settings.batch_size / step,
            "load": os.getloadavg()[0],
        }
        fixed = keras.models.clone_model(
            network, input_tensors=keras.Input((settings.crop, settings.crop, 1))
        )
        row["share_of_peak"] = flop(fixed) * settings.batch_size / step / peak
        if name == IN_PARTS:
            row["share_of_step"] = parts(settings, network, batches, seconds)
        if keras.backend.backend() == "torch":
            row["share_of_operations"] = operations(jobs[0])
        yield row


def parts(settings, network, batches, seconds):
    """Return parts of a step, as shares of its time; feeding is one thread's, beside the step."""
    import keras

    lightness, codes = batches[0]
    cheap = network_for(settings, loss=lambda _, logits: keras.ops.mean(logits))
    frozen = network_for(settings, frozen=("BatchNormalization",))
    steps = [lambda n=n: n.train_on_batch(lightness, codes) for n in (network, cheap, frozen)]
    others = (lambda: network.predict_on_batch(lightness)), (lambda: batches[0])
    rounds = []
    for _ in range(2):
        step, *without, forward, feeding = in_turns(seconds, *steps, *others)
        shares = [forward / step, *(1 - other / step for other in without), feeding / step]
        rounds.append(dict(zip(("forward", "loss", "batch_norm", "feeding"), shares, strict=True)))
    one, other = rounds
    return {x: (one[x] + other[x]) / 2 for x in one if abs(one[x] - other[x]) <= AGREEMENT}


def operations(step):
    """Return the shares of a step's time in PyTorch's operations, by its own profiler."""
    from torch import profiler

    with profiler.profile(activities=[profiler.ProfilerActivity.CPU]) as profile:
        step()
        step()
    taken = {event.key: event.self_cpu_time_total for event in profile.key_averages()}
    total = sum(taken.values())
    kinds = {"convolutions": "conv", "copies": "copy_"}
    shares = {x: sum(taken[key] for key in taken if kinds[x] in key) / total for x in kinds}
    return {**shares, "others": 1 - sum(shares.values())}


def shown(row):
    """Write a row as a line of the table."""
    numbers = {
        "images_per_second": f"{row['images_per_second']:.1f}",
        "share_of_peak": f"{row['share_of_peak']:.0%}",
    }
    line = ROW.format(**{**row, **numbers})
    shares = {**row.get("share_of_step", {}), **row.get("share_of_operations", {})}
    return line + "".join(f"  {name} {shares[name]:.0%}" for name in shares)


def read(path):
    """Return the rows that the file has, by what they measure."""
    rows = json.loads(path.read_text())["rows"] if path and path.exists() else []
    return {key(row): row for row in rows}


def key(row):
    return row["backend"], row["precision"], row["network"]


def main():
    parser = harness.parser(__doc__)
    parser.add_argument("--seconds", type=float, default=5, help="for each row (default: 5)")
    installed = shared.installed_backends()
    parser.add_argument("--backends", nargs="+", default=installed, choices=installed)
    parser.add_argument("--again", action="store_true", help="measure all; the faster row is kept")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), help="of the table")
    parser.add_argument("--measure", help=argparse.SUPPRESS)  # a precision: by the set backend
    given = parser.parse_args()
    if given.measure:
        for row in measure(given.measure, given.seconds, given.networks):
            print(json.dumps(row), flush=True)
        return
    precisions = ["float32", "mixed_bfloat16"] if has_bfloat16() else ["float32"]
    names = ("backend", "precision", "network", "images_per_second", "share_of_peak")
    print(ROW.format(**{**dict(zip(names, names, strict=True)), "images_per_second": "images/s"}))
    rows = read(given.json)
    for row in rows.values():
        print(shown(row), flush=True)
    for backend, precision in itertools.product(given.backends, precisions):
        done = {} if given.again else rows
        networks = [name for name in given.networks if (backend, precision, name) not in done]
        if not networks:
            continue
        command = [sys.executable, __file__, "--measure", precision, "--networks", *networks]
        command += ["--seconds", str(given.seconds)]
        environment = {**os.environ, "KERAS_BACKEND": backend}
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
            for line in process.stdout:
                row = harness.rounded(json.loads(line))
                print(shown(row), flush=True)
                fastest = max(row, rows.get(key(row), row), key=lambda x: x["images_per_second"])
                rows[key(row)] = fastest
                harness.write(given.json, {**harness.machine(), "rows": list(rows.values())})
        if process.returncode:
            sys.exit(f"{backend}, {precision}: stopped with an error")


if __name__ == "__main__":
    main()
