"""Several processes train one network: the same batches and losses, and a kill is survived."""

import subprocess
import sys

import keras
import numpy as np
import processes
import pytest
import shallow

from colorlib import distributed, generator, runs

# The code of a process with little to compile; process 1 of the first call kills itself.
WORKER = f"""{shallow.HERE}
import os, pathlib, signal, sys
import numpy as np
from colorlib import config, distributed, generator, training

distributed.join()
folder, settings = pathlib.Path(sys.argv[1]), config.TrainConfig(**eval(sys.argv[2]))
patches, whole, begun = np.load(sys.argv[3]), generator.ColorBatches.batch, folder / "begun"

def batch(self, epoch, index):
    if self.train and (self.world.rank, epoch, index) == (1, 1, 1) and not begun.exists():
        begun.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(self, epoch, index)

generator.ColorBatches.batch = batch
run = dict(progress=False, workers=0, save_every=0, watched=patches[:2])
with distributed.leaving():
    training.train(settings, patches[:16], patches[16:24], folder, **run)
"""


def parts(patches, processes, **how):
    """Return the batches of an epoch, from the parts of all processes."""
    all_ = [
        generator.ColorBatches(
            patches, world=distributed.World(rank, processes, processes), workers=0, **how
        )
        for rank in range(processes)
    ]
    batches = []
    for index in range(len(all_[0])):
        own = [batches.batch(3, index) for batches in all_]
        assert len({len(lightness) for lightness, _ in own}) == 1
        batches.append([np.concatenate(arrays) for arrays in zip(*own, strict=True)])
    return batches


@pytest.mark.parametrize("crop_scale", [None, 0.3])
@pytest.mark.parametrize("train", [True, False])
def test_the_parts_are_together_one_process_batches(patches, crop_scale, train):
    how = dict(batch_size=8, crop=16, train=train, flip=True, crop_scale=crop_scale)
    for one, two in zip(parts(patches, 1, **how), parts(patches, 2, **how), strict=True):
        for whole, joined in zip(one, two, strict=True):
            np.testing.assert_array_equal(whole, joined)


def test_each_process_degrades_its_own_images(patches):
    same = np.repeat(patches[:1], 8, axis=0)
    ((lightness, _),) = parts(same, 2, batch_size=8, crop=32, degrade=1.0)
    assert not np.array_equal(lightness[:4], lightness[4:])


def test_batches_can_be_divided(patches):
    batches = parts(patches[:39], 4, batch_size=9, crop=16)
    counts = [len(lightness) for lightness, _ in batches]
    assert sum(counts) == 36 and set(counts) <= {4, 8}
    for count, batch_size in ((3, 8), (40, 3)):
        with pytest.raises(ValueError, match="too small for 4 devices"):
            parts(patches[:count], 4, batch_size=batch_size, crop=16)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, None),
        ({"RANK": "0", "WORLD_SIZE": "1"}, None),
        ({"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "0"}, (1, 4, 0)),
        ({"OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_SIZE": "3"}, (2, 3, None)),
        ({"SLURM_PROCID": "5", "SLURM_STEP_NUM_TASKS": "8", "SLURM_LOCALID": "1"}, (5, 8, 1)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, None),  # a batch script, outside of srun
    ],
)
def test_the_usual_variables_say_who_is_there(monkeypatch, variables, expected):
    for names in distributed.VARIABLES:
        for name in names:
            monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert distributed.announced() == expected


def test_another_backend_is_refused_in_a_line(tmp_path, monkeypatch):
    call = ["train", "MODEL_64", "--data", "x.h5", "--val", "x.h5", "--run", "./x"]
    for backend, more in (("tensorflow", ["--processes", "2"]), ("torch", ["--processes", "2"])):
        done = subprocess.run(
            [sys.executable, "-m", "colorlib", *call, "--backend", backend, *more],
            capture_output=True,
            text=True,
            cwd=tmp_path,
        )
        assert done.returncode == 2 and done.stderr.count("\n") == 1
        assert f"needs the backend jax, not {backend}" in done.stderr
    monkeypatch.setattr(keras.backend, "backend", lambda: "tensorflow")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"2 processes train .* jax only, not with tensorflow"):
        distributed.join()


def test_two_processes_survive_a_kill_and_end_like_one(tmp_path, patches, tiny, capfd, monkeypatch):
    cache = {"COMPILATION_CACHE_DIR": str(tmp_path / "cache")}
    cache |= {f"PERSISTENT_CACHE_MIN_{x}": "0" for x in ("COMPILE_TIME_SECS", "ENTRY_SIZE_BYTES")}
    for name, value in {"KERAS_BACKEND": "jax", "XLA_FLAGS": processes.QUICK_XLA}.items():
        monkeypatch.setenv(name, value)
    for name, value in cache.items():
        monkeypatch.setenv(f"JAX_{name}", value)
    # Adam turns the rounding of gradients near 0 into steps: a higher rate would show it
    settings = tiny.replace(flip=True, start_from_prior=True, learning_rate=1e-4).to_dict()
    np.save(tmp_path / "patches.npy", patches)

    def command(run):
        (tmp_path / run).mkdir(exist_ok=True)
        call = (
            sys.executable,
            "-c",
            WORKER,
            tmp_path / run,
            repr(settings),
            tmp_path / "patches.npy",
        )
        return [str(part) for part in call]

    failure = distributed.launch(command("two"), 2)
    assert failure.startswith("process 1 of 2 was ended by SIGKILL; the others were stopped")
    assert "start all again: the same command goes on" in capfd.readouterr().err
    assert len(runs.load_run(tmp_path / "two").history["loss"]) == 1
    assert distributed.launch(command("two"), 2) == ""
    subprocess.run(command("one"), check=True)
    one, two = (runs.load_run(tmp_path / name) for name in ("one", "two"))
    for name in ("loss", "val_loss", "accuracy", "learning_rate"):
        assert len(two.history[name]) == settings["epochs"] == 2
        np.testing.assert_allclose(one.history[name], two.history[name], rtol=1e-5)
    with np.load(one.path / runs.PREDICTIONS) as a, np.load(two.path / runs.PREDICTIONS) as b:
        np.testing.assert_allclose(a["plain"], b["plain"], atol=1)
