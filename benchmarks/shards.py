"""Whether the shards of an archive color each file once, and how much memory that takes.

    python benchmarks/shards.py [--files 20000] [--shards 4] [--run RUN] [--json FILE.json]

An archive of tiny JPEGs in two folders, where each name occurs twice, is colored by as many
processes of `colorlib colorize --shard K/N` at once as there are shards: first a fourth of it, then
a new one of all files. One process is killed when a third is done, and its call is repeated at
the end. The table says how many files are missing, how many lines about finished files are more
than one for a file, and the largest peak of memory of a process.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import harness

from colorlib import config, images, samples
from colorlib.photos import outputs

FOLDER = 100
"""Files in a folder."""

ROW = "{files:>7} {seconds:>9} {missing:>8} {twice:>6} {peak:>8}"


def fill(archive, count):
    """Write so many JPEGs of 32 pixels: half of them in ``a``, the same names in ``b``."""
    photograph = archive / "photograph.jpg"
    images.write(photograph, samples.square("coffee", 32))
    data = photograph.read_bytes()
    photograph.unlink()
    for number in range(count):
        place, index = "ab"[number % 2], number // 2
        folder = archive / place / f"{index // FOLDER:04}"
        folder.mkdir(parents=True, exist_ok=True)
        # a JPEG may be followed by anything: each file has a content of its own
        (folder / f"{index:07}.jpg").write_bytes(data + str(number).encode())


def start(archive, out, shard, run):
    """Start a process that colors a shard."""
    command = [sys.executable, "-m", "colorlib", "colorize", archive / "a", archive / "b"]
    options = ["-r", "-o", out, "--shard", shard, "--run", run, "--working-size", "32"]
    return subprocess.Popen(
        [*map(str, command + options)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def finish(process):
    """Wait for a process; return its peak of memory in MB and the lines of its messages."""
    messages = process.stderr.read().decode().splitlines()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_maxrss // 1024, messages


def colored(out):
    return [path for path in out.rglob("*.jpg") if not path.name.startswith(".")]


def measure(folder, count, shards, run):
    """Color an archive of so many files; return the table's row."""
    archive, out = folder / f"archive-{count}", folder / f"out-{count}"
    archive.mkdir()
    fill(archive, count)
    out.mkdir()
    begin = time.perf_counter()
    names = [f"{number}/{shards}" for number in range(1, shards + 1)]
    processes = [start(archive, out, name, run) for name in names]
    with ThreadPoolExecutor(shards) as pool:
        ends = [pool.submit(finish, process) for process in processes]
        while len(colored(out)) < count / 3 and processes[-1].poll() is None:
            time.sleep(0.2)
        processes[-1].send_signal(signal.SIGKILL)
        ends = [end.result() for end in ends]
    assert processes[-1].returncode == -signal.SIGKILL, "the last shard was done before its kill"
    ends.append(finish(start(archive, out, names[-1], run)))
    seconds = time.perf_counter() - begin
    lines = "\n".join(path.read_text() for path in out.rglob(outputs.LIST)).splitlines()
    recorded = [line for line in lines if line and f'"size": {outputs.UNFINISHED}' not in line]
    done = len(colored(out))
    messages = [message for _, messages in ends for message in messages]
    assert not messages, messages
    return {
        "files": count,
        "seconds": seconds,
        "missing": count - done,
        "twice": len(recorded) - done,
        "peak": max(peak for peak, _ in ends),
    }


def main():
    parser = harness.parser(__doc__)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--run", default=config.DEFAULT_RUN)
    given = parser.parse_args()
    names = "files", "seconds", "missing", "twice", "peak"
    print(ROW.format(**dict(zip(names, (*names[:-1], "peak MB"), strict=True))))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for count in (given.files // 4, given.files):
            rows.append(measure(Path(folder), count, given.shards, given.run))
            print(ROW.format(**{**rows[-1], "seconds": f"{rows[-1]['seconds']:.0f}"}), flush=True)
    about = {"run": given.run, "shards": given.shards, **harness.machine()}
    harness.write(given.json, {**about, "rows": harness.rounded(rows)})


if __name__ == "__main__":
    main()
