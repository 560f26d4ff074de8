"""Common parts of the scripts in this folder: arguments, the machine, processes, files.

Importing it silences TensorFlow's start-up lines.
"""

import argparse
import json
import os
import platform
import subprocess
import time
from pathlib import Path

from colorlib import config, files

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the command does


def parser(doc, to_json=True, against=False):
    """Begin a script's command line, described by the first line of its docstring."""
    begun = argparse.ArgumentParser(description=doc.splitlines()[0])
    if to_json:
        begun.add_argument("--json", type=Path, help="write the numbers into this file as well")
    if against:
        begun.add_argument("--against", type=Path, help="another checkout of this repository")
    return begun


def machine():
    """Describe the machine, and how busy it is."""
    return {"cpus": os.cpu_count(), "machine": processor(), "load": os.getloadavg()[0]}


def processor():
    """Return the processor's name, where the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def run(command, **options):
    """Run a command that ends well; return seconds, CPU seconds and its peak of memory in MB."""
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, **options)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    seconds = time.perf_counter() - begin
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss // 1024


def places(against):
    """Return this checkout's folder, and the other one's if there is one."""
    return [config.ROOT, *([against] if against else [])]


def in_turn(command, repeats, places):
    """Run a command with the code of each checkout in turn; return the least of each, most memory.

    For each checkout it is a dictionary of seconds, CPU seconds and peak in MB.
    """
    runs = {place: [] for place in places}
    for _ in range(repeats):
        for place in places:
            # a user's second call finds the modules compiled, whatever the environment here says
            changes = {"PYTHONPATH": str(place), "PYTHONDONTWRITEBYTECODE": ""}
            environment = {**os.environ, **changes}
            runs[place].append(run(command, cwd=place, env=environment))
    best = []
    for place in places:
        seconds, cpu, peak = zip(*runs[place], strict=True)
        best.append({"seconds": min(seconds), "cpu": min(cpu), "peak": max(peak)})
    return best


def compared(what, best):
    """Yield what was measured here, and by how many times the other checkout's is larger."""
    here, *others = best
    yield {"what": what, **here}
    for there in others:
        ratios = {name: there[name] / here[name] for name in here}
        yield {"what": "  times as much in the other checkout", **ratios}


def rounded(value, form=".3f"):
    """Round all floats of a nested structure: to three decimals, or as the format says."""
    if isinstance(value, dict):
        return {key: rounded(item, form) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item, form) for item in value]
    return float(format(value, form)) if isinstance(value, float) else value


def write(path, value):
    """Write a text, or a value as JSON, under a temporary name and rename it; None is no path."""
    if path is None:
        return
    text = value if isinstance(value, str) else json.dumps(value, indent=1) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(path) as temporary:
        temporary.write_text(text)
