"""`fetch_urls` against a server with faults: each fault gets its row in the report."""

import asyncio
import csv
import dataclasses
import hashlib
import json
import signal
import socket
import subprocess
import sys
import time
from unittest.mock import Mock

import misbehaving_server
import pytest
from misbehaving_server import Server, photograph
from processes import FULL_DISK
from tqdm.auto import tqdm

from colorlib import files, images
from colorlib.data import crawler, manifest, validation
from colorlib.data.crawler import RequestLimits
from colorlib.data.validation import FetchError, Status

QUICK = RequestLimits(
    connect_timeout=1.0,
    read_timeout=1.0,
    total_timeout=2.0,
    retries=1,
    backoff=0.01,
    max_bytes=10**6,
)
EASY = RequestLimits(retries=1, backoff=0.01)
ONE_BY_ONE = dataclasses.replace(EASY, concurrency=1)
PLACEHOLDERS = {hashlib.md5(misbehaving_server.PLACEHOLDER).hexdigest()}

FAULTS = {
    "/status/404": (Status.REFUSED, "404 Not Found"),
    "/status/410": (Status.REFUSED, "410 Gone"),
    "/status/403": (Status.REFUSED, "403 Forbidden"),
    "/status/429": (Status.REFUSED, "429 Too Many Requests"),
    "/status/206": (Status.REFUSED, "206 Partial Content"),
    "/status/302": (Status.REFUSED, "302 Found"),
    "/status/503": (Status.SERVER_ERROR, "503 Service Unavailable (attempts: 2)"),
    "/flaky": (Status.GOOD, ""),
    "/hang": (Status.TIMED_OUT, "silent for 1.0 s (attempts: 2)"),
    "/drip": (Status.TIMED_OUT, "not complete within 2.0 s (attempts: 2)"),
    "/drip-headers": (Status.TIMED_OUT, "not complete within 2.0 s (attempts: 2)"),
    "/reset": (Status.UNREACHABLE, "ReadError"),
    "/reset-midway": (Status.CUT_OFF, "after 1000 bytes"),
    "/truncated": (Status.CUT_OFF, "peer closed connection"),
    "/length-too-small": (Status.NO_IMAGE, "cut off"),
    "/length-too-large": (Status.TIMED_OUT, "silent for 1.0 s (attempts: 2)"),
    "/length-nonsense": (Status.UNREACHABLE, "Content-Length"),
    "/no-http": (Status.UNREACHABLE, "RemoteProtocolError"),
    "/html": (Status.NO_IMAGE, "is a web page"),
    "/empty": (Status.NO_IMAGE, "is empty"),
    "/placeholder": (Status.PLACEHOLDER, "known by its hash"),
    "/same/1": (Status.IDENTICAL, "/same/"),
    "/same/2": (Status.IDENTICAL, "/same/"),
    "/same/3": (Status.IDENTICAL, "/same/"),
    "/loop": (Status.BAD_REDIRECT, "more than 5 redirects"),
    "/to/file:///etc/hostname": (Status.BAD_REDIRECT, "'file' is neither http nor https"),
    "/to/ftp://127.0.0.1/a.jpg": (Status.BAD_REDIRECT, "'ftp' is neither http nor https"),
    "/to/%2Fgood%2F11": (Status.GOOD, ""),
    "/huge": (Status.TOO_LARGE, "more than 1000000 bytes"),
    "/huge-announced": (Status.TOO_LARGE, "more than 1000000 bytes"),
    "/grey": (Status.GREY, "no color"),
    "/cmyk": (Status.GOOD, ""),
    "/animated": (Status.GOOD, "first of several frames"),
    "/alpha": (Status.GOOD, ""),
    "/rotated": (Status.GOOD, ""),
    "/small": (Status.TOO_SMALL, "100x63"),
    "/bomb": (Status.NO_IMAGE, "megapixels"),
    "/non-ascii/caf\xe9 \u96ea.jpg": (Status.GOOD, ""),
    "/cookie/1": (Status.GOOD, ""),
    "/cookie/2": (Status.GOOD, ""),
    "/heic": (Status.GOOD, ""),
    "/avif": (Status.GOOD, ""),
    "/gzip/whole": (Status.GOOD, ""),
    "/gzip/cut": (Status.CUT_OFF, "gzip"),
    "/gzip-bomb": (Status.TOO_LARGE, "more than 1000000 bytes"),
    "/gzip-said-only": (Status.GOOD, ""),
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
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(validation, "PLACEHOLDERS", PLACEHOLDERS)
            counts = crawler.fetch_urls(listed, folder / "out", request_limits=QUICK)
        rows = {row["url"].removeprefix(running.url("")): row for row in report(folder / "out")}
        rows["dead"] = rows.pop(dead)
        return folder / "out", rows, counts, len(urls), running.hits


def write_list(folder, lines):
    path = folder / "list.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def fetch(folder, lines, request_limits=EASY, **options):
    """Fetch a list of these lines to the folder's `out`."""
    listed = write_list(folder, lines)
    return crawler.fetch_urls(listed, folder / "out", request_limits=request_limits, **options)


def report(folder):
    with (folder / manifest.REPORT).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def kept(folder):
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in (manifest.JOURNAL, manifest.REPORT, manifest.LOCK)
    )


@pytest.mark.parametrize("path", FAULTS)
def test_each_fault_has_its_row(report_of_faults, path):
    _, rows, *_ = report_of_faults
    status, why = FAULTS[path]
    assert rows[path]["status"] == status, rows[path]
    assert why in rows[path]["why"]
    assert bool(rows[path]["file"]) == (status == Status.GOOD)


@pytest.mark.parametrize("address", MALFORMED)
def test_a_malformed_address_has_its_row(report_of_faults, address):
    row = report_of_faults[1][address]
    assert row["status"] == Status.BAD_ADDRESS, row
    assert row["why"]


def test_a_dead_host_has_its_row(report_of_faults):
    row = report_of_faults[1]["dead"]
    assert (row["status"], "ConnectError" in row["why"]) == (Status.UNREACHABLE, True)


def test_the_report_adds_up(report_of_faults):
    folder, rows, counts, total, _ = report_of_faults
    assert sum(counts.values()) == total == len(report(folder))
    assert counts[Status.GOOD] == sum(row["status"] == "good" for row in rows.values())
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


def test_kept_images_can_be_packed(report_of_faults):
    folder, rows, *_ = report_of_faults
    for name in kept(folder):
        assert name.endswith(tuple(images.EXTENSIONS))
        assert images.read(folder / name).shape[-1] == 3
    assert (rows["/rotated"]["width"], rows["/rotated"]["height"]) == ("80", "100")
    assert rows["/animated"]["file"].endswith(".png")
    assert rows["/cmyk"]["file"].endswith(".jpg")


def test_files_are_kept_unchanged(server, tmp_path):
    fetch(tmp_path, [f"n01_7\t{server.url('/good/5')}"])
    assert (tmp_path / "out" / "n01" / "n01_7.jpg").read_bytes() == photograph(5)
    (row,) = report(tmp_path / "out")
    assert row["line"] == "1"
    assert row["id"] == "n01_7"
    assert row["sha256"] == hashlib.sha256(photograph(5)).hexdigest()


def test_a_list_in_latin_1(server, tmp_path):
    listed = tmp_path / "list.txt"
    path = "/good/1?caf\xe9\x85"
    listed.write_bytes(f"n01_1\t{server.url(path)}\r\n\r\nn01_2\t\r\n".encode("latin-1"))
    entries = crawler.read_list(listed)
    assert entries == [
        manifest.Entry(1, "n01_1", server.url(path)),
        manifest.Entry(3, "n01_2", ""),
    ]
    counts = crawler.fetch_urls(listed, tmp_path / "out", request_limits=EASY)
    assert counts == {Status.GOOD: 1, Status.BAD_ADDRESS: 1}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-8-sig"])
def test_a_list_as_windows_writes_it(tmp_path, encoding):
    text = "n01_1\thttp://a.test/caf\xe9.jpg\r\nhttp://a.test/b.jpg\r\n"
    mark = "\ufeff" if encoding.endswith("be") else ""
    (tmp_path / "list.txt").write_bytes((mark + text).encode(encoding))
    assert crawler.read_list(tmp_path / "list.txt") == [
        manifest.Entry(1, "n01_1", "http://a.test/caf\xe9.jpg"),
        manifest.Entry(2, "", "http://a.test/b.jpg"),
    ]


def test_a_fragment_makes_no_other_address(server, tmp_path):
    address = server.url("/good/1")
    counts = fetch(tmp_path, [address, f"{address}#top", f"n1_1\t{address}#a#b"])
    assert counts == {Status.GOOD: 1, Status.REPEATED: 2}
    assert server.hits["/good/1"] == 1


def test_an_id_that_another_list_has_used_gets_another_name(server, tmp_path):
    for i in (1, 2, 1):
        counts = fetch(tmp_path, [f"n01_1\t{server.url(f'/good/{i}')}"])
        assert counts == {Status.GOOD: 1}
    first, second = ((tmp_path / "out" / name).read_bytes() for name in kept(tmp_path / "out"))
    assert {first, second} == {photograph(1), photograph(2)}
    assert server.hits == {"/good/1": 1, "/good/2": 1}


def test_ids_stay_in_the_destination(server, tmp_path):
    ids = ["../../evil_1", "/etc/evil", ".hidden", "n_1", "N_1", "a/b", "a_b", "x" * 300, "..", "_"]
    lines = [f"{name}\t{server.url(f'/good/{i}')}" for i, name in enumerate(ids)]
    listed = write_list(tmp_path, lines)
    counts = crawler.fetch_urls(listed, tmp_path / "a" / "out", request_limits=EASY)
    assert counts == {Status.GOOD: len(ids)}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "list.txt"]
    names = kept(tmp_path / "a")
    assert len(names) == len(ids)
    assert not any(part.startswith(".") for name in names for part in name.split("/"))


def test_an_address_that_is_listed_twice_is_fetched_once(server, tmp_path):
    counts = fetch(tmp_path, [server.url("/good/1"), server.url("/good/1")])
    assert counts == {Status.GOOD: 1, Status.REPEATED: 1}
    assert server.hits["/good/1"] == 1
    assert "line 1" in report(tmp_path / "out")[1]["why"]


def test_identical_images_are_dropped_even_if_one_came_in_an_earlier_call(server, tmp_path):
    first, second = server.url("/same/1"), server.url("/same/2")
    assert fetch(tmp_path, [first]) == {Status.GOOD: 1}
    assert fetch(tmp_path, [first, second]) == {Status.IDENTICAL: 2}
    assert kept(tmp_path / "out") == []


def test_a_second_call_asks_for_nothing(server, tmp_path):
    paths = ["/good/1", "/status/404", "/html", "/same/1", "/same/2", "/status/503"]
    listed = [*map(server.url, paths)]
    first = fetch(tmp_path, listed)
    before = report(tmp_path / "out")
    server.hits.clear()
    assert fetch(tmp_path, listed) == first
    assert not server.hits
    assert report(tmp_path / "out") == before


def test_again_retries_temporary_failures(server, tmp_path):
    listed = [*map(server.url, ["/flaky", "/status/404", "/good/1"])]
    once = dataclasses.replace(EASY, retries=0)
    counts = fetch(tmp_path, listed, once)
    assert counts == {Status.SERVER_ERROR: 1, Status.REFUSED: 1, Status.GOOD: 1}
    counts = fetch(tmp_path, listed, once, again=True)
    assert counts == {Status.GOOD: 2, Status.REFUSED: 1}
    assert server.hits == {"/flaky": 2, "/status/404": 1, "/good/1": 1}


def test_a_lost_file_is_fetched_again(server, tmp_path):
    listed = [server.url("/good/1"), server.url("/good/2")]
    fetch(tmp_path, listed)
    lost, cut = (tmp_path / "out" / name for name in kept(tmp_path / "out"))
    lost.unlink()
    cut.write_bytes(b"half")
    assert fetch(tmp_path, listed) == {Status.GOOD: 2}
    assert server.hits == {"/good/1": 2, "/good/2": 2}


def test_limit_is_exact(server, tmp_path):
    for limit in (5, 12):
        counts = fetch(tmp_path, [server.url(f"/good/{i}") for i in range(60)], limit=limit)
        assert counts == {Status.GOOD: limit, Status.NOT_NEEDED: 60 - limit}
        assert len(kept(tmp_path / "out")) == limit
    assert "12 good images" in next(
        row["why"] for row in report(tmp_path / "out") if row["status"] == Status.NOT_NEEDED
    )


def test_per_class_takes_a_few_of_many(server, tmp_path):
    lines = [f"n{c}_{i}\t{server.url(f'/good/{c}{i:02}')}" for c in range(6) for i in range(20)]
    counts = fetch(tmp_path, lines, dataclasses.replace(EASY, concurrency=4), per_class=3)
    assert counts == {Status.GOOD: 18, Status.NOT_NEEDED: 102}
    classes = [name.partition("/")[0] for name in kept(tmp_path / "out")]
    assert {name: classes.count(name) for name in classes} == {f"n{c}": 3 for c in range(6)}
    assert sum(server.hits.values()) <= 18 + 4


def test_a_limit_alone_takes_from_many_classes(server, tmp_path):
    lines = [f"n{c}_{i}\t{server.url(f'/good/{c}{i}')}" for c in range(8) for i in range(10)]
    fetch(tmp_path, lines, ONE_BY_ONE, limit=8)
    assert [name.partition("/")[0] for name in kept(tmp_path / "out")] == [
        f"n{c}" for c in range(8)
    ]


def test_a_reached_limit_does_not_wait_for_slow_servers(server, tmp_path):
    urls = map(server.url, ["/hang", "/good/1", "/good/2"])
    counts = fetch(tmp_path, urls, RequestLimits(), limit=2)
    assert counts == {Status.GOOD: 2, Status.NOT_NEEDED: 1}  # if it waited, one would be timed out


def test_a_duplicate_does_not_count_for_the_limit(server, tmp_path):
    paths = ["/same/1", "/good/1", "/same/2", "/good/2", "/good/3", "/good/4"]
    counts = fetch(tmp_path, map(server.url, paths), ONE_BY_ONE, limit=3)
    assert counts == {Status.GOOD: 3, Status.IDENTICAL: 2, Status.NOT_NEEDED: 1}


def test_a_dropped_duplicate_is_replaced_by_a_skipped_image(server, tmp_path):
    paths = ["/same/1", "/good/1"], ["/html", "/same/2", "/good/2"]
    lines = [f"n{c}_{i}\t{server.url(p)}" for c, of in enumerate(paths) for i, p in enumerate(of)]
    counts = fetch(tmp_path, lines, ONE_BY_ONE, per_class=1)
    assert counts == {Status.GOOD: 2, Status.IDENTICAL: 2, Status.NO_IMAGE: 1}


def test_the_limit_per_host(tmp_path):
    with Server(pause=0.03) as server:
        hosts = one, two = ["127.0.0.1", "localhost"]
        urls = [server.url(f"/good/{i}", host) for host in hosts for i in range(12)]
        targets = [server.url(f"/good/{i}", one) for i in range(50, 62)]
        urls += [server.url(f"/to/{target}", two) for target in targets]
        fetch(tmp_path, urls, dataclasses.replace(EASY, per_host=3))
        assert server.most_at_once == dict.fromkeys(hosts, 3)


def test_many_at_a_time(tmp_path):
    with Server(together=32) as server:
        urls = [server.url(f"/good/{i}") for i in range(32)]
        counts = fetch(tmp_path, urls, dataclasses.replace(EASY, per_host=32))
        assert counts == {Status.GOOD: 32}


CHILD = """
import sys
from colorlib.data import crawler
from colorlib.data.crawler import RequestLimits
request_limits = RequestLimits(concurrency=4, per_host=4)
print(dict(crawler.fetch_urls(sys.argv[1], sys.argv[2], request_limits=request_limits)))
"""


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_process_resumes(tmp_path, sent):
    with Server(pause=0.1) as server:
        count, out = 60, tmp_path / "out"
        urls = [server.url(f"/good/{i}") for i in range(count)]
        listed = write_list(tmp_path, urls)
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(listed), str(out)],
            stderr=subprocess.PIPE,
        )
        while len(kept(out)) < count // 4:
            time.sleep(0.01)
        child.send_signal(sent)
        _, errors = child.communicate(timeout=20)
        done = len(kept(out))
        assert child.returncode != 0
        assert count // 4 <= done < count
        if sent == signal.SIGINT:
            assert b"KeyboardInterrupt" in errors
            statuses = [row["status"] for row in report(out)]
            assert statuses.count(Status.GOOD) == done
            assert statuses.count(Status.NOT_TRIED) == count - done
        asked = sum(server.hits.values())
        assert fetch(tmp_path, urls) == {Status.GOOD: count}
        assert sum(server.hits.values()) - asked <= count - done + 1
        assert [row["status"] for row in report(out)] == ["good"] * count
        assert len(kept(out)) == count


def test_half_a_line_in_the_journal_is_skipped_and_half_an_image_deleted(server, tmp_path):
    listed = [server.url("/good/1"), server.url("/good/2")]
    out = tmp_path / "out"
    fetch(tmp_path, listed)
    journal = out / manifest.JOURNAL
    text = journal.read_text()
    journal.write_text(text[: text.index("\n") + 40])
    (out / ".a.jpg.x1y2z3.partial").write_bytes(b"half")
    assert fetch(tmp_path, listed) == {Status.GOOD: 2}
    assert [path.name for path in out.glob(".*")] == [manifest.LOCK]
    lines = journal.read_text().splitlines()
    assert [len(lines), sum(line.endswith("}") for line in lines)] == [3, 2]
    assert fetch(tmp_path, listed) == {Status.GOOD: 2}
    assert sum(server.hits.values()) == 3


def test_two_fetches_can_not_share_a_destination(server, tmp_path):
    with manifest.Manifest(tmp_path / "out"), pytest.raises(FetchError, match="another fetch"):
        fetch(tmp_path, [server.url("/good/1")])


def test_a_full_disk_stops_the_crawl_and_loses_nothing(server, tmp_path, monkeypatch):
    listed = [server.url(f"/good/{i}") for i in range(8)]
    with monkeypatch.context() as patch:
        full = Mock(side_effect=FULL_DISK)
        patch.setattr(files, "replacing", once_then(files.replacing, full, 3))
        with pytest.raises(FetchError, match="No space left"):
            fetch(tmp_path, listed)
    assert len(kept(tmp_path / "out")) == 3
    assert sum(row["status"] == Status.GOOD for row in report(tmp_path / "out")) == 3
    assert fetch(tmp_path, listed) == {Status.GOOD: 8}


def once_then(good, bad, count):
    """Return a function that is `good` so many times, then `bad`, but always for the report."""
    calls = iter(range(10**6))
    return lambda path: (good if path.name == manifest.REPORT or next(calls) < count else bad)(path)


def test_inside_a_running_event_loop_as_in_a_notebook(server, tmp_path):

    async def cell():
        return fetch(tmp_path, [server.url("/good/1")])

    assert asyncio.run(cell()) == {Status.GOOD: 1}


def test_a_progress_bar_is_shown(server, tmp_path, capsys):
    fetch(tmp_path, [server.url("/good/1"), server.url("/html")])
    assert "2/2" in capsys.readouterr().err


def test_an_older_journal_is_skipped_and_its_images_are_fetched_again(server, tmp_path):
    listed = [server.url("/good/1")]
    fetch(tmp_path, listed)
    journal = tmp_path / "out" / manifest.JOURNAL
    journal.write_text(journal.read_text().replace('"status"', '"fate"'))
    assert fetch(tmp_path, listed) == {Status.GOOD: 1}
    assert (server.hits["/good/1"], len(kept(tmp_path / "out"))) == (2, 1)


def test_odd_lines_of_a_journal_are_skipped(server, tmp_path):
    listed = write_list(tmp_path, [server.url("/good/1")])
    crawler.fetch_urls(listed, tmp_path / "out", request_limits=EASY)
    journal = tmp_path / "out" / manifest.JOURNAL
    row = json.loads(journal.read_text())
    width = journal.read_text().replace('"width": 100', '"width": 180')
    assert width != journal.read_text()
    journal.write_text(width)
    assert crawler.fetch_urls(listed, tmp_path / "out", request_limits=EASY) == {Status.GOOD: 1}
    assert server.hits["/good/1"] == 2
    del row["crc"]
    odd = [3, None, ["url"], {}, row | {"file": ["a"]}, row | {"more": 1}, row | {"url": {}}]
    odd += [row | {"why": None}, row | {"status": []}]
    journal.write_text("".join(json.dumps(line) + "\n" for line in odd))
    assert crawler.fetch_urls(listed, tmp_path / "out", request_limits=EASY) == {Status.GOOD: 1}


def test_wrong_calls_say_what_is_wrong(tmp_path):
    with pytest.raises(FetchError, match="name a file of addresses"):
        crawler.fetch_urls(tmp_path / "none.txt", tmp_path / "out")
    empty = write_list(tmp_path, [""])
    with pytest.raises(FetchError, match="holds no address"):
        crawler.fetch_urls(empty, tmp_path / "out")
    plain = write_list(tmp_path, ["http://127.0.0.1/a.jpg"])
    with pytest.raises(FetchError, match="class_number"):
        crawler.fetch_urls(plain, tmp_path / "out", per_class=2)
    with pytest.raises(FetchError, match="choose another folder"):
        crawler.fetch_urls(plain, plain / "out")
    with pytest.raises(FetchError, match="per_host is 0"):
        RequestLimits(per_host=0)


def test_the_journal_is_lines_of_json(server, tmp_path):
    fetch(tmp_path, [server.url("/good/1")])
    (line,) = (tmp_path / "out" / manifest.JOURNAL).read_text().splitlines()
    assert json.loads(line)["status"] == "good"


def test_ctrl_c_right_after_the_last_address_is_no_error():
    crawl = crawler._Crawl([], None, None, None, RequestLimits())
    asyncio.run(crawl.run())
    crawl.stop()


def test_a_bar_that_was_interrupted_does_not_stop_the_next_crawl(tmp_path, server):
    with tqdm.get_lock():  # as Ctrl-C between two instructions leaves it
        counts = fetch(tmp_path, [server.url("/good/5")])
    assert counts == {Status.GOOD: 1}
