"""The studio without a browser: uploads, decoding, distributions and widgets."""

import re

import cv2
import hints_run
import numpy as np
import odd_files
import pytest

from colorlib import colorize, colorspace, config, images, quantizer, runs, samples
from colorlib.app import distribution, preview, studio, widgets
from colorlib.photos import hint_files, photo

PILLOWS_WARNINGS = pytest.mark.filterwarnings(
    "ignore:.*EXIF:UserWarning:PIL", "ignore::PIL.Image.DecompressionBombWarning"
)
"""Pillow's own words about a file that is odd or large on purpose."""


@pytest.fixture(scope="module")
def picture():
    return preview.from_file(samples.path("coffee"))


@pytest.fixture(scope="module")
def prediction(picture):
    return preview.predict(colorize.colorizer_for(), picture)


@pytest.fixture
def workshop():
    return studio.Studio()


@pytest.fixture(scope="module")
def shared():
    """A studio for tests that don't mind what it shows."""
    return studio.Studio()


def encoded(rgb, suffix=".png"):
    return cv2.imencode(suffix, rgb[..., ::-1])[1].tobytes()


def test_the_screens_colors_are_the_files(picture, prediction):
    for saturation, most, nearly_all in ((1.0, 2, 1), (2.0, 16, 4)):
        each = prediction.decoded_with(saturation=saturation)
        assert each.decoding.follow_edges
        ab = each.decode(each.logits)
        exact = colorize.apply_colors(picture.lightness, ab, follow_edges=True)
        difference = np.abs(preview.colored(picture, each).astype(int) - exact).max(axis=-1)
        assert difference.max() <= most and np.quantile(difference, 0.999) <= nearly_all


def test_a_large_photograph_is_small_on_the_screen_and_whole_in_the_file(prediction):
    rgb = np.tile(samples.square("coffee", 50), (30, 60, 1))
    large = preview.from_bytes("large.png", encoded(rgb))
    assert large.lightness.size <= preview.SCREEN
    assert large.lightness.shape == pytest.approx((724, 1448), abs=1)
    name, data = preview.full_resolution(large, prediction)
    assert name == "large-colored.png"
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape == (1500, 3000, 3)


@pytest.mark.parametrize("shape", [(1, 1), (7, 3), (3, 4000), (4000, 3), (2, 70_000)])
def test_odd_shapes(shape):
    rgb = np.full((*shape, 3), 77, np.uint8)
    found = preview.from_bytes("x.png", encoded(rgb))
    said = preview.predict(colorize.colorizer_for(), found)
    assert preview.jpeg(preview.colored(found, said))[:2] == b"\xff\xd8"
    assert found.truth is None and distribution.at(said, found, 1.0, 1.0).truth is None
    assert preview.full_resolution(found, said)[1]


def test_the_download_is_what_the_command_writes(tmp_path, picture):
    asked = colorize.colorizer_for()
    images.write(tmp_path / "x.png", samples.load("coffee"))
    whole = colorize.render(asked, photo.read(tmp_path / "x.png"))
    _, data = preview.full_resolution(picture, preview.predict(asked, picture))
    got = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert np.array_equal(got, whole)


@PILLOWS_WARNINGS
@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("text.png", b"hello " * 17, "text.png: is not an image"),
        ("cut.png", encoded(odd_files.RGB)[:900], "cut.png: is damaged or cut off"),
        ("bomb.png", odd_files.png(60_000, 60_000), "bomb.png: has over 178 megapixels"),
        ("large.png", odd_files.png(12_000, 10_000), "large.png: has 120 megapixels, at most 67"),
        ("empty.jpg", b"", "empty.jpg: is empty"),
        ("page.svg", b"<svg/>", "page.svg: is no photograph by its name"),
        ("../../etc/passwd", b"x", "passwd: is no photograph by its name"),
    ],
)
def test_what_is_no_photograph_is_refused_by_name(shared, name, data, message):
    shown = shared.divider.after
    assert not shared.upload(name, data)
    assert shared.uploading.message.startswith(message) and shared.uploading.wrong
    assert "upload." not in shared.uploading.message and "/tmp" not in shared.uploading.message
    assert shared.divider.after == shown


def test_too_many_bytes_are_refused():
    with pytest.raises(images.ImageError, match="has 41 MB, at most 40 MB"):
        preview.check_file("x.jpg", 41 * 2**20)


@PILLOWS_WARNINGS
@pytest.mark.parametrize("name", odd_files.ODD)
def test_odd_photographs_are_shown_and_saved(shared, name):
    assert shared.upload(name, odd_files.ODD[name])
    assert shared.save()[1]


@pytest.mark.parametrize("name", odd_files.HOSTILE)
def test_hostile_files_are_refused_with_the_reason(shared, name):
    data, reason = odd_files.HOSTILE[name]
    assert not shared.upload(name, data)
    message = shared.uploading.message
    assert message.startswith(f"{name}: ") and "upload." not in message
    assert reason in message or "no photograph by its name" in message


def test_probabilities_sum_to_one_and_marks_are_in_place(picture, prediction):
    found = distribution.at(prediction, picture, 0.2, 0.7)
    assert found.probabilities.shape == (313,) and found.probabilities.sum() == pytest.approx(1)
    ranked = np.sort(found.probabilities)[::-1]
    assert np.array_equal(found.probabilities[found.likeliest()], ranked[:5])
    height, width = prediction.logits.shape[:2]
    cell = prediction.logits[int(0.7 * height), int(0.2 * width)]
    assert np.allclose(found.chosen, prediction.decode(cell))
    rgb = samples.load("coffee")
    truth = colorspace.rgb_to_lab(rgb)[int(0.7 * len(rgb)), int(0.2 * rgb.shape[1]), 1:]
    assert np.allclose(found.truth, truth)


def test_the_plane_draws_each_bin_by_its_probability():
    p = np.zeros(313, np.float32)
    p[100], p[200] = 0.8, 0.2
    found = distribution.PredictedDistribution(p, 50.0, quantizer.bin_centers()[100], np.zeros(2))
    drawn = re.findall(r'class="bin" x="(.+?)" y="(.+?)" width="(.+?)"', distribution.plane(found))
    (left, top, large), (_, _, small) = np.array(drawn, float)
    assert (small / large) ** 2 == pytest.approx(0.25, abs=0.01)
    a, b = quantizer.bin_centers()[100]
    scale = distribution.PLANE / (2 * distribution.RANGE)
    assert left + large / 2 == pytest.approx((b + distribution.RANGE) * scale, abs=0.2)
    assert top + large / 2 == pytest.approx((a + distribution.RANGE) * scale, abs=0.2)
    assert distribution.swatches(found).count("<b ") == 7
    assert "80%" in distribution.swatches(found) and "&lt;1%" in distribution.swatches(found)


def test_sliders_decode_and_models_are_asked_once(workshop):
    assert not any(slider.disabled for slider in workshop.sliders.values())
    shown = workshop.divider.after
    for field, value in {"temperature": 0.9, "vividness": 0.9, "saturation": 0.2}.items():
        before = workshop.divider.after, workshop.chart.value
        workshop.sliders[field].value = value
        assert getattr(workshop.prediction.decoding, field) == value
        assert workshop.divider.after != before[0] and workshop.chart.value != before[1]
    workshop.resetting.click()
    assert workshop.divider.after == shown and workshop.asked == 1
    workshop.model.value = "model-256"
    workshop.model.value = config.DEFAULT_RUN
    workshop.model.value = "model-256"
    assert workshop.asked == 2 and workshop.divider.after != shown
    assert workshop.sliders["vividness"].value == runs.load_run("model-256").decoding.vividness


def test_what_the_page_refuses_is_said_until_the_next_photograph(workshop):
    workshop.uploading._on_message(None, {"kind": "refused", "words": "x.svg: no photograph"}, [])
    assert workshop.uploading.wrong and workshop.uploading.message == "x.svg: no photograph"
    workshop.photograph.value = "rocket"
    assert not workshop.uploading.wrong and workshop.uploading.message == ""


def test_a_click_changes_the_distribution_only(workshop):
    shown, chart = workshop.divider.after, workshop.chart.value
    workshop.divider.point = [0.05, 0.05]
    assert workshop.chart.value != chart and workshop.divider.after == shown


def test_an_upload_is_shown_and_listed(workshop):
    data = encoded(samples.square("china", 300), ".jpg")
    assert workshop.upload("<b>granny</b>.jpg", data)
    assert workshop.photograph.value == studio.UPLOADED
    assert (workshop.divider.width, workshop.divider.height) == (300, 300)
    assert "<b>" not in workshop.status.value
    shown = workshop.divider.before
    workshop.photograph.value = "rocket"
    assert workshop.divider.before != shown
    workshop.photograph.value = studio.UPLOADED
    assert workshop.divider.before == shown
    assert workshop.save()[0] == "b>-colored.jpg"


def test_pages_that_are_not_shown_are_named(workshop):
    for name in ("moving.gif", "pages.tif"):
        assert workshop.upload(name, odd_files.ODD[name])
        assert "the first of 2 pages or frames; the command" in workshop.status.value
    workshop.photograph.value = "rocket"
    assert "frames" not in workshop.status.value


class Uploads:
    """The messages that the page sends, and what arrives."""

    def __init__(self, receive=None):
        self.came = []
        self.place = widgets.Upload(
            receive or (lambda *file: self.came.append(file)), preview.check_file
        )

    def begin(self, upload, name, size):
        content = {"kind": "begin", "id": upload, "name": name, "size": size}
        self.place._on_message(self.place, content, [])

    def part(self, upload, data):
        self.place._on_message(self.place, {"kind": "part", "id": upload}, [memoryview(data)])


def test_a_file_comes_in_parts():
    page, data = Uploads(), bytes(range(200))
    page.begin("1", "x.png", 200)
    for start in (0, 90, 180):
        assert not page.came
        page.part("1", data[start : start + 90])
    assert page.came == [("x.png", data)]
    page.part("1", b"more")
    assert len(page.came) == 1 and not page.place.wrong


def test_a_newer_upload_takes_the_place_of_an_older_one():
    page = Uploads()
    page.begin("1", "old.png", 6)
    page.part("1", b"old")
    page.begin("2", "new.png", 6)
    for upload, data in (("1", b"old"), ("2", b"new"), ("1", b"old"), ("2", b"NEW")):
        page.part(upload, data)
    assert page.came == [("new.png", b"newNEW")] and not page.place.wrong


def test_an_older_upload_does_not_go_on_when_a_newer_one_is_refused():
    page = Uploads()
    page.begin("1", "old.png", 6)
    page.begin("2", "film.mp4", 6)
    complaint = page.place.message
    for upload in "121":
        page.part(upload, b"abc")
    assert not page.came
    assert complaint == page.place.message and page.place.wrong and "film.mp4" in complaint


def test_an_upload_that_lies_is_refused():
    page = Uploads()
    page.begin("1", "x.png", 10**9)
    assert "954 MB" in page.place.message and page.place.wrong
    page.part("1", b"x")
    page.begin("2", "x.png", 3)
    page.part("2", b"four")
    assert "longer than it said" in page.place.message and not page.came
    page.place.say("")
    page.place._on_message(page.place, {"kind": "begin"}, [])
    assert page.place.wrong and "try again" in page.place.message and not page.came


def test_huge_and_unfinished_uploads_hold_little(shared):
    for place, name in ((shared.uploading, "x.png"), (shared.loading, "x.csv")):
        begin = {"kind": "begin", "id": "1", "name": name, "size": 10**12}
        place._on_message(place, begin, [])
        place._on_message(place, {"kind": "part", "id": "1"}, [memoryview(b"x")])
        assert place.wrong and name in place.message and place._parts is None
        place._on_message(place, begin | {"size": 9}, [])
        place._on_message(place, {"kind": "part", "id": "1"}, [memoryview(b"x")])
        shown, slider = shared.divider.after, shared.sliders["saturation"]
        slider.value = 2 - slider.value / 2
        assert shared.divider.after != shown, "the page goes on while a file is on its way"


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("../../etc/x.png", "x.png"),
        ("/home/anna/.ssh/x.png", "x.png"),
        ("C:\\Windows\\x.png", "x.png"),
        ("a\0b/\n..x.png", "..x.png"),
        ("n" * 500 + ".png", "n" * 96 + ".png"),
    ],
)
def test_names_are_not_paths(prediction, name, kept):
    picture = preview.from_bytes(name, encoded(samples.square("china", 48)))
    assert picture.name == kept
    assert preview.full_resolution(picture, prediction)[0] == f"{kept[:-4]}-colored.png"


@pytest.mark.parametrize("error", [OSError(28, "No space left"), MemoryError(), RuntimeError("x")])
def test_an_upload_that_the_server_can_not_take_says_so(error):
    def fail(name, data):
        raise error

    page = Uploads(fail)
    page.begin("1", "x.png", 1)
    page.part("1", b"x")
    assert page.place.wrong and not page.place.message.startswith("Reading")
    assert "No space" in page.place.message or not isinstance(error, OSError)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (images.ImageError("x.png: can't be written (no space); choose another place"), "no space"),
        (OSError(28, "No space left on device", "/tmp/tmp1/x"), "(No space left on device)"),
        (MemoryError(), "not enough memory"),
        (RuntimeError("the network fell over"), "RuntimeError: the network fell over"),
        (KeyError(), "KeyError"),
    ],
)
def test_a_download_that_fails_says_why(error, words):
    def fail():
        raise error

    button, sent = widgets.Download(fail), []
    button.send = lambda content, buffers=None: sent.append(content)
    button._on_message(button, {"kind": "want"}, [])
    assert sent == [{"kind": "none"}]
    assert words in button.message and ";" in button.message and "/tmp" not in button.message


@pytest.mark.parametrize("name", ["own.jpg", "own.png"])
def test_a_download_on_a_full_disk_names_the_photograph(shared, small_files, name):
    assert shared.upload(name, encoded(samples.square("chelsea", 200), name[-4:]))
    button, sent = shared.downloading, []
    button.send = lambda content, buffers=None: sent.append(content["kind"])
    with small_files(2000):
        button._on_message(button, {"kind": "want"}, [])
    assert sent == ["none"] and re.fullmatch(rf"{name}: can't .*; try again", button.message)
    button._on_message(button, {"kind": "want"}, [])
    assert sent == ["none", "file"] and button.message == ""


def test_a_download_that_is_interrupted_lets_the_button_go():
    def interrupt():
        raise KeyboardInterrupt

    button, sent = widgets.Download(interrupt), []
    button.send = lambda content, buffers=None: sent.append(content)
    with pytest.raises(KeyboardInterrupt):
        button._on_message(button, {"kind": "want"}, [])
    assert sent == [{"kind": "none"}]


@pytest.mark.parametrize("error", [OSError(28, "No space left"), RuntimeError("<it> fell over")])
def test_a_network_that_fails_leaves_the_page_as_it_was(workshop, monkeypatch, error):
    def fail(*_):
        raise error

    shown, picture, said = workshop.divider.after, workshop.picture, workshop.status.value
    with monkeypatch.context() as patch:
        patch.setattr(preview, "predict", fail)
        assert not workshop.upload("x.png", encoded(samples.square("china", 60)))
        assert workshop.uploading.wrong and workshop.status.value == said
        workshop.photograph.value = "rocket"
        assert "try again" in workshop.status.value and "<it>" not in workshop.status.value
        workshop.model.value = "model-256"
        workshop.sliders["saturation"].value = 0.5
        assert "try again" in workshop.status.value
        assert workshop.picture is picture and workshop.divider.after == shown
    workshop.sliders["saturation"].value = 0.6
    assert "Model-256 saw" in workshop.status.value and workshop.divider.after != shown
    workshop.model.value = config.DEFAULT_RUN
    assert workshop.divider.after == shown


def test_a_studio_without_models_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "RUNS", tmp_path)
    monkeypatch.setattr(config, "RECORDED", tmp_path)
    with pytest.raises(runs.RunError, match="none of the models"):
        studio.Studio()


def test_nothing_is_loaded_from_elsewhere():
    paths = [*widgets.HERE.glob("*.js"), *widgets.HERE.glob("*.css")]
    assert len(paths) == 5
    for path in paths:
        assert "http" not in path.read_text() and "@import" not in path.read_text()


@pytest.fixture
def hinting(tmp_path, monkeypatch):
    """A studio whose model takes hints."""
    hints_run.make(tmp_path)
    monkeypatch.setattr(config, "RUNS", tmp_path)
    return studio.Studio(["hints", "model-64"])


def test_a_hint_changes_the_picture_and_can_be_undone(hinting):
    shown, asked = hinting.divider.after, hinting.asked
    hinting.divider.point = [0.3, 0.6]
    assert len(hinting.palette.colors) > 1 and hinting.asked == asked
    hinting.palette._on_message(None, {"kind": "color", "color": "#2e6b34"}, [])
    assert hinting.marks == [(0.3, 0.6, "#2e6b34")] and hinting.asked == asked + 1
    green = hinting.divider.after
    assert green != shown
    hinting.hint("#a02020")  # the same point
    assert hinting.marks == [(0.3, 0.6, "#a02020")] and hinting.divider.after != green
    hinting.divider.marks = [[0.8, 0.6, "#a02020"]]  # moved in the browser
    assert hinting.removing.disabled
    for marks in ([(0.3, 0.6, "#a02020")], [(0.3, 0.6, "#2e6b34")], []):
        assert not hinting.undoing.disabled
        hinting.undoing.click()
        assert hinting.marks == marks
    assert hinting.divider.after == shown and hinting.undoing.disabled


def test_hints_are_removed_and_forgotten_with_the_photograph(hinting):
    shown = hinting.divider.after
    hinting.hint("#2e6b34")
    hinting.removing.click()
    assert hinting.marks == [] and hinting.divider.after == shown
    hinting.hint("#2e6b34")
    hinting.clearing.click()
    assert hinting.marks == [] and hinting.clearing.disabled
    hinting.hint("#2e6b34")
    hinting.photograph.value = "rocket"
    assert hinting.marks == [] and hinting.undoing.disabled


def test_hints_are_shown_only_to_a_model_that_takes_them(hinting):
    hinting.hint("#2e6b34")
    hinted = hinting.divider.after
    hinting.model.value = "model-64"
    assert not hinting.divider.marked and hinting.hinting.layout.display == "none"
    assert not hinting.palette.colors
    hinting.model.value = "hints"
    assert hinting.divider.marked and hinting.divider.after == hinted


def test_hints_are_saved_loaded_and_used_by_the_command(hinting, tmp_path):
    for point, color in (([0.3, 0.6], "#2e6b34"), ([0.9, 0.1], "#a02020")):
        hinting.divider.point = point
        hinting.hint(color)
    shown = hinting.divider.after
    name, data = hinting.saved_hints()
    assert name == "coffee-hints.csv"
    (tmp_path / name).write_bytes(data)
    images.write(tmp_path / "coffee.png", samples.load("coffee"))
    points = hint_files.read(tmp_path / name, tmp_path / "coffee.png")
    _, saved = hinting.save()
    got = cv2.imdecode(np.frombuffer(saved, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    expected = colorize.colorizer_for("hints")(samples.load("coffee"), points)
    np.testing.assert_array_equal(got, expected)
    hinting.clearing.click()
    hinting.load(name, data)
    assert hinting.divider.after == shown and len(hinting.marks) == 2
    begin = {"kind": "begin", "id": "1", "name": "x.csv", "size": 3}
    for content in (begin, {"kind": "part", "id": "1"}):
        hinting.loading._on_message(None, content, [b"1,2"])
    assert "x.csv: line 1: the header is" in hinting.loading.message and len(hinting.marks) == 2
