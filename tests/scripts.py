"""The scripts in benchmarks/, which are no package, as modules."""

import importlib.util

from colorlib import config


def load(name):
    """Import ``benchmarks/NAME.py`` without running it."""
    path = config.ROOT / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script
