"""The report's claims: what it says, what we did, what we found, and whether they agree.

Not here: any measurement. `CLAIMS` holds the report's own words and *references* to numbers, which
are looked up where they were recorded, so that none is copied by hand. A reference is a file and
the path to a value in it: ``data/runs/overfit/overfit.json#runs/0.01 kept/psnr``. A step of the
path is

- a key of a dict, an attribute of a module or of what it holds
  (``colorlib/config.py#REPORT_64/epochs``), the number of an item of a list, or the name of a
  column of a list of rows, as in a CSV file,
- ``name=value``, perhaps ``&``-joined with others: the first row of which that is true, or
- ``min``, ``max``, ``len`` or ``rises`` of a list (`rises`).

JMESPath was weighed: it finds neither attributes of modules nor columns of text as numbers, and
would need a function of its own for `rises`, so it would replace `_step` alone, 15 lines.
"""

import csv
import importlib
import itertools
import json
import operator
import re

import numpy as np

from colorlib import config

CLAIMS = config.RECORDED / "comparison" / "claims.json"

AGREE, DIFFER, UNTESTABLE = "agree", "differ", "not testable here"

CONSTRUCTION = "by construction"
"""We built or set it as the report did, so its agreement shows nothing."""

PAPER = "a statement about the paper"

OUTCOMES = (AGREE, DIFFER, UNTESTABLE, CONSTRUCTION, PAPER)

MISSING = "not recorded yet"

REFERENCE = re.compile(r"\{([^{}#]+#(?:[^{}:]|: )+)(?::([^{}]*))?\}")
"""In a text: ``{reference}`` or ``{reference:format}``."""

COMPARISONS = {"<": operator.lt, ">": operator.gt, "==": operator.eq}


class MissingValueError(LookupError):
    """A reference to a value that is not there; the message names it."""


def rises(values):
    """Return how far a curve rises in total, after its first third.

    Parameters
    ----------
    values : sequence of float

    Returns
    -------
    float
        The sum of its upward steps: 0 for a curve that only falls.
    """
    return float(np.diff(values[len(values) // 3 :]).clip(min=0).sum())


AGGREGATES = {"min": min, "max": max, "len": len, "rises": rises}


def look_up(reference):
    """Look a value up where it is recorded.

    Parameters
    ----------
    reference : str
        As in the module's docstring, from the repository's root.

    Returns
    -------
    object
        Most often a number.

    Raises
    ------
    MissingValueError
        If the file or the value is not there.
    """
    path, _, way = reference.partition("#")
    try:
        value = _open(path)
        for step in way.split("/"):
            value = _step(value, step)
    except (OSError, ImportError, KeyError, IndexError, ValueError, AttributeError, TypeError):
        raise MissingValueError(f"{reference}: no such value; see what the file holds") from None
    return value


# A text in which the values replace the references.
def _fill_in(text):
    return REFERENCE.sub(lambda found: format(look_up(found[1]), found[2] or ""), text)


def holds(check):
    """Return whether a comparison of numbers is true.

    Parameters
    ----------
    check : list
        Left, how, right, and for ``"near"`` the largest difference. Left and right are values or
        references. How is ``"<"``, ``">"``, ``"=="`` or ``"near"``; or ``"above"`` or ``"below"``,
        where left is a value with the ends of its interval (`colorlib.experiments.bootstrap`).

    Returns
    -------
    bool or None
        None if right is within left's interval, so that the numbers do not decide.

    Raises
    ------
    MissingValueError
        If one of the values is not there.
    """
    left, how, right, *tolerance = check
    left, right = (look_up(side) if _is_reference(side) else side for side in (left, right))
    if how == "near":
        return bool(abs(left - right) <= tolerance[0])
    if how in ("above", "below"):
        _, low, high = left
        return None if low <= right <= high else (right < low) == (how == "above")
    return bool(COMPARISONS[how](left, right))


def settle(entry):
    """Complete a claim: numbers looked up, checks made.

    Parameters
    ----------
    entry : dict
        ``quote`` (the report's own words), ``where`` in the report, what was ``done``, ``ours``
        (what we find; both with references), ``evidence`` (paths), and ``outcome``, or ``checks``
        that all hold if the claim is true.

    Returns
    -------
    dict of str
        The same without checks, and with an outcome: one of `OUTCOMES`. What refers to a run that
        is not there, or what the numbers don't tell, can't be tested. Checks of nothing but our
        own constants hold by construction.
    """
    row = {key: entry[key] for key in ("quote", "where", "done", "ours", "evidence")}
    try:
        filled = {key: _fill_in(entry[key]) for key in ("done", "ours")}
        outcome = entry.get("outcome") or _outcome(entry["checks"])
    except MissingValueError:
        filled, outcome = {"ours": MISSING}, UNTESTABLE
    return {**row, **filled, "outcome": outcome}


def read_claims():
    """Read the claims and settle them.

    Returns
    -------
    dict of str to list of dict
        The rows that `settle` gives, by the title of the chapter.
    """
    chapters = json.loads(CLAIMS.read_text(encoding="utf-8"))
    return {title: [settle(entry) for entry in entries] for title, entries in chapters.items()}


def as_markdown(rows):
    """Write claims as a Markdown table, with links as they are from `notebooks/`.

    Parameters
    ----------
    rows : list of dict
        From `settle`.

    Returns
    -------
    str
    """
    lines = [
        "| the report | where | what we did | what we find | outcome | shown by |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        links = ", ".join(f"[{path.rsplit('/')[-1]}](../{path})" for path in row["evidence"])
        cells = [f"\u201c{row['quote']}\u201d", row["where"], row["done"], row["ours"]]
        cells += [f"**{row['outcome']}**", links]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def _outcome(checks):
    results = [holds(check) for check in checks]
    if False in results:
        return DIFFER
    if None in results:
        return UNTESTABLE
    return AGREE if any(map(_is_recorded, itertools.chain(*checks))) else CONSTRUCTION


def _is_recorded(side):
    return isinstance(side, list) or (_is_reference(side) and ".py#" not in side)


def _is_reference(side):
    return isinstance(side, str) and "#" in side


def _open(path):
    if path.endswith(".py"):
        return importlib.import_module(path.removesuffix(".py").replace("/", "."))
    with (config.ROOT / path).open(newline="") as file:
        return list(csv.DictReader(file)) if path.endswith(".csv") else json.load(file)


def _step(value, step):
    if isinstance(value, dict):
        return value[step]
    if not isinstance(value, list | tuple) or step in getattr(value, "_fields", ()):
        return getattr(value, step)
    if step in AGGREGATES:
        return AGGREGATES[step](value)
    if re.fullmatch(r"-?\d+", step):
        return value[int(step)]
    if "=" in step:
        wanted = dict(condition.split("=", 1) for condition in step.split("&"))
        fits = [row for row in value if all(str(row[key]) == wanted[key] for key in wanted)]
        return fits[0]
    return [_number(row[step]) for row in value]


def _number(text):
    try:
        return float(text)
    except ValueError:
        return text
