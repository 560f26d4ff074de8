"""The photographs that come with the dependencies."""

import numpy as np
import pytest

from colorlib import images, samples


@pytest.mark.parametrize("name", samples.NAMES)
def test_each_is_a_color_photograph(name):
    photograph = samples.load(name)
    assert photograph.dtype == np.uint8 and min(photograph.shape[:2]) >= 300
    assert not images.is_grey(photograph)


def test_there_are_eight():
    assert len(samples.NAMES) == 8


def test_unknown_names_are_answered_with_the_known_ones():
    with pytest.raises(KeyError, match="astronaut"):
        samples.load("lenna")


def test_patches_depend_on_the_seed_alone():
    first = samples.patches(9, 16, seed=1)
    assert first.shape == (9, 16, 16, 3)
    np.testing.assert_array_equal(first, samples.patches(9, 16, seed=1))
    assert not np.array_equal(first, samples.patches(9, 16, seed=2))
