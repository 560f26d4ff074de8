"""Kill colorlib's commands at random and disturb them; in the end the results have to be the same.

    python benchmarks/soak.py [--kills 200] [--hours 0] [--seed 0] [--commands pack] [--json FILE]

Each command (`soak_commands`) first runs undisturbed, which gives its duration and its result.
Then, in rounds, it begins anew in an empty folder and is killed again and again, by SIGKILL or
Ctrl-C (SIGINT) in turn, after a random time between 0 and that duration (less, as the machine gets
less busy); after some kills one of its files is damaged. The last call of a round runs to its end,
and the result is compared with that of the undisturbed run. Before the kills it is run once each

- on a full disk: a tmpfs with room for a part of the result (`ulimit -f` where mounting is not
  allowed), and then, with room, again;
- into a folder that is read-only (root gives up its capability to write there), and then where it
  may write;
- with a clock that jumps by days while it runs and between a kill and the next call (libfaketime,
  if it is installed). As with a clock that is set, only the time of day jumps: the monotonic clock
  goes on, and who sleeps wakes up in time (see `SLEEP`).

A fault is another result, a traceback, a wrong exit code, a call that does not end within
`LONGEST`, a temporary file that stays, or a kill's consequence that a second call does not mend.
The rounds go on until so many kills and so many hours are reached; with ``--commands`` the rows of
other commands stay in the JSON file.
"""

import collections
import contextlib
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import harness
import soak_commands

from colorlib import config

LONGEST = 600
"""Seconds after which a call counts as hanging; long, since other work may stop it."""

KILLS_A_ROUND = 8

FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")

SLEEP = "import select, time; time.sleep = lambda seconds: select.select([], [], [], seconds); "
"""libfaketime 0.9.10 (Debian 12) moves the end of Python 3.11's `time.sleep` although it leaves the
monotonic clock alone (its issue 426): an error or a sleep of days, which no clock that is set
causes."""

AFTER = {signal.SIGKILL: (-signal.SIGKILL,), signal.SIGINT: (1, 2, 130, -signal.SIGINT)}
"""Exit codes after the signals; with 0 the command had ended before."""

IN_MAIN = re.compile(r'__main__\.py", line \d+, in main')
"""In a traceback. Before, Python and its libraries are loaded: Ctrl-C ends that with a traceback of
Python's own, or in rare cases Python drops it."""

POWERLESS = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
"""Makes root a user who has to heed permissions; util-linux has it."""

JUMPS = ("+400d", "-2d", "-9d")
"""The last call begins long before the kills, by its clock."""

ENVIRONMENT = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"),
    "1",  # the same number everywhere: else the last digits differ
)


def python(first):
    """Return the call of colorlib, after some code."""
    run = "import runpy; runpy.run_module('colorlib', run_name='__main__', alter_sys=True)"
    return [sys.executable, *(("-c", first + run) if first else ("-m", "colorlib"))]


class Command:
    """One of `soak_commands.COMMANDS` in a folder of its own, and what became of its calls.

    Parameters
    ----------
    kind : object
        With ``first``, ``arguments``, ``result`` and ``damage``.
    home : pathlib.Path
        For its folders.
    """

    def __init__(self, kind, home, seed):
        self.kind, self.home, self.random = kind, home, random.Random(seed)
        self.counts, self.faults, self.rounds = collections.Counter(), [], 0
        folder = self.folder("undisturbed")
        begin = time.perf_counter()
        self.check("undisturbed", *self.call(folder), 0)
        self.seconds = time.perf_counter() - begin
        self.wanted = kind.result(folder)
        self.bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

    def folder(self, name):
        """Make an empty folder for the command's results."""
        folder = self.home / name
        folder.mkdir(parents=True)
        return folder

    def start(self, folder, before=(), first="", **options):
        """Start the command, perhaps by a program and code before it; its stderr goes to a file."""
        environment = os.environ | ENVIRONMENT | options.pop("env", {})
        with (self.home / "stderr").open("wb") as stderr:
            return subprocess.Popen(
                [*before, *python(first + self.kind.first), *map(str, self.kind.arguments(folder))],
                cwd=config.ROOT,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                env=environment,
                **options,
            )

    def call(self, folder, before=(), **options):
        """Run the command to its end; return its exit code and what it said."""
        return self.finish(self.start(folder, before, **options))

    def finish(self, process):
        """Wait for a call; return its exit code and what it said."""
        try:
            process.wait(LONGEST)
        except subprocess.TimeoutExpired:
            process.kill()
            return f"no end in {LONGEST} s", ""
        return process.returncode, (self.home / "stderr").read_text(errors="replace")

    def check(self, what, code, said, *allowed):
        """Note a fault, if the exit code is another one, or there is a traceback."""
        if code not in allowed or "Traceback" in said:
            self.faults.append(f"{what}: exit code {code}: {said[-1500:]}")

    def compare(self, what, folder):
        """Note a fault, if the result is not that of the undisturbed run."""
        self.counts["compared"] += 1
        found = self.kind.result(folder)
        different = sorted(
            str(name)
            for name in found.keys() | self.wanted.keys()
            if found.get(name) != self.wanted.get(name)
        )
        if different:
            self.faults.append(f"{what}: differ: {', '.join(different)[:1500]}")
        else:
            self.counts["equal"] += 1
        shutil.rmtree(folder)

    def kill(self, folder):
        """Start the command and kill it; return whether it had not ended before."""
        number = signal.SIGKILL if self.counts["kills"] % 2 else signal.SIGINT
        process, begin = self.start(folder), time.perf_counter()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(self.random.uniform(0, self.seconds))
        if process.returncode is None:
            process.send_signal(number)
        took = time.perf_counter() - begin
        ended = process.returncode is not None  # `send_signal` looks once more
        code, said = self.finish(process)
        starts = "KeyboardInterrupt" in said and not IN_MAIN.search(said)
        self.counts["SIGINT while Python starts"] += starts
        if ended or code == 0:  # it may have ended between that look and the signal
            self.counts["ended before"] += 1
            self.seconds = (self.seconds + took) / 2  # less load than before
            self.check("ended before the kill", code, "" if starts else said, 0)
            return False
        self.counts["kills"] += 1
        self.counts[number.name] += 1
        if not starts and ("Traceback" in said or code not in AFTER[number]):
            self.faults.append(f"{number.name}: exit code {code}: {said[-1500:]}")
        return True

    def killed(self, kills):
        """Do a round: kill it some times, let it end, compare."""
        self.rounds += 1
        folder, damaged = self.folder(f"round-{self.rounds}"), []
        for _ in range(kills):
            if not self.kill(folder):
                break
            if self.random.random() < 0.3 and (path := self.kind.damage(folder, self.random)):
                self.counts["damaged files"] += 1
                damaged.append(path)
        what = f"round {self.rounds} (damaged: {damaged})"
        self.check(what, *self.call(folder), 0)
        self.compare(what, folder)

    def on_a_full_disk(self):
        """Run it where there is room for a part of the result, then with room."""
        folder, limited = self.folder("full"), None
        room = max(4096, self.bytes // 2)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={room}", "tmpfs", folder]
        if mounted := not subprocess.run(mount, stderr=subprocess.DEVNULL).returncode:
            self.counts["full disk (tmpfs)"] += 1
        else:
            self.counts["full disk (ulimit)"] += 1
            largest = max(path.stat().st_size for path in folder.parent.rglob("*"))

            def limited():
                resource.setrlimit(resource.RLIMIT_FSIZE, (largest // 2, -1))

        try:
            self.check("full disk", *self.call(folder, preexec_fn=limited), 2)
            if mounted:
                subprocess.run(["mount", "-o", "remount,size=1g", folder], check=True)
            self.check("full disk, then room", *self.call(folder), 0)
            found = self.home / "full-copy"
            shutil.copytree(folder, found)
        finally:
            if mounted:
                subprocess.run(["umount", folder], check=True)
        self.compare("full disk", found)

    def in_a_read_only_folder(self):
        """Run it where it may not write, then where it may."""
        folder = self.folder("read-only")
        folder.chmod(0o555)
        self.counts["read-only folders"] += 1
        powerless = () if os.geteuid() else POWERLESS
        self.check("read-only", *self.call(folder, powerless), 2)
        folder.chmod(0o755)
        self.check("read-only, then writable", *self.call(folder, powerless), 0)
        self.compare("read-only", folder)

    def while_the_clock_jumps(self):
        """Run it, and let its clock jump while it runs and between a kill and the next call."""
        if not FAKETIME.exists():
            return
        folder, clock = self.folder("clock"), self.home / "clock-offset"
        fake = {"LD_PRELOAD": str(FAKETIME), "FAKETIME_TIMESTAMP_FILE": str(clock)}
        fake |= {"FAKETIME_NO_CACHE": "1", "DONT_FAKE_MONOTONIC": "1"}
        clock.write_text("+0")
        for jump in JUMPS:
            process = self.start(folder, first=SLEEP, env=fake)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(self.seconds * self.random.uniform(0.3, 0.9))
            clock.write_text(jump)
            self.counts["clock jumps"] += 1
            if jump is not JUMPS[-1]:
                process.kill()
            code, said = self.finish(process)
            self.check("clock jumps", code, said, 0, -signal.SIGKILL)
        self.compare("clock jumps", folder)


ROW = "{command:16} {seconds:>8} {kills:>6} {SIGKILL:>8} {SIGINT:>7}"
ROW += " {compared:>9} {equal:>6} {faults:>7}"

TOTALS = ("kills", "SIGKILL", "SIGINT", "compared", "equal")

DISTURBANCES = ("on_a_full_disk", "in_a_read_only_folder", "while_the_clock_jumps")


def row_of(name, command):
    """Return a command's row of the table."""
    row = {"command": name, "seconds": command.seconds, "rounds": command.rounds}
    row |= {share: command.counts[share] for share in TOTALS} | dict(command.counts)
    return row | {"faults": command.faults}


def main():
    parser = harness.parser(__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--hours", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--commands", nargs="+", default=list(soak_commands.SHARES))
    parser.add_argument("--disturbances", nargs="*", default=DISTURBANCES, choices=DISTURBANCES)
    given = parser.parse_args()
    # a shell's background job ignores Ctrl-C, and so would all that it starts
    signal.signal(signal.SIGINT, signal.default_int_handler)
    rows = {}
    if given.json and given.json.exists():
        rows = {row["command"]: row for row in json.loads(given.json.read_text())["commands"]}
    whole = sum(soak_commands.SHARES[name] for name in given.commands)
    names = {name: name for name in ("command", "seconds", "kills", "SIGKILL", "SIGINT")}
    print(ROW.format(**names, compared="compared", equal="equal", faults="faults"))
    with tempfile.TemporaryDirectory() as home, soak_commands.prepared(Path(home)) as kinds:
        for name in given.commands:
            share = soak_commands.SHARES[name] / whole
            command = Command(kinds[name], Path(home) / "work" / name, f"{given.seed} {name}")
            for disturbance in given.disturbances:
                getattr(command, disturbance)()
            end = time.perf_counter() + share * given.hours * 3600
            while (left := share * given.kills - command.counts["kills"]) > 0 or (
                time.perf_counter() < end
            ):
                command.killed(min(KILLS_A_ROUND, max(1, round(left))))
            rows[name] = row = harness.rounded(row_of(name, command)) | {"seed": given.seed}
            print(ROW.format(**row | {"faults": len(command.faults)}), flush=True)
            print(*command.faults, sep="\n", end="\n" * bool(command.faults), flush=True)
            shutil.rmtree(Path(home) / "work")
            ordered = [rows[name] for name in soak_commands.SHARES if name in rows]
            total = {share: sum(row[share] for row in ordered) for share in TOTALS}
            harness.write(given.json, {**harness.machine(), "all": total, "commands": ordered})
    if any(rows[name]["faults"] for name in given.commands):
        sys.exit("there were faults")


if __name__ == "__main__":
    main()
