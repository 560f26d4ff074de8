"""How nbval runs the notebooks: a slow machine is no failure."""

OUTPUT_TIMEOUT = 60
"""Seconds that nbval waits for the outputs of a cell that is done; its own 5 are too few when other
work has the processor."""


def pytest_collection_modifyitems(items):
    """Let each cell wait so long."""
    for item in items:
        item.output_timeout = OUTPUT_TIMEOUT
