"""A search is shared by processes, survives their death, and does exactly what it was asked for."""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import types
from pathlib import Path

import numpy as np
import optuna
import pytest
import sqlalchemy
from optuna.trial import TrialState

from colorlib import config, losses, model, training
from colorlib.experiments import l2_search, shared_study

pytestmark = pytest.mark.usefixtures("shallow")

TINY = config.TrainConfig(
    image_size=16, crop=16, width=1 / 32, epochs=3, batch_size=8, start_from_prior=True
)


@pytest.fixture
def small(patches):
    return l2_search.small_set(patches, 8, 16)


@pytest.fixture
def quick(monkeypatch):
    """Instead of training, report a loss that follows from the constant, lowest at 1e-3."""

    def pretend(settings, small, trial):
        loss = 3 + 0.1 * abs(np.log10(settings.l2 / 1e-3))
        for step in range(settings.epochs):
            trial.report(loss, step + 1)
            if trial.should_prune():
                raise optuna.TrialPruned
        return loss

    monkeypatch.setattr(l2_search, "_train", pretend)


def study_of(place, stage="coarse"):
    return optuna.load_study(study_name=stage, storage=shared_study.open_storage(place))


def without_heartbeat(place):
    """Open a study as Optuna alone does: there `ask` is allowed."""
    storage = optuna.storages.RDBStorage(
        f"sqlite:///{place}", engine_kwargs={"poolclass": sqlalchemy.NullPool}
    )
    return optuna.load_study(study_name="coarse", storage=storage)


def count(place, *states):
    if not place.exists():
        return 0
    with contextlib.suppress(KeyError):
        return sum(row["state"] in states for row in l2_search.table(place))
    return 0


def fill(place, small, constants, values, epochs=3):
    """Write coarse trials that are done, without training anything."""
    study = optuna.create_study(storage=shared_study.open_storage(place), study_name="coarse")
    plan = {"settings": TINY.to_dict(), "data": small.described, "range": l2_search.COARSE_RANGE}
    study.set_user_attr(l2_search.PLAN, plan)
    spread = {"l2": optuna.distributions.FloatDistribution(*l2_search.COARSE_RANGE, log=True)}
    for l2, value in zip(constants, values, strict=True):
        study.add_trial(
            optuna.create_trial(
                params={"l2": l2},
                distributions=spread,
                value=value,
                user_attrs={"process": "there:1"},
                intermediate_values=dict.fromkeys(range(1, epochs + 1), value),
            )
        )


def test_the_small_set_is_spread_out_and_its_halves_share_nothing(patches):
    small = l2_search.small_set(patches, 8, 32)
    assert small.train.shape == small.validation.shape == (8, 32, 32, 3)
    both = {image.tobytes() for image in np.concatenate(small[:2])}
    assert len(both) == 16 and patches[0].tobytes() in both and patches[-1].tobytes() in both
    with pytest.raises(l2_search.StudyError, match="100 images are needed and 40 there"):
        l2_search.small_set(patches, 50, 32)


def test_the_fine_range_is_a_decade_around_the_best_quarter():
    constants = [1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1e-8]
    low, high = l2_search.fine_range(constants, [5, 5, 2, 1, 5, 5, 5, 5])
    assert low == pytest.approx(1e-5) and high == pytest.approx(1e-4)


def test_the_penalty_is_taken_off_the_loss(small):
    settings = TINY.replace(l2=0.01)
    network = model.model_for(settings)
    training.compile_model(network, settings, 1)
    lightness, codes = np.full((2, 16, 16, 1), 50, "float32"), np.zeros((2, 4, 4), "int32")
    total = network.evaluate(lightness, codes, verbose=0)[0]
    plain = float(losses.SoftCrossEntropy()(codes, network.predict_on_batch(lightness)))
    assert total > plain + 1
    assert l2_search.cross_entropy(network, total) == pytest.approx(plain, rel=1e-4)
    assert l2_search.cross_entropy(model.model_for(TINY), 3.0) == 3.0


def test_coarse_then_fine(tmp_path, small, quick):
    place = tmp_path / "l2.db"
    seen = []
    for _ in range(2):  # the second time nothing is left to do
        callbacks = [lambda study, trial: seen.append(trial)]
        l2_search.search(TINY, small, place, "coarse", 12, False, callbacks)
    assert len(seen) == 12 and count(place, "complete", "pruned") == 12
    fine = l2_search.search(TINY, small, place, "fine", 6, False)
    coarse = study_of(place)
    limits = l2_search.fine_range(
        [t.params["l2"] for t in coarse.trials], [t.value for t in coarse.trials]
    )
    assert limits[0] > 3e-5 and limits[1] < 1e-2
    assert fine.user_attrs[l2_search.PLAN]["range"] == list(limits)
    assert all(limits[0] <= trial.params["l2"] <= limits[1] for trial in fine.trials)
    l2_search.record(place, tmp_path / "record")
    rows, plan = l2_search.load_search(tmp_path / "record")
    assert plan["ranges"]["fine"] == list(limits) and plan["settings"]["width"] == TINY.width
    for row, live in zip(rows, l2_search.table(place), strict=True):
        assert row["curve"] == pytest.approx(live["curve"], abs=1e-4)
        assert row["l2"] == pytest.approx(live["l2"], rel=1e-3) and row["process"] == 1


def test_the_edge_is_where_the_loss_rises_most():
    constants = [1e-2, 1e-6, 1e-1, 1e-3, 1e-4]  # sorted: 4, 5, 4, 6, 6
    assert l2_search.edge_range(constants, [6, 4, 6, 4, 5]) == (1e-3, 1e-2)


def test_a_recorded_search_continues_as_the_live_one(tmp_path, small, quick):
    live, anew, folder = tmp_path / "live.db", tmp_path / "anew.db", tmp_path / "record"
    l2_search.search(TINY, small, live, "coarse", 8, False)
    l2_search.search(TINY, small, live, "edge", 2, False)
    l2_search.record(live, folder)
    l2_search.resume(folder, anew)
    written = {path: path.read_bytes() for path in folder.iterdir()}
    l2_search.record(anew, folder)
    assert written == {path: path.read_bytes() for path in folder.iterdir()}
    for place in (live, anew):
        l2_search.search(TINY, small, place, "edge", 4, False)
    more = [[row["l2"] for row in l2_search.table(place)] for place in (live, anew)]
    assert len(more[0]) == 12 and more[1] == pytest.approx(more[0], rel=1e-3)
    l2_search.resume(tmp_path / "missing", anew)  # the file is there, and stays
    assert len(l2_search.table(anew)) == 12


def test_repeated_trials_of_a_record_keep_their_numbers(tmp_path, small, quick):
    live, anew, folder = tmp_path / "live.db", tmp_path / "anew.db", tmp_path / "record"
    l2_search.search(TINY, small, live, "coarse", 1, False)
    other = without_heartbeat(live)
    failed = other.ask()
    failed.suggest_float("l2", *l2_search.COARSE_RANGE, log=True)
    failed.set_user_attr("process", "there:1")
    other.tell(failed, state=TrialState.FAIL)
    l2_search.search(TINY, small, live, "coarse", 3, False)
    l2_search.record(live, folder)
    l2_search.resume(folder, anew)
    found = [(row["trial"], row["state"]) for row in l2_search.table(anew)]
    assert found == [(0, "complete"), (1, "fail"), (1, "complete"), (2, "complete")]
    assert l2_search.table(anew)[2]["l2"] == l2_search.table(anew)[1]["l2"]


def test_what_is_tried_follows_from_the_seed(tmp_path, small, quick):
    tried = []
    for name in ("one", "two"):
        study = l2_search.search(TINY, small, tmp_path / name, "coarse", 3, False)
        tried.append([trial.params["l2"] for trial in study.trials])
    assert tried[0] == tried[1] and len(set(tried[0])) == 3
    assert all(l2_search.COARSE_RANGE[0] <= l2 <= l2_search.COARSE_RANGE[1] for l2 in tried[0])


def test_a_trial_that_died_before_it_had_a_constant_is_repeated_with_its_own(
    tmp_path, small, quick, monkeypatch
):
    one, two = tmp_path / "one.db", tmp_path / "two.db"
    l2_search.search(TINY, small, one, "coarse", 3, False)
    record_heartbeat, beats = shared_study._record_heartbeat, []

    def killed_the_second_time(study, trial):
        beats.append(trial.number)
        if len(beats) == 2:
            raise KeyboardInterrupt
        record_heartbeat(study, trial)

    monkeypatch.setattr(shared_study, "_record_heartbeat", killed_the_second_time)
    with pytest.raises(KeyboardInterrupt):
        l2_search.search(TINY, small, two, "coarse", 3, False)
    l2_search.search(TINY, small, two, "coarse", 3, False)
    assert [trial.state for trial in study_of(two).trials] == [
        TrialState.COMPLETE,
        TrialState.FAIL,
        TrialState.COMPLETE,
        TrialState.COMPLETE,
    ]
    tried = [{row["trial"]: row["l2"] for row in l2_search.table(place)} for place in (one, two)]
    assert tried[0] == tried[1] and len(tried[0]) == 3


def test_a_number_that_waits_twice_is_done_once(tmp_path, small, quick):
    place = tmp_path / "l2.db"
    study = l2_search._open_stage(TINY, small, place, "coarse", 60)
    shared_study._enqueue_missing(study, 2)
    for number in (1, 0):  # another process saw the same numbers missing
        study.enqueue_trial({}, user_attrs={shared_study.NUMBER: number})
    without_heartbeat(place).ask()  # and a third, which failed, took the first
    study.tell(0, state=TrialState.FAIL)
    l2_search.search(TINY, small, place, "coarse", 2, False)
    assert sorted(row["trial"] for row in l2_search.table(place)) == [0, 1]
    l2_search.search(TINY, small, place, "coarse", 3, False)
    assert sorted(row["trial"] for row in l2_search.table(place)) == [0, 1, 2]


def test_a_hopeless_trial_is_ended_early(tmp_path, small):
    place = tmp_path / "l2.db"
    fill(place, small, [1e-4] * 5, [0.1] * 5)  # nobody gets near those
    l2_search.search(TINY, small, place, "coarse", 6, False)
    last = l2_search.table(place)[-1]
    assert last["state"] == "pruned" and last["epochs"] < TINY.epochs
    assert 1 < last["loss"] < 7 and last["curve"][-1] == last["loss"]
    assert study_of(place).best_value == 0.1


def test_a_trial_that_diverges_is_ended_and_counts(tmp_path, small):
    place = tmp_path / "l2.db"
    settings = TINY.replace(learning_rate=float("nan"))
    l2_search.search(settings, small, place, "coarse", 1, False)
    assert count(place, "pruned") == 1 and np.isnan(l2_search.table(place)[0]["loss"])


def test_ctrl_c_puts_the_trial_back(tmp_path, small, quick, monkeypatch):
    place = tmp_path / "l2.db"

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(l2_search, "_train", interrupted)
        l2_search.search(TINY, small, place, "coarse", 1, False)
    study = l2_search.search(TINY, small, place, "coarse", 1, False)
    assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.COMPLETE]
    assert study.trials[0].params == study.trials[1].params


def test_a_trial_that_was_taken_over_meanwhile_is_let_go(tmp_path, small, monkeypatch):
    place = tmp_path / "l2.db"

    def asleep(settings, small, trial):
        if trial.number < 2:
            study_of(place).tell(trial.number, state=TrialState.FAIL)
        if trial.number == 1:
            trial.report(3.0, 1)
        return 3.0

    monkeypatch.setattr(l2_search, "_train", asleep)
    study = l2_search.search(TINY, small, place, "coarse", 2, False)
    states = [trial.state for trial in study.trials]
    assert states == [TrialState.FAIL] * 2 + [TrialState.COMPLETE] * 2


def test_another_mistake_is_not_hidden(tmp_path, small, monkeypatch):
    def broken(*_):
        raise ValueError("something else")

    monkeypatch.setattr(l2_search, "_train", broken)
    with pytest.raises(ValueError, match="something else"):
        l2_search.search(TINY, small, tmp_path / "l2.db", "coarse", 1, False)


def test_errors_say_what_to_do(tmp_path, small):
    place = tmp_path / "l2.db"
    with pytest.raises(l2_search.StudyError, match="run the coarse stage first"):
        l2_search.search(TINY, small, place, "fine", 1, False)
    with pytest.raises(l2_search.StudyError, match="no stage 'medium'; choose from coarse, fine"):
        l2_search.search(TINY, small, place, "medium", 1, False)
    (tmp_path / "text.db").write_text("not a study, but long enough to have a header " * 9)
    with pytest.raises(l2_search.StudyError, match=r"can't be opened .*not a database"):
        l2_search.search(TINY, small, tmp_path / "text.db", "coarse", 1, False)
    with pytest.raises(l2_search.StudyError, match="can't be opened"):
        l2_search.search(TINY, small, tmp_path / "nowhere" / "l2.db", "coarse", 1, False)
    with pytest.raises(l2_search.StudyError, match="no such study"):
        l2_search.table(tmp_path / "missing.db")
    with pytest.raises(l2_search.StudyError, match="record it again"):
        l2_search.load_search(tmp_path)
    with pytest.raises(l2_search.StudyError, match="record it again"):
        l2_search.resume(tmp_path, tmp_path / "new.db")
    assert not (tmp_path / "new.db").exists()
    fill(place, small, [1e-4], [3.0])
    with pytest.raises(l2_search.StudyError, match=r"width is 0\.03125 there and 0\.0625 here"):
        l2_search.search(TINY.replace(width=1 / 16), small, place, "coarse", 2, False)


HANGING = """
import pathlib, sys, time
import numpy
from colorlib import config
from colorlib.experiments import l2_search

def hang(settings, small, trial):
    pathlib.Path(sys.argv[2]).touch()
    time.sleep(3600)

l2_search._train = hang
settings = config.TrainConfig(**eval(sys.argv[3]))
patches = numpy.load(sys.argv[4])
small = l2_search.small_set(patches, 8, 16)
l2_search.search(settings, small, sys.argv[1], "coarse", 4, False, heartbeat_timeout=2)
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def shared(request, tmp_path):
    """A place for a study that processes share: a file, or the URL of a server's database."""
    if request.param == "sqlite":
        yield tmp_path / "l2.db"
        return
    pytest.importorskip("psycopg")
    with postgresql() as url:
        yield url


@contextlib.contextmanager
def postgresql():
    """Run a server of our own in a folder of its own; it refuses to run as root."""
    found = shutil.which("initdb") or max(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), default=""
    )
    root = os.geteuid() == 0
    if not found or (root and "postgres" not in {user.pw_name for user in pwd.getpwall()}):
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    who = dict(user="postgres", group="postgres", extra_groups=[]) if root else {}
    tools, quiet = Path(found).resolve().parent, dict(stdout=subprocess.DEVNULL, cwd="/", **who)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    with tempfile.TemporaryDirectory() as folder:
        if root:
            shutil.chown(folder, "postgres", "postgres")
        make = [tools / "initdb", "-D", folder, "-U", "me", "--auth=trust", "--no-sync"]
        subprocess.run(make, check=True, **quiet)
        serve = [
            tools / "postgres",
            "-D",
            folder,
            "-p",
            port,
            "-k",
            folder,
            "-F",
            "-h",
            "127.0.0.1",
        ]
        with subprocess.Popen(serve, stderr=subprocess.DEVNULL, **quiet) as server:
            try:
                while subprocess.run(
                    [tools / "pg_isready", "-h", "127.0.0.1", "-p", port], **quiet
                ).returncode:
                    assert server.poll() is None
                    time.sleep(0.1)
                yield f"postgresql+psycopg://me@127.0.0.1:{port}/postgres"
            finally:
                server.send_signal(signal.SIGINT)


def test_the_trial_of_a_process_that_was_killed_is_taken_over(
    shared, tmp_path, patches, small, quick
):
    place, begun, images = shared, tmp_path / "begun", tmp_path / "patches.npy"
    np.save(images, patches)
    call = [sys.executable, "-c", HANGING, place, begun, repr(TINY.to_dict()), images]
    with subprocess.Popen([str(part) for part in call], stderr=subprocess.DEVNULL) as victim:
        while not begun.exists() and victim.poll() is None:
            time.sleep(0.05)
        victim.kill()
    assert victim.returncode == -signal.SIGKILL
    (lost,) = l2_search.table(place)
    assert lost["state"] == "running"
    l2_search.search(TINY, small, place, "coarse", 4, False, heartbeat_timeout=2)

    rows = l2_search.table(place)
    done = [row for row in rows if row["state"] == "complete"]
    assert len(done) == 4 and {row["process"] for row in done} == {2}
    assert [row["l2"] for row in rows if row["state"] == "fail"] == [lost["l2"]]
    assert lost["l2"] in {row["l2"] for row in done} and len({row["l2"] for row in done}) == 4


def test_the_dead_are_noticed_although_the_clock_was_set_back(tmp_path, small, quick, monkeypatch):
    place, passed = tmp_path / "l2.db", 0.0

    def sleep(seconds):
        nonlocal passed
        passed += seconds
        assert passed < 10, "it waits for the dead"

    monkeypatch.setattr(
        shared_study, "time", types.SimpleNamespace(sleep=sleep, monotonic=lambda: passed)
    )
    l2_search.search(TINY, small, place, "coarse", 1, False)
    dead = without_heartbeat(place)
    lost, _ = dead.ask(), dead.ask()  # the other has no constant and no heartbeat yet
    lost.set_user_attr("process", "there:1")
    constant = lost.suggest_float("l2", *l2_search.COARSE_RANGE, log=True)
    storage = shared_study.open_storage(place)
    storage.record_heartbeat(1 + lost.number)
    with storage.engine.begin() as connection:
        for change in (
            "trial_heartbeats SET heartbeat = '2999-01-01 00:00:00.000000'",
            "trials SET datetime_start = '2999-01-01 00:00:00.000000' WHERE state = 'RUNNING'",
        ):
            connection.exec_driver_sql(f"UPDATE {change}")
    study = l2_search.search(TINY, small, place, "coarse", 3, False, heartbeat_timeout=4)
    assert 4 < passed < 6
    states = [TrialState.COMPLETE, TrialState.FAIL, TrialState.FAIL] + [TrialState.COMPLETE] * 2
    assert [trial.state for trial in study.trials] == states
    assert constant in [trial.params["l2"] for trial in study.trials[3:]]
