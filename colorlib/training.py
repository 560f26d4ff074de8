"""Compile, fit, resume, and record a run.

Not here: the record itself (`colorlib.runs`), what a checkpoint holds (`colorlib.callbacks`),
what is trained (`colorlib.model`), on what (`colorlib.generator`), and the settings
(`colorlib.config`). Chapter 4 of the report.

A training that was stopped, or even killed, goes on when `train` is called again with the same
arguments. On the same machine and backend it ends with the same weights, bit for bit, as one that
was never stopped: batches depend on the epoch alone, and everything else is in the checkpoint.

Processes that were started together (`distributed.join`) train one network: each calls `train` with
the same arguments, and process 0 writes the run, in a folder that all of them can read.
"""

import contextlib
from pathlib import Path

import keras
import numpy as np

from colorlib import (
    distributed,
    generator,
    losses,
    model,
    optimizers,
    pretrained,
    quantizer,
    runs,
    store,
    table,
)
from colorlib.callbacks import (
    BestWeights,
    Checkpoint,
    EpochLog,
    Interrupt,
    Predictions,
    ProgressBar,
    SetEpoch,
    StopWhenDiverged,
)


def train(
    settings,
    images_train,
    images_val,
    run_path,
    callbacks=(),
    progress=True,
    workers=2,
    save_every=60.0,
    watched=None,
):
    """Train the network and record the run; continue where an earlier call was stopped.

    With the backend JAX all devices of all connected processes share the work
    (`colorlib.distributed`).

    Parameters
    ----------
    settings : colorlib.config.TrainConfig
        How to train.
    images_train, images_val : Store or ndarray of uint8, shape (n, size, size, 3)
        Images to train on, and images to measure on after each epoch (centre crops).
    run_path : path-like
        The run's folder; made if missing.
    callbacks : sequence of keras.callbacks.Callback
        Called besides the run's own callbacks; of several processes only the first calls them.
    progress : bool
        Whether to show a progress bar.
    workers : int
        Threads that prepare batches, in each process.
    save_every : float
        Seconds between checkpoints, which are written at the end of an epoch. Ctrl-C saves the
        epochs that are done; a kill loses at most this time and the epoch that it interrupts.
    watched : ndarray of uint8, shape (n, size, size, 3), optional
        Photographs to color after each epoch (`callbacks.Predictions`).

    Returns
    -------
    colorlib.runs.Run
        The recorded run.

    Raises
    ------
    ValueError
        If the settings don't fit the images.
    colorlib.runs.RunError
        If the folder holds a run with other settings or other data, if another process trains in
        it, or if it can't be written.
    colorlib.callbacks.DivergedError
        If a loss is no finite number any more. The epochs before are kept.
    colorlib.distributed.LostProcessError
        If another process of the training has stopped.
    """
    with Interrupt() as interrupt, distributed.together():
        first = distributed.world().rank == 0
        make_deterministic(settings.seed)
        batches = batches_for(settings, images_train, True, workers)
        validation = batches_for(settings, images_val, False, workers)
        prior = quantizer.prior(_histogram(images_train))
        network = new_network(settings, len(batches), prior)
        finish = _finish(settings, network)
        with runs.locked(run_path) if first else contextlib.nullcontext(Path(run_path)) as path:
            if first:
                runs.begin(path, settings, described(images_train, images_val), prior)
            distributed.wait("begin")
            log = EpochLog(len(images_train))
            best = BestWeights(path / runs.WEIGHTS, log, finish)
            plateau = _plateau(settings)
            checkpoint = Checkpoint(path, log, best, plateau, save_every, first)
            done = checkpoint.restore(network)
            rules = [interrupt, StopWhenDiverged(path), SetEpoch(batches)]
            rules += [keras.callbacks.SwapEMAWeights()] if settings.ema else []
            rules += [plateau] if plateau else []
            shown = [ProgressBar(settings.epochs, done)] if progress and first else []
            if watched is not None and first:
                weights = quantizer.rebalancing_weights(prior)
                shown.append(Predictions(path / runs.PREDICTIONS, watched, weights))
            with checkpoint:
                network.fit(
                    batches,
                    validation_data=validation,
                    epochs=settings.epochs,
                    initial_epoch=done,
                    callbacks=[
                        *rules,
                        log,
                        *shown,
                        *(callbacks if first else ()),
                        best,
                        checkpoint,
                    ],
                    shuffle=False,  # Keras would shuffle with a global random state
                    verbose=0,
                )
            distributed.wait("end")
            return runs.load_run(path)


def make_deterministic(seed):
    """Make the backend compute the same each time it is asked.

    Parameters
    ----------
    seed : int
        Seed of all random states.
    """
    keras.utils.set_random_seed(seed)
    if keras.backend.backend() == "tensorflow":
        import tensorflow

        tensorflow.config.experimental.enable_op_determinism()


def new_network(settings, steps_per_epoch, prior):
    """Build the network of a configuration, with its first weights, optimizer, loss and metric.

    Parameters
    ----------
    settings : colorlib.config.TrainConfig
    steps_per_epoch : int
        Batches in an epoch.
    prior : ndarray, shape (313,)
        How often each bin occurs: for `settings.start_from_prior` and `settings.rebalance`.

    Returns
    -------
    keras.Model
        Compiled.
    """
    network = model.model_for(settings)
    if settings.start_from:
        model.start_from(network, runs.load_run(settings.start_from).model(), settings.seed)
    else:
        if settings.network in pretrained.PACKAGES and settings.pretrained:
            pretrained.load_encoder(network, settings.network)
        if settings.start_from_prior:
            model.start_from_prior(network, prior)
    if settings.encoder_rate == 0:
        model.freeze_encoder(network)
    compile_model(network, settings, steps_per_epoch, prior)
    return network


def batches_for(settings, images, train, workers):
    """Make the batches of a configuration.

    Parameters
    ----------
    settings : colorlib.config.TrainConfig
    images : Store or ndarray of uint8, shape (n, size, size, 3)
    train : bool
        Whether to shuffle, and to crop at random, or to cut the centres in order.
    workers : int
        Threads that prepare them.

    Returns
    -------
    colorlib.generator.ColorBatches
    """
    return generator.ColorBatches(
        images,
        settings.batch_size,
        settings.crop,
        train,
        settings.flip,
        settings.seed,
        workers=workers,
        crop_scale=settings.crop_scale,
        degrade=settings.degrade,
        take_hints=table.takes_hints(settings.network),
        world=distributed.world(),
    )


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
        optimizer=optimizers.build_optimizer(settings, steps_per_epoch * settings.epochs),
        loss=losses.SoftCrossEntropy(weights, dtype=network.outputs[0].dtype),
        metrics=[losses.Accuracy()],
    )


def described(images_train, images_val):
    """Describe images so that a continued training can tell whether they are the same.

    Parameters
    ----------
    images_train, images_val : Store or ndarray of uint8, shape (n, size, size, 3)

    Returns
    -------
    dict
        The counts, and the checksums (`store.checksum`).
    """
    return {
        "train_images": len(images_train),
        "train_sha256": store.checksum(images_train),
        "validation_images": len(images_val),
        "validation_sha256": store.checksum(images_val),
    }


# Changes the best weights before they are recorded: it puts averaged ones in, or moves all back
# towards those of the start.
def _finish(settings, network):
    if settings.interpolation != 1 and not (settings.start_from and 0 < settings.interpolation < 1):
        needed = "above 0 and at most 1, and below 1 only with a run to start from"
        raise ValueError(f"interpolation has to be {needed}: {settings.interpolation}")
    start = network.get_weights() if settings.interpolation != 1 else None

    def finish(network):
        if settings.ema:
            network.optimizer.finalize_variable_values(network.trainable_variables)
        if start is not None:
            model.interpolate(network, start, settings.interpolation)

    return finish


def _plateau(settings):
    if not settings.plateau_patience:
        return None
    return keras.callbacks.ReduceLROnPlateau(
        factor=settings.plateau_factor, patience=settings.plateau_patience, min_delta=0.0
    )


def _histogram(images):
    # the 41 million pixels of 10 000 images are enough for the prior; more would only take time
    chosen = np.linspace(0, len(images) - 1, min(10_000, len(images))).astype(int)
    parts = np.array_split(chosen, -(-len(chosen) // 500))
    read = generator.read_images
    return sum(quantizer.code_histogram(np.stack(read(images, part))) for part in parts)
