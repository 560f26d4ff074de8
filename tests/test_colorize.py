"""Any size in, the same lightness and size out."""

import io
import pickle
import shutil

import cv2
import numpy as np
import pytest

from colorlib import (
    augmentation,
    colorize,
    colorspace,
    config,
    images,
    model,
    quantizer,
    runs,
    samples,
)
from colorlib.app import preview
from colorlib.photos import photo


@pytest.fixture(scope="module")
def colorizer():
    return colorize.Colorizer(model.build_model(1 / 16), config.DecodeConfig(working_size=32))


@pytest.mark.parametrize("shape", [(1, 1), (7, 3), (3, 500), (64, 64), (97, 131), (480, 31)])
def test_any_size_keeps_its_shape_and_lightness(colorizer, shape, rng):
    rgb = rng.integers(0, 256, (*shape, 3)).astype(np.uint8)
    colored = colorizer(rgb)
    assert colored.shape == rgb.shape and colored.dtype == np.uint8
    before, after = (colorspace.rgb_to_lab(x)[..., 0] for x in (rgb, colored))
    assert np.abs(before - after).max() < 1.5


def test_only_lightness_is_looked_at(colorizer):
    color = samples.square("coffee", 64)
    lab = colorspace.rgb_to_lab(color)
    lab[..., 1:] = 0
    grey = colorspace.to_uint8(colorspace.lab_to_rgb(lab))
    difference = np.abs(colorizer(color).astype(int) - colorizer(grey))
    assert difference.mean() < 1


@pytest.mark.parametrize("follow_edges", [False, True])
def test_bands_leave_no_seams(monkeypatch, rng, follow_edges):
    lightness = rng.uniform(0, 100, (50, 20)).astype(np.float32)
    ab = rng.uniform(-60, 60, (5, 3, 2)).astype(np.float32)
    whole = colorize.apply_colors(lightness, ab, follow_edges=follow_edges)
    monkeypatch.setattr(colorize, "PIECE", 60)
    banded = colorize.apply_colors(lightness, ab, follow_edges=follow_edges)
    np.testing.assert_array_equal(banded, whole)


def test_predicted_colors_land_where_they_belong():
    ab = np.zeros((2, 2, 2), np.float32)
    ab[0, 0], ab[1, 1] = (40, 20), (-30, 30)
    lightness = np.full((80, 80), 60, np.float32)
    lab = colorspace.rgb_to_lab(colorize.apply_colors(lightness, ab))
    np.testing.assert_allclose(lab[5, 5, 1:], (40, 20), atol=4)
    np.testing.assert_allclose(lab[75, 75, 1:], (-30, 30), atol=4)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((480, 640), (64, 88)), ((640, 480), (88, 64)), ((1, 1), (64, 64)), ((3, 4000), (64, 512))],
)
def test_working_shape(shape, expected):
    assert colorize.working_shape(*shape, 64) == expected


def test_vividness_moves_away_from_the_frequent_colors(patches):
    prior = quantizer.prior(quantizer.code_histogram(patches))
    weights = quantizer.rebalancing_weights(prior)
    network = model.build_model(1 / 16)
    logits = np.broadcast_to(np.log(np.maximum(prior, 1e-6)), (2, 2, 313)).astype(np.float32)
    common = quantizer.bin_centers()[np.argmax(prior)]
    distance = []
    for vividness in (0, 0.5, 1):
        decoding = config.DecodeConfig(vividness=vividness, temperature=1)
        ab = colorize.Colorizer(network, decoding, weights).decode(logits)
        distance.append(np.linalg.norm(ab - common, axis=-1).mean())
    assert distance[0] + 1 < distance[1] < distance[2] - 1
    with pytest.raises(ValueError, match="weights"):
        colorize.Colorizer(network, config.DecodeConfig(vividness=1))


def test_a_working_size_without_pixels_is_refused():
    with pytest.raises(ValueError, match="at least 8"):
        colorize.Colorizer(None, config.DecodeConfig(working_size=4))


class Watched:
    """A network that remembers what it was shown."""

    def __init__(self, network):
        self.network, self.seen = network, []
        self.input_multiple = getattr(network, "input_multiple", 8)

    def predict_on_batch(self, batch):
        self.seen.append(batch[0, ..., 0])
        return self.network.predict_on_batch(batch)


class Enough(Exception):
    """Raised when the network was asked: the colors do not matter."""


def seen_of(photograph, working_size):
    """Return what the network is shown when a photograph is rendered."""

    class Network:
        def predict_on_batch(self, batch):
            raise Enough(batch[0, ..., 0])

    asked = colorize.Colorizer(Network(), config.DecodeConfig(working_size=working_size))
    with pytest.raises(Enough) as caught:
        colorize.render(asked, photograph)
    return caught.value.args[0]


def flat(height, width):
    """Make a photograph of one grey, in next to no memory."""
    return photo.Photograph(np.broadcast_to(np.uint8(90), (height, width)))


@pytest.mark.parametrize("shape", [(400, 600), (4000, 6000), (8000, 12_000)])
def test_the_network_sees_large_photographs_in_their_proportions(shape):
    seen = seen_of(flat(*shape), 80)
    assert seen.shape == (80, 120)
    np.testing.assert_allclose(seen, flat(1, 1).lightness()[0, 0], atol=1e-3)


@pytest.mark.parametrize("follow_edges", [False, True])
def test_a_photograph_in_bands_is_the_photograph_at_once(colorizer, monkeypatch, follow_edges):
    rgb = samples.square("coffee", 400)[:, :271]
    photograph = photo.Photograph(rgb)
    watched = Watched(colorizer.network)
    decoding = config.DecodeConfig(working_size=40, follow_edges=follow_edges)
    asked = colorize.Colorizer(watched, decoding)
    results = [asked(rgb), colorize.render(asked, photograph)]
    for rows in (1, 7, 37, 399):
        monkeypatch.setattr(colorize, "KEPT", 0)
        monkeypatch.setattr(colorize, "PIECE", 271 * rows)
        results.append(colorize.render(asked, photograph))
    for view, result in zip(watched.seen, results, strict=True):
        np.testing.assert_allclose(view, watched.seen[1], atol=2e-3)
        assert np.abs(result.astype(int) - results[1]).max() <= 1
    expected = cv2.resize(photograph.lightness(), (40, 56), interpolation=cv2.INTER_AREA)
    np.testing.assert_allclose(watched.seen[1], expected, atol=1e-3)


@pytest.mark.parametrize("shape", [(3, 500), (500, 3), (20, 30), (9, 200)])
def test_small_and_narrow_photographs_in_bands(monkeypatch, rng, shape):
    photograph = photo.Photograph(rng.integers(0, 256, shape).astype(np.uint8))
    whole = seen_of(photograph, 32)
    monkeypatch.setattr(colorize, "PIECE", 2 * shape[1])
    np.testing.assert_allclose(seen_of(photograph, 32), whole, atol=1e-3)
    assert whole.shape == colorize.working_shape(*shape, 32)


def test_the_page_and_the_command_agree_on_a_photograph_of_several_bands(tmp_path):
    rgb = cv2.resize(samples.load("rocket"), (1800, 1200), interpolation=cv2.INTER_CUBIC)
    images.write(tmp_path / "x.png", rgb)
    assert rgb.shape[0] * rgb.shape[1] > max(8 * colorize.PIECE, colorize.KEPT, preview.SCREEN)
    asked = colorize.colorizer_for(working_size=80, jpeg_quality=0)
    asked.network = watched = Watched(asked.network)
    picture = preview.from_file(tmp_path / "x.png")
    prediction = preview.predict(asked, picture)
    command = colorize.render(asked, photo.read(tmp_path / "x.png"))
    called = asked(rgb)
    lightness = photo.Photograph(rgb).lightness()
    expected = cv2.resize(lightness, (120, 80), interpolation=cv2.INTER_AREA)
    assert len(watched.seen) == 3
    for seen in watched.seen:
        np.testing.assert_allclose(seen[:80, :120], expected, atol=0.02)
    _, data = preview.full_resolution(picture, prediction)
    decoded = images.read(io.BytesIO(data)).astype(int)
    assert np.abs(decoded - command).max() <= 1
    assert np.abs(decoded - called).max() <= 1


def test_side_by_side_and_alpha(colorizer, rng):
    rgb, alpha = rng.integers(0, 256, (2, 20, 30, 3), dtype=np.uint8)
    photograph = photo.Photograph(rgb, alpha[..., 0])
    both = colorize.render(colorizer, photograph, side_by_side=True)
    assert both.shape == (20, 60, 4)
    np.testing.assert_array_equal(both[:, 30:], colorize.render(colorizer, photograph))
    np.testing.assert_array_equal(both[:, :30, 3], alpha[..., 0])
    assert np.ptp(both[:, :30, :3], axis=-1).max() <= 1


def test_16_bits_keep_their_lightness(colorizer, rng):
    grey = rng.integers(0, 65536, (40, 50)).astype(np.uint16)
    photograph = photo.Photograph(grey)
    colored = colorize.render(colorizer, photograph, np.uint16)
    again = photo.Photograph(colored).lightness()
    assert colored.dtype == np.uint16 and np.abs(again - photograph.lightness()).max() < 0.005


def test_saturation_scales_the_colors(colorizer):
    lightness = np.full((32, 32), 50, np.float32)
    plain = colorizer.predict_ab(lightness)
    grey, more = (
        colorize.Colorizer(colorizer.network, colorizer.decoding.replace(saturation=factor))
        for factor in (0, 2)
    )
    assert not grey.predict_ab(lightness).any()
    np.testing.assert_allclose(more.predict_ab(lightness), 2 * plain, rtol=1e-5)


def test_the_default_run_colors_unseen_photographs():
    colorizer = colorize.colorizer_for()
    for name in ("chelsea", "astronaut", "china"):
        colored = colorizer(samples.square(name, 128))
        ab = colorspace.rgb_to_lab(colored)[..., 1:]
        assert np.linalg.norm(ab, axis=-1).mean() > 3, f"{name} stayed grey"


def test_the_sky_is_bluer_than_the_face():
    lab = colorspace.rgb_to_lab(colorize.colorizer_for()(samples.square("grace_hopper", 192)))
    background, face = lab[20:60, 10:30, 2].mean(), lab[70:95, 85:105, 1:].mean(axis=(0, 1))
    assert face[0] > 2 and face[1] > 2, "skin is not reddish-yellow"
    assert background < face[1]


@pytest.fixture
def spoiled_run(tmp_path):
    """A copy of the default run, to be damaged."""
    return shutil.copytree(config.RECORDED / config.DEFAULT_RUN, tmp_path / "run")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("weights.weights.h5", pickle.dumps({"weights": [1, 2, 3]})),
        ("weights.weights.h5", b"\x89HDF\r\n\x1a\n" + bytes(500)),
        ("weights.weights.h5", b""),
        ("config.json", b"[" * 100_000),
        ("prior.json", b"[1, 2, 3]"),
        ("prior.json", b"[" + b"NaN," * 312 + b"NaN]"),
        ("prior.json", b"[" + b"0," * 312 + b"0]"),
        ("prior.json", b"[-1," + b"1," * 2 + b"0," * 309 + b"0]"),
        ("history.csv", b"loss\n\0"),
        ("decoding.json", b'{"working_size": 1000000000}'),
        ("decoding.json", b'{"execute": "this"}'),
        ("decoding.json", b'{"working_size": "big"}'),
        ("decoding.json", b'{"working_size": null}'),
        ("decoding.json", b'{"temperature": -1}'),
        ("decoding.json", b'{"saturation": NaN}'),
        ("environment.json", b"[1]"),
    ],
)
def test_a_damaged_or_hostile_run_is_refused(spoiled_run, name, content):
    (spoiled_run / name).write_bytes(content)
    with pytest.raises((runs.RunError, ValueError)) as caught:
        colorize.colorizer_for(spoiled_run)
    told = ("working size", "temperature", "saturation")
    assert any(words in str(caught.value) for words in (str(spoiled_run), *told))
    assert "\n" not in str(caught.value)


class Recorder:
    """A network that keeps what it is asked, and numbers its answers' pixels."""

    def __init__(self, input_multiple):
        self.input_multiple = input_multiple

    def predict_on_batch(self, lightness):
        self.seen = lightness
        shape = lightness.shape[1] // 4, lightness.shape[2] // 4
        numbers = np.arange(np.prod(shape), dtype=np.float32).reshape(1, *shape, 1)
        return np.repeat(numbers, quantizer.BINS, axis=-1)


def test_what_a_network_needs_beyond_the_photograph_is_mirrored(rng):
    lightness = rng.uniform(0, 100, (400, 600)).astype(np.float32)
    seen, answers = {}, {}
    for multiple in (8, 32):
        network = Recorder(multiple)
        one = colorize.Colorizer(network, config.DecodeConfig(working_size=80))
        answers[multiple], seen[multiple] = one.predict_logits(lightness), network.seen[0, ..., 0]
        assert answers[multiple].shape == (20, 30, quantizer.BINS)
    assert seen[32].shape == (96, 128)
    np.testing.assert_array_equal(seen[32][:80, :120], seen[8])
    np.testing.assert_array_equal(seen[32][80:, :120], seen[8][:-17:-1])
    assert (answers[32][:, 1:, 0] - answers[32][:, :-1, 0] == 1).all()


def test_the_network_sees_a_jpeg_if_that_is_what_it_learned_from(rng):
    lightness = rng.uniform(0, 100, (64, 64)).astype(np.float32)
    seen = []
    for quality in (0, 50):
        network = Recorder(8)
        decoding = config.DecodeConfig(working_size=64, jpeg_quality=quality)
        colorize.Colorizer(network, decoding).predict_logits(lightness)
        seen.append(network.seen[0, ..., 0])
    np.testing.assert_array_equal(seen[0], lightness)
    np.testing.assert_array_equal(seen[1], augmentation.compress(lightness, 50))
    assert np.abs(seen[1] - seen[0]).mean() > 3


def test_the_transparency_of_a_16_bit_photograph_is_rounded(colorizer, rng):
    alpha = rng.integers(0, 65536, (24, 24)).astype(np.uint16)
    photograph = photo.Photograph(np.full((24, 24), 9000, np.uint16), alpha)
    colored = colorize.render(colorizer, photograph)
    np.testing.assert_array_equal(colored[..., 3], np.rint(alpha / 257))
