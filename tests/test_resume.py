"""A training that is stopped and resumed has the same result."""

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
import shallow

from colorlib import callbacks, generator, model, quantizer, runs, training

pytestmark = pytest.mark.usefixtures("shallow")

EPOCHS = 6


@pytest.fixture(scope="module")
def settings(tiny):
    changes = dict(decay=0.01, plateau_patience=1, batch_norm_momentum=0.8, flip=True)
    return tiny.replace(epochs=EPOCHS, **changes)


@pytest.fixture(scope="module")
def whole(shallow, settings, patches, tmp_path_factory):
    """The folder of a training that nothing stopped."""
    path = tmp_path_factory.mktemp("whole")
    training.train(settings, patches[:24], patches[24:32], path, progress=False)
    return path


@pytest.fixture(scope="module")
def short(shallow, settings, patches, tmp_path_factory):
    """The arguments of a training of one epoch that is done."""
    path = tmp_path_factory.mktemp("short")
    arguments = settings.replace(epochs=1), patches[:16], patches[16:24], path
    training.train(*arguments, progress=False)
    return arguments


@pytest.fixture
def finished(short, tmp_path):
    """The same, with a copy of its folder."""
    shutil.copytree(short[-1], tmp_path / "run")
    return *short[:-1], tmp_path / "run"


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
    newest = sorted((path / runs.CHECKPOINTS).glob(callbacks.PATTERN))[-1]
    with np.load(newest) as file:
        return {name: file[name] for name in file.files if name != callbacks.STATE}


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
    settings = settings.replace(ema=0.9)
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


def test_a_finished_run_is_not_trained_again(finished):
    first = runs.load_run(finished[-1])
    second = training.train(*finished, callbacks=[StopAt(0)], progress=False)
    assert first.history == second.history


def test_another_runs_folder_is_refused_with_the_difference(finished, patches):
    settings, *data, path = finished
    with pytest.raises(runs.RunError, match=r"learning_rate is 0\.003 there and 0\.5 here"):
        training.train(settings.replace(learning_rate=0.5), *data, path)
    with pytest.raises(runs.RunError, match="train_images is 16 there and 8 here"):
        training.train(settings, patches[:8], data[1], path)


def test_a_damaged_checkpoint_is_passed_over(tmp_path, whole, patches, settings):
    data = patches[:24], patches[24:32]
    with pytest.raises(KeyboardInterrupt):
        stop = [StopAt(4)]
        training.train(settings, *data, tmp_path / "cut", stop, progress=False, save_every=0)
    newest = sorted((tmp_path / "cut" / runs.CHECKPOINTS).glob(callbacks.PATTERN))[-1]
    newest.write_bytes(newest.read_bytes()[: newest.stat().st_size // 2])
    with pytest.warns(UserWarning, match=f"{newest.name} is damaged"):
        training.train(settings, *data, tmp_path / "cut", progress=False)
    assert_same_end(whole, tmp_path / "cut")


@pytest.mark.parametrize(
    "kind", ["fewer", "other shapes", "texts", "no rows", "compressed", "bytes"]
)
def test_a_checkpoint_of_another_kind_is_passed_over(tmp_path, patches, settings, kind):
    network = training.new_network(settings, 1, np.full(quantizer.BINS, 1 / quantizer.BINS))
    network.optimizer.build(network.trainable_variables)
    before = callbacks.capture(network)
    arrays, rows = dict(before), {"rows": [], "plateau": {}}
    if kind == "fewer":
        del arrays["v0000"]
    elif kind == "other shapes":
        arrays["v0003"] = arrays["v0003"][..., None]
    elif kind == "texts":
        arrays["v0003"] = arrays["v0003"].astype(str)
    elif kind == "no rows":
        rows = [3]
    arrays[callbacks.STATE] = np.frombuffer(json.dumps(rows).encode(), np.uint8)
    folder = tmp_path / runs.CHECKPOINTS
    folder.mkdir()
    np.savez_compressed(path := folder / "checkpoint-000001.npz", **arrays)
    if kind == "bytes":  # a member of the archive that is no array
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("v9999", b"any")
    if kind == "compressed":
        data = bytearray(path.read_bytes())
        data[60:90] = bytes(30)
        path.write_bytes(data)
    log = callbacks.EpochLog(1)
    checkpoint = callbacks.Checkpoint(tmp_path, log, callbacks.BestWeights(tmp_path / "w", log))
    with pytest.warns(UserWarning, match=r"000001\.npz is damaged"):
        assert checkpoint.restore(network) == 0
    for name, values in callbacks.capture(network).items():
        np.testing.assert_array_equal(values, before[name])


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


class Fill(keras.callbacks.Callback):
    """From some epoch on, let no file grow beyond so many bytes."""

    def __init__(self, epoch, small_files, size, stack):
        super().__init__()
        self.epoch, self.fill = epoch, lambda: stack.enter_context(small_files(size))

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            self.fill()


def test_hdf5_does_not_crash_where_the_disk_is_full(tmp_path, patches, settings, small_files):
    arguments = (settings.replace(epochs=4), patches[:16], patches[16:24], tmp_path)
    with contextlib.ExitStack() as stack:
        seen = [Fill(1, small_files, 100_000, stack)]
        with pytest.warns(UserWarning) as caught, pytest.raises(runs.RunError, match="last epochs"):
            training.train(*arguments, seen, False, save_every=0, watched=patches[:1])
    (told,) = (each for each in caught if each.category is UserWarning)
    assert "File too large" in str(told.message)
    kept = runs.load_run(tmp_path)
    assert len(kept.history["loss"]) == 1 and kept.model()
    with np.load(tmp_path / runs.PREDICTIONS) as file:
        assert len(file["plain"]) == 4  # small enough to be written all the time
    assert len(training.train(*arguments, progress=False).history["loss"]) == 4


def test_predictions_that_can_not_be_written_are_made_up_for(tmp_path, patches, settings):
    network = model.model_for(settings)
    path = tmp_path / "file" / "seen.npz"
    (tmp_path / "file").touch()
    callback = callbacks.Predictions(path, patches[:1], np.ones(quantizer.BINS))
    callback.set_model(network)
    with pytest.warns(UserWarning, match="can't be written") as caught:
        callback.on_epoch_end(0)
        callback.on_epoch_end(1)
    assert sum("can't be written" in str(one.message) for one in caught) == 1
    (tmp_path / "file").unlink()
    callback.on_epoch_end(2)
    with np.load(path) as file:
        assert len(file["plain"]) == 3 and (file["plain"][0] == file["plain"][2]).all()
    with path.open("wb") as file:
        np.savez(file, plain=np.zeros((2, 3), np.int8), vivid=np.zeros(()))
    odd = callbacks.Predictions(path, patches[:1], np.ones(quantizer.BINS))
    odd.set_model(network)
    odd.on_epoch_end(1)
    path.write_bytes(path.read_bytes()[:100])
    again = callbacks.Predictions(path, patches[:1], np.ones(quantizer.BINS))
    again.set_model(network)
    with pytest.warns(UserWarning, match="is damaged"):
        again.on_epoch_end(2)
    with np.load(path) as file:
        assert len(file["plain"]) == 3 and not file["plain"][:2].any() and file["plain"][2].any()


def test_other_images_of_the_same_number_are_refused(finished, patches):
    settings, train, validation, path = finished
    prior = (path / "prior.json").read_bytes()
    changed = train.copy()
    changed[7, 3, 3, 0] ^= 1
    with pytest.raises(runs.RunError, match="train_sha256 is"):
        training.train(settings, changed, validation, path, progress=False)
    with pytest.raises(runs.RunError, match="validation_sha256 is"):
        training.train(settings, train, patches[24:32], path, progress=False)
    assert (path / "prior.json").read_bytes() == prior


def test_a_run_recorded_without_checksums_goes_on_with_images_of_its_colors(finished, patches):
    config_file = finished[-1] / "config.json"
    recorded = json.loads(config_file.read_text())
    sums = {name: recorded["data"].pop(name) for name in ("train_sha256", "validation_sha256")}
    config_file.write_text(json.dumps(recorded))
    with pytest.raises(runs.RunError, match="the colors of its training images differ"):
        training.train(finished[0], patches[8:24], patches[:8], finished[-1])
    training.train(*finished, progress=False)
    assert json.loads(config_file.read_text())["data"].items() >= sums.items()


def test_one_process_trains_a_run(finished):
    path = finished[-1]
    with runs.locked(path):
        theirs = path / runs.CHECKPOINTS / ".checkpoint-000001.npz.1a2b.partial"
        theirs.write_bytes(b"half")
        with pytest.raises(runs.RunError, match=r"run: another process is training this run"):
            training.train(*finished, progress=False)
        assert theirs.exists()
    training.train(*finished, progress=False)
    assert not theirs.exists()  # nobody's any more


KILLED = f"""{shallow.HERE}
import os, signal, sys
import keras, numpy
from colorlib import config, samples, training

class Die(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch == 2
    def on_train_batch_end(self, batch, logs=None):
        if self.now and batch == 1 and sys.argv[3] == "training":
            os.kill(os.getpid(), signal.SIGKILL)

def die_half_way(file, **arrays):
    file.write(b"half of a checkpoint")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)

settings = config.TrainConfig(**eval(sys.argv[2]))
patches = samples.patches(40, 32)
if sys.argv[3] == "writing":
    numpy.savez = die_half_way
training.train(
    settings, patches[:24], patches[24:32], sys.argv[1], [Die()], False, save_every=0
)
"""


def test_a_kill_changes_nothing(tmp_path, whole, patches, settings):
    killed = tmp_path / "killed"
    for moment in ("training", "writing"):  # in mid-epoch, then while a checkpoint is written
        call = [sys.executable, "-c", KILLED, killed, repr(settings.to_dict()), moment]
        done = subprocess.run([str(part) for part in call], stderr=subprocess.DEVNULL)
        assert done.returncode == -signal.SIGKILL
    assert len(list((killed / runs.CHECKPOINTS).glob(".*.partial"))) == 1
    training.train(settings, patches[:24], patches[24:32], killed, progress=False)
    assert_same_end(whole, killed)
