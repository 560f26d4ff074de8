"""Errors of `train` and `search` are one line, with exit code 2."""

import os
import re
import subprocess
import sys
import warnings

import keras
import processes
import pytest
import shallow
from typer.testing import CliRunner

from colorlib import __main__, config, runs, store
from colorlib.cli import shared
from colorlib.cli import train as cli_train
from colorlib.experiments import l2_search

pytestmark = pytest.mark.usefixtures("shallow")

TRAIN = "train SEARCH --data {data} --val {data} --run {run} --epochs 1"
SEARCH = "search --data {data} --study {study} --stage coarse --images 4"


@pytest.fixture
def data(tmp_path, patches):
    store.write(tmp_path / "data.h5", patches[:8])
    return tmp_path / "data.h5"


def refusal(call, **names):
    """Call the command, and return the one line it ends with."""
    arguments = [part.format(**names) for part in call.split()]
    result = CliRunner().invoke(__main__.app, arguments)
    assert result.exit_code == 2, (result.output, result.exception)
    (line,) = result.stderr.splitlines()
    return line


def test_a_warning_is_a_line(monkeypatch):
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    monkeypatch.setattr(__main__, "app", lambda: None)
    __main__.main()
    assert warnings.formatwarning("odd", UserWarning, "x.py", 1, "code") == "colorlib: odd\n"


OLD, NEW = "flags : avx avx2 fma", "flags : avx avx2 fma avx512f avx512_bf16"


@pytest.mark.parametrize(
    "flags, precision", [(OLD, "mixed_bfloat16"), (NEW, "mixed_bfloat16"), (OLD, "float32")]
)
def test_a_processor_without_bfloat16_is_pointed_out(tmp_path, data, monkeypatch, flags, precision):
    (tmp_path / "cpuinfo").write_text(flags)
    monkeypatch.setattr(cli_train, "CPUINFO", tmp_path / "cpuinfo")
    call = f"{TRAIN} --precision {precision} --width 0.03125".split()
    call = [part.format(data=data, run=tmp_path / "run") for part in call]
    result = CliRunner().invoke(__main__.app, call)
    assert result.exit_code == 0, result.output
    slow = (flags, precision) == (OLD, "mixed_bfloat16") and keras.backend.backend() != "jax"
    assert ("--precision float32 trains several times as fast" in result.stderr) == slow


@pytest.mark.parametrize("width", ["nan", "1e9", "0", "-1"])
@pytest.mark.parametrize("call", [TRAIN, SEARCH])
def test_impossible_widths_are_refused(tmp_path, data, call, width):
    line = refusal(f"{call} --width {width}", data=data, run=tmp_path / "run", study=tmp_path / "s")
    assert "has to be in 1/64..2" in line
    assert not (tmp_path / "run").exists() and not (tmp_path / "s").exists()


def test_a_place_for_runs_that_can_not_be_written_is_named(tmp_path, data, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(config, "RUNS", tmp_path / "file" / "runs")
    line = refusal(f"{TRAIN} --width 0.0625", data=data, run="mine")
    assert str(config.RUNS / "mine") in line and "can't be written" in line


def test_a_record_that_can_not_be_written_is_named(tmp_path, data, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(config, "RUNS", tmp_path / "file" / "runs")
    call = f"{SEARCH} --width 0.03125 --trials 1 --epochs 1 --record mine"
    result = CliRunner().invoke(__main__.app, call.format(data=data, study=tmp_path / "s").split())
    assert result.exit_code == 2 and "is best" in result.stdout, result.exception
    last = result.stderr.splitlines()[-1]
    assert str(config.RUNS / "mine") in last and "can't be written" in last
    assert len(l2_search.table(tmp_path / "s")) == 1


def test_a_search_goes_on_from_its_record(tmp_path, data, monkeypatch):
    monkeypatch.setattr(config, "RUNS", tmp_path)
    call = f"{SEARCH} --width 0.03125 --trials 1 --epochs 1 --record mine"
    for study in (tmp_path / "one.db", tmp_path / "two.db"):  # for two, nothing is left to do
        result = CliRunner().invoke(__main__.app, call.format(data=data, study=study).split())
        assert result.exit_code == 0, result.output
    (one,), (two,) = (l2_search.table(tmp_path / name) for name in ("one.db", "two.db"))
    assert two["l2"] == pytest.approx(one["l2"], rel=1e-3)
    assert two["seconds"] == one["seconds"]


@pytest.mark.parametrize("backend", ["torch", "abacus"])
def test_a_backend_that_is_not_installed_is_named(tmp_path, data, monkeypatch, backend):
    monkeypatch.setattr(shared, "installed_backends", lambda: ["tensorflow", "jax"])
    line = refusal(f"{TRAIN} --backend {backend}", data=data, run=tmp_path / "run")
    assert f"{backend!r} is not installed; installed are: tensorflow, jax" in line


@pytest.mark.parametrize("backend", shared.installed_backends())
def test_the_backend_is_chosen(tmp_path, data, backend):
    call = f"{TRAIN} --width 0.03125 --backend {backend}"
    arguments = call.format(data=data, run=tmp_path / "run").split()
    code = f"{shallow.HERE}\nfrom colorlib import __main__\n__main__.main()"
    done = processes.run("-c", code, *arguments, XLA_FLAGS=processes.QUICK_XLA)
    assert done.returncode == 0, done.stderr
    assert runs.load_run(tmp_path / "run").environment["backend"] == backend
    line = done.stdout.splitlines()[0]
    assert re.match(r"epoch 1  .*loss .* val_loss .* learning_rate .* images_per_second", line)


def test_a_missing_backend_is_named(tmp_path):
    call = TRAIN.format(data="x.h5", run=tmp_path / "run").split()
    # a module of that name that can't be imported: whatever is installed here
    (tmp_path / "torch.py").write_text("raise ImportError('No module named torch')")
    environment = os.environ | {"KERAS_BACKEND": "torch", "PYTHONPATH": str(tmp_path)}
    environment["PYTHONPATH"] += os.pathsep + os.environ.get("PYTHONPATH", "")
    done = subprocess.run(
        [sys.executable, "-m", "colorlib", *call], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "can't start with torch (No module named torch)" in done.stderr
    assert len(done.stderr.splitlines()) == 1
