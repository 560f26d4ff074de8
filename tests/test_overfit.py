"""The script of the overfitting runs can be run again, and writes them whole."""

import json

import numpy as np
import pytest
import scripts

from colorlib import callbacks, samples

script = scripts.load("overfit")

pytestmark = pytest.mark.usefixtures("shallow")


def test_a_run_starts_anew_and_repeats_itself():
    tiny = script.BASE.replace(width=1 / 16, epochs=4)
    overfitter = script.Overfitter(samples.square("flower", 64), tiny)
    first = overfitter.run(tiny)
    other = overfitter.run(tiny.replace(initializer="glorot_normal", learning_rate=1e-2))
    again = overfitter.run(tiny)
    assert first["loss"] == again["loss"] and first["ab"] == again["ab"]
    assert other["loss"][0] != first["loss"][0] and other["rate"] == [1e-2] * 4


def test_a_loss_that_is_no_number_stops_the_run(monkeypatch):
    script = scripts.load("overfit")
    tiny = script.BASE.replace(width=1 / 64, epochs=3)
    overfitter = script.Overfitter(samples.square("flower", 64), tiny)
    monkeypatch.setattr(overfitter, "iterate", lambda: (np.nan, np.nan, 1e-4))
    with pytest.raises(callbacks.DivergedError, match=r"a rate: .* epoch 1"):
        overfitter.run(tiny, "a rate")


def test_what_the_rule_would_not_touch_is_not_made_twice():
    kept = script.BASE
    reduced = kept.replace(plateau_patience=2)
    done = {"x kept": {"loss": [3.0, 2.0, 2.5, 1.0], "settings": kept.to_dict()}}
    run = script.record_run("x reduced", reduced, done, overfitter_for=None)
    assert run["loss"] == done["x kept"]["loss"] and script.is_done(reduced, run)
    assert script.would_fire(reduced, [3.0, 2.0, 2.5, 2.0])


def test_the_record_is_written_whole(tmp_path):
    record = {"photograph": "flower", "runs": {"a": {"loss": [1.0]}, "b": {"loss": [2.0]}}}
    script.write(tmp_path / "record.json", record)
    assert json.loads((tmp_path / "record.json").read_text()) == record
    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]
