"""Figures hold the images and values they are given, where they belong."""

import numpy as np

from colorlib import figures


def test_a_contact_sheet_has_every_image_once_in_order():
    # 5 sets of 2 versions: 1, 2, ... 10 in every pixel
    sets = np.broadcast_to(
        np.arange(1, 11, dtype=np.uint8).reshape(5, 2, 1, 1, 1), (5, 2, 16, 16, 3)
    )
    figure = figures.contact_sheet(sets, ("grey", "true"), across=2)
    (axis,) = figure.axes
    sheet = axis.images[0].get_array()
    values, first, counts = np.unique(sheet[..., 0], return_index=True, return_counts=True)
    assert values.tolist() == [*range(1, 11), 255]
    assert set(counts[:-1]) == {16 * 16}
    tops, lefts = np.divmod(first[:-1], sheet.shape[1])
    assert tops.tolist() == [0, 0, 0, 0, 18, 18, 18, 18, 36, 36]
    assert (lefts[:4] == lefts[4:8]).all() and (np.diff(lefts[:4]) > 0).all()
    assert (sheet[36:, lefts[2] :] == 255).all()  # the place of the sixth stays empty
    assert [text.get_text() for text in axis.texts] == ["grey", "true"] * 2


def test_small_multiples_draw_every_curve_over_the_reference():
    reference = np.zeros((2, 4))
    series = {"first": np.ones((3, 4)), "second": [[1, 2, 3, 4]]}
    figure = figures.against(series, reference, "epoch", "loss", columns=2)
    for axis, (title, curves) in zip(figure.axes, series.items(), strict=True):
        assert axis.get_title() == title
        drawn = [line.get_ydata().tolist() for line in axis.lines]
        assert drawn == [*reference.tolist(), *np.asarray(curves).tolist()]
        assert all(line.get_xdata().tolist() == [1, 2, 3, 4] for line in axis.lines)
