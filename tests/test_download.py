"""Tiny ImageNet from a server or an archive, unsafe archives, and folders of photographs."""

import contextlib
import functools
import hashlib
import io
import json
import os
import stat
import tarfile
import zipfile
from pathlib import Path

import misbehaving_server
import processes
import pytest
from misbehaving_server import Server, encode, photograph, pixels
from PIL import Image
from test_crawl import kept, report

from colorlib import images, store
from colorlib.data import download, validation
from colorlib.data.validation import FetchError, Status

CLASSES = ("n01", "n02", "n03")


@pytest.fixture
def server():
    with Server() as running:
        yield running


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(download.time, "sleep", lambda _: None)
    monkeypatch.setattr(download, "TIMEOUT", 10)


def layout(root="tiny-imagenet-200/"):
    """Return the files of a Tiny ImageNet of three classes: name -> bytes."""
    files = {"wnids.txt": "\n".join(CLASSES), "words.txt": "n01\tcat"}
    for name in CLASSES:
        own = [f"{name}_{i}.JPEG" for i in range(4)]
        files[f"train/{name}/{name}_boxes.txt"] = "".join(f"{file}\t0\t0\t9\t9\n" for file in own)
        files |= {f"train/{name}/images/{file}": photograph(i) for i, file in enumerate(own)}
    files["val/val_annotations.txt"] = "val_0.JPEG\tn01\t0\t0\t9\t9\nval_1.JPEG\tn02\t0\t0\t9\t9\n"
    files |= {f"val/images/val_{i}.JPEG": photograph(10 + i) for i in range(2)}
    files["test/images/test_0.JPEG"] = photograph(20)
    return {root + name: as_bytes(data) for name, data in files.items()}


def as_bytes(data):
    return data.encode() if isinstance(data, str) else data


def zipped(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def tarred(files, mode="w:gz", **attributes):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            for key, value in attributes.items():
                setattr(member, key, value)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def written(path, data):
    path.write_bytes(data)
    return path


def folder_of(tmp_path, files):
    for name, data in files.items():
        path = tmp_path / "copy" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "copy"


def fetch(server, tmp_path, path, data, **options):
    options = {"known_hash": f"md5:{hashlib.md5(data).hexdigest()}", **options}
    server.files["tiny.zip"] = data
    return download.fetch_tiny_imagenet(tmp_path / "data" / "tiny", url=server.url(path), **options)


def assert_complete(folder):
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == set(layout(root=""))
    for name, data in layout(root="").items():
        assert (folder / name).read_bytes() == data


def test_download_unpack_and_nothing_the_second_time(server, tmp_path, capsys):
    data = zipped(layout())
    folder = fetch(server, tmp_path, "/files/tiny.zip", data)
    assert_complete(folder)
    assert "100%" in capsys.readouterr().err
    assert sorted(path.name for path in folder.parent.iterdir()) == ["tiny", "tiny.zip"]
    server.hits.clear()
    before = folder.stat().st_mtime_ns
    assert fetch(server, tmp_path, "/files/tiny.zip", data) == folder
    assert not server.hits
    assert folder.stat().st_mtime_ns == before


def test_the_fetched_images_can_be_packed(server, tmp_path):
    folder = fetch(server, tmp_path, "/files/tiny.zip", zipped(layout()))
    packed = store.pack(folder / "train", tmp_path / "train.h5", size=64)
    assert (len(packed), packed.classes) == (12, list(CLASSES))


def test_a_cut_download_is_continued(server, tmp_path):
    data = zipped(layout())
    assert_complete(fetch(server, tmp_path, "/cut/tiny.zip", data))
    assert server.ranges == ["", f"bytes={len(data) // 2}-"]


def test_a_cut_download_is_continued_by_the_next_call(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "PATIENCE", 1)
    data = zipped(layout())
    with pytest.raises(FetchError, match=f"{len(data) // 2} bytes are kept"):
        fetch(server, tmp_path, "/cut/tiny.zip", data)
    assert (tmp_path / "data" / "tiny.zip.partial").stat().st_size == len(data) // 2
    assert_complete(fetch(server, tmp_path, "/files/tiny.zip", data))
    assert server.ranges[-1] == f"bytes={len(data) // 2}-"
    assert not (tmp_path / "data" / "tiny.zip.partial").exists()


def test_a_server_without_ranges_sends_the_whole_file_again(server, tmp_path):
    assert_complete(fetch(server, tmp_path, "/no-ranges/tiny.zip", zipped(layout())))
    assert server.hits["/no-ranges/tiny.zip"] == 2


def test_a_partial_file_that_is_complete_is_not_fetched_again(server, tmp_path):
    data = zipped(layout())
    (tmp_path / "data").mkdir()
    written(tmp_path / "data" / "tiny.zip.partial", data)
    assert_complete(fetch(server, tmp_path, "/files/tiny.zip", data))
    assert server.ranges == [f"bytes={len(data)}-"]


def test_a_partial_file_that_is_too_long_is_downloaded_again(server, tmp_path):
    data = zipped(layout())
    (tmp_path / "data").mkdir()
    written(tmp_path / "data" / "tiny.zip.partial", data + b"more")
    assert_complete(fetch(server, tmp_path, "/files/tiny.zip", data))


def test_a_wrong_hash_is_refused_and_the_next_call_downloads_again(server, tmp_path):
    data = zipped(layout())
    with pytest.raises(FetchError, match=r"another hash than md5:0+ and was deleted.*--archive"):
        fetch(server, tmp_path, "/files/tiny.zip", data, known_hash="md5:" + "0" * 32)
    assert list((tmp_path / "data").iterdir()) == []
    assert_complete(fetch(server, tmp_path, "/files/tiny.zip", data))


@pytest.mark.parametrize(
    ("path", "requests", "message"),
    [
        ("/status/404", 1, "404"),
        ("/status/503", 3, "503"),
        ("/hang", 3, "timed out"),
        ("/reset", 3, "--archive"),
        ("/loop", 21, "redirects"),
        ("/to/file:///etc/hostname", 1, "check the address"),
    ],
)
def test_a_server_that_fails(server, tmp_path, monkeypatch, path, requests, message):
    monkeypatch.setattr(download, "PATIENCE", 3)
    if path == "/hang":
        monkeypatch.setattr(download, "TIMEOUT", 0.3)
    with pytest.raises(FetchError, match=message):
        fetch(server, tmp_path, path, b"")
    assert server.hits[path] == requests
    assert not (tmp_path / "data" / "tiny").exists()


@pytest.mark.parametrize("root", ["tiny-imagenet-200/", ""])
@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "folder"])
def test_archives_on_disk(tmp_path, kind, root):
    clutter = ("__MACOSX/._x", f"__MACOSX/{root}train/._x", f"{root}train/._x", f"{root}.DS_Store")
    files = layout(root) | dict.fromkeys(clutter, b"\0\5\x16\7")
    source = {
        "zip": lambda: written(tmp_path / "a.zip", zipped(files)),
        "tar": lambda: written(tmp_path / "a.tar", tarred(files, "w")),
        "tar.gz": lambda: written(tmp_path / "a.tar.gz", tarred(files)),
        "folder": lambda: folder_of(tmp_path, files),
    }[kind]()
    folder = download.fetch_tiny_imagenet(tmp_path / "data" / "tiny", archive=source)
    assert_complete(folder)
    assert source.exists()
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]
    assert not [path for path in folder.rglob("*") if path.name.startswith((".", "__"))]


def zip_with(name, data=b"x", kind=stat.S_IFREG):
    info = zipfile.ZipInfo(name)
    info.filename = name
    info.external_attr = (kind | 0o644) << 16
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(info, data)
    return buffer.getvalue()


UNSAFE = {
    "zip: ..": (zip_with("a/../../evil"), "leads out"),
    "zip: absolute": (zip_with("/evil"), "leads out"),
    "zip: drive": (zip_with("C:evil"), "leads out"),
    "zip: link": (zip_with("a", b"/etc", stat.S_IFLNK), "link or a device"),
    "tar: ..": (tarred({"../evil": b"x"}), "leads out"),
    "tar: absolute": (tarred({"/evil": b"x"}), "leads out"),
    "tar: backslash": (tarred({"..\\evil": b"x"}), "leads out"),
    "tar: link": (tarred({"a": b""}, type=tarfile.SYMTYPE, linkname="/etc"), "link or a device"),
    "tar: hard": (tarred({"a": b""}, type=tarfile.LNKTYPE, linkname="/etc/a"), "link or a dev"),
    "tar: device": (tarred({"a": b""}, type=tarfile.CHRTYPE), "link or a device"),
    "tar: pipe": (tarred({"a": b""}, type=tarfile.FIFOTYPE), "link or a device"),
    "zip: bytes": (zipped({"a": b"0" * 10**7}), "unpacks to over"),
    "tar: bytes": (tarred({"a": b"0" * 10**7}), "unpacks to over"),
    "zip: files": (zipped({str(i): b"" for i in range(101)}), "unpacks to over"),
    "tar: files": (tarred({str(i): b"" for i in range(101)}), "unpacks to over"),
    "tar: twice": (tarred({"a": b"x", "./a": b"y"}), "twice"),
}


@pytest.mark.parametrize("shown", [True, False])
@pytest.mark.parametrize("name", UNSAFE)
def test_unsafe_archives_are_refused(tmp_path, name, shown, monkeypatch):
    # as TQDM_DISABLE=1 does
    monkeypatch.setattr(download, "tqdm", functools.partial(download.tqdm, disable=not shown))
    data, message = UNSAFE[name]
    target = tmp_path / "in" / "target"
    target.mkdir(parents=True)
    with pytest.raises(FetchError, match=message):
        download.unpack(written(tmp_path / "archive", data), target, max_files=100, max_bytes=10**6)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archive", "in"]
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["target"]
    assert not any(path.is_symlink() for path in target.rglob("*"))


def test_a_zip_that_understates_its_size(tmp_path):
    data = bytearray(zipped({"a": b"0" * 10**6}))
    entry = data.rindex(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = (10).to_bytes(4, "little")
    with pytest.raises(FetchError, match="damaged"):
        download.unpack(written(tmp_path / "a.zip", bytes(data)), new(tmp_path / "out"))
    assert sum(path.stat().st_size for path in (tmp_path / "out").iterdir()) < 100


def new(folder):
    folder.mkdir()
    return folder


def test_links_in_a_folder_are_refused(tmp_path):
    source = folder_of(tmp_path, layout())
    (source / "link").symlink_to("/etc/hostname")
    with pytest.raises(FetchError, match="link or a device"):
        download.unpack(source, new(tmp_path / "out"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda files: zipped(files)[:-3000], "cut off"),
        (lambda files: tarred(files)[:-3000], "damaged or cut off"),
        (lambda files: tarred(files, "w")[:-20000], "damaged or cut off|missing"),
        (lambda files: b"", "neither zip nor tar"),
        (lambda files: photograph(1), "neither zip nor tar"),
        (lambda files: zipped({"a.txt": b"x"}), "not Tiny ImageNet"),
        (lambda files: zipped(without(files, "wnids.txt")), "not Tiny ImageNet"),
        (lambda files: zipped(without(files, "n02/images")), "not Tiny ImageNet"),
        (lambda files: zipped(without(files, "n02_3.JPEG")), "1 images of n02 are missing"),
        (lambda files: zipped(without(files, "val_1.JPEG")), "1 images of val are missing"),
    ],
)
def test_unusable_archives(tmp_path, make, message):
    source = written(tmp_path / "archive", make(layout()))
    with pytest.raises(FetchError, match=message):
        download.fetch_tiny_imagenet(tmp_path / "data" / "tiny", archive=source)
    assert list((tmp_path / "data").iterdir()) == []


def without(files, part):
    return {name: data for name, data in files.items() if part not in name}


def test_a_damaged_member_is_found(tmp_path):
    data = bytearray(zipped({"a": bytes(os.urandom(5000))}))
    data[2000] ^= 1
    with pytest.raises(FetchError, match="damaged"):
        download.unpack(written(tmp_path / "a.zip", bytes(data)), new(tmp_path / "out"))


def test_a_member_before_the_beginning_is_damage(tmp_path):
    data = bytearray(zipped({"a": b"x"}))
    where = data.rindex(b"PK\5\6") + 16  # the place of the directory, from which others follow
    data[where] += 30
    with pytest.raises(FetchError, match=r"a\.zip: is damaged"):
        download.unpack(written(tmp_path / "a.zip", bytes(data)), new(tmp_path / "out"))


def test_a_destination_that_holds_something_else_is_left_alone(tmp_path):
    (tmp_path / "tiny").mkdir()
    written(tmp_path / "tiny" / "thesis.txt", b"three years of work")
    source = written(tmp_path / "a.zip", zipped(layout()))
    with pytest.raises(FetchError, match="something else"):
        download.fetch_tiny_imagenet(tmp_path / "tiny", archive=source)
    assert (tmp_path / "tiny" / "thesis.txt").exists()


def test_the_files_of_a_killed_unpacking_are_deleted(tmp_path):
    staging = new(tmp_path / ".tiny.partial")
    written(staging / "wnids.txt", b"half")
    source = written(tmp_path / "a.zip", zipped(layout()))
    assert_complete(download.fetch_tiny_imagenet(tmp_path / "tiny", archive=source))
    assert not staging.exists()


def test_missing_archive(tmp_path):
    with pytest.raises(FetchError, match="no such file or folder"):
        download.fetch_tiny_imagenet(tmp_path / "tiny", archive=tmp_path / "none.zip")


@pytest.fixture
def photographs(tmp_path):
    """Return a folder with usable photographs and every other kind of file."""
    files = {
        "a.jpg": photograph(1),
        "summer/b.JPEG": photograph(2),
        "summer/b.jpg": photograph(3),
        "summer/copy of a.jpg": photograph(1),
        "c.gif": encode(Image.fromarray(pixels(4)), "GIF"),
        "no ending": photograph(5),
        "grey.png": encode(Image.fromarray(pixels(6)).convert("L"), "PNG"),
        "icon.png": encode(Image.fromarray(pixels(7, 32, 32)), "PNG"),
        "letter.txt": b"Dear all",
        "cut.jpg": photograph(8)[:500],
        "empty.jpg": b"",
        ".hidden.jpg": photograph(9),
        "fake.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\nshowpage\n",
    }
    return folder_of(tmp_path, files)


GOOD = ["a.jpg", "c.gif.png", "no ending.jpg", "summer/b.JPEG", "summer/b.jpg"]


@pytest.mark.parametrize("link", [False, True])
def test_a_folder_of_photographs(photographs, tmp_path, link):
    out = tmp_path / "out"
    counts = download.fetch_folder(photographs, out, link=link)
    assert kept(out) == GOOD
    rows = {row["url"]: row for row in report(out)}
    assert len(rows) == sum(counts.values()) == 12
    assert {name: row["status"] for name, row in rows.items() if row["status"] != "good"} == {
        "summer/copy of a.jpg": "identical",
        "grey.png": "grey",
        "icon.png": "too small",
        "letter.txt": "no image",
        "cut.jpg": "no image",
        "empty.jpg": "no image",
        "fake.eps": "no image",
    }
    assert rows["fake.eps"]["why"].startswith("is not an image")
    assert all(row["why"] for row in rows.values() if row["status"] != "good")
    assert (photographs / "a.jpg").samefile(out / "a.jpg") == link
    assert (out / "a.jpg").read_bytes() == photograph(1)
    assert all(images.read(out / name).shape == (80, 100, 3) for name in GOOD)


def test_the_good_images_of_a_folder_are_not_read_twice(photographs, tmp_path, monkeypatch):
    first = download.fetch_folder(photographs, tmp_path / "out")
    checked = []
    validate = download.validate
    monkeypatch.setattr(download, "validate", lambda data: checked.append(1) or validate(data))
    written(photographs / "new.jpg", photograph(30))
    counts = download.fetch_folder(photographs, tmp_path / "out")
    assert counts[Status.GOOD] == first[Status.GOOD] + 1
    assert len(checked) == 12 + 1 - 4  # the GIF was converted and is read again
    assert kept(tmp_path / "out") == sorted([*GOOD, "new.jpg"])


def test_a_photograph_that_was_replaced(photographs, tmp_path):
    download.fetch_folder(photographs, tmp_path / "out")
    written(photographs / "a.jpg", b"no longer an image")
    counts = download.fetch_folder(photographs, tmp_path / "out")
    assert kept(tmp_path / "out") == [*GOOD[1:4], "summer/b.jpg", "summer/copy of a.jpg"]
    assert sum(counts.values()) == 12


def test_ctrl_c_in_a_folder_leaves_a_report_that_adds_up(photographs, tmp_path, monkeypatch):
    calls = iter(range(100))

    def validate(data):
        if next(calls) == 6:
            raise KeyboardInterrupt
        return download.Validation(download.Outcome(Status.GREY, "x"))

    monkeypatch.setattr(download, "validate", validate)
    with contextlib.suppress(KeyboardInterrupt):
        download.fetch_folder(photographs, tmp_path / "out")
    statuses = [row["status"] for row in report(tmp_path / "out")]
    assert len(statuses) == 12
    assert Status.NOT_TRIED in statuses


def test_names_that_collide(tmp_path):
    files = {
        "photo": photograph(1),
        "photo.jpg": photograph(2),
        "K.jpg": photograph(3),
        "k.jpg": photograph(6),
        "a": photograph(4),
        "a.jpg/b.jpg": photograph(5),
        "c.gif": encode(Image.fromarray(pixels(4)), "GIF"),
        "c.gif.png": encode(Image.fromarray(pixels(5)), "PNG"),
    }
    folder, out = folder_of(tmp_path, files), tmp_path / "out"
    before = None
    for _ in range(3):
        assert download.fetch_folder(folder, out) == {Status.GOOD: len(files)}
        rows = {row["url"]: row["file"] for row in report(out)}
        assert sorted(rows.values()) == kept(out) and len(kept(out)) == len(files)
        assert rows["photo.jpg"] == "photo.jpg" and rows["c.gif.png"] == "c.gif.png"
        assert (out / rows["photo"]).read_bytes() == photograph(1)
        assert before in (None, rows)
        before = rows


def test_two_rows_of_an_older_journal_for_one_file(tmp_path):
    folder = folder_of(tmp_path, {"photo": photograph(1), "photo.jpg": photograph(2)})
    out = tmp_path / "out"
    download.fetch_folder(folder, out)
    journal = out / "journal.jsonl"
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    (out / lines[1]["file"]).unlink()
    journal.write_text("".join(json.dumps(x | {"file": "photo.jpg"}) + "\n" for x in lines))
    assert download.fetch_folder(folder, out) == {Status.GOOD: 2}
    found = {(out / name).read_bytes() for name in kept(out)}
    assert found == {photograph(1), photograph(2)}


@pytest.mark.parametrize("image_format", ["HEIF", "AVIF"])
def test_formats_of_phones(tmp_path, image_format):
    data = encode(Image.fromarray(pixels(1)), image_format)
    folder = folder_of(tmp_path, {"one": data})
    assert download.fetch_folder(folder, tmp_path / "out") == {Status.GOOD: 1}
    (name,) = kept(tmp_path / "out")
    assert Path(name).suffix in images.EXTENSIONS
    assert images.read(tmp_path / "out" / name).shape == (80, 100, 3)


def test_links_in_circles_pipes_and_locked_folders_have_their_rows(
    photographs, tmp_path, monkeypatch
):
    (photographs / "self.jpg").symlink_to("self.jpg")
    (photographs / "one.jpg").symlink_to("two.jpg")
    (photographs / "two.jpg").symlink_to("one.jpg")
    os.mkfifo(photographs / "pipe.jpg")
    access = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: "summer" not in path and access(path, mode)
    )
    counts = download.fetch_folder(photographs, tmp_path / "out")
    rows = {row["url"]: row for row in report(tmp_path / "out")}
    assert counts[Status.UNREADABLE] == 5 and "pipe" in rows["pipe.jpg"]["why"]
    assert "can't be looked into" in rows["summer"]["why"]
    assert counts[Status.GOOD] == 3


def test_names_that_are_not_utf_8(tmp_path):
    name = os.fsdecode(b"caf\xe9.jpg")
    try:
        folder = folder_of(tmp_path, {name: photograph(1)})
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    for _ in range(2):
        assert download.fetch_folder(folder, tmp_path / "out") == {Status.GOOD: 1}
    assert (tmp_path / "out" / name).read_bytes() == photograph(1)
    assert report(tmp_path / "out")[0]["file"] == r"caf\xe9.jpg"


@pytest.mark.parametrize("room", [0, 1, 2, 5])
def test_a_full_disk_stops_a_folder_with_a_line(tmp_path, room):
    folder = folder_of(tmp_path, {f"{i}.jpg": photograph(i) + bytes(3000) for i in range(40)})
    code = (
        "import resource, sys; from colorlib.__main__ import main;"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({room * 1024}, -1));"
        "main()"
    )
    done = processes.run("-c", code, "fetch", "folder", folder, tmp_path / "out")
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert "make room" in done.stderr.splitlines()[-1]
    assert download.fetch_folder(folder, tmp_path / "out") == {Status.GOOD: 40}


def test_unusable_folders(photographs, tmp_path):
    with pytest.raises(FetchError, match="no such folder"):
        download.fetch_folder(tmp_path / "none", tmp_path / "out")
    with pytest.raises(FetchError, match="holds no files"):
        download.fetch_folder(new(tmp_path / "empty"), tmp_path / "out")
    for inside in (photographs, photographs / "out"):
        with pytest.raises(FetchError, match="choose another place"):
            download.fetch_folder(photographs, inside)


def test_a_known_placeholder_is_rejected(tmp_path, monkeypatch):
    folder = folder_of(tmp_path, {"a.jpg": misbehaving_server.PLACEHOLDER})
    md5 = hashlib.md5(misbehaving_server.PLACEHOLDER).hexdigest()
    monkeypatch.setattr(validation, "PLACEHOLDERS", {md5})
    assert download.fetch_folder(folder, tmp_path / "out") == {Status.PLACEHOLDER: 1}
