"""Strokes of color: against a dense solve, on photographs, and as files that people make."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from colorlib import colorize, colorspace, images, metrics, samples, scribbles
from colorlib.photos import batch, photo


@pytest.fixture
def grey_and_painted():
    """A grey photograph, a copy with two strokes painted on it, and where they are."""
    return painted("coffee")


def painted(name, color=False):
    rgb = samples.square(name, 256)
    if not color:
        rgb = cv2.cvtColor(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    marked, where = rgb.copy(), np.zeros(rgb.shape[:2], np.uint8)
    for start, end, ink in (
        ((30, 40), (90, 60), (200, 40, 30)),
        ((150, 180), (220, 170), (20, 90, 200)),
    ):
        cv2.line(marked, start, end, ink, 9, cv2.LINE_AA)
        cv2.line(where, start, end, 1, 9)
    return rgb, marked, where > 0


def as_jpeg(rgb, quality):
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "JPEG", quality=quality)
    return images.read(file)


def by_hand(lightness, y, x):
    """Equation 2 for one pixel, with the constants of the authors' program."""
    rows, columns = slice(max(0, y - 1), y + 2), slice(max(0, x - 1), x + 2)
    window = lightness[rows, columns]
    center = (y - rows.start, x - columns.start)
    others = np.delete(window.ravel(), center[0] * window.shape[1] + center[1])
    squared = (others - lightness[y, x]) ** 2
    width = max(0.6 * window.var(), squared.min() / -np.log(0.01), 2e-6 * 100**2)
    similar = np.exp(-squared / width)
    return similar / similar.sum()


def test_weights_are_those_of_the_authors_program(rng):
    lightness = rng.uniform(0, 100, (6, 7))
    weights = scribbles.weights(lightness)
    for y, x in ((0, 0), (0, 3), (2, 2), (5, 6), (4, 0)):
        own = weights[:, y, x]
        np.testing.assert_allclose(own[own > 0], by_hand(lightness, y, x), rtol=1e-6)


@pytest.mark.parametrize("weighting", scribbles.WEIGHTINGS)
@pytest.mark.parametrize("shape", [(1, 2), (5, 1), (9, 8)])
def test_weights_sum_to_one_and_none_leaves_the_image(rng, weighting, shape):
    for lightness in (rng.uniform(0, 100, shape), np.full(shape, 50.0)):
        weights = scribbles.weights(lightness, weighting)
        np.testing.assert_allclose(weights.sum(axis=0), 1)
        assert weights.min() >= 0 and not weights[:3, 0].any() and not weights[5:, -1].any()


def test_correlation_follows_the_lightness():
    lightness = np.tile(np.float64([20, 20, 20, 80, 80, 80]), (5, 1))
    weights = scribbles.weights(lightness, "correlation")[:, 2, 2]
    offsets = np.array(scribbles.NEIGHBORS)
    assert weights[offsets[:, 1] == 1].max() < 0.05 * weights[offsets[:, 1] == 0].min()
    with pytest.raises(ValueError, match="gaussian, correlation"):
        scribbles.weights(lightness, "cosine")


@pytest.mark.parametrize("weighting", scribbles.WEIGHTINGS)
def test_it_is_the_minimum_of_the_cost(rng, weighting):
    lightness = rng.uniform(0, 100, (7, 6))
    ab = rng.uniform(-50, 50, (7, 6, 2)).astype(np.float32)
    marked = np.zeros((7, 6), bool)
    marked[1, 1] = marked[5, 3] = marked[2, 4] = True
    solved = scribbles.propagate(lightness, marked, ab, weighting)
    dense = scribbles.system(lightness, weighting).toarray()[~marked.ravel()]
    held = marked.ravel()
    least_squares = np.linalg.lstsq(dense[:, ~held], -dense[:, held] @ ab.reshape(-1, 2)[held])[0]
    np.testing.assert_allclose(solved[~marked], least_squares, atol=1e-3)
    np.testing.assert_array_equal(solved[marked], ab[marked])
    assert (solved.max((0, 1)) <= ab[marked].max(0) + 1e-4).all()
    assert (solved.min((0, 1)) >= ab[marked].min(0) - 1e-4).all()


def test_one_stroke_colors_everything_and_all_strokes_stay(rng):
    lightness = rng.uniform(0, 100, (20, 30)).astype(np.float32)
    marked = np.zeros((20, 30), bool)
    marked[4, 5] = True
    ab = np.full((20, 30, 2), (30, -20), np.float32)
    np.testing.assert_allclose(scribbles.propagate(lightness, marked, ab), ab, atol=1e-3)
    everywhere = np.ones((20, 30), bool)
    np.testing.assert_array_equal(scribbles.propagate(lightness, everywhere, ab), ab)
    with pytest.raises(ValueError, match="no pixel"):
        scribbles.propagate(lightness, ~everywhere, ab)


def test_colors_stop_where_lightness_changes_and_not_where_it_does_not():
    marked, ab = np.zeros((40, 40), bool), np.zeros((40, 40, 2), np.float32)
    marked[10:30, [5, 34]] = True
    ab[:, :20], ab[:, 20:] = (40, 0), (-40, 0)
    edge = np.full((40, 40), 70, np.float32)
    edge[:, 26:] = 40
    split = scribbles.propagate(edge, marked, ab)[20, :, 0]
    assert split[25] > 35 and split[26] < -35
    flat = scribbles.propagate(np.full_like(edge, 50), marked, ab)[20, :, 0]
    assert abs(flat[19] + flat[20]) < 1 and np.abs(np.diff(flat)).max() < 8


def test_true_strokes_bring_the_photograph_back(rng):
    rgb = samples.square("coffee", 96)
    lab = colorspace.rgb_to_lab(rgb)
    marked = rng.random((96, 96)) < 0.02
    solved = scribbles.propagate(lab[..., 0], marked, lab[..., 1:])
    quality = metrics.psnr(colorspace.lab_to_rgb8(np.dstack([lab[..., :1], solved])), rgb)
    grey = metrics.psnr(colorspace.lab_to_rgb8(lab * np.float32([1, 0, 0])), rgb)
    assert quality > grey + 8


@pytest.mark.parametrize("quality", [None, 95, 80, 60])
@pytest.mark.parametrize("color", [False, True])
@pytest.mark.parametrize("name", ["coffee", "china", "chelsea"])
def test_strokes_are_found_and_noise_is_not(name, color, quality):
    original, marked, where = painted(name, color)
    copy = marked if quality is None else as_jpeg(marked, quality)
    found = scribbles.find_strokes(original, copy)
    around = cv2.dilate(where.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
    assert not (found & ~around).any()
    assert (found & where).sum() > 0.6 * where.sum()


@pytest.mark.parametrize("quality", [50, 75, 90])
@pytest.mark.parametrize("name", samples.NAMES)
def test_a_jpeg_of_the_photograph_has_no_strokes(name, quality):
    rgb = samples.load(name)
    assert not scribbles.find_strokes(rgb, as_jpeg(rgb, quality)).any()


def test_a_smeared_stroke_keeps_its_color(grey_and_painted):
    original, marked, _ = grey_and_painted
    copy = as_jpeg(marked, 75)
    found = scribbles.find_strokes(original, copy)
    chroma = np.linalg.norm(colorspace.rgb_to_lab(copy)[found][:, 1:], axis=1)
    assert chroma.min() > 25


def test_a_grey_stroke_is_a_stroke(grey_and_painted):
    original, _, _ = grey_and_painted
    copy = original.copy()
    copy[100:110, 60:140] = np.where(original[100:110, 60:140].mean() > 128, 20, 235)
    assert scribbles.find_strokes(original, copy)[103:107, 65:135].mean() > 0.9


def written(folder, **pictures):
    for name, picture in pictures.items():
        Image.fromarray(picture).save(folder / f"{name}.png")
    return [folder / f"{name}.png" for name in pictures]


def test_a_layer_counts_where_it_is_opaque(tmp_path, grey_and_painted):
    original, marked, where = grey_and_painted
    alpha = where * np.uint8(255)
    alpha[0, :50] = 100
    layer = np.dstack([marked, alpha])
    strokes = scribbles.read(*written(tmp_path, layer=layer, original=original))
    np.testing.assert_array_equal(strokes.marked, where)


def test_a_stroke_that_looks_like_the_photograph_counts_on_a_layer_alone(tmp_path):
    original = np.full((64, 64, 3), 120, np.uint8)
    marked, where = original.copy(), np.zeros((64, 64), np.uint8)
    marked[20:40, 10:50], where[20:40, 10:50] = (124, 120, 116), 255
    assert not scribbles.find_strokes(original, marked).any()
    layer, photograph = written(tmp_path, layer=np.dstack([marked, where]), original=original)
    np.testing.assert_array_equal(scribbles.read(layer, photograph).marked, where > 0)


def test_a_transparent_photograph_can_be_painted_on(tmp_path, grey_and_painted):
    original, marked, where = grey_and_painted
    alpha = np.full((256, 256), 255, np.uint8)
    alpha[:30] = 0
    pictures = {"marked": np.dstack([marked, alpha]), "original": np.dstack([original, alpha])}
    strokes = scribbles.read(*written(tmp_path, **pictures))
    around = cv2.dilate(where.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    assert not (strokes.marked & ~around).any() and strokes.marked.sum() > 0.6 * where.sum()


def test_what_is_wrong_is_said(tmp_path, grey_and_painted):
    original, marked, _ = grey_and_painted
    rgb = samples.square("flower", 256)
    empty = np.dstack([marked, np.zeros((256, 256), np.uint8)])
    full = np.dstack([marked, np.full((256, 256), 200, np.uint8)])
    original, marked, rgb, empty, full = (x[:, :200] for x in (original, marked, rgb, empty, full))
    wrong = {
        "small": (marked[:100], "200 x 100 pixels.*is 200 x 256; "),
        "turned": (marked.swapaxes(0, 1), "256 x 200.*; turn it"),
        "same": (original, "no strokes; "),
        "empty": (empty, "no strokes; "),
        "full": (full, "100%.*; "),
        "other": (rgb, "differs.*; "),
    }
    (photograph,) = written(tmp_path, photograph=original)
    for name, (pixels, words) in wrong.items():
        (path,) = written(tmp_path, **{name: pixels})
        with pytest.raises(images.ImageError, match=f"{path.name}: .*{words}"):
            scribbles.read(path, photograph)


@pytest.mark.parametrize("ending", ["gif", "png"])
def test_a_palette_is_refused_where_the_photograph_has_colors(tmp_path, ending):
    copy = tmp_path / f"copy.{ending}"
    for color in (False, True):
        original, marked, where = painted("chelsea", color)
        (photograph,) = written(tmp_path, photograph=original)
        Image.fromarray(marked).quantize(256).save(copy)
        if color:
            with pytest.raises(images.ImageError, match=rf"{copy.name}: has a palette.*RGB"):
                scribbles.read(copy, photograph)
        else:
            found = scribbles.read(copy, photograph).marked
            assert (found & where).sum() > 0.9 * where.sum()
        layer = Image.fromarray(np.dstack([marked, where * np.uint8(255)]))
        layer.save(tmp_path / f"layer.{ending}")
        found = scribbles.read(tmp_path / f"layer.{ending}", photograph).marked
        np.testing.assert_array_equal(found, where)


@pytest.mark.parametrize("name", ["layers.gif", "layers.tif"])
def test_strokes_on_several_pages_are_refused(tmp_path, grey_and_painted, name):
    original, marked, _ = map(Image.fromarray, grey_and_painted)
    (photograph,) = written(tmp_path, photograph=np.asarray(original))
    original.save(tmp_path / name, save_all=True, append_images=[marked])
    with pytest.raises(images.ImageError, match=rf"{name}: has 2 pages or frames.*merge"):
        scribbles.read(tmp_path / name, photograph)


def test_a_large_photograph_is_solved_small(grey_and_painted):
    original, marked, where = grey_and_painted
    thin = np.zeros_like(where)
    thin[40, 30:200] = True
    strokes = scribbles.Strokes(thin, np.broadcast_to(np.uint8([200, 40, 30]), marked.shape))
    lightness = colorize.Lightness(colorspace.rgb_to_lab(original)[..., 0])
    small = scribbles.colors(lightness, strokes, pixels=64 * 64)
    assert small.shape == (64, 64, 4)
    whole = scribbles.colors(lightness, strokes)
    assert whole.shape == (256, 256, 2)
    pictures = [colorize.paint(lightness, colors) for colors in (small, whole)]
    np.testing.assert_allclose(*np.int32(pictures), atol=6)
    strokes = scribbles.Strokes(where, marked)
    pictures = [
        colorize.paint(lightness, scribbles.colors(lightness, strokes, pixels=pixels))
        for pixels in (128 * 128, scribbles.PIXELS)
    ]
    assert metrics.psnr(*pictures) > 25


@pytest.mark.parametrize(
    ("shape", "solved"),
    [((512, 512), (512, 512)), ((2000, 3000), (418, 627)), ((1, 10**6), (1, 512000))],
)
def test_the_shape_to_solve_at(shape, solved):
    found = scribbles.solved_shape(*shape)
    assert found == solved or found[0] == 1


def test_a_file_keeps_its_lightness_depth_and_size(tmp_path, grey_and_painted):
    original, marked, _ = grey_and_painted
    deep = (original[..., 0].astype(np.uint16) << 8) + 77
    Image.fromarray(deep).save(tmp_path / "deep.png")
    (layer,) = written(tmp_path, marked=marked)
    job = batch.Job(tmp_path / "deep.png", tmp_path / "out.png")
    assert batch.color_scribbled(job, layer).status == batch.COLORED
    before, after = (photo.read(path) for path in (job.source, job.target))
    assert after.pixels.dtype == np.uint16 and after.shape == before.shape
    np.testing.assert_allclose(after.lightness(), before.lightness(), atol=0.05)
    assert metrics.colorfulness(images.read(job.target)) > 10


def test_strokes_are_not_spread_over_several_pages_nor_overwritten(tmp_path, grey_and_painted):
    original, marked, _ = grey_and_painted
    pages = [Image.fromarray(x) for x in (original, original[::-1])]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    (layer,) = written(tmp_path, marked=marked)
    before = layer.read_bytes()
    for target, why in (
        (tmp_path / "out.tif", "pages.tif: has 2 pages"),
        (layer, "overwrite the st"),
    ):
        outcome = batch.color_scribbled(batch.Job(tmp_path / "pages.tif", target), layer, True)
        assert outcome.status == batch.FAILED and why in outcome.why
    assert layer.read_bytes() == before and not (tmp_path / "out.tif").exists()
