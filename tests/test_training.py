"""A tiny network learns, and its run comes back as it was."""

import json
import resource
import shutil
import signal
import sys
import weakref

import h5py
import keras
import numpy as np
import pytest
import scripts

from colorlib import config, generator, optimizers, quantizer, runs, samples, store, training
from colorlib.callbacks import DivergedError, Interrupt, SetEpoch

pytestmark = pytest.mark.usefixtures("shallow")


@pytest.fixture(scope="module")
def run(shallow, tmp_path_factory, patches, tiny):
    path = tmp_path_factory.mktemp("runs") / "tiny"
    settings = tiny.replace(epochs=3, batch_norm_momentum=0.8, flip=True)
    return training.train(settings, patches[:32], patches[32:], path, progress=False)


def test_the_loss_goes_down(run):
    loss = run.history["loss"]
    assert len(loss) == 3 and loss[-1] < loss[0]
    assert np.isfinite(run.history["val_loss"]).all()


def test_the_run_is_recorded(run, patches):
    again = runs.load_run(run.path)
    assert again.settings == run.settings
    assert again.data == {
        "train_images": 32,
        "train_sha256": store.checksum(patches[:32]),
        "validation_images": 8,
        "validation_sha256": store.checksum(patches[32:]),
    }
    assert again.environment["backend"] == keras.backend.backend()
    expected = quantizer.prior(quantizer.code_histogram(patches[:32]))
    np.testing.assert_allclose(again.prior, expected)
    assert {"epoch", "loss", "val_loss", "accuracy", "learning_rate"} <= run.history.keys()
    assert again.decoding == config.DecodeConfig()


def test_a_training_may_start_from_another_run(run, patches, tmp_path):
    settings = run.settings.replace(width=3 / 32, epochs=1, start_from=str(run.path))
    grown = training.train(settings, patches[:32], patches[32:], tmp_path / "grown", progress=False)
    assert grown.settings.start_from == str(run.path)
    assert grown.history["loss"][0] < run.history["loss"][0]
    nowhere = settings.replace(start_from="nowhere")
    with pytest.raises(runs.RunError, match="nowhere"):
        training.train(nowhere, patches, patches, tmp_path / "none", progress=False)


@pytest.fixture(scope="module")
def mixed(run, patches, tmp_path_factory):
    """Two runs that start from `run`; of one the weights are mixed with those at the start."""
    settings, found = run.settings.replace(epochs=2, start_from=str(run.path)), {}
    for share in (1.0, 0.75):
        changed, path = settings.replace(interpolation=share), tmp_path_factory.mktemp("mixed")
        data = patches[:32], patches[32:]
        found[share] = training.train(changed, *data, path, progress=False)
    return found


def test_recorded_weights_may_be_mixed_with_those_at_the_start(run, mixed, patches):
    start, whole, part = (each.model().get_weights() for each in (run, mixed[1], mixed[0.75]))
    losses = [mixed[share].history["val_loss"] for share in mixed]
    assert losses[0] == losses[1]  # the training itself is the same
    for before, after, found in zip(start, whole, part, strict=True):
        np.testing.assert_allclose(found, 0.25 * before + 0.75 * after, atol=2e-3)
    assert 0.25 * np.abs(whole[0] - start[0]).max() > 2e-3  # else no mix could be told
    recorded = mixed[0.75]
    data = patches[:32], patches[32:]
    again = training.train(recorded.settings, *data, recorded.path, progress=False)
    for found, once_more in zip(part, again.model().get_weights(), strict=True):
        np.testing.assert_array_equal(found, once_more)


def test_what_was_mixed_is_taken_apart_again(run, mixed):
    expected = {0.0: run, **mixed}
    # the same object each time: compared before the next is asked for
    for share, network in scripts.load("interpolation").networks(mixed[0.75], run, expected):
        pairs = zip(network.get_weights(), expected[share].model().get_weights(), strict=True)
        for found, wanted in pairs:
            np.testing.assert_allclose(found, wanted, atol=4e-3)


@pytest.mark.parametrize("changes", [{"interpolation": 0.5}, {"interpolation": 1.5}])
def test_interpolation_needs_a_start_and_a_share(run, patches, tmp_path, changes):
    settings = run.settings.replace(start_from="", **changes)
    with pytest.raises(ValueError, match="interpolation has to be above 0 and at most 1"):
        training.train(settings, patches, patches, tmp_path / "none", progress=False)


def test_weights_hold_arrays_only_and_no_optimizer(run):
    kinds = set()
    with h5py.File(run.path / runs.WEIGHTS) as file:
        assert "optimizer" not in file
        file.visititems(
            lambda _, item: (
                kinds.add((len(item.shape), item.dtype.name))
                if isinstance(item, h5py.Dataset)
                else None
            )
        )
    assert kinds == {(4, "float16"), (1, "float32")}


def test_tensorboard_can_show_the_losses(tmp_path, patches, tiny):
    from tensorboard.backend.event_processing import event_accumulator

    board = keras.callbacks.TensorBoard(tmp_path / "board")
    training.train(tiny, patches[:8], patches[8:16], tmp_path / "run", [board], progress=False)
    for part in ("train", "validation"):
        events = event_accumulator.EventAccumulator(str(tmp_path / "board" / part)).Reload()
        assert [event.step for event in events.Tensors("epoch_loss")] == [0, 1]


def test_the_cosine_schedule_warms_up_and_falls_to_zero(tmp_path, patches, tiny):
    settings = tiny.replace(epochs=4, optimizer="adamw", schedule="cosine", warmup=0.25)
    run = training.train(settings, patches[:16], patches[16:24], tmp_path, progress=False)
    rates = settings.learning_rate * (1 + np.cos(np.pi * np.arange(4) / 3)) / 2
    np.testing.assert_allclose(run.history["learning_rate"], rates, rtol=1e-3, atol=1e-9)


def test_adamw_decays_kernels_at_the_rate_of_the_step(tmp_path, patches, tiny):
    still = tiny.replace(epochs=1, optimizer="adamw", learning_rate=1e-9, weight_decay=1e8)
    data = patches[:16], patches[16:24]
    network = training.train(still, *data, tmp_path, progress=False).model()
    for layer, first in zip(network.layers, training.model.model_for(still).layers, strict=True):
        if isinstance(layer, keras.layers.Conv2D):  # two steps, of 10% each
            kernel, before = np.asarray(layer.kernel), np.asarray(first.kernel)
            np.testing.assert_allclose(kernel, 0.81 * before, rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize("changes", [{"rebalance": 0.5}, {"l2": 1e-2}])
def test_what_is_minimized_is_what_the_settings_say(tmp_path, patches, tiny, changes):
    settings = tiny.replace(epochs=1, **changes)
    run = training.train(settings, patches[:16], patches[16:24], tmp_path, progress=False)
    network = run.model()
    loss = 0.0
    for lightness, codes in (training.batches_for(settings, patches[16:24], False, 0)[0],):
        logits = np.asarray(network.predict_on_batch(lightness), np.float64)
        logits -= np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        each = -(quantizer.encode_dense(codes) * logits).sum(axis=-1)
        if settings.rebalance:
            weights = quantizer.rebalancing_weights(run.prior, settings.rebalance)
            each = each * weights[quantizer.nearest_bins(codes)]
        loss = each.mean()
    kernels = [x.kernel for x in network.layers if isinstance(x, keras.layers.Conv2D)]
    loss += settings.l2 * sum(np.square(np.asarray(kernel)).sum() for kernel in kernels)
    assert run.history["val_loss"][0] == pytest.approx(loss, rel=0.01)


def test_precision_and_initializer_are_those_of_the_settings(tiny):
    settings = tiny.replace(precision="mixed_bfloat16", initializer="glorot_normal", width=0.5)
    network = training.new_network(settings, 1, np.full(quantizer.BINS, 1 / quantizer.BINS))
    layer, last = network.get_layer("conv4_1"), network.get_layer("conv_1x1")
    assert layer.compute_dtype == "bfloat16" and layer.variable_dtype == "float32"
    assert last.compute_dtype == "float32"
    ways_in, ways_out = 9 * 128, 9 * 256
    spread = np.asarray(layer.kernel).std()
    assert spread == pytest.approx(np.sqrt(2 / (ways_in + ways_out)), rel=0.02)


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="JAX has no float64 unless told to")
def test_in_float64_nothing_is_computed_in_less(tiny):
    # else the last digits of float32, in which processors differ, grow into other colors
    network = training.new_network(tiny.replace(precision="float64"), 1, np.ones(quantizer.BINS))
    precisions = {layer.compute_dtype for layer in network.layers[1:]} | {network.loss.dtype}
    assert precisions == {"float64"}


@pytest.mark.skipif(sys.platform != "linux", reason="counts the page faults of glibc's malloc")
def test_a_step_reuses_the_memory_of_the_one_before(tiny):
    settings = tiny.replace(image_size=64, crop=64, width=0.25)
    network = training.new_network(settings, 5, np.ones(quantizer.BINS))
    faults = []

    class Count(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)

    batches = generator.ColorBatches(samples.patches(40, 64), 8, 64)
    network.fit(batches, epochs=3, callbacks=[Count()], verbose=0)
    assert min(np.diff(faults)) < 1000 * len(batches)


def test_averaged_weights_are_validated_and_recorded(tmp_path, patches, tiny):
    # a rate so high from the third epoch on that nothing gets better any more
    settings = tiny.replace(epochs=4, ema=0.8, batch_norm_momentum=0.8)
    ruin = keras.callbacks.LearningRateScheduler(lambda epoch: 3e-3 if epoch < 2 else 30.0)
    data = patches[:32], patches[32:]
    run = training.train(settings, *data, tmp_path, [ruin], progress=False)
    number = runs.best_epoch([{"val_loss": loss} for loss in run.history["val_loss"]])
    assert number < 3, "a later epoch is no test of it"
    network = run.model()
    training.compile_model(network, settings, 1)
    lightness, codes = training.batches_for(settings, patches[32:], False, 0)[0]
    loss = network.evaluate(lightness, codes, verbose=0, return_dict=True)["loss"]
    assert loss == pytest.approx(run.history["val_loss"][number - 1], rel=5e-3)


class Ruin(keras.callbacks.Callback):
    """Set a rate from some epoch on that no training survives."""

    def __init__(self, first):
        super().__init__()
        self.first = first

    def on_epoch_begin(self, epoch, logs=None):
        if epoch >= self.first:
            self.model.optimizer.learning_rate = 1e30


def test_a_training_that_diverges_stops_and_keeps_what_was_good(tmp_path, patches, tiny):
    arguments = (tiny.replace(epochs=5), patches[:16], patches[16:24], tmp_path)
    for _ in range(2):  # the same call goes on from what is kept, and gets no further
        with pytest.raises(DivergedError, match=r"diverged in epoch 3: .*lower learning"):
            training.train(*arguments, callbacks=[Ruin(2)], progress=False)
        run = runs.load_run(tmp_path)
        assert len(run.history["loss"]) == 2 and np.isfinite(run.history["val_loss"]).all()
        assert all(np.isfinite(array).all() for array in run.model().get_weights())
    assert len(training.train(*arguments, progress=False).history["loss"]) == 5


def test_a_kernel_too_large_for_half_precision_counts_as_diverged(tmp_path, patches, tiny):
    class Enlarge(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.now = epoch == 2

        def on_train_batch_end(self, batch, logs=None):
            kernel = self.model.get_layer("conv_1x1").kernel
            if self.now and batch == 1:
                kernel.assign(np.full(kernel.shape, 1e5, np.float32))

    arguments = (tiny.replace(epochs=3), patches[:16], patches[16:24], tmp_path)
    with pytest.raises(DivergedError, match=r"epoch 3: .*kernel is 1e\+05"):
        training.train(*arguments, callbacks=[Enlarge()], progress=False)
    assert len(runs.load_run(tmp_path).history["loss"]) == 2


def test_the_best_epoch_is_one_with_a_number():
    losses = [float("nan"), 3.0, float("nan"), 2.0, 2.0]
    assert runs.best_epoch([{"val_loss": loss} for loss in losses]) == 4
    assert runs.best_epoch([{"val_loss": loss} for loss in losses[:1]]) == 1


class Thing:
    pass


class PressWhereExceptionsAreDropped(keras.callbacks.Callback):
    """Press Ctrl-C in a weak reference's callback, as it happens while Keras builds a graph."""

    def on_train_batch_begin(self, batch, logs=None):
        if self.epoch == 1:
            thing = Thing()
            watcher = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGINT))
            del thing
            assert watcher() is None

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch


def test_no_ctrl_c_is_lost(tmp_path, patches, tiny):
    arguments = (tiny.replace(epochs=4), patches[:16], patches[16:20], tmp_path)
    with pytest.raises(KeyboardInterrupt):
        training.train(*arguments, callbacks=[PressWhereExceptionsAreDropped()], progress=False)
    assert len(runs.load_run(tmp_path).history["loss"]) == 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_is_raised_at_the_end_at_the_latest_and_a_second_one_at_once():
    with pytest.raises(KeyboardInterrupt), Interrupt():
        signal.raise_signal(signal.SIGINT)
        reached = True
    assert reached and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with pytest.raises(KeyboardInterrupt), Interrupt():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        reached = False
    assert reached


def test_biases_and_batch_norm_are_not_decayed(tiny):
    network = keras.Sequential([keras.layers.Conv2D(2, 1), keras.layers.BatchNormalization()])
    network.build((None, 4, 4, 1))
    training.compile_model(network, tiny.replace(optimizer="adamw", weight_decay=0.1), 1)
    network.optimizer.build(network.trainable_variables)
    decayed = [
        v.name for v in network.trainable_variables if network.optimizer._use_weight_decay(v)
    ]
    assert decayed == ["kernel"]


def test_time_decay_is_old_keras_formula(tiny):
    rate, decay, beta = 0.1, 0.5, 0.0
    optimizer = optimizers.DecayedAdam(decay, learning_rate=rate, beta_1=beta, beta_2=beta)
    variable = keras.Variable(np.zeros(1, np.float32))
    optimizer.build([variable])
    position = 0.0
    for iteration in range(5):
        # without momentum Adam's step is the rate, whatever the size of the gradient
        expected = rate / (1 + decay * iteration)
        assert optimizers.current_rate(optimizer) == pytest.approx(expected, rel=1e-5)
        optimizer.apply([np.ones(1, np.float32)], [variable])
        previous, position = position, keras.ops.convert_to_numpy(variable)[0]
        assert previous - position == pytest.approx(expected, rel=1e-4)
    assert float(optimizer.learning_rate) == pytest.approx(rate)
    again = optimizers.DecayedAdam.from_config(optimizer.get_config())
    assert again.decay == decay


def test_the_plateau_rule_reduces_the_base_rate(tmp_path, patches, tiny):
    settings = tiny.replace(epochs=5, learning_rate=1e-30, plateau_patience=2, decay=0.1)
    settings = settings.replace(batch_norm_momentum=1.0)  # so that nothing changes at all
    run = training.train(settings, patches[:8], patches[8:12], tmp_path, progress=False)
    steps = np.arange(1, 6)
    # the first epoch is the best there is: after two more without a better one, x 0.2
    base = 1e-30 * np.array([1, 1, 0.2, 0.2, 0.04])
    rates = run.history["learning_rate"]
    np.testing.assert_allclose(np.array(rates) * (1 + 0.1 * steps), base, rtol=1e-3)


@pytest.mark.parametrize("changes", [{"optimizer": "sgd"}, {"schedule": "linear"}])
def test_unknown_settings_are_refused(tmp_path, patches, tiny, changes):
    with pytest.raises(ValueError, match="unknown"):
        training.train(tiny.replace(**changes), patches[:8], patches[:8], tmp_path)


def test_missing_and_damaged_runs_are_named(tmp_path, run):
    with pytest.raises(runs.RunError, match="nowhere"):
        runs.load_run("nowhere")
    with pytest.raises(runs.RunError, match=str(tmp_path)):
        runs.load_run(tmp_path)
    copy = tmp_path / "copy"
    shutil.copytree(run.path, copy)
    recorded = json.loads((copy / "config.json").read_text())
    recorded["settings"]["width"] = 1 / 8
    (copy / "config.json").write_text(json.dumps(recorded))
    with pytest.raises(runs.RunError, match="not this network"):
        runs.load_run(copy).model()
    weights = copy / runs.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:4000])
    with pytest.raises(runs.RunError, match="damaged"):
        runs.load_run(copy).model()
    weights.unlink()
    with pytest.raises(runs.RunError, match="no such weights"):
        runs.load_run(copy).model()


def test_large_batch_norm_statistics_are_kept(run, tmp_path):
    network = run.model()
    variance = network.get_layer("conv4_3_bn").moving_variance
    variance.assign(np.full(variance.shape, 1e6, np.float32))
    runs.save_weights(network, tmp_path / "x.weights.h5")
    other = run.model()
    runs.load_weights(other, tmp_path / "x.weights.h5")
    np.testing.assert_array_equal(other.get_layer("conv4_3_bn").moving_variance, 1e6)


def test_weights_that_diverged_are_not_saved(run, tmp_path):
    network = run.model()
    network.weights[0].assign(np.full(network.weights[0].shape, 1e6, np.float32))
    with pytest.raises(ValueError, match="half-precision"):
        runs.save_weights(network, tmp_path / "x.weights.h5")
    assert not list(tmp_path.iterdir())


def test_the_batches_follow_the_epoch(patches, tiny, tmp_path):
    seen = []

    class Spy(generator.ColorBatches):
        def batch(self, epoch, index):
            seen.append((epoch, index))
            return super().batch(epoch, index)

    batches = Spy(patches[:16], 8, 16, workers=0)
    network = training.model.model_for(tiny)
    training.compile_model(network, tiny, len(batches))
    callbacks = [SetEpoch(batches)]
    network.fit(batches, epochs=3, shuffle=False, verbose=0, callbacks=callbacks)
    assert {(epoch, index) for epoch in range(3) for index in range(2)} <= set(seen)
