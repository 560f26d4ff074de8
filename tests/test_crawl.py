"""`fetch_urls` against a server that misbehaves: every fault has its row in the report."""

import asyncio
import csv
import dataclasses
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time

import misbehaving_server
import pytest
from misbehaving_server import Server, photograph

from colorlib import crawl, images, ledger
from colorlib.verdict import Fate, FetchError
from colorlib.web import Manners

QUICK = Manners(
    connect_timeout=1.0,
    read_timeout=1.0,
    total_timeout=2.0,
    retries=1,
    backoff=0.01,
    max_bytes=10**6,
)
EASY = Manners(retries=1, backoff=0.01)
PLACEHOLDERS = {hashlib.md5(misbehaving_server.PLACEHOLDER).hexdigest()}

FAULTS = {
    "/status/404": (Fate.REFUSED, "404 Not Found"),
    "/status/410": (Fate.REFUSED, "410 Gone"),
    "/status/403": (Fate.REFUSED, "403 Forbidden"),
    "/status/429": (Fate.REFUSED, "429 Too Many Requests"),
    "/status/206": (Fate.REFUSED, "206 Partial Content"),
    "/status/302": (Fate.REFUSED, "302 Found"),
    "/status/503": (Fate.SERVER_ERROR, "503 Service Unavailable (attempts: 2)"),
    "/flaky": (Fate.GOOD, ""),
    "/hang": (Fate.TIMED_OUT, "silent for 1.0 s (attempts: 2)"),
    "/drip": (Fate.TIMED_OUT, "not complete within 2.0 s (attempts: 2)"),
    "/drip-headers": (Fate.TIMED_OUT, "not complete within 2.0 s (attempts: 2)"),
    "/reset": (Fate.UNREACHABLE, "ReadError"),
    "/reset-midway": (Fate.CUT_OFF, "after 1000 bytes"),
    "/truncated": (Fate.CUT_OFF, "peer closed connection"),
    "/length-too-small": (Fate.NO_IMAGE, "cut off"),
    "/length-too-large": (Fate.TIMED_OUT, "silent for 1.0 s (attempts: 2)"),
    "/length-nonsense": (Fate.UNREACHABLE, "Content-Length"),
    "/no-http": (Fate.UNREACHABLE, "RemoteProtocolError"),
    "/html": (Fate.NO_IMAGE, "is a web page"),
    "/empty": (Fate.NO_IMAGE, "is empty"),
    "/placeholder": (Fate.PLACEHOLDER, "known by its hash"),
    "/same/1": (Fate.IDENTICAL, "/same/"),
    "/same/2": (Fate.IDENTICAL, "/same/"),
    "/same/3": (Fate.IDENTICAL, "/same/"),
    "/loop": (Fate.BAD_REDIRECT, "more than 5 redirects"),
    "/to/file:///etc/hostname": (Fate.BAD_REDIRECT, "'file' is neither http nor https"),
    "/to/ftp://127.0.0.1/a.jpg": (Fate.BAD_REDIRECT, "'ftp' is neither http nor https"),
    "/to/%2Fgood%2F11": (Fate.GOOD, ""),
    "/huge": (Fate.TOO_LARGE, "more than 1000000 bytes"),
    "/huge-announced": (Fate.TOO_LARGE, "more than 1000000 bytes"),
    "/grey": (Fate.GREY, "no color"),
    "/cmyk": (Fate.GOOD, ""),
    "/animated": (Fate.GOOD, "first of several frames"),
    "/alpha": (Fate.GOOD, ""),
    "/rotated": (Fate.GOOD, ""),
    "/small": (Fate.TOO_SMALL, "100x63"),
    "/bomb": (Fate.NO_IMAGE, "megapixels"),
    "/non-ascii/caf\xe9 \u96ea.jpg": (Fate.GOOD, ""),
    "/cookie/1": (Fate.GOOD, ""),
    "/cookie/2": (Fate.GOOD, ""),
    "/heic": (Fate.GOOD, ""),
    "/avif": (Fate.GOOD, ""),
    "/gzip/whole": (Fate.GOOD, ""),
    "/gzip/cut": (Fate.CUT_OFF, "gzip"),
    "/gzip-bomb": (Fate.TOO_LARGE, "more than 1000000 bytes"),
    "/gzip-said-only": (Fate.GOOD, ""),
}

MALFORMED = [
    "not an address",
    "http://",
    "http:///a.jpg",
    "ftp://127.0.0.1/a.jpg",
    "file:///etc/hostname",
    "http://[::1",
    "http://a..b/c.jpg",
    "http://127.0.0.1:99999/a.jpg",
    "http://127.0.0.999/a.jpg",
    f"http://{'a' * 70}.invalid/a.jpg",
]


@pytest.fixture
def server():
    with Server() as running:
        yield running


@pytest.fixture(scope="module")
def report_of_faults(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faults")
    with Server() as running, socket.create_server(("127.0.0.1", 0)) as closed:
        dead = f"http://127.0.0.1:{closed.getsockname()[1]}/a.jpg"
        closed.close()
        urls = [*map(running.url, FAULTS), *MALFORMED, dead]
        listed = write_list(folder, urls)
        counts = crawl.fetch_urls(listed, folder / "out", manners=QUICK, placeholders=PLACEHOLDERS)
        rows = {row["url"].removeprefix(running.url("")): row for row in report(folder / "out")}
        rows["dead"] = rows.pop(dead)
        return folder / "out", rows, counts, len(urls), running.hits


def write_list(folder, lines, name="list.txt"):
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def report(folder):
    with (folder / ledger.REPORT).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def kept(folder):
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in (ledger.JOURNAL, ledger.REPORT, ledger.LOCK)
    )


@pytest.mark.parametrize("path", FAULTS)
def test_each_fault_has_its_row(report_of_faults, path):
    _, rows, *_ = report_of_faults
    fate, why = FAULTS[path]
    assert rows[path]["fate"] == fate, rows[path]
    assert why in rows[path]["why"]
    assert bool(rows[path]["file"]) == (fate == Fate.GOOD)


@pytest.mark.parametrize("address", MALFORMED)
def test_a_malformed_address_has_its_row(report_of_faults, address):
    row = report_of_faults[1][address]
    assert row["fate"] == Fate.BAD_ADDRESS, row
    assert row["why"]


def test_a_dead_host_has_its_row(report_of_faults):
    row = report_of_faults[1]["dead"]
    assert (row["fate"], "ConnectError" in row["why"]) == (Fate.UNREACHABLE, True)


def test_the_report_adds_up(report_of_faults):
    folder, rows, counts, total, _ = report_of_faults
    assert sum(counts.values()) == total == len(report(folder))
    assert counts[Fate.GOOD] == sum(row["fate"] == "good" for row in rows.values())
    assert sorted(row["file"] for row in rows.values() if row["file"]) == kept(folder)


def test_only_server_errors_and_time_outs_are_tried_again(report_of_faults):
    *_, hits = report_of_faults
    assert {path: hits[path] for path in ("/status/503", "/flaky", "/hang", "/drip")} == {
        "/status/503": 2,
        "/flaky": 2,
        "/hang": 2,
        "/drip": 2,
    }
    for path in ("/status/404", "/status/403", "/status/429", "/reset", "/truncated", "/html"):
        assert hits[path] == 1
    assert hits["/loop"] == 6


def test_what_is_kept_can_be_packed(report_of_faults):
    folder, rows, *_ = report_of_faults
    for name in kept(folder):
        assert name.endswith(images.EXTENSIONS)
        assert images.read(folder / name).shape[-1] == 3
    assert (rows["/rotated"]["width"], rows["/rotated"]["height"]) == ("80", "100")
    assert rows["/animated"]["file"].endswith(".png")
    assert rows["/cmyk"]["file"].endswith(".jpg")


def test_files_are_kept_as_they_came(server, tmp_path):
    listed = write_list(tmp_path, [f"n01_7\t{server.url('/good/5')}"])
    crawl.fetch_urls(listed, tmp_path / "out", manners=EASY)
    assert (tmp_path / "out" / "n01" / "n01_7.jpg").read_bytes() == photograph(5)
    (row,) = report(tmp_path / "out")
    assert row["line"] == "1"
    assert row["id"] == "n01_7"
    assert row["sha256"] == hashlib.sha256(photograph(5)).hexdigest()


def test_a_list_in_latin_1(server, tmp_path):
    listed = tmp_path / "list.txt"
    path = "/good/1?caf\xe9\x85"
    listed.write_bytes(f"n01_1\t{server.url(path)}\r\n\r\nn01_2\t\r\n".encode("latin-1"))
    entries = crawl.read_list(listed)
    assert entries == [
        ledger.Entry(1, "n01_1", server.url(path)),
        ledger.Entry(3, "n01_2", ""),
    ]
    counts = crawl.fetch_urls(listed, tmp_path / "out", manners=EASY)
    assert counts == {Fate.GOOD: 1, Fate.BAD_ADDRESS: 1}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-8-sig"])
def test_a_list_as_windows_writes_it(tmp_path, encoding):
    text = "n01_1\thttp://a.test/caf\xe9.jpg\r\nhttp://a.test/b.jpg\r\n"
    mark = "\ufeff" if encoding.endswith("be") else ""
    (tmp_path / "list.txt").write_bytes((mark + text).encode(encoding))
    assert crawl.read_list(tmp_path / "list.txt") == [
        ledger.Entry(1, "n01_1", "http://a.test/caf\xe9.jpg"),
        ledger.Entry(2, "", "http://a.test/b.jpg"),
    ]


def test_a_fragment_makes_no_other_address(server, tmp_path):
    address = server.url("/good/1")
    listed = write_list(tmp_path, [address, f"{address}#top", f"n1_1\t{address}#a#b"])
    counts = crawl.fetch_urls(listed, tmp_path / "out", manners=EASY)
    assert counts == {Fate.GOOD: 1, Fate.REPEATED: 2}
    assert server.hits["/good/1"] == 1


def test_an_id_that_another_list_has_used_gets_another_name(server, tmp_path):
    for i in (1, 2, 1):
        listed = write_list(tmp_path, [f"n01_1\t{server.url(f'/good/{i}')}"])
        assert crawl.fetch_urls(listed, tmp_path / "out", manners=EASY) == {Fate.GOOD: 1}
    first, second = ((tmp_path / "out" / name).read_bytes() for name in kept(tmp_path / "out"))
    assert {first, second} == {photograph(1), photograph(2)}
    assert server.hits == {"/good/1": 1, "/good/2": 1}


def test_ids_stay_in_the_destination(server, tmp_path):
    ids = ["../../evil_1", "/etc/evil", ".hidden", "n_1", "N_1", "a/b", "a_b", "x" * 300, "..", "_"]
    lines = [f"{name}\t{server.url(f'/good/{i}')}" for i, name in enumerate(ids)]
    counts = crawl.fetch_urls(write_list(tmp_path, lines), tmp_path / "a" / "out", manners=EASY)
    assert counts == {Fate.GOOD: len(ids)}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "list.txt"]
    names = kept(tmp_path / "a")
    assert len(names) == len(ids)
    assert not any(part.startswith(".") for name in names for part in name.split("/"))


def test_an_address_that_is_listed_twice_is_fetched_once(server, tmp_path):
    listed = write_list(tmp_path, [server.url("/good/1"), server.url("/good/1")])
    counts = crawl.fetch_urls(listed, tmp_path / "out", manners=EASY)
    assert counts == {Fate.GOOD: 1, Fate.REPEATED: 1}
    assert server.hits["/good/1"] == 1
    assert "line 1" in report(tmp_path / "out")[1]["why"]


def test_identical_images_are_dropped_even_if_one_came_in_an_earlier_call(server, tmp_path):
    first = write_list(tmp_path, [server.url("/same/1")], "first.txt")
    assert crawl.fetch_urls(first, tmp_path / "out", manners=EASY) == {Fate.GOOD: 1}
    both = write_list(tmp_path, [server.url("/same/1"), server.url("/same/2")])
    assert crawl.fetch_urls(both, tmp_path / "out", manners=EASY) == {Fate.IDENTICAL: 2}
    assert kept(tmp_path / "out") == []


def test_a_second_call_asks_for_nothing(server, tmp_path):
    paths = ["/good/1", "/status/404", "/html", "/same/1", "/same/2", "/status/503"]
    listed = write_list(tmp_path, map(server.url, paths))
    first = crawl.fetch_urls(listed, tmp_path / "out", manners=EASY)
    before = report(tmp_path / "out")
    server.hits.clear()
    assert crawl.fetch_urls(listed, tmp_path / "out", manners=EASY) == first
    assert not server.hits
    assert report(tmp_path / "out") == before


def test_again_tries_what_may_have_passed(server, tmp_path):
    listed = write_list(tmp_path, map(server.url, ["/flaky", "/status/404", "/good/1"]))
    once = dataclasses.replace(EASY, retries=0)
    counts = crawl.fetch_urls(listed, tmp_path / "out", manners=once)
    assert counts == {Fate.SERVER_ERROR: 1, Fate.REFUSED: 1, Fate.GOOD: 1}
    counts = crawl.fetch_urls(listed, tmp_path / "out", again=True, manners=once)
    assert counts == {Fate.GOOD: 2, Fate.REFUSED: 1}
    assert server.hits == {"/flaky": 2, "/status/404": 1, "/good/1": 1}


def test_a_lost_file_is_fetched_again(server, tmp_path):
    listed = write_list(tmp_path, [server.url("/good/1"), server.url("/good/2")])
    crawl.fetch_urls(listed, tmp_path / "out", manners=EASY)
    lost, cut = (tmp_path / "out" / name for name in kept(tmp_path / "out"))
    lost.unlink()
    cut.write_bytes(b"half")
    assert crawl.fetch_urls(listed, tmp_path / "out", manners=EASY) == {Fate.GOOD: 2}
    assert server.hits == {"/good/1": 2, "/good/2": 2}


def test_limit_is_exact(server, tmp_path):
    listed = write_list(tmp_path, [server.url(f"/good/{i}") for i in range(60)])
    for limit in (5, 12):
        counts = crawl.fetch_urls(listed, tmp_path / "out", limit=limit, manners=EASY)
        assert counts == {Fate.GOOD: limit, Fate.NOT_NEEDED: 60 - limit}
        assert len(kept(tmp_path / "out")) == limit
    assert "12 good images" in next(
        row["why"] for row in report(tmp_path / "out") if row["fate"] == Fate.NOT_NEEDED
    )


def test_per_class_takes_a_few_of_many(server, tmp_path):
    lines = [f"n{c}_{i}\t{server.url(f'/good/{c}{i:02}')}" for c in range(6) for i in range(20)]
    manners = dataclasses.replace(EASY, concurrency=4)
    counts = crawl.fetch_urls(
        write_list(tmp_path, lines), tmp_path / "out", per_class=3, manners=manners
    )
    assert counts == {Fate.GOOD: 18, Fate.NOT_NEEDED: 102}
    classes = [name.partition("/")[0] for name in kept(tmp_path / "out")]
    assert {name: classes.count(name) for name in classes} == {f"n{c}": 3 for c in range(6)}
    assert sum(server.hits.values()) <= 18 + 4


def test_a_limit_alone_takes_from_many_classes(server, tmp_path):
    lines = [f"n{c}_{i}\t{server.url(f'/good/{c}{i}')}" for c in range(8) for i in range(10)]
    manners = dataclasses.replace(EASY, concurrency=1)
    crawl.fetch_urls(write_list(tmp_path, lines), tmp_path / "out", limit=8, manners=manners)
    assert [name.partition("/")[0] for name in kept(tmp_path / "out")] == [
        f"n{c}" for c in range(8)
    ]


def test_a_limit_that_is_reached_does_not_wait_for_the_slow(server, tmp_path):
    listed = write_list(tmp_path, map(server.url, ["/hang", "/good/1", "/good/2"]))
    counts = crawl.fetch_urls(listed, tmp_path / "out", limit=2, manners=Manners())
    assert counts == {Fate.GOOD: 2, Fate.NOT_NEEDED: 1}  # if it waited, one would be timed out


def test_a_double_does_not_count_for_the_limit(server, tmp_path):
    paths = ["/same/1", "/good/1", "/same/2", "/good/2", "/good/3", "/good/4"]
    manners = dataclasses.replace(EASY, concurrency=1)
    listed = write_list(tmp_path, map(server.url, paths))
    counts = crawl.fetch_urls(listed, tmp_path / "out", limit=3, manners=manners)
    assert counts == {Fate.GOOD: 3, Fate.IDENTICAL: 2, Fate.NOT_NEEDED: 1}


def test_a_double_makes_room_for_one_that_was_passed_over(server, tmp_path):
    paths = ["/same/1", "/good/1"], ["/html", "/same/2", "/good/2"]
    lines = [f"n{c}_{i}\t{server.url(p)}" for c, of in enumerate(paths) for i, p in enumerate(of)]
    manners = dataclasses.replace(EASY, concurrency=1)
    listed = write_list(tmp_path, lines)
    counts = crawl.fetch_urls(listed, tmp_path / "out", per_class=1, manners=manners)
    assert counts == {Fate.GOOD: 2, Fate.IDENTICAL: 2, Fate.NO_IMAGE: 1}


def test_the_limit_per_host(tmp_path):
    with Server(pause=0.03) as server:
        hosts = one, two = ["127.0.0.1", "localhost"]
        urls = [server.url(f"/good/{i}", host) for host in hosts for i in range(12)]
        targets = [server.url(f"/good/{i}", one) for i in range(50, 62)]
        urls += [server.url(f"/to/{target}", two) for target in targets]
        manners = dataclasses.replace(EASY, per_host=3)
        crawl.fetch_urls(write_list(tmp_path, urls), tmp_path / "out", manners=manners)
        assert server.most_at_once == dict.fromkeys(hosts, 3)


def test_many_at_a_time(tmp_path):
    with Server(together=32) as server:
        listed = write_list(tmp_path, [server.url(f"/good/{i}") for i in range(32)])
        manners = dataclasses.replace(EASY, per_host=32)
        assert crawl.fetch_urls(listed, tmp_path / "out", manners=manners) == {Fate.GOOD: 32}


CHILD = """
import sys
from colorlib import crawl
from colorlib.web import Manners
manners = Manners(concurrency=4, per_host=4)
print(dict(crawl.fetch_urls(sys.argv[1], sys.argv[2], manners=manners)))
"""


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_process_goes_on(tmp_path, blow):
    with Server(pause=0.1) as server:
        count, out = 60, tmp_path / "out"
        listed = write_list(tmp_path, [server.url(f"/good/{i}") for i in range(count)])
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(listed), str(out)],
            stderr=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(images_root())},
        )
        while len(kept(out)) < count // 4:
            time.sleep(0.01)
        child.send_signal(blow)
        _, errors = child.communicate(timeout=20)
        done = len(kept(out))
        assert child.returncode != 0
        assert count // 4 <= done < count
        if blow == signal.SIGINT:
            assert b"KeyboardInterrupt" in errors
            fates = [row["fate"] for row in report(out)]
            assert fates.count(Fate.GOOD) == done
            assert fates.count(Fate.NOT_TRIED) == count - done
        asked = sum(server.hits.values())
        assert crawl.fetch_urls(listed, out, manners=EASY) == {Fate.GOOD: count}
        assert sum(server.hits.values()) - asked <= count - done + 1
        assert [row["fate"] for row in report(out)] == ["good"] * count
        assert len(kept(out)) == count


def images_root():
    return images.__file__.rpartition("/colorlib/")[0]


def test_half_a_line_in_the_journal_and_half_an_image_are_cleared_away(server, tmp_path):
    listed = write_list(tmp_path, [server.url("/good/1"), server.url("/good/2")])
    out = tmp_path / "out"
    crawl.fetch_urls(listed, out, manners=EASY)
    journal = out / ledger.JOURNAL
    text = journal.read_text()
    journal.write_text(text[: text.index("\n") + 40])
    (out / ".a.jpg.x1y2z3.partial").write_bytes(b"half")
    assert crawl.fetch_urls(listed, out, manners=EASY) == {Fate.GOOD: 2}
    assert [path.name for path in out.glob(".*")] == [ledger.LOCK]
    lines = journal.read_text().splitlines()
    assert [len(lines), sum(line.endswith("}") for line in lines)] == [3, 2]
    assert crawl.fetch_urls(listed, out, manners=EASY) == {Fate.GOOD: 2}
    assert sum(server.hits.values()) == 3


def test_two_fetches_can_not_share_a_destination(server, tmp_path):
    listed = write_list(tmp_path, [server.url("/good/1")])
    with ledger.Ledger(tmp_path / "out"), pytest.raises(FetchError, match="another fetch"):
        crawl.fetch_urls(listed, tmp_path / "out", manners=EASY)


def test_a_full_disk_stops_the_crawl_and_loses_nothing(server, tmp_path, monkeypatch):
    listed = write_list(tmp_path, [server.url(f"/good/{i}") for i in range(8)])

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(images, "replacing", once_then(images.replacing, full, 3))
        with pytest.raises(FetchError, match="No space left"):
            crawl.fetch_urls(listed, tmp_path / "out", manners=EASY)
    assert len(kept(tmp_path / "out")) == 3
    assert sum(row["fate"] == Fate.GOOD for row in report(tmp_path / "out")) == 3
    assert crawl.fetch_urls(listed, tmp_path / "out", manners=EASY) == {Fate.GOOD: 8}


def once_then(good, bad, count):
    """Return a function that is `good` so many times, then `bad`, but always for the report."""
    calls = iter(range(10**6))
    return lambda path: (good if path.name == ledger.REPORT or next(calls) < count else bad)(path)


def test_inside_a_running_event_loop_as_in_a_notebook(server, tmp_path):
    listed = write_list(tmp_path, [server.url("/good/1")])

    async def cell():
        return crawl.fetch_urls(listed, tmp_path / "out", manners=EASY)

    assert asyncio.run(cell()) == {Fate.GOOD: 1}


def test_a_progress_bar_is_shown(server, tmp_path, capsys):
    listed = write_list(tmp_path, [server.url("/good/1"), server.url("/html")])
    crawl.fetch_urls(listed, tmp_path / "out", manners=EASY)
    assert "2/2" in capsys.readouterr().err


def test_wrong_calls_say_what_is_wrong(tmp_path):
    with pytest.raises(FetchError, match="name a file of addresses"):
        crawl.fetch_urls(tmp_path / "none.txt", tmp_path / "out")
    empty = write_list(tmp_path, [""])
    with pytest.raises(FetchError, match="holds no address"):
        crawl.fetch_urls(empty, tmp_path / "out")
    plain = write_list(tmp_path, ["http://127.0.0.1/a.jpg"])
    with pytest.raises(FetchError, match="class_number"):
        crawl.fetch_urls(plain, tmp_path / "out", per_class=2)
    with pytest.raises(FetchError, match="choose another folder"):
        crawl.fetch_urls(plain, plain / "out")
    with pytest.raises(FetchError, match="per_host is 0"):
        Manners(per_host=0)


def test_the_journal_is_lines_of_json(server, tmp_path):
    listed = write_list(tmp_path, [server.url("/good/1")])
    crawl.fetch_urls(listed, tmp_path / "out", manners=EASY)
    (line,) = (tmp_path / "out" / ledger.JOURNAL).read_text().splitlines()
    assert json.loads(line)["fate"] == "good"
