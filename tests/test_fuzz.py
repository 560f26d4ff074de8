"""Damaged files of all formats are colored or refused with a line; benchmarks/fuzz.py does more."""

import pytest
import scripts

fuzz = scripts.load("fuzz")
targets = scripts.load("fuzz_targets")

FORMATS = ("JPEG", "PNG", "TIFF", "HEIF", "GIF", "MP4", "PTH", "JSON of runs", "CSV of hints")
FORMATS += ("HDF5 store", "ZIP of a run", "JSON of outputs")
"""Others take longer, or need Keras."""


@pytest.fixture(scope="module")
def worker():
    with fuzz.working({form: targets.seeds(form) for form in FORMATS}) as started:
        yield started


@pytest.mark.parametrize("form", FORMATS)
def test_damaged_files_are_colored_or_refused(worker, form):
    counts, faults, _ = fuzz.fuzz(worker, form, 6)
    assert not faults and counts["colored"] + counts["refused"] == 6


@pytest.mark.parametrize(
    "error, kind",
    [
        (ValueError("x.png: is cut off; get it again"), "refused"),
        (ValueError("is cut off"), "traceback"),
        (ValueError("x.png: is\ncut off"), "traceback"),
        (ValueError("x.png: can't be colored (KeyError: 3); leave it out"), "traceback"),
        (KeyError("x.png"), "traceback"),
    ],
)
def test_a_refusal_is_a_line_that_names_the_file(monkeypatch, error, kind):
    def refuse(path):
        raise error

    monkeypatch.setitem(targets.TARGETS, "odd", refuse)
    assert fuzz.outcome(targets, "odd", "x.png")[0] == kind
