"""A store returns the images that were written, from any thread; other files are refused."""

import re
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import Mock

import h5py
import numpy as np
import odd_files
import pytest
from PIL import Image
from processes import FULL_DISK

from colorlib import store
from colorlib.cli import data


@pytest.fixture
def packed(tmp_path, patches):
    names = [f"{i:02}.png" for i in range(len(patches))]
    classes = ["cat" if i % 2 else "dog" for i in range(len(patches))]
    store.write(tmp_path / "a.h5", patches, names, classes, [("x.jpg", "grey")])
    return tmp_path / "a.h5"


@pytest.fixture
def folder(tmp_path, patches):
    root = tmp_path / "photographs"
    for i, patch in enumerate(patches[:12]):
        path = root / ("cat" if i % 2 else "dog") / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(patch).save(path)
    grey = np.full((32, 32, 3), 99, np.uint8)
    Image.fromarray(grey).save(root / "cat" / "grey.png")
    (root / "dog" / "broken.jpg").write_bytes(b"no image")
    (root / "dog" / "notes.txt").write_text("not looked at")
    return root


def test_round_trip(packed, patches):
    opened = store.Store(packed)
    assert len(opened) == 40 and opened.size == 32
    np.testing.assert_array_equal(opened.read(range(40)), patches)
    assert opened.names[3] == "03.png" and opened.dropped == [("x.jpg", "grey")]
    assert [opened.classes[i] for i in opened.class_ids[:2]] == ["dog", "cat"]


def test_any_order_and_repetition(packed, patches, rng):
    indices = rng.integers(0, 40, 100)
    np.testing.assert_array_equal(store.Store(packed).read(indices), patches[indices])


def test_reading_from_many_threads(packed, patches, rng):
    opened = store.Store(packed)
    chosen = [rng.integers(0, 40, 16) for _ in range(200)]
    with ThreadPoolExecutor(8) as pool:
        for indices, rgb in zip(chosen, pool.map(opened.read, chosen), strict=True):
            np.testing.assert_array_equal(rgb, patches[indices])


def test_shards_open_as_one(tmp_path, packed, patches, rng):
    store.write(tmp_path / "b.h5", patches[::-1].copy(), class_names=["bird"] * 40)
    both = store.Store(packed, tmp_path / "b.h5")
    joined = np.concatenate([patches, patches[::-1]])
    indices = rng.permutation(80)
    np.testing.assert_array_equal(both.read(indices), joined[indices])
    assert both.classes == ["bird", "cat", "dog"]
    assert both.classes[both.class_ids[40]] == "bird" and both.classes[both.class_ids[1]] == "cat"


def test_shards_of_different_sizes_are_named(tmp_path, packed, patches):
    store.write(tmp_path / "b.h5", patches[:, :16, :16].copy())
    with pytest.raises(store.StoreError, match=r"^[^(]*a\.h5, [^(]*b\.h5: shards of different"):
        store.Store(packed, tmp_path / "b.h5")


def test_a_folder_without_a_usable_image_names_the_first(tmp_path, folder):
    only = tmp_path / "only"
    (folder / "cat").rename(only)
    for path in only.glob("[0-9]*"):
        path.unlink()
    with pytest.raises(store.StoreError, match=r"only: no usable image; the first, grey\.png, was"):
        store.pack(only, tmp_path / "out.h5", 32)


@pytest.mark.parametrize(
    "name, value",
    [
        ("class_ids", np.full(40, 7, np.int32)),
        ("class_ids", np.zeros(39, np.int32)),
        ("class_ids", np.zeros(40)),
        ("names", np.zeros(40)),
        ("images", np.zeros((40, 8, 8, 3), np.float32)),
        ("images", np.zeros((40, 8, 9, 3), np.uint8)),
        ("images", np.uint8(3)),
        ("@classes", np.zeros(3)),
        ("@classes", "[1, 2]"),
        ("@classes", "{"),
        ("@dropped", "[1]"),
        ("@format", np.zeros(0)),
    ],
)
def test_damaged_parts_are_named(packed, name, value):
    with h5py.File(packed, "r+") as file:
        place = file.attrs if name.startswith("@") else file
        del place[name.removeprefix("@")]
        place[name.removeprefix("@")] = value
    with pytest.raises(store.StoreError, match=r"a\.h5: .*; (pack it again|make one with)"):
        store.Store(packed)


@pytest.mark.parametrize("index", [-1, 40])
def test_numbers_out_of_range_are_refused(packed, index):
    with pytest.raises(IndexError, match=r"0\.\.39"):
        store.Store(packed).read([0, index])


@pytest.mark.parametrize("corner", [-1, 9])
def test_squares_outside_of_an_image_are_refused(packed, patches, corner):
    for where in ({"tops": corner}, {"lefts": [0, corner]}):
        with pytest.raises(IndexError, match=r"corners of squares of 24 pixels .* in 0\.\.8"):
            store.Store(packed).read([0, 1], side=24, **where)
    with pytest.raises(IndexError, match=r"0\.\.39"):
        store.squares(patches, [-1], 0, 0, 32)


def test_the_checksum_is_that_of_the_pixels_in_their_order(tmp_path, packed, patches):
    store.write(tmp_path / "a1.h5", patches[:13])
    store.write(tmp_path / "a2.h5", patches[13:])
    same = store.checksum(patches)
    assert store.checksum(store.Store(packed)) == same
    assert store.checksum(store.Store(tmp_path / "a1.h5", tmp_path / "a2.h5")) == same
    for where in ((0, 0, 0, 0), (39, 31, 31, 2), (20, 5, 6, 1)):
        other = patches.copy()
        other[where] ^= 1
        assert store.checksum(other) != same
    assert store.checksum(patches[::-1]) != same


def test_a_store_that_does_not_fit_on_the_disk_is_refused(tmp_path, patches, small_files):
    with small_files(50_000), pytest.raises(store.StoreError, match=r"a\.h5: can't be written"):
        store.write(tmp_path / "a.h5", patches)
    assert not list(tmp_path.iterdir())


def test_pack_leaves_out_grey_and_broken_files_and_says_why(tmp_path, folder, patches):
    opened = store.pack(folder, tmp_path / "out.h5", 32)
    assert len(opened) == 12 and opened.classes == ["cat", "dog"]
    reasons = dict(opened.dropped)
    assert reasons.pop("cat/grey.png") == "grey"
    assert "not an image" in reasons.pop("dog/broken.jpg") and not reasons
    number = opened.names.index("cat/03.png")
    np.testing.assert_array_equal(opened.read([number])[0], patches[3])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.h5", "photographs"]


def test_pack_resizes_and_limits(tmp_path, folder):
    opened = store.pack(folder, tmp_path / "out.h5", 16, limit=5)
    assert opened.size == 16 and len(opened) + len(opened.dropped) == 5


def test_tiny_imagenet_validation_classes_come_from_its_list(tmp_path, patches):
    (tmp_path / "val" / "images").mkdir(parents=True)
    for i in range(2):
        Image.fromarray(patches[i]).save(tmp_path / "val" / "images" / f"val_{i}.png")
    (tmp_path / "val" / "val_annotations.txt").write_text("val_0.png\tn01\t0\nval_1.png\tn02\t0\n")
    assert store.pack(tmp_path / "val", tmp_path / "val.h5", 32).classes == ["n01", "n02"]


def test_a_failed_pack_leaves_nothing(tmp_path, folder, monkeypatch):
    monkeypatch.setattr(store, "write", Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        store.pack(folder, tmp_path / "out.h5", 16)
    assert [path.name for path in tmp_path.iterdir()] == ["photographs"]


@pytest.mark.parametrize(
    ("target", "reason"),
    [("missing/out.h5", "No such file"), ("photographs", "is a folder; name a file")],
)
def test_a_place_that_can_not_be_written_is_named_before_the_work(
    tmp_path, folder, monkeypatch, target, reason
):
    monkeypatch.setattr(store, "_records", lambda *_: pytest.fail("decoded before"))
    with pytest.raises(store.StoreError, match=f"{target}.*{reason}"):
        store.pack(folder, tmp_path / target, 16)


@pytest.mark.parametrize("step", ["_records", "write"])
def test_a_full_disk_is_a_line(tmp_path, folder, monkeypatch, step):
    monkeypatch.setattr(store, step, Mock(side_effect=FULL_DISK))
    with pytest.raises(store.StoreError, match=r"out\.h5: can't be written \(No space.*make room"):
        store.pack(folder, tmp_path / "out.h5", 16)
    assert [path.name for path in tmp_path.iterdir()] == ["photographs"]


def damaged_stores(tmp_path, packed):
    cut = tmp_path / "cut.h5"
    cut.write_bytes(packed.read_bytes()[:-5000])
    text = tmp_path / "text.h5"
    text.write_text("no HDF5")
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["images"] = np.zeros(3)
    newer = tmp_path / "newer.h5"
    newer.write_bytes(packed.read_bytes())
    with h5py.File(newer, "a") as file:
        file.attrs["version"] = 99
    return [cut, text, other, newer, tmp_path / "missing.h5"]


def test_what_is_no_store_is_refused_by_name(tmp_path, packed):
    for path in damaged_stores(tmp_path, packed):
        with pytest.raises(store.StoreError, match=re.escape(str(path))):
            store.Store(path)


def test_empty_folders_and_odd_arrays_are_refused(tmp_path):
    with pytest.raises(store.StoreError, match="no such folder"):
        store.find_images(tmp_path / "nowhere")
    with pytest.raises(store.StoreError, match="holds no image"):
        store.find_images(tmp_path)
    with pytest.raises(store.StoreError, match="float64"):
        store.write(tmp_path / "x.h5", np.zeros((2, 8, 8, 3)))
    with pytest.raises(store.StoreError, match="no image is left"):
        store.write(tmp_path / "x.h5", np.zeros((0, 8, 8, 3), np.uint8))


def test_grey_images_are_kept_if_wished(folder, tmp_path):
    kept = store.pack(folder, tmp_path / "all.h5", 32, keep_grey=True)
    assert len(kept) == 13 and "cat/grey.png" in kept.names
    assert [name for name, _ in kept.dropped] == ["dog/broken.jpg"]


@pytest.mark.parametrize("room", [100, 20_000])
@pytest.mark.parametrize("held_out", [{}, {"val": 2}])
def test_a_disk_that_fills_up_while_packing_is_a_line(
    tmp_path, folder, small_files, room, held_out
):
    target = tmp_path / "out" / "x.h5"
    target.parent.mkdir()
    with small_files(room), pytest.raises(store.StoreError, match=r"x.*\.h5: can't be.*make room"):
        if held_out:
            store.pack_splits(folder, target, 32, held_out)
        else:
            store.pack(folder, target, 32)
    assert not list(target.parent.glob(".*"))


@pytest.mark.parametrize("held_out", [{}, {"val": 2}])
def test_pages_after_the_first_are_listed_and_counted(tmp_path, folder, held_out, capsys):
    for name in ("pages.tif", "moving.gif"):
        (folder / "cat" / name).write_bytes(odd_files.ODD[name])
    data.pack(folder, tmp_path / "x.h5", 32, None, held_out.get("val", 0), 0, 0)
    packed = store.Store(tmp_path / ("x-train.h5" if held_out else "x.h5"))
    further = dict(item for item in packed.dropped if item[1].endswith(store.FURTHER))
    assert further == dict.fromkeys(("cat/moving.gif", "cat/pages.tif"), f"1 {store.FURTHER}")
    assert f", 2 {store.FURTHER}" in capsys.readouterr().out
