"""The book's order and glossary, and the check of its links, without building it."""

import re

import check_book
import nbformat
import pytest
import yaml

from colorlib import config

NOTEBOOKS = sorted((config.ROOT / "notebooks").glob("*.ipynb"))
SOLUTIONS = sorted((config.ROOT / "notebooks" / "solutions").glob("*.ipynb"))
GLOSSARY = config.ROOT / "notebooks" / "README.md"
ENTRY = re.compile(r"^- \*\*(.+?)\*\*: .+\. \(\[\w+\]\((\w+\.ipynb)\)\)$")

OUR_WORDS = """ablation, callbacks, claims, concatenation, epsilon, game view, heartbeat, manifest,
pairing seed, planar, predicted distribution, rebalancing strength, request limits,
segment checkpoint, stream mapping, temporal smoothing, validation, video io, weight interpolation,
widgets"""
"""The words that the house settled on; those that a notebook uses need an entry."""


def prose(path):
    """Return a notebook's text in one line, in lower case."""
    cells = nbformat.read(path, as_version=4).cells
    text = " ".join(cell.source for cell in cells if cell.cell_type == "markdown")
    return " ".join(text.lower().split())


TEXTS = {path.name: prose(path) for path in NOTEBOOKS}


def entries():
    """Return the glossary's entries: (term, notebook)."""
    lines = [x for x in GLOSSARY.read_text("utf-8").splitlines() if x.startswith("- ")]
    return [match.groups() if (match := ENTRY.match(line)) else (line, None) for line in lines]


def mentions(text, term):
    """Say whether a term, or its plural, is a word of a text."""
    return re.search(rf"(?<!\w){re.escape(term.lower())}(?:e?s)?(?!\w)", text)


def test_the_glossary_is_in_order_and_has_each_term_once():
    terms = [term.lower() for term, _ in entries()]
    assert terms == sorted(set(terms))


@pytest.mark.parametrize(("term", "notebook"), entries())
def test_a_term_is_used_in_the_notebook_that_its_line_names(term, notebook):
    assert mentions(TEXTS[notebook], term)


def test_our_words_are_explained_where_notebooks_use_them():
    lines = GLOSSARY.read_text("utf-8").lower()
    used = [w for w in OUR_WORDS.replace("\n", " ").split(", ") if mentions(str(TEXTS), w)]
    assert [word for word in used if not mentions(lines, word)] == []


def test_the_book_has_all_notebooks_in_order_under_their_titles():
    contents = yaml.safe_load((config.ROOT / "book" / "_toc.yml").read_text("utf-8"))
    assert contents["root"] == "README"
    notebooks, solutions, reference = (part["chapters"] for part in contents["parts"])
    for chapters, paths in ((notebooks, NOTEBOOKS), (solutions, SOLUTIONS)):
        files = [str(path.relative_to(config.ROOT).with_suffix("")) for path in paths]
        assert [chapter["file"] for chapter in chapters] == files
    for chapters in (notebooks, solutions):
        for chapter, path in zip(chapters, NOTEBOOKS, strict=True):
            heading = nbformat.read(path, as_version=4).cells[0].source.splitlines()[0]
            assert chapter["title"] == f"{path.name[:2]} {heading.removeprefix('# ')}"
    assert all((config.ROOT / f"{chapter['file']}.md").is_file() for chapter in reference)


def test_the_books_requirements_are_names_and_versions():
    lines = (config.ROOT / "book" / "requirements.txt").read_text("utf-8").splitlines()
    assert all(re.fullmatch(r"[\w.-]+==[\w.+!]+", line) for line in lines)


def test_a_link_that_leads_nowhere_is_named(tmp_path):
    page = '<p id="here"></p><a href="#here">a</a><a href="b.html#{}">b</a><a href="x.html">x</a>'
    (tmp_path / "a.html").write_text(page.format("there"))
    (tmp_path / "b.html").write_text(
        '<p id="yonder"></p><script src="https://a.test/a.js"></script>'
    )
    assert check_book.problems(tmp_path) == [
        "a.html: b.html#there: no such anchor",
        "a.html: x.html: no such file",
        "b.html: https://a.test/a.js: comes from the web",
    ]
    assert check_book.problems(tmp_path / "empty") != []
