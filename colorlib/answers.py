"""What people said in the game "real or fake?": kept, counted, and with the interval of a share.

Not here: what they were asked (`colorlib.game`). Section 3.1 of Zhang et al. 2016.
"""

import csv
import dataclasses
import io
import os
import statistics
from pathlib import Path

import filelock

from colorlib import config

PAPER = 0.323
"""Share of the trials in which the paper's full method fooled people (table 1, AMT)."""

GUESSING = 0.5
"""The share if nobody could tell."""

ANSWERS = config.DATA / "real_or_fake.csv"
"""Where answers are kept; git ignores it."""

FIELDS = ("time", "game", "round", "photograph", "run", "real", "chosen", "fooled", "seconds")
"""Columns of that file."""


@dataclasses.dataclass(frozen=True)
class Score:
    """How often a player took the colored copy for the photograph.

    Attributes
    ----------
    fooled, trials : int
    """

    fooled: int = 0
    trials: int = 0

    def plus(self, fooled):
        """Count one more trial.

        Parameters
        ----------
        fooled : bool

        Returns
        -------
        Score
        """
        return Score(self.fooled + bool(fooled), self.trials + 1)

    def interval(self, confidence=0.95):
        """Estimate the share behind the count.

        Parameters
        ----------
        confidence : float

        Returns
        -------
        tuple of float
            `wilson`'s, (0, 1) before the first trial.
        """
        return wilson(self.fooled, self.trials, confidence)


def wilson(successes, trials, confidence=0.95):
    """Give the confidence interval of a share (Wilson 1927), which holds for few trials too.

    Parameters
    ----------
    successes, trials : int
    confidence : float
        In 0..1, without the ends.

    Returns
    -------
    tuple of float
        Its ends; (0, 1) without a trial.

    Raises
    ------
    ValueError
        If there are more successes than trials, or fewer than none.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"can't have {successes} successes in {trials} trials")
    if not trials:
        return 0.0, 1.0
    z = statistics.NormalDist().inv_cdf((1 + confidence) / 2)
    share, slack = successes / trials, z * z / trials
    middle = share + slack / 2
    reach = (slack * (share * (1 - share) + slack / 4)) ** 0.5
    return max(0.0, (middle - reach) / (1 + slack)), min(1.0, (middle + reach) / (1 + slack))


def append(answer, path=ANSWERS):
    """Keep an answer: one line of CSV more, written at once and behind a lock.

    Parameters
    ----------
    answer : dict
        With the keys `FIELDS`.
    path : path-like
        Made, with a header, if missing. A last line that was cut off is closed first.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(path.with_name(f".{path.name}.lock")), path.open("a+b") as file:
        end = file.seek(0, os.SEEK_END)
        text = "" if end else _line(FIELDS)
        if end:
            file.seek(end - 1)
            text = "" if file.read(1) == b"\n" else "\n"
        file.write((text + _line(answer[field] for field in FIELDS)).encode())
        file.flush()
        os.fsync(file.fileno())


def score_of(path=ANSWERS, run=None):
    """Count the answers that were kept.

    Parameters
    ----------
    path : path-like
        What is no answer in it is passed over.
    run : str, optional
        Only those about this run.

    Returns
    -------
    Score
    """
    path = Path(path)
    if not path.is_file():
        return Score()
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        rows = [row for row in csv.DictReader(file) if row.get("fooled") in ("0", "1")]
    rows = [row for row in rows if run in (None, row["run"])]
    return Score(sum(row["fooled"] == "1" for row in rows), len(rows))


def _line(values):
    text = io.StringIO()
    # a spreadsheet would take a name that begins so for a formula
    safe = [f"'{v}" if str(v).startswith(("=", "+", "-", "@")) else v for v in values]
    csv.writer(text, lineterminator="\n").writerow(safe)
    return text.getvalue()
