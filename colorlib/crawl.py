"""A list of addresses -> image files, the report's way to ImageNet.

Not here: one address (`colorlib.web`), which images count (`colorlib.verdict`), the report
(`colorlib.ledger`), archives and folders (`colorlib.download`). Chapter 3 of the report.

Of the existing downloaders img2dataset comes closest. It is not used: it has no limit per host,
no total time-out and no cap on a file's size, tries again at once and after any error, goes on
per shard of 10 000 addresses instead of per address, and knows neither grey images nor
placeholders. Besides, it does not import on Python 3.13 and brings 350 MB of packages that nothing
here needs, among them pandas, PyArrow and Weights & Biases. `benchmarks/download.py` compares both.
"""

import asyncio
import codecs
import collections
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm.auto import tqdm

from colorlib.ledger import NOT_TRIED, Entry, Ledger, safe_name
from colorlib.verdict import PLACEHOLDERS, Fate, FetchError, Outcome, judge
from colorlib.web import MANNERS, Web, WebError

LOOKAHEAD = 16
"""How many times more addresses wait for their host than are fetched at once."""

MAY_PASS = {Fate.SERVER_ERROR, Fate.TIMED_OUT, Fate.UNREACHABLE, Fate.CUT_OFF}
"""Fates that another day may change."""


def fetch_urls(
    list_path,
    destination,
    per_class=None,
    limit=None,
    again=False,
    manners=MANNERS,
    placeholders=PLACEHOLDERS,
):
    """Fetch the images of a list of addresses; go on where an earlier call stopped.

    Parameters
    ----------
    list_path : path-like
        See `read_list`. Every class gets its turn: the first address of each, then the second.
    destination : path-like
        A folder; images with an id ``class_number`` lie in a folder per class.
        `colorlib.ledger` says what else lies there.
    per_class, limit : int, optional
        Stop at so many good images of each class, and in all.
    again : bool
        Try once more what earlier calls failed at in a way that may have passed.
    manners : colorlib.web.Manners
    placeholders : collection of str
        MD5 of pictures that stand for one that is gone.

    Returns
    -------
    collections.Counter
        Number of addresses per `Fate`, as in ``report.csv``.

    Raises
    ------
    FetchError
        If the list can't be used, or the destination can't be written to.
    KeyboardInterrupt
        After Ctrl-C, once the report is written.
    """
    entries = read_list(list_path)
    if per_class is not None and not all(_class(entry) for entry in entries):
        raise FetchError(f"{list_path}: a number per class needs an id of the form class_number")
    with Ledger(destination) as ledger:
        if again:
            for url, outcome in list(ledger.outcomes.items()):
                if outcome.fate in MAY_PASS:
                    del ledger.outcomes[url]
        crawl = _Crawl(entries, ledger, per_class, limit, manners, placeholders)
        try:
            _run(crawl)
        finally:
            counts = ledger.write_report(entries, crawl.missing)
    return counts


def read_list(path):
    """Read a list of addresses.

    Parameters
    ----------
    path : path-like
        A line per address, alone or after an id and a tab, as in ImageNet's lists of 2011.
        UTF-8, or UTF-16 with its mark, as PowerShell writes it; lines that are neither are
        Latin-1. Empty lines are left out, and what follows a ``#`` in an address, which no
        server gets to see.

    Returns
    -------
    list of Entry

    Raises
    ------
    FetchError
        If there is no such file, or no address in it.
    """
    try:
        text = Path(path).read_bytes().removeprefix(codecs.BOM_UTF8)
    except OSError as error:
        reason = error.strerror
        raise FetchError(f"{path}: can't be read ({reason}); name a file of addresses") from None
    if text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = text.decode("utf-16", "replace").encode()
    numbered = enumerate(text.split(b"\n"), 1)
    entries = [_entry(number, line) for number, line in numbered if line.strip()]
    if not entries:
        raise FetchError(f"{path}: holds no address; put one on each line")
    return entries


# Bytes are cut and stripped, not text: letters of Latin-1 count as space or line break in text.
def _entry(number, line):
    name, tab, url = line.partition(b"\t")
    address, _, _ = (url if tab else name).partition(b"#")
    return Entry(number, _decode(name) if tab else "", _decode(address))


def _decode(raw):
    try:
        return raw.strip().decode("utf-8")
    except UnicodeDecodeError:
        return raw.strip().decode("latin-1")


def _class(entry):
    name, underscore, _ = entry.id.partition("_")
    return name if underscore else ""


class _Crawl:
    """One call of `fetch_urls`; everything but decoding happens in its event loop."""

    def __init__(self, entries, ledger, per_class, limit, manners, placeholders):
        self.ledger, self.manners, self.placeholders = ledger, manners, placeholders
        self.per_class, self.limit = per_class, limit
        self.entries = list({entry.url: entry for entry in reversed(entries)}.values())[::-1]
        self.stems = _stems(self.entries)
        self.class_of = {entry.url: _class(entry) for entry in self.entries}
        self.loop = self.task = None
        self.stopped = False

    async def run(self):
        """Fetch until nothing that is wanted is left."""
        self.loop, self.task = asyncio.get_running_loop(), asyncio.current_task()
        self.good, self.good_of = set(), collections.Counter()
        for url in self.class_of:
            self._count(url)
        self.loop.set_default_executor(ThreadPoolExecutor(self.manners.concurrency))
        done = sum(entry.url in self.ledger.outcomes for entry in self.entries)
        with (
            ThreadPoolExecutor(os.cpu_count()) as self.judges,
            tqdm(total=len(self.entries), initial=done, unit=" URLs") as self.bar,
        ):
            async with Web(self.manners) as self.web:
                # An image that turns out to be a double makes room that others can fill.
                while not self.stopped and (todo := self._todo()):
                    await self._sweep(todo)

    def stop(self):
        """Ask `run` to end, from another thread."""
        self.stopped = True
        if self.loop is not None:
            self.loop.call_soon_threadsafe(self.task.cancel)

    def missing(self, entry):
        """Say why an entry has no outcome."""
        if self._is_full():
            return Outcome(Fate.NOT_NEEDED, f"there are {self.limit} good images")
        if self._is_full(self.class_of[entry.url]):
            return Outcome(Fate.NOT_NEEDED, f"its class has {self.per_class} good images")
        return NOT_TRIED

    def _count(self, url):
        outcome = self.ledger.outcomes.get(url)
        good = outcome is not None and outcome.fate is Fate.GOOD
        if url in self.class_of and good != (url in self.good):
            (self.good.add if good else self.good.remove)(url)
            self.good_of[self.class_of[url]] += 1 if good else -1

    def _is_full(self, class_name=None):
        if class_name is None:
            return self.limit is not None and len(self.good) >= self.limit
        return self.per_class is not None and self.good_of[class_name] >= self.per_class

    def _is_wanted(self, entry):
        full = self._is_full() or self._is_full(self.class_of[entry.url])
        return not full and entry.url not in self.ledger.outcomes

    def _todo(self):
        seen, todo = collections.Counter(), []
        for entry in self.entries:
            name = self.class_of[entry.url]
            seen[name] += 1
            if self._is_wanted(entry):
                todo.append((seen[name], entry))
        return [entry for _, entry in sorted(todo, key=lambda pair: pair[0])]

    async def _sweep(self, todo):
        turns = iter(todo)
        count = min(len(todo), self.manners.concurrency * LOOKAHEAD)
        try:
            async with asyncio.TaskGroup() as group:
                self.tasks = [group.create_task(self._work(turns)) for _ in range(count)]
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None

    async def _work(self, turns):
        for entry in turns:
            if self._is_wanted(entry):
                await self._settle(entry)
                self.bar.set_postfix(good=len(self.good), refresh=False)
                self.bar.update()

    async def _settle(self, entry):
        try:
            verdict = await self.web.get(entry.url, self._judge, lambda: self._is_wanted(entry))
        except WebError as error:
            self.ledger.record(entry.url, Outcome(error.fate, error.why))
            return
        if not self._is_wanted(entry):
            return
        file = f"{self.stems[entry.url]}{verdict.suffix}"
        dropped = self.ledger.admit(entry.url, file, verdict)
        self._count(entry.url)
        self._count(dropped)
        if self._is_full():
            for task in self.tasks:
                if task is not asyncio.current_task():
                    task.cancel()

    async def _judge(self, data):
        return await self.loop.run_in_executor(self.judges, judge, data, self.placeholders)


# A notebook's main thread already has an event loop, so the crawl gets a thread of its own.
def _run(crawl):
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(lambda: asyncio.run(crawl.run()))
        try:
            future.result()
        except KeyboardInterrupt:
            crawl.stop()
            raise


def _stems(entries):
    """Where each address' image is kept: by its id, or by the address' hash if it has none."""
    stems, taken = {}, set()
    for entry in entries:
        digest = hashlib.sha256(entry.url.encode()).hexdigest()[:16]
        name = safe_name(entry.id) or digest
        stem = f"{safe_name(_class(entry))}/{name}" if _class(entry) else name
        if stem.lower() in taken:
            stem = f"{stem}-{digest}"
        taken.add(stem.lower())
        stems[entry.url] = stem
    return stems
