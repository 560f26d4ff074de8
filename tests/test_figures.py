"""Figures hold the images and values they are given, where they belong."""

import check_figures
import IPython
import matplotlib.pyplot as plt
import numpy as np
import processes
import pytest
from PIL import Image

from colorlib import colorspace, config, figures, model, quantizer, samples


@pytest.fixture(autouse=True)
def closed():
    """Close a test's figures."""
    yield
    plt.close("all")


@pytest.fixture
def axis():
    _, ((axis,),) = figures.new()
    return axis


def shown(axis):
    (image,) = axis.images
    return np.asarray(image.get_array())


def test_new_gives_axes_in_the_course_s_style_and_leaves_other_figures_alone():
    before = dict(plt.rcParams)
    figure, axes = figures.new(2, 3, (9, 4), sharey=True)
    assert axes.shape == (2, 3) and figure.get_size_inches().tolist() == [9, 4]
    assert axes[0, 0].get_shared_y_axes().joined(axes[0, 0], axes[0, 1])
    assert not any(axis.spines["top"].get_visible() for axis in axes.flat)
    assert all(line.get_visible() for axis in axes.flat for line in axis.get_xgridlines())
    assert dict(plt.rcParams) == before


def test_save_writes_where_config_says_whole_and_the_same_each_time(tmp_path, monkeypatch, axis):
    monkeypatch.setattr(config, "FIGURES", tmp_path / "drawn")
    axis.plot([1, 2])
    assert figures.save(axis.figure, "local/a") == str(tmp_path / "drawn" / "local" / "a.png")
    assert figures.save(axis.figure, "b") == str(tmp_path / "drawn" / "b.png")
    first, again = (tmp_path / "drawn" / name for name in ("local/a.png", "b.png"))
    assert first.read_bytes() == again.read_bytes()
    with Image.open(again) as picture:
        assert picture.size == (round(6 * figures.DPI), round(4 * figures.DPI))
    assert sorted(path.name for path in again.parent.iterdir()) == ["b.png", "local"]
    monkeypatch.setattr(config, "ROOT", tmp_path)
    assert figures.save(axis.figure, "b") == "drawn/b.png"


def test_an_image_grid_has_each_image_in_its_place_with_its_titles():
    rgb = [np.full((8, 12, 3), value, np.uint8) for value in range(6)]
    figure = figures.image_grid([rgb[:3], rgb[3:]], ["a", "b", "c"], ["first", "second"])
    assert [shown(axis)[0, 0, 0] for axis in figure.axes] == [0, 1, 2, 3, 4, 5]
    assert [axis.get_title() for axis in figure.axes] == ["a", "b", "c", "", "", ""]
    assert [axis.get_ylabel() for axis in figure.axes] == ["first", "", "", "second", "", ""]


def test_columns_are_as_wide_as_their_images():
    figure = figures.image_grid(
        [[np.zeros((10, 10, 3), np.uint8), np.zeros((10, 30, 3), np.uint8)]]
    )
    assert figure.axes[0].get_gridspec().get_width_ratios() == [1, 3]


def test_a_shown_image_is_the_image_without_ticks(axis, rng):
    rgb = rng.integers(0, 256, (5, 7, 3), np.uint8)
    figures.show_image(axis, rgb, "title")
    np.testing.assert_array_equal(shown(axis), rgb)
    assert axis.get_title() == "title" and not [*axis.get_xticks(), *axis.get_yticks()]
    assert not any(spine.get_visible() for spine in axis.spines.values())


def test_lightness_is_shown_as_the_grey_that_has_it(axis):
    lightness = np.linspace(0, 100, 12, dtype=np.float32).reshape(3, 4)
    figures.show_image(axis, lightness)
    np.testing.assert_array_equal(shown(axis), figures.grey(lightness))


def test_grey_has_the_lightness_and_no_color():
    lightness = np.linspace(0, 100, 101, dtype=np.float32)[None]
    rgb = figures.grey(lightness)
    assert rgb.dtype == np.uint8 and rgb.shape == (1, 101, 3) and np.ptp(rgb, axis=2).max() == 0
    assert rgb[0, 0, 0] == 0 and rgb[0, 100, 0] == 255
    np.testing.assert_allclose(colorspace.rgb_to_lab(rgb)[..., 0], lightness, atol=0.5)


def test_the_architecture_has_a_box_for_each_layer_and_a_text_for_each_block():
    rows = model.describe(model.build_model(width=1 / 16, input_size=256))
    (axis,) = figures.architecture(rows).axes
    first, *boxes = axis.patches[: 1 + len(rows)]
    assert first.get_height() == 1  # the input of 256 pixels
    assert [256 * box.get_height() for box in boxes] == [row["resolution"] for row in rows]
    widths = [box.get_width() for box in boxes]
    np.testing.assert_allclose(widths, [0.12 + row["channels"] / 700 for row in rows])
    assert (np.diff([box.get_x() for box in boxes]) > widths[:-1]).all(), "boxes overlap"
    kinds = [*(row["dilation"] for row in rows[:-1]), "1x1"]
    assert len({*zip(kinds, (box.get_facecolor() for box in boxes), strict=True)}) == 3
    assert len(axis.lines) == sum(row["batch_norm"] for row in rows)
    texts = [text.get_text() for text in axis.texts]
    assert texts.count("stride 2") == 3 and texts.count("upsampled by 2") == 1
    assert texts.count("") == 9  # arrows
    blocks = [text.splitlines() for text in texts if "channel" in text]
    assert [block[0] for block in blocks] == ["L", *(f"conv{i}" for i in range(1, 9)), "1x1"]
    assert blocks[1] == ["conv1", "4 channels", "256 x 256", "128 x 128"]
    legend = [text.get_text() for text in axis.get_legend().get_texts()]
    assert legend == ["input", "convolution", "dilated by 2", "1x1", "BatchNorm"]


def test_the_ab_plane_has_b_to_the_right_and_a_downwards(axis):
    ab = np.array([[10, -20], [30, 40]])
    figures.ab_plane(axis, ab, np.array([1.0, 2.0]), "title", "label")
    (points,) = axis.collections
    assert points.get_offsets().tolist() == [[-20, 10], [40, 30]]
    assert points.get_array().tolist() == [1, 2]
    assert (axis.get_xlabel(), axis.get_ylabel(), axis.get_title()) == ("b", "a", "title")
    low, high = axis.get_ylim()
    assert low > high and [other.get_ylabel() for other in axis.figure.axes] == ["a", "label"]


def test_colors_in_the_ab_plane_are_shown_as_they_are(axis):
    colors = np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]])
    figures.ab_plane(axis, np.zeros((2, 2)), colors)
    (points,) = axis.collections
    np.testing.assert_allclose(points.get_facecolors()[:, :3], colors)
    assert len(axis.figure.axes) == 1, "colors need no color bar"


def test_the_plane_of_codes_has_a_pixel_for_each(axis):
    ab = np.array([[-128, -128], [-128, 127], [5, 7]])
    codes = (ab[:, 0] + 128) * 256 + ab[:, 1] + 128
    figures.code_plane(axis, codes, np.array([1.0, 2.0, 3.0]), "title", "label")
    plane = np.ma.filled(axis.images[0].get_array(), np.nan)
    assert plane.shape == (256, 256) and np.isfinite(plane).sum() == 3
    assert [plane[a + 128, b + 128] for a, b in ab] == [1, 2, 3]
    assert axis.images[0].get_extent() == [-128.5, 127.5, 127.5, -128.5]
    assert [other.get_ylabel() for other in axis.figure.axes] == ["a", "label"]


def test_the_bins_colors_are_the_bins():
    colors = figures.bin_colors()
    centers = quantizer.bin_centers()
    assert colors.shape == (313, 3) and colors.min() >= 0 and colors.max() <= 1
    inner = (np.abs(centers) <= 20).all(axis=1)  # in sRGB's gamut at L = 50
    lab = colorspace.rgb_to_lab(colors[inner][None])[0]
    np.testing.assert_allclose(lab[:, 0], figures.LIGHTNESS, atol=0.3)
    np.testing.assert_allclose(lab[:, 1:], centers[inner], atol=0.3)


def test_curves_start_at_one_or_at_given_places(axis):
    figures.curves(axis, {"one": [3, 1, 2], "two": [5, 4]}, "epoch", "loss", "title")
    assert [line.get_xdata().tolist() for line in axis.lines] == [[1, 2, 3], [1, 2]]
    assert [list(line.get_ydata()) for line in axis.lines] == [[3, 1, 2], [5, 4]]
    labels = [text.get_text() for text in axis.get_legend().get_texts()]
    assert labels == ["one", "two"]
    assert (axis.get_xlabel(), axis.get_ylabel(), axis.get_title()) == ("epoch", "loss", "title")
    _, ((other,),) = figures.new()
    figures.curves(other, {"alone": [1, 2]}, "x", "y", at=[10, 20])
    assert list(other.lines[0].get_xdata()) == [10, 20] and other.get_legend() is None


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


def test_photographs_are_written_as_jpeg_and_shown_as_written(tmp_path, monkeypatch, axis):
    shown = []
    monkeypatch.setattr(config, "FIGURES", tmp_path)
    monkeypatch.setattr(IPython, "get_ipython", lambda: True)
    monkeypatch.setattr(IPython.display, "display", shown.append)
    figures.show_image(axis, samples.load("coffee"))
    assert figures.save(axis.figure, "coffee") == str(tmp_path / "coffee.jpg")
    with Image.open(tmp_path / "coffee.jpg") as picture:
        assert picture.format == "JPEG"
    assert [image.data for image in shown] == [(tmp_path / "coffee.jpg").read_bytes()]
    assert not plt.fignum_exists(axis.figure.number)  # else the notebook would show it again


def test_small_multiples_draw_every_curve_and_the_means_over_the_reference():
    reference = np.zeros((2, 4))
    series = {"first": np.arange(12).reshape(3, 4), "second": [[1, 2, 3, 4]], "third": [[0] * 4]}
    named, level = ("sound", reference), ("prior", 0.5)
    figure = figures.against(series, named, "epoch", "loss", columns=2, level=level)
    assert len(figure.axes) == 3
    for axis, (title, curves) in zip(figure.axes, series.items(), strict=True):
        assert axis.get_title() == title
        drawn = [list(line.get_ydata()) for line in axis.lines]
        groups = [
            [*np.asarray(group).tolist(), np.mean(group, axis=0).tolist()]
            for group in (reference, curves)
        ]
        assert drawn == [[0.5, 0.5], *groups[0], *groups[1]]
        assert all(list(line.get_xdata()) == [1, 2, 3, 4] for line in axis.lines[1:])
    (legend,) = figure.legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels == ["prior", "sound: mean", "as titled: mean"]


def test_committed_figures_are_compared_for_the_eye(tmp_path, axis):
    drawn, committed = tmp_path / "drawn", tmp_path / "committed"
    for folder in (drawn, committed):
        folder.mkdir()
    (line,) = axis.plot([1, 2, 4])
    for folder, values in ((drawn, [1, 2.01, 4]), (committed, [1, 2, 4])):
        line.set_ydata(values)
        axis.figure.savefig(folder / "curve.png")
    assert (drawn / "curve.png").read_bytes() != (committed / "curve.png").read_bytes()
    assert check_figures.problems(drawn, committed) == []
    line.set_ydata([1, 4, 1])
    axis.figure.savefig(drawn / "curve.png")
    axis.figure.savefig(drawn / "new.png")
    axis.figure.savefig(committed / "old.png")
    found = [line.split(",")[0] for line in check_figures.problems(drawn, committed)]
    assert found[:2] == ["new.png: drawn", "old.png: committed"]
    assert len(found) == 3 and found[2].startswith("curve.png: not what is committed")


@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_committed_figures_are_compared_by_their_data(tmp_path, monkeypatch, kind):
    for place, last in (("drawn", 1.0), ("near", 1.02), ("far", 1.3)):
        monkeypatch.setattr(config, "FIGURES", tmp_path / place)
        figure, ((curve, image),) = figures.new(1, 2)
        curve.plot([0.0, 1.0, 2.0, last], linewidth=0.1)
        if kind == "jpg":
            image.imshow(np.eye(30))
        figures.save(figure, "x")
    paths = [tmp_path / place / f"x.{kind}" for place in ("drawn", "far")]
    assert check_figures.difference(*paths) < check_figures.TOLERANCE
    assert check_figures.problems(tmp_path / "drawn", tmp_path / "near") == []
    (problem,) = check_figures.problems(tmp_path / "drawn", tmp_path / "far")
    assert f"x.{kind}" in problem and "data differ by 15%" in problem


def test_only_make_figures_draws_into_the_committed_folder():
    code = "from colorlib import config; print(config.FIGURES.relative_to(config.ROOT).as_posix())"
    for place, chosen in (("build/figures", ""), ("figures", str(config.ROOT / "figures"))):
        assert processes.python(code, COLORLIB_FIGURES=chosen) == place
    makefile = (config.ROOT / "Makefile").read_text()
    assert makefile.count("COLORLIB_FIGURES=") == 1
