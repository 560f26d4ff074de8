"""Splits are disjoint, reproducible and complete."""

import pytest
from PIL import Image
from typer.testing import CliRunner

from colorlib import store
from colorlib.__main__ import app


@pytest.fixture
def folder(tmp_path, patches):
    root = tmp_path / "photographs"
    root.mkdir()
    for i, patch in enumerate(patches[:12]):
        Image.fromarray(patch).save(root / f"{i:02}.png")
    return root


def test_parts_add_up_and_share_nothing():
    parts = store.divide(range(700), {"val": 60, "test": 60})
    assert {name: len(part) for name, part in parts.items()} == {
        "train": 580,
        "val": 60,
        "test": 60,
    }
    assert sorted(i for part in parts.values() for i in part) == list(range(700))
    assert all(part == sorted(part) for part in parts.values())


def test_the_seed_decides():
    items = [f"{i}.jpg" for i in range(50)]
    first = store.divide(items, {"val": 5, "test": 5}, seed=1)
    assert first == store.divide(items, {"val": 5, "test": 5}, seed=1)
    assert first != store.divide(items, {"val": 5, "test": 5}, seed=2)
    assert first["val"] == store.divide(items, {"val": 5}, seed=1)["val"]


@pytest.mark.parametrize("held_out", [{"val": 10}, {"val": 7, "test": 4}, {"val": -1}])
def test_impossible_divisions_are_refused(held_out):
    with pytest.raises(ValueError, match="10 images"):
        store.divide(range(10), held_out)


def test_a_folder_becomes_stores(tmp_path, folder):
    packed = store.pack_splits(folder, tmp_path / "photos.h5", 16, {"val": 3, "test": 2}, seed=4)
    assert [path.name for path in packed] == ["photos-train.h5", "photos-val.h5", "photos-test.h5"]
    assert [len(part) for part in packed.values()] == [7, 3, 2]
    names = [name for part in packed.values() for name in part.names]
    assert sorted(names) == [f"{i:02}.png" for i in range(12)]
    assert not (tmp_path / "photos.h5").exists()


def test_equal_images_are_never_in_two_parts(tmp_path, folder):
    for i in range(6):  # under other names, in other formats, with other words in them
        for name, options in (("-copy.png", {"dpi": (99, 99)}), ("-copy.bmp", {})):
            Image.open(folder / f"{i:02}.png").save(folder / f"{i:02}{name}", **options)
    packed = store.pack_splits(folder, tmp_path / "photos.h5", 16, {"val": 3, "test": 2})
    assert [len(part) for part in packed.values()] == [7, 3, 2]
    squares = [part.read([i])[0].tobytes() for part in packed.values() for i in range(len(part))]
    assert len(set(squares)) == len(squares)
    copies = [item for part in packed.values() for item in part.dropped]
    assert len(copies) == 12 and ("00.png", f"{store.EQUAL} 00-copy.bmp") in copies
    words = ["pack", str(folder), str(tmp_path / "x.h5"), "--size", "16", "--val", "11"]
    assert "equal to another one" in CliRunner().invoke(app, words).stdout


def test_a_folder_among_the_targets_is_named(tmp_path, folder):
    (tmp_path / "photos-val.h5").mkdir()
    with pytest.raises(store.StoreError, match=r"photos-val\.h5: is a folder"):
        store.pack_splits(folder, tmp_path / "photos.h5", 16, {"val": 3})


def test_too_small_a_folder_is_named_before_anything_is_written(tmp_path, folder):
    with pytest.raises(store.StoreError, match=r"photographs: 12 images .*hold out fewer"):
        store.pack_splits(folder, tmp_path / "photos.h5", 16, {"val": 12})
    assert [path.name for path in tmp_path.iterdir()] == ["photographs"]


def test_the_command_line(tmp_path, folder):
    words = ["pack", str(folder), str(tmp_path / "photos.h5"), "--size", "16"]
    result = CliRunner().invoke(app, [*words, "--val", "3", "--test", "2", "--seed", "4"])
    assert result.exit_code == 0
    assert "photos-train.h5: 7 images" in result.stdout
    by_hand = store.divide(store.find_images(folder).files, {"val": 3, "test": 2}, seed=4)
    written = store.Store(tmp_path / "photos-val.h5").names
    assert written == [path.name for path in by_hand["val"]]
    both = CliRunner().invoke(app, [*words, "--val", "3", "--limit", "5"])
    assert both.exit_code != 0
