"""Damage real files of every format that is read, and see that colorlib colors or refuses each.

    python benchmarks/fuzz.py [--count 10000] [--seed 0] [--formats JPEG PNG] [--json FILE.json]

Hypothesis chooses a small file (`fuzz_targets.seeds`) and what is damaged (`fuzz_damage`): the end
cut off, bits flipped, bytes inserted, left out or zeroed, pieces of other files put in, numbers of
the header (above all width and height) set to extremes, another format's ending; also inside of
containers whose checksums would detect it (PNG's chunks, zip archives), and values of JSON and HDF5
files replaced by others. The same seed and versions give the same files.

Another process does with each file what the command does (`fuzz_targets.TARGETS`). A file is
colored (read, imported), or refused with one line that names it. All else is a fault: another
exception, a line that does not name the file, anything else on stderr, over 20 s of CPU time or 120
s in all, over 1.5 GB of memory, or the end of the process (a crash of native code), which is then
started again. Files that led to a fault are kept in ``build/fuzz/``. With ``--formats`` the rows of
other formats stay in the JSON file.
"""

import argparse
import collections
import contextlib
import json
import os
import re
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

import fuzz_damage
import harness
import hypothesis
from hypothesis import strategies as st

from colorlib import config
from colorlib.cli import shared

CPU_SECONDS, SECONDS = 20, 120
"""Largest CPU time and time for a file; the latter is long, since other work can stop this one."""

MEMORY = 1500
"""Largest peak of memory in MB."""

UNEXPECTED = "can't be colored ("
"""In the line about an error that colorlib did not expect; here it is a fault."""

KEPT = config.ROOT / "build" / "fuzz"


class Worker:
    """The process that gets the damaged files; at first, the undamaged ones.

    Parameters
    ----------
    seeds : dict of str to dict of str to bytes
        Format -> name -> content.
    folder : pathlib.Path
        For the files.
    """

    def __init__(self, seeds, folder):
        self.seeds, self.folder, self.said = seeds, folder, folder / "stderr"
        self.start()

    def start(self):
        """Start the process."""
        with self.said.open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, __file__, "--worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=os.environ | ONE_THREAD,
            )
        self._answer(SECONDS)
        self.seen = 0
        for target, files in self.seeds.items():
            for name, data in files.items():
                kind, line, _ = self.ask(target, name, data)
                if kind not in ("colored", "stderr"):  # libraries say something when they start
                    raise RuntimeError(f"{target}, {name}, undamaged: {kind}: {line}")

    def ask(self, target, name, data):
        """Return what became of a file: (kind, line, peak of memory in MB)."""
        path = self.folder / name
        path.write_bytes(data)
        self.process.stdin.write(json.dumps([target, str(path)]).encode() + b"\n")
        self.process.stdin.flush()
        answer = self._answer(SECONDS)
        if answer is None:
            return "hang", f"no answer in {SECONDS} s", 0
        if not answer:
            status = self.process.wait()
            hang = -status == signal.SIGXCPU
            why = f"over {CPU_SECONDS} s of CPU time" if hang else f"ended with {status}"
            return "hang" if hang else "crash", f"{why} {self._said()}", 0
        kind, line, peak = json.loads(answer)
        if kind in ("colored", "refused") and (said := self._said()):
            return "stderr", said, peak
        if kind != "traceback" and peak > MEMORY:
            return "memory", f"{peak} MB: {line}", peak
        return kind, line, peak

    def end(self):
        """End the process."""
        self.process.kill()
        self.process.communicate()

    # b"" is the end of the process, None that it is silent
    def _answer(self, seconds):
        ready, _, _ = select.select([self.process.stdout], [], [], seconds)
        return self.process.stdout.readline() if ready else None

    def _said(self):
        with self.said.open("rb") as file:
            file.seek(self.seen)
            new = file.read()
        self.seen += len(new)
        return new.decode(errors="replace").strip()


ONE_THREAD = {
    **dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"), "1"),
    "OPENCV_LOG_LEVEL": "SILENT",  # as the command sets it
    "TF_CPP_MIN_LOG_LEVEL": "3",
}


def serve():
    """Answer with a line of JSON for each line: what became of that file."""
    import warnings

    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    import fuzz_targets

    warnings.simplefilter("ignore")  # as the command does
    print("ready", file=out, flush=True)
    with shared.silent_libraries():  # as the commands do
        for line in sys.stdin:
            target, path = json.loads(line)
            seconds = int(time.process_time()) + CPU_SECONDS
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.RLIM_INFINITY))
            Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
            answer = outcome(fuzz_targets, target, Path(path))
            print(json.dumps([*answer, peak()]), file=out, flush=True)


def peak():
    """Return the process's peak of memory in MB."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) // 1024


def outcome(targets, target, path):
    """Return what becomes of a file, and the line about it."""
    try:
        targets.TARGETS[target](path)
        return "colored", ""
    except (ValueError, targets.Refused) as error:
        line = str(error)
        good = str(path) in line and "\n" not in line and UNEXPECTED not in line
        if good:
            return "refused", line
        return "traceback", f"{type(error).__name__}: {line} {traceback.format_exc()[-1500:]}"
    except Exception as error:
        return "traceback", f"{type(error).__name__}: {error} {traceback.format_exc()[-1500:]}"


@contextlib.contextmanager
def working(seeds):
    """Hand out a worker for these seeds: format -> name -> content."""
    with tempfile.TemporaryDirectory() as folder:
        worker = Worker(seeds, Path(folder))
        try:
            yield worker
        finally:
            worker.end()


FAULTS = ("traceback", "stderr", "memory", "hang", "crash")


def fuzz(worker, target, count, seed=0, others=()):
    """Give so many damaged files of a format to a worker.

    Parameters
    ----------
    worker : Worker
        It has the format's seeds.
    target : str
        A key of `fuzz_targets.TARGETS`.
    count, seed : int
        Of the files, and of Hypothesis.
    others : sequence of bytes
        Files of which pieces are put in, beside the seeds themselves.

    Returns
    -------
    counts : collections.Counter
        Of the kinds of outcomes.
    faults : list of dict
        Each with its kind, name and line, and the damaged content.
    peak : int
        Largest peak of memory in MB.
    """
    counts, faults, peaks, seeds = collections.Counter(), [], [0], worker.seeds[target]
    others = [*seeds.values(), *others]
    strategy = st.sampled_from(sorted(seeds)).flatmap(
        lambda name: st.tuples(st.just(name), fuzz_damage.damaged(seeds[name], others))
    )

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(strategy)
    def each(chosen):
        kind, line, used = worker.ask(target, *chosen)
        counts[kind] += 1
        peaks.append(used)
        if kind in FAULTS:
            faults.append(dict(kind=kind, name=chosen[0], line=line, data=chosen[1]))
        if kind in ("crash", "hang", "memory"):
            worker.end()
            worker.start()

    each()
    return counts, faults, max(peaks)


ROW = "{format:16} {files:>6} {colored:>8} {refused:>8} {faults:>7} {peak:>8} {seconds:>8}"

TOTALS = ("files", "colored", "refused", "faults", "seconds")


def main():
    parser = harness.parser(__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--formats", nargs="+")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        serve()
        return
    import fuzz_targets

    formats, rows = given.formats or list(fuzz_targets.TARGETS), {}
    if given.json and given.json.exists():
        rows = {row["format"]: row for row in json.loads(given.json.read_text())["formats"]}
    names = {name: name for name in ("files", "colored", "refused", "faults", "seconds")}
    print(ROW.format(format="", **names, peak="peak MB"))
    for form in formats:
        count, begin = given.count // len(formats), time.perf_counter()
        seeds = fuzz_targets.seeds(form)
        with working({form: seeds}) as worker:
            counts, faults, peak = fuzz(worker, form, count, given.seed, fuzz_targets.pieces())
        row = {"format": form, "files": counts.total(), "peak": peak, "faults": len(faults)}
        row |= {name: counts[name] for name in ("colored", "refused", *FAULTS)}
        rows[form] = row | {"seconds": round(time.perf_counter() - begin), "seed": given.seed}
        print(ROW.format(**rows[form]), {x: counts[x] for x in FAULTS if counts[x]} or "")
        sys.stdout.flush()
        keep(form, faults)
        total = {name: sum(row[name] for row in rows.values()) for name in TOTALS}
        ordered = [rows[name] for name in fuzz_targets.TARGETS if name in rows]
        harness.write(given.json, {**harness.machine(), "all": total, "formats": ordered})
    if any(rows[form]["faults"] for form in formats):
        sys.exit(f"faults are in {KEPT}")


def keep(form, faults):
    """Write the files that led to a fault, and what was said."""
    shutil.rmtree(KEPT / form, ignore_errors=True)
    for number, fault in enumerate(faults):
        where = KEPT / form / fault["kind"] / f"{number}-{fault['name']}"
        where.parent.mkdir(parents=True, exist_ok=True)
        where.write_bytes(fault["data"])
        where.with_name(f"{where.name}.txt").write_text(fault["line"])


if __name__ == "__main__":
    main()
