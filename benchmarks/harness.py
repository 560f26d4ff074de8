"""What the scripts beside this one share: arguments, the machine in numbers, JSON files."""

import argparse
import json
import os
import platform
from pathlib import Path

from colorlib import files


def parser(doc, to_json=True):
    """Begin a script's command line.

    Parameters
    ----------
    doc : str
        The script's docstring; its first line is the description.
    to_json : bool
        Whether there is ``--json FILE``.

    Returns
    -------
    argparse.ArgumentParser
    """
    begun = argparse.ArgumentParser(description=doc.splitlines()[0])
    if to_json:
        begun.add_argument("--json", type=Path, help="write the numbers into this file as well")
    return begun


def machine():
    """Describe the machine, and how busy it is.

    Returns
    -------
    dict
    """
    return {"cpus": os.cpu_count(), "machine": platform.machine(), "load": os.getloadavg()[0]}


def rounded(value, form=".3f"):
    """Round all floats of a nested structure.

    Parameters
    ----------
    value : object
        As JSON allows.
    form : str
        How to write a float: ``".3f"`` for three decimals, ``".5g"`` for five digits.

    Returns
    -------
    object
    """
    if isinstance(value, dict):
        return {key: rounded(item, form) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item, form) for item in value]
    return float(format(value, form)) if isinstance(value, float) else value


def write(path, value):
    """Write a file under a temporary name and rename it; nothing without a path.

    Parameters
    ----------
    path : pathlib.Path or None
        Its folder is made if missing.
    value : object
        A text, or what JSON allows.
    """
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(path) as temporary:
        temporary.write_text(
            value if isinstance(value, str) else json.dumps(value, indent=1) + "\n"
        )
