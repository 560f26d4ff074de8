"""Hints from files: read, refused, and used by the command and the colorizer."""

import hints_run
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from colorlib import __main__ as main
from colorlib import colorize, colorspace, config, hints, images, runs, samples
from colorlib.photos import hint_files

GREEN = "#2e6b34"


@pytest.fixture(scope="module")
def with_hints(tmp_path_factory):
    """A folder of runs, of which one takes hints."""
    folder = tmp_path_factory.mktemp("runs")
    hints_run.make(folder)
    return folder


@pytest.fixture
def teachable(with_hints, monkeypatch):
    monkeypatch.setattr(config, "RUNS", with_hints)
    return colorize.colorizer_for("hints")


@pytest.fixture
def photograph(tmp_path):
    images.write(tmp_path / "coffee.png", samples.square("coffee", 200))
    return tmp_path / "coffee.png"


def test_a_table_is_read_in_pixels_of_the_upright_photograph(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees: shown it is 100 wide and 200 high
    Image.new("RGB", (200, 100)).save(tmp_path / "turned.jpg", exif=exif)
    lines = f"\ufeffX, y ,Color\r\n\r\n99,199,{GREEN}\r\n0, 10.5, DarkGreen\r\n"
    (tmp_path / "x.csv").write_text(lines)
    points = hint_files.read(tmp_path / "x.csv", tmp_path / "turned.jpg")
    np.testing.assert_allclose(points.places, [[99.5 / 100, 199.5 / 200], [0.5 / 100, 11 / 200]])
    colors = np.uint8([[46, 107, 52], [0, 100, 0]])
    np.testing.assert_allclose(points.ab, colorspace.rgb_to_lab(colors)[..., 1:])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has no hints; begin it with x,y,color"),
        ("x,y,color\n\n", "has no hints"),
        ("1,2,red", "line 1: the header is '1,2,red'; write x,y,color"),
        ("x;y;color\n1;2;red", "line 1: the header is 'x;y;color'"),
        ("x,y,color\n1,2,red\n\n3,4", "line 4: has 2 columns; write x,y,color"),
        ("x,y,color\n1,2,red,blue", "line 2: has 4 columns"),
        ("x,y,color\n1,two,red", "line 2: y is 'two', no number; write pixels"),
        ("x,y,color\n50,0,red", "line 2: x is 50, outside of the photograph; write 0 to 49"),
        ("x,y,color\n0,-1,red", "line 2: y is -1, outside of the photograph; write 0 to 29"),
        ("x,y,color\nnan,1,red", "line 2: x is nan, outside"),
        ("x,y,color\n1,1,reddish", "line 2: no color 'reddish'; write #rrggbb or a name"),
        ("x,y,color\n1,1,#ff000080", "line 2: no color '#ff000080'"),
        ('x,y,color\n1,"1,red', "line 2: has 2 columns"),
    ],
)
def test_a_wrong_line_is_named_by_its_number(text, words):
    with pytest.raises(images.ImageError) as caught:
        hint_files.parse(text, "h.csv", 30, 50)
    assert str(caught.value).startswith(f"h.csv: {words}")


def test_what_is_no_table_is_refused(tmp_path, photograph):
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "large.csv").write_bytes(b"x" * (hint_files.LARGEST + 1))
    (tmp_path / "folder.csv").mkdir()
    reasons = {"bytes": "no text", "large": "too large", "folder": "no such", "none": "no such"}
    for name, words in reasons.items():
        with pytest.raises(images.ImageError, match=f"{name}.csv: .*{words}.*; "):
            hint_files.read(tmp_path / f"{name}.csv", photograph)


def test_marks_come_back_as_they_were():
    marks = hint_files.parse("x,y,color\n0,0,red\n49,29,#010203", "h.csv", 30, 50)
    text = hint_files.formatted(marks, 30, 50)
    assert text == "x,y,color\n0,0,#ff0000\n49,29,#010203\n"
    assert hint_files.parse(text, "h.csv", 30, 50) == marks
    edge = [hint_files.Mark(1.0, 1.0, "#ffffff")]
    assert hint_files.formatted(edge, 30, 50).endswith("\n49,29,#ffffff\n")


def test_painted_pixels_are_hints(tmp_path, photograph):
    layer = np.zeros((200, 200, 4), np.uint8)
    layer[40:44, 60:70] = (46, 107, 52, 255)
    Image.fromarray(layer).save(tmp_path / "layer.png")
    points = hint_files.read(tmp_path / "layer.png", photograph)
    assert len(points.places) == 40
    given = hints.placed(points, 200, 200)
    assert (given[40:44, 60:70, 2] == 1).all() and given[..., 2].sum() == 6 * 12
    expected = colorspace.rgb_to_lab(np.uint8([46, 107, 52]))[1:]
    np.testing.assert_allclose(given[41, 65, :2], expected, atol=1e-4)
    with pytest.raises(images.ImageError, match=r"flower.png: is 300 x 300 pixels"):
        images.write(tmp_path / "flower.png", samples.square("flower", 300))
        hint_files.read(tmp_path / "flower.png", photograph)


def test_points_are_small_squares_and_overlaps_their_mean():
    points = hints.Points(np.array([[0, 0], [1, 1], [0.55, 0.5]]), np.diag([8, 6, 0])[:, :2])
    given = hints.placed(points, 10, 20)
    assert given.shape == (10, 20, 3) and given.dtype == np.float32
    assert given[..., 2].sum() == 4 + 4 + 9
    np.testing.assert_array_equal(given[1, 1], [8, 0, 1])
    np.testing.assert_array_equal(given[-1, -1], [0, 6, 1])
    both = hints.Points(np.array([[0.5, 0.5], [0.5, 0.5]]), np.array([[10, 0], [0, 20]]))
    np.testing.assert_array_equal(hints.placed(both, 8, 8)[4, 4], [5, 10, 1])


def test_suggestions_are_modes_of_the_distribution():
    centers = np.stack(np.meshgrid(np.arange(10), np.arange(10)), -1).reshape(-1, 2) * 10.0
    p = np.zeros(100)
    p[[11, 12]], p[88], p[[40, 51]] = 0.25, 0.3, 0.1
    found = hints.suggestions(p, centers, 3)
    np.testing.assert_allclose(found, [(centers[11] + centers[12]) / 2, centers[88], (5, 45)])
    assert len(hints.suggestions(p, centers, 9)) == 5


def test_a_colorizer_takes_hints(teachable, photograph):
    rgb = images.read(photograph)
    points = hints.Points(np.array([[0.5, 0.5]]), np.array([[-40.0, 40.0]]))
    plain, hinted = teachable(rgb), teachable(rgb, points)
    assert (plain != hinted).any()
    default = colorize.colorizer_for()
    np.testing.assert_allclose(plain.astype(int), default(rgb), atol=1)  # none given, as before
    with pytest.raises(ValueError, match="takes no hints; choose one that does"):
        default(rgb, points)


def test_the_recorded_run_follows_a_hint_within_the_thing_that_it_is_on():
    colorizer, rgb = colorize.colorizer_for(config.HINTS_RUN), samples.square("flower", 192)
    purple = hints.Points(np.array([[0.5, 0.55]]), np.array([[50.0, -50.0]]))
    plain, hinted = (colorspace.rgb_to_lab(colorizer(rgb, x))[..., 1:] for x in (None, purple))
    for row, column in ((105, 96), (80, 70), (130, 110)):  # petals, the first at the hint
        assert plain[row, column, 1] > 20 and hinted[row, column, 1] < 0
    leaves = np.s_[:60, :40]
    assert np.linalg.norm(hinted[leaves] - plain[leaves], axis=-1).mean() < 8


def call(*arguments):
    done = CliRunner().invoke(main.app, [*map(str, arguments)])
    return done.exit_code, " ".join((done.output + done.stderr).split())


def test_the_command_colors_by_hints(teachable, photograph, tmp_path):
    table = tmp_path / "coffee.csv"
    table.write_text(f"x,y,color\n100,100,{GREEN}\n")
    target = tmp_path / "out.png"
    code, said = call("colorize", photograph, "--hints", table, "-o", target)
    assert code == 0 and "1 colored" in said
    expected = teachable(images.read(photograph), hint_files.read(table, photograph))
    np.testing.assert_array_equal(images.read(target), expected)
    assert "1 kept" in call("colorize", photograph, "--hints", table, "-o", target)[1]
    table.write_text("x,y,color\n100,100,red\n")
    assert "again, with other" in call("colorize", photograph, "--hints", table, "-o", target)[1]


def test_the_command_says_what_is_wrong_with_hints(teachable, photograph, tmp_path):
    table = tmp_path / "coffee.csv"
    table.write_text("x,y,color\n200,10,red\n")
    out = tmp_path / "out"
    for more, words in (
        ([], "coffee.csv: line 2: x is 200, outside of the photograph; write 0 to 199"),
        (["--run", "transfer"], "the run transfer takes no hints; leave --run out"),
        (["--scribbles", table], "--scribbles colors without a network: --hints; leave it out"),
        ([photograph.parent], "--hints belong to one photograph, not to 2 files; name one"),
    ):
        code, said = call("colorize", photograph, *more, "--hints", table, "-o", out)
        assert code == 2 and words in said
    table = tmp_path / "none.csv"
    assert "none.csv: no such file" in call("colorize", photograph, "--hints", table, "-o", out)[1]
    assert runs.known().count("hints") == 1
