"""Colors that follow edges: against a direct fit, and on an edge."""

import numpy as np
import pytest

from colorlib import colorize


def test_fit_is_the_least_squares_line_of_each_neighborhood(rng):
    lightness = rng.uniform(0, 100, (40, 50)).astype(np.float32)
    ab = rng.uniform(-60, 60, (40, 50, 2)).astype(np.float32)
    side = 2 * colorize.GUIDE_RADIUS + 1

    def line(y, x):
        part = slice(y - colorize.GUIDE_RADIUS, y - colorize.GUIDE_RADIUS + side)
        part = part, slice(x - colorize.GUIDE_RADIUS, x - colorize.GUIDE_RADIUS + side)
        light, colors = lightness[part].ravel(), ab[part].reshape(-1, 2)
        # ridge regression: the penalty on the slope is the flatness, for each pixel
        design = np.stack([light - light.mean(), np.ones_like(light)], axis=1)
        penalty = np.diag([colorize.GUIDE_EPSILON * light.size, 0])
        slope, offset = np.linalg.solve(design.T @ design + penalty, design.T @ colors)
        return np.concatenate([slope, offset - slope * light.mean()])

    # each pixel's line is the mean of its neighbors'
    around = [line(y, x) for y in range(12, 29) for x in range(16, 33)]
    fitted = colorize.fit_guided_filter(lightness, ab)
    np.testing.assert_allclose(fitted[20, 24], np.mean(around, axis=0), rtol=1e-3, atol=1e-3)


def test_colors_change_where_lightness_does():
    lightness = np.full((320, 320), 80, np.float32)
    lightness[:, 168:] = 20  # no multiple of what one pixel of the colors covers
    ab = np.zeros((20, 20, 2), np.float32)
    ab[:, :10], ab[:, 10] = (40, 0), (20, 0)
    smooth, followed = (colorize.enlarge(lightness, ab, follow) for follow in (False, True))
    truth = np.where(lightness > 50, 40, 0)
    assert np.abs(followed[..., 0] - truth).max() < 8
    assert np.abs(smooth[..., 0] - truth).max() > 15


@pytest.mark.parametrize("shape", [(1, 1), (7, 3), (3, 400), (64, 64)])
def test_grey_stays_grey_and_one_color_stays_one(rng, shape):
    lightness = rng.uniform(0, 100, shape).astype(np.float32)
    for color in ((0, 0), (30, -20)):
        ab = np.broadcast_to(np.float32(color), (4, 2, 2)).copy()
        enlarged = colorize.enlarge(lightness, ab, follow_edges=True)
        np.testing.assert_allclose(enlarged, np.broadcast_to(ab[0, 0], (*shape, 2)), atol=0.02)
