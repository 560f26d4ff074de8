"""The scripts in benchmarks/, which are no package, as modules."""

import importlib
import sys

from colorlib import config

FOLDER = str(config.ROOT / "benchmarks")


def load(name):
    """Import ``benchmarks/NAME.py`` without running it."""
    sys.path.insert(0, FOLDER)  # as Python does when it runs one of them
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(FOLDER)
