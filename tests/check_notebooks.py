"""Hold committed notebooks to their rules, and clean them after they were executed.

    python tests/check_notebooks.py NOTEBOOK...           what is wrong, exit code 1 if anything is
    python tests/check_notebooks.py --clean NOTEBOOK...   remove what differs from run to run

A notebook is committed executed, top to bottom, without errors: nbval compares nothing in a cell
that has no output and no execution count.
"""

import itertools
import sys
from pathlib import Path

import nbformat

LONGEST_CELL = 15

WIDGET = "application/vnd.jupyter.widget-view+json"


def problems(path):
    """List what is wrong with a notebook, one line for each."""
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    found = []
    counts = [cell.execution_count for cell in code]
    if counts != list(range(1, len(code) + 1)):
        found.append("not executed top to bottom in one go; run `make notebooks`")
    if any(output.output_type == "error" for cell in code for output in cell.outputs):
        found.append("an error is stored in its outputs")
    if any(output.get("name") == "stderr" for cell in code for output in cell.outputs):
        found.append("stderr is stored in its outputs; run `make notebooks`")
    for cell in code:
        lines = len(cell.source.splitlines())
        if lines > LONGEST_CELL:
            found.append(f"cell {cell.execution_count} has {lines} lines; at most {LONGEST_CELL}")
    found += prose_problems(notebook.cells)
    return [f"{path}: {line}" for line in found]


def prose_problems(cells):
    """List what is wrong with the text between the code."""
    found = []
    opening = cells[0].source if cells[0].cell_type == "markdown" else ""
    if not opening.startswith("# ") or "What you will do" not in opening:
        found.append("opens without a title and what the reader will do")
    if any(a.cell_type == b.cell_type == "code" for a, b in itertools.pairwise(cells)):
        found.append("a code cell has no prose before it")
    if "## Summary" not in "".join(cell.source for cell in cells):
        found.append("has no summary")
    return found


def clean(path):
    """Remove stderr, versions, time stamps and what widgets showed from an executed notebook."""
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata.pop("language_info", None)
    notebook.metadata.pop("widgets", None)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02}"
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [out for out in cell.outputs if out.get("name") != "stderr"]
            for output in cell.outputs:
                output.get("data", {}).pop(WIDGET, None)  # the text beside it stays
    nbformat.write(notebook, path)


def main(arguments):
    """Check or clean the named notebooks; return the exit code."""
    paths = [Path(argument) for argument in arguments if argument != "--clean"]
    if "--clean" in arguments:
        for path in paths:
            clean(path)
    found = [line for path in paths for line in problems(path)]
    print("\n".join(found) or f"{len(paths)} notebooks are fine")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
