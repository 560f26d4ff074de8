"""Table 1 with five of its layers: most of a short training is the building of its graph.

For tests of what is around a network; `test_model` holds the network itself to the report.
"""

import functools
from pathlib import Path

from colorlib import table

ROWS = ("conv1_2", "conv3_3", "conv4_1", "conv4_3", "conv_1x1")

HERE = f"import sys; sys.path.append({str(Path(__file__).parent)!r}); import shallow; shallow.use()"
"""The first line of a process' code that uses it."""


def use(change=table.FAMILIES.__setitem__):
    """Put it in the place of Table 1 and of the published variant."""
    for name in ("table_1", "published"):
        family = table.FAMILIES[name]
        rows = tuple(row for row in family.rows if row.name in ROWS)
        change(name, family._replace(rows=rows))


def patch(monkeypatch):
    """Do so until a fixture of pytest takes it back."""
    use(functools.partial(monkeypatch.setitem, table.FAMILIES))
