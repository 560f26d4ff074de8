"""Freed memory that is used again."""

import resource
import sys

import numpy as np
import processes
import pytest
from test_video import write

from colorlib import images, samples


@pytest.mark.skipif(sys.platform != "linux", reason="counts the page faults of glibc's malloc")
@pytest.mark.parametrize("what", ["photographs", "film"])
def test_each_takes_the_memory_of_the_one_before(tmp_path, what):
    source = tmp_path / "in.mp4" if what == "film" else tmp_path / "in"
    frame = samples.square("coffee", 640)[:480]
    if what == "film":
        write(source, [frame] * 48)
    else:
        source.mkdir()
        for number in range(24):
            images.write(source / f"{number}.jpg", np.tile(frame, (2, 2, 1)))
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_minflt
    command = "colorize", source, "--run", "model-64", "-o", tmp_path / f"out{source.suffix}"
    assert processes.colorlib(*command).returncode == 0
    # the start alone takes 50 000
    faults = resource.getrusage(resource.RUSAGE_CHILDREN).ru_minflt - before
    assert faults < 90_000
