"""Learn one photograph by heart: learning rates, the plateau rule, initializers.

    python benchmarks/overfit.py [--output data/runs/overfit/overfit.json]

Figures 3 and 4 of the report, drawn by notebook 03 from the file this writes: for each run the
loss of every iteration, the learning rate, and the colors the network ends with, but not its
weights. Runs that are in the file already are not made again, so a stopped script goes on.

An "epoch" is one iteration here, and the validation photograph is the training photograph, seen
through BatchNorm's running statistics. These need tens of iterations before that loss means
anything, so the plateau rule watches the training loss, with the report's patience: after ten
iterations without a better one the rate is multiplied by 0.2.
"""

import functools
import json
import time
from pathlib import Path

import harness
import keras
from skimage.metrics import peak_signal_noise_ratio
from tqdm.auto import tqdm

from colorlib import (
    callbacks,
    colorize,
    colorspace,
    config,
    generator,
    model,
    runs,
    samples,
    training,
)

PHOTOGRAPH = "flower"
"""Of the samples at 64 pixels, the one whose colors spread most evenly over the bins."""

RATES = (1e-2, 1e-3, 1e-4, 3e-5)
INITIALIZERS = ("he_normal", "glorot_normal", "glorot_uniform")
BASE = config.OVERFIT.replace(learning_rate=1e-4)
OUTPUT = config.RUNS / "overfit" / "overfit.json"


def planned():
    """Return the settings of all runs by name: rates without and with the rule, initializers."""
    rates = {f"{rate:g}": BASE.replace(learning_rate=rate) for rate in RATES}
    rule = dict(plateau_patience=10, plateau_factor=0.2)
    return {
        **{f"{rate} kept": settings for rate, settings in rates.items()},
        **{f"{rate} reduced": settings.replace(**rule) for rate, settings in rates.items()},
        **{name: BASE.replace(initializer=name) for name in INITIALIZERS},
    }


class Overfitter:
    """A network of one width, compiled once, that is reset for each run."""

    def __init__(self, photograph, settings):
        training.make_deterministic(settings.seed)
        self.photograph = photograph
        self.batch = generator.encode(photograph[None])
        self.network = model.model_for(settings)
        training.compile_model(self.network, settings, steps_per_epoch=1)
        self.network.optimizer.build(self.network.trainable_variables)
        self.start = callbacks.capture(self.network)

    def run(self, settings, name=""):
        """Train for `settings.epochs` iterations; return what is recorded."""
        callbacks.assign(self.network, self.start)
        self.network.set_weights(model.model_for(settings).get_weights())
        self.network.optimizer.learning_rate = settings.learning_rate
        rule = self.plateau_rule(settings)
        start, rows = time.perf_counter(), []
        diverged = callbacks.StopWhenDiverged(name)
        with callbacks.Interrupt() as interrupt:
            for iteration in tqdm(range(settings.epochs), name, unit=" iterations"):
                rows.append(self.iterate())
                logs = {"loss": rows[-1][0]}
                interrupt.on_train_batch_end(iteration)
                diverged.on_train_batch_end(iteration, logs)
                if settings.plateau_patience:
                    rule.on_epoch_end(iteration, logs)
        columns = zip(*rows, strict=True)
        curves = dict(zip(("loss", "val_loss", "rate"), map(list, columns), strict=True))
        seconds = round(time.perf_counter() - start)
        return {"settings": settings.to_dict(), "seconds": seconds, **self.result(), **curves}

    def plateau_rule(self, settings):
        """Return Keras' rule, about to start."""
        rule = keras.callbacks.ReduceLROnPlateau(
            "loss", settings.plateau_factor, settings.plateau_patience, min_delta=0.0
        )
        rule.set_model(self.network)
        rule.on_train_begin()
        return rule

    def iterate(self):
        """Make a step; return its loss, the validation loss after it, and its rate."""
        rate = float(self.network.optimizer.learning_rate)
        self.network.reset_metrics()  # or Keras would average the losses since the start
        loss = self.network.train_on_batch(*self.batch, return_dict=True)["loss"]
        self.network.reset_metrics()
        val_loss = self.network.test_on_batch(*self.batch, return_dict=True)["loss"]
        return round(float(loss), 4), round(float(val_loss), 4), float(f"{rate:.4g}")

    def result(self):
        """Color the photograph; return (a, b) rounded to tenths, and how close it comes in dB."""
        decoding = config.DecodeConfig(working_size=len(self.photograph))
        lightness = colorspace.rgb_to_lab(self.photograph)[..., 0]
        ab = colorize.Colorizer(self.network, decoding).predict_ab(lightness).round(1)
        colored = colorize.apply_colors(lightness, ab)
        psnr = peak_signal_noise_ratio(self.photograph, colored)
        return {"psnr": round(psnr, 2), "ab": ab.astype(float).round(1).tolist()}


def would_fire(settings, losses):
    """Say whether the plateau rule would have reduced the rate of a run without it."""
    best, wait = float("inf"), 0
    for loss in losses:
        best, wait = (loss, 0) if loss < best else (best, wait + 1)
        if wait >= settings.plateau_patience:
            return True
    return False


def record_run(name, settings, done, overfitter_for):
    """Make a run, or take one that is the same: of equal settings, or if the rule never fires."""
    equal = [run for run in done.values() if is_done(settings, run)]
    if equal:
        return equal[0]
    kept = done.get(name.replace("reduced", "kept"))
    if settings.plateau_patience and kept and not would_fire(settings, kept["loss"]):
        return {**kept, "settings": settings.to_dict()}
    return overfitter_for(settings.width).run(settings, name)


def is_done(settings, run):
    """Say whether a recorded run has these settings."""
    return run is not None and config.TrainConfig(**run["settings"]) == settings


def write(path, record):
    """Write the record whole or not at all, a run a line."""
    lines = [f"  {json.dumps(name)}: {json.dumps(run)}" for name, run in record["runs"].items()]
    head = json.dumps({k: v for k, v in record.items() if k != "runs"})
    harness.write(path, f'{head[:-1]}, "runs": {{\n' + ",\n".join(lines) + "\n}}\n")


def main():
    """Make the runs that are missing."""
    parser = harness.parser(__doc__, to_json=False)
    parser.add_argument("--output", type=Path, default=OUTPUT, help=f"default: {OUTPUT}")
    path = parser.parse_args().output
    record = {"photograph": PHOTOGRAPH, "environment": runs.environment(), "runs": {}}
    if path.exists():
        record = json.loads(path.read_text())
    photograph = samples.square(record["photograph"], BASE.image_size)
    overfitter_for = functools.cache(lambda w: Overfitter(photograph, BASE.replace(width=w)))
    done = record["runs"]
    for name, settings in planned().items():
        if is_done(settings, done.get(name)):
            continue
        done[name] = record_run(name, settings, done, overfitter_for)
        write(path, record)
        tqdm.write(f"{name}: {done[name]['psnr']} dB")


if __name__ == "__main__":
    main()
