"""Pairs, score and answers of the game, and its view without a browser."""

import multiprocessing

import numpy as np
import pytest

from colorlib import images, samples
from colorlib.app import game, game_view

ANSWER = dict.fromkeys(game.FIELDS, "x") | {"run": "model-64", "fooled": 1}


@pytest.fixture
def photographs():
    return {name: samples.square(name, 96) for name in ("coffee", "china", "chelsea")}


def pairs_of(photographs, colorizer, seed, count=12):
    played = game.Game(photographs, colorizer, seed)
    return [played.pair(number) for number in range(count)]


def test_each_photograph_comes_once_before_any_comes_again(photographs, colorizer):
    names = [pair.name for pair in pairs_of(photographs, colorizer, 1)]
    for start in range(0, 12, 3):
        assert set(names[start : start + 3]) == set(photographs)


def test_the_seed_decides_everything(photographs, colorizer):
    first, again = (pairs_of(photographs, colorizer, 5) for _ in range(2))
    for one, other in zip(first, again, strict=True):
        assert (one.name, one.real_is_left) == (other.name, other.real_is_left)
        assert np.array_equal(one.real, other.real) and np.array_equal(one.colored, other.colored)
    sides = [pair.real_is_left for pair in pairs_of(photographs, colorizer, 6)]
    assert sides != [pair.real_is_left for pair in first]
    assert 0 < sum(sides) < len(sides)


def test_both_are_cut_alike_and_only_one_is_real(photographs, colorizer):
    for pair in pairs_of(photographs, colorizer, 2, 3):
        assert pair.real.shape == pair.colored.shape == (256, 256, 3)
        grey, copied = (rgb.astype(float) @ [0.21, 0.72, 0.07] for rgb in (pair.real, pair.colored))
        assert np.corrcoef(grey.ravel(), copied.ravel())[0, 1] > 0.97
        assert np.abs(pair.real.astype(int) - pair.colored).mean() > 5


def test_squares_have_color_in_them(colorizer):
    half = np.full((100, 300, 3), 128, np.uint8)
    half[:, 220:] = (200, 30, 30)
    shown = [pair.real for pair in pairs_of({"half": half}, colorizer, 3, 4)]
    assert not any(images.is_grey(rgb) for rgb in shown)


def test_a_folder_of_ones_own(tmp_path):
    images.write(tmp_path / "b.png", samples.square("coffee", 700))
    images.write(tmp_path / "a.jpg", samples.square("china", 40))
    images.write(tmp_path / "grey.png", np.full((30, 30, 3), 90, np.uint8))
    (tmp_path / "broken.png").write_text("no image")
    (tmp_path / "notes.txt").write_text("no image either")
    found, skipped = game.folder_photographs(tmp_path)
    assert list(found) == ["a.jpg", "b.png"] and found["b.png"].shape == (512, 512, 3)
    assert len(skipped) == 2 and "broken.png" in skipped[0] and "grey" in skipped[1]
    assert len(game.folder_photographs(tmp_path, most=1)[0]) == 1


def test_no_folder_and_no_photographs(tmp_path, colorizer):
    with pytest.raises(images.ImageError, match="no such folder"):
        game.folder_photographs(tmp_path / "none")
    with pytest.raises(ValueError, match="no photographs in color"):
        game.Game({}, colorizer, 0)


@pytest.mark.parametrize(
    ("counts", "interval"),
    [((0, 1), (0, 0.7935)), ((3, 10), (0.1078, 0.6032)), ((0, 40), (0, 0.0876))],
)
def test_wilson_gives_published_intervals(counts, interval):
    assert game.wilson(*counts) == pytest.approx(interval, abs=1e-4)
    low, high = game.wilson(*counts, 0.8)
    assert interval[0] <= low < high < interval[1]


def test_wilson_without_trials_and_with_nonsense():
    assert game.wilson(0, 0) == (0, 1)
    with pytest.raises(ValueError, match="3 of 2 trials"):
        game.wilson(3, 2)


def test_answers_are_kept_and_counted(tmp_path):
    path = tmp_path / "new" / "answers.csv"
    assert game.score_of(path) == game.Score(0, 0)
    game.append_answer(ANSWER, path)
    game.append_answer({**ANSWER, "fooled": 0, "photograph": '=1+1,"x"\nü'}, path)
    game.append_answer({**ANSWER, "run": "other"}, path)
    assert path.read_text().splitlines()[0] == ",".join(game.FIELDS)
    assert game.score_of(path) == game.Score(2, 3)
    assert game.score_of(path, "model-64") == game.Score(1, 2)
    assert "'=1+1" in path.read_text()


def test_a_line_that_was_cut_off_spoils_no_other(tmp_path):
    path = tmp_path / "answers.csv"
    game.append_answer(ANSWER, path)
    with path.open("a") as file:
        file.write("2026-01-01,7,0,cof")
    game.append_answer(ANSWER, path)
    assert game.score_of(path) == game.Score(2, 2)


def keep_twenty(path):
    for _ in range(20):
        game.append_answer(ANSWER, path)


def test_several_players_at_once_lose_nothing(tmp_path):
    path = tmp_path / "answers.csv"
    context = multiprocessing.get_context("spawn")
    players = [context.Process(target=keep_twenty, args=(path,)) for _ in range(3)]
    for player in players:
        player.start()
    for player in players:
        player.join()
    assert game.score_of(path) == game.Score(60, 60)
    assert path.read_text().count("time,") == 1


@pytest.fixture
def table(tmp_path):
    return game_view.GameView(seed=4, path=tmp_path / "answers.csv")


def test_the_board_counts_the_first_answer_to_a_pair(table):
    wrong = "right" if table.pair.real_is_left else "left"
    table.choices[wrong].click()
    table.choose(table.pair.real_side)
    assert table.score == game.score_of(table.path) == game.Score(1, 1)
    assert "fooled you" in table.message.value
    assert table.choices["left"].disabled and not table.following.disabled


def test_the_board_goes_on_and_says_the_interval(table):
    shown = table.pictures["left"].value
    for _ in range(3):
        table.choices[table.pair.real_side].click()
        table.following.click()
    assert table.score == game.Score(0, 3) and table.round == 3
    assert table.pictures["left"].value != shown
    assert "fooled in 0 of 3: 0% (0% to 56%)" in table.tally.value
    assert "32%" in table.tally.value and "50%" in table.tally.value


def test_the_board_says_when_an_answer_cant_be_kept(tmp_path):
    table = game_view.GameView(seed=4, path=tmp_path)
    assert "fooled in" not in table.tally.value
    table.choose("left")
    assert "could not be kept" in table.message.value and table.score.trials == 1
