"""Compile, fit, and record a run.

Not here: the record itself (`colorlib.runs`), what is trained (`colorlib.model`), on what
(`colorlib.generator`), and the settings (`colorlib.config`). Chapter 4 of the report.
"""

import time

import keras
import numpy as np
from tqdm.auto import tqdm

from colorlib import generator, losses, model, quantizer, runs


def train(settings, images_train, images_val, run_path, callbacks=(), progress=True):
    """Train the network and record the run.

    Parameters
    ----------
    settings : colorlib.config.TrainConfig
        How.
    images_train, images_val : Store or ndarray of uint8, shape (n, size, size, 3)
        On what, and what to measure on after each epoch (centre crops).
    run_path : path-like
        The run's folder; made if missing. It is complete after each epoch, so Ctrl-C loses
        nothing but the epoch it interrupts.
    callbacks : sequence of keras.callbacks.Callback
        To go with the run's own.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    colorlib.runs.Run
        The recorded run.

    Raises
    ------
    ValueError
        If the settings don't fit the images.
    """
    keras.utils.set_random_seed(settings.seed)
    batches = _batches(settings, images_train, train=True)
    validation = _batches(settings, images_val, train=False)
    prior = quantizer.prior(_histogram(images_train))
    network = model.model_for(settings)
    compile_model(network, settings, len(batches), prior)
    data = {"train_images": len(images_train), "validation_images": len(images_val)}
    path = runs.begin(run_path, settings, data, prior)
    record = Record(path, len(images_train))
    own = [SetEpoch(batches), record, *([ProgressBar(settings.epochs)] if progress else [])]
    try:
        network.fit(
            batches,
            validation_data=validation,
            epochs=settings.epochs,
            callbacks=[*own, *callbacks],
            shuffle=False,  # Keras would shuffle with a global random state
            verbose=0,
        )
    finally:
        record.flush()
    return runs.load_run(path)


def compile_model(network, settings, steps_per_epoch, prior=None):
    """Give a network the optimizer, loss and metric of a configuration.

    Parameters
    ----------
    network : keras.Model
        From `model.model_for`.
    settings : colorlib.config.TrainConfig
    steps_per_epoch : int
        Batches in an epoch; the cosine schedule ends with the last of `settings.epochs`.
    prior : ndarray, shape (313,), optional
        Needed where `settings.rebalance` is not None.
    """
    weights = None
    if settings.rebalance is not None:
        weights = quantizer.rebalancing_weights(prior, settings.rebalance)
    network.compile(
        optimizer=_optimizer(settings, steps_per_epoch * settings.epochs),
        loss=losses.SoftCrossEntropy(weights),
        metrics=[losses.Accuracy()],
    )


class SetEpoch(keras.callbacks.Callback):
    """Tell the batches which epoch it is: Keras itself does not, reliably."""

    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def on_epoch_begin(self, epoch, logs=None):
        """Set the epoch."""
        self.batches.epoch = epoch


class Record(keras.callbacks.Callback):
    """Write history and weights into the run's folder: after an epoch, once a minute at most."""

    SECONDS = 60

    def __init__(self, path, image_count):
        super().__init__()
        self.path, self.image_count = path, image_count
        self.rows, self.unsaved, self.saved_at = [], False, time.perf_counter()

    def on_epoch_begin(self, epoch, logs=None):
        """Start the clock."""
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        """Add a row; save if the last time was a while ago."""
        seconds = time.perf_counter() - self.start
        rate = float(self.model.optimizer.learning_rate)
        speed = {"learning_rate": rate, "images_per_second": self.image_count / seconds}
        self.rows.append({"epoch": epoch + 1, **(logs or {}), **speed})
        self.unsaved = True
        if time.perf_counter() - self.saved_at > self.SECONDS:
            self.flush()

    def flush(self):
        """Save what is not saved yet."""
        if not self.unsaved:
            return
        runs.record(self.path, self.model, self.rows)
        self.unsaved, self.saved_at = False, time.perf_counter()


class ProgressBar(keras.callbacks.Callback):
    """One bar over all steps, with the losses of the epoch before and the time left."""

    def __init__(self, epochs):
        super().__init__()
        self.epochs = epochs

    def on_train_begin(self, logs=None):
        """Open the bar."""
        self.bar = tqdm(total=self.epochs * self.params["steps"], unit=" steps")

    def on_train_batch_end(self, batch, logs=None):
        """Move it."""
        self.bar.update()

    def on_epoch_end(self, epoch, logs=None):
        """Show how it goes."""
        shown = {name: f"{value:.3f}" for name, value in (logs or {}).items()}
        self.bar.set_postfix(epoch=epoch + 1, **shown)

    def on_train_end(self, logs=None):
        """Close it."""
        self.bar.close()


def _batches(settings, store, train):
    return generator.ColorBatches(
        store, settings.batch_size, settings.crop, train, settings.flip, settings.seed
    )


def _histogram(store, sample=10_000):
    # 10 000 images' 41 million pixels pin the prior down; more would only take time
    chosen = np.linspace(0, len(store) - 1, min(sample, len(store))).astype(int)
    parts = np.array_split(chosen, -(-len(chosen) // 500))
    return sum(quantizer.code_histogram(generator.read_images(store, part)) for part in parts)


def _optimizer(settings, steps):
    rate = settings.learning_rate
    if settings.schedule == "cosine":
        warmup = round(settings.warmup * steps)
        rate = keras.optimizers.schedules.CosineDecay(
            0.0 if warmup else rate, steps - warmup, warmup_target=rate, warmup_steps=warmup
        )
    elif settings.schedule != "constant":
        raise ValueError(f"unknown schedule {settings.schedule!r}; use 'constant' or 'cosine'")
    common = dict(learning_rate=rate, beta_1=settings.beta_1, beta_2=settings.beta_2)
    if settings.optimizer == "adam":
        return keras.optimizers.Adam(**common)
    if settings.optimizer == "adamw":
        optimizer = keras.optimizers.AdamW(weight_decay=settings.weight_decay, **common)
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
        return optimizer
    raise ValueError(f"unknown optimizer {settings.optimizer!r}; use 'adam' or 'adamw'")
