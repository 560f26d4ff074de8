"""A training that is stopped in any way ends as if it had not been."""

import os
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

from colorlib import checkpoints, generator, runs, samples, store, training

EPOCHS = 6


@pytest.fixture
def settings(tiny):
    changes = dict(decay=0.01, plateau_patience=1, batch_norm_momentum=0.8, flip=True)
    return tiny.replace(epochs=EPOCHS, **changes)


class StopAt(keras.callbacks.Callback):
    """Raise KeyboardInterrupt in the middle of an epoch."""

    def __init__(self, epoch):
        super().__init__()
        self.stop_epoch, self.epoch = epoch, None

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == (self.stop_epoch, 1):
            raise KeyboardInterrupt


def final_arrays(path):
    newest = sorted((path / runs.CHECKPOINTS).glob(checkpoints.PATTERN))[-1]
    with np.load(newest) as file:
        return {name: file[name] for name in file.files if name != checkpoints.STATE}


def assert_same_end(first, second):
    one, other = final_arrays(first), final_arrays(second)
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])
    histories = [dict(runs.load_run(path).history) for path in (first, second)]
    for history in histories:
        history.pop("images_per_second")
    assert histories[0] == histories[1]


def test_ctrl_c_in_mid_epoch_changes_nothing(tmp_path, patches, settings):
    data = patches[:24], patches[24:32]
    training.train(settings, *data, tmp_path / "whole", progress=False)
    for epoch in (1, 2, 4):
        with pytest.raises(KeyboardInterrupt):
            training.train(settings, *data, tmp_path / "cut", [StopAt(epoch)], progress=False)
        assert len(runs.load_run(tmp_path / "cut").history["loss"]) == epoch
    training.train(settings, *data, tmp_path / "cut", progress=False)
    assert_same_end(tmp_path / "whole", tmp_path / "cut")


def test_the_best_weights_so_far_are_kept(tmp_path, patches, settings):
    # a rate so high from the fourth epoch on that nothing gets better any more
    settings = settings.replace(decay=0.0, plateau_patience=0)
    ruin = keras.callbacks.LearningRateScheduler(lambda epoch: 0.003 if epoch < 3 else 3.0)
    data = patches[:24], patches[24:32]
    whole = training.train(settings, *data, tmp_path / "whole", [ruin], progress=False)
    best = int(np.argmin(whole.history["val_loss"]))
    assert best < 3, "a later epoch is no test of it"
    for epoch in (best + 1, best + 2):
        with pytest.raises(KeyboardInterrupt):
            stop = StopAt(epoch)
            training.train(settings, *data, tmp_path / "cut", [ruin, stop], progress=False)
    cut = training.train(settings, *data, tmp_path / "cut", [ruin], progress=False)
    for one, other in zip(whole.model().weights, cut.model().weights, strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
    training.compile_model(network := whole.model(), settings, 1)
    crop = settings.crop
    edge = (patches.shape[1] - crop) // 2
    lightness, codes = generator.encode(patches[24:32, edge : edge + crop, edge : edge + crop])
    loss = network.evaluate(lightness, codes, verbose=0, return_dict=True)["loss"]
    np.testing.assert_allclose(loss, whole.history["val_loss"][best], rtol=0.02)


def test_a_finished_run_is_not_trained_again(tmp_path, patches, settings):
    arguments = (settings.replace(epochs=1), patches[:16], patches[16:24], tmp_path)
    first = training.train(*arguments, progress=False)
    second = training.train(*arguments, callbacks=[StopAt(0)], progress=False)
    assert first.history == second.history


def test_another_runs_folder_is_refused_with_the_difference(tmp_path, patches, settings):
    settings = settings.replace(epochs=1)
    training.train(settings, patches[:16], patches[16:24], tmp_path, progress=False)
    with pytest.raises(runs.RunError, match=r"learning_rate is 0\.003 there and 0\.5 here"):
        training.train(settings.replace(learning_rate=0.5), patches[:16], patches[16:24], tmp_path)
    with pytest.raises(runs.RunError, match="train_images is 16 there and 8 here"):
        training.train(settings, patches[:8], patches[16:24], tmp_path)


def test_a_damaged_checkpoint_is_passed_over(tmp_path, patches, settings):
    data = patches[:16], patches[16:24]
    training.train(settings, *data, tmp_path / "whole", progress=False)
    with pytest.raises(KeyboardInterrupt):
        stop = [StopAt(4)]
        training.train(settings, *data, tmp_path / "cut", stop, progress=False, save_every=0)
    newest = sorted((tmp_path / "cut" / runs.CHECKPOINTS).glob(checkpoints.PATTERN))[-1]
    newest.write_bytes(newest.read_bytes()[: newest.stat().st_size // 2])
    with pytest.warns(UserWarning, match=f"{newest.name} is damaged"):
        training.train(settings, *data, tmp_path / "cut", progress=False)
    assert_same_end(tmp_path / "whole", tmp_path / "cut")


def test_a_full_disk_stops_nothing(tmp_path, patches, settings, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    arguments = (settings.replace(epochs=2), patches[:16], patches[16:24], tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", full)
        with pytest.warns(UserWarning, match="No space left"), pytest.raises(runs.RunError):
            training.train(*arguments, progress=False)
    assert not list((tmp_path / runs.CHECKPOINTS).glob("*.npz"))
    assert len(training.train(*arguments, progress=False).history["loss"]) == 2


def start(data, run, epochs, **environment):
    command = [sys.executable, "-m", "colorlib", "train", "OVERFIT", "--run", run, "--data", data]
    options = ["--val", data, "--width", 1 / 16, "--epochs", epochs, "--save-every", 0]
    return subprocess.Popen(
        [str(part) for part in [*command, *options, "--batch-size", 4]],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def wait_for_checkpoint(run, number, process):
    folder = run / runs.CHECKPOINTS
    while process.poll() is None and not list(folder.glob(f"checkpoint-*{number:02}.npz")):
        time.sleep(0.005)


def test_sigkill_at_any_moment_changes_nothing(tmp_path, rng):
    data = tmp_path / "data.h5"
    store.write(data, samples.patches(16, 64))
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert start(data, whole, 12).wait() == 0
    for number in (2, 5, 8):  # some time after a checkpoint: in an epoch, or in the next writing
        process = start(data, killed, 12)
        wait_for_checkpoint(killed, number, process)
        time.sleep(rng.uniform(0, 0.2))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert start(data, killed, 12).wait() == 0
    assert_same_end(whole, killed)
