"""A list of addresses -> image files, the report's way to ImageNet: politely and within limits.

Not here: which images count (`colorlib.data.validation`), the record of all addresses
(`colorlib.data.manifest`), archives and folders (`colorlib.data.download`). Chapter 3 of the
report.

Of the existing downloaders img2dataset comes closest. It is not used: it has no limit per host,
no total timeout and no cap on a file's size, tries again at once and after any error, goes on
per shard of 10 000 addresses instead of per address, and knows neither grey images nor
placeholders. Besides, it does not import on Python 3.13 and brings 350 MB of packages that nothing
here needs, among them pandas, PyArrow and Weights & Biases. `benchmarks/download.py` compares both.
"""

import asyncio
import codecs
import collections
import contextlib
import dataclasses
import hashlib
import http.cookiejar
import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
from tqdm.auto import tqdm

from colorlib.data.manifest import NOT_TRIED, Entry, Manifest, safe_name
from colorlib.data.validation import PLACEHOLDERS, FetchError, Outcome, Status, validate

USER_AGENT = "colorlib (a course on image colorization)"

MAX_REDIRECTS = 5

COMPRESSED = ("gzip", "x-gzip", "deflate")
"""Encodings of an answer that are undone."""

RETRIED = {Status.SERVER_ERROR, Status.TIMED_OUT}


class WebError(Exception):
    """An address that brought nothing, with a `fate` and a `why` for the report."""

    def __init__(self, fate, why):
        super().__init__(why)
        self.fate, self.why = fate, why


@dataclasses.dataclass(frozen=True)
class RequestLimits:
    """How servers are treated, and how long they are borne with.

    Attributes
    ----------
    concurrency, per_host : int
        Addresses fetched at once, in all and from one host.
    connect_timeout, read_timeout : float
        Seconds until a connection stands, and between two pieces of an answer.
    total_timeout : float
        Seconds for one attempt at an address, redirects included.
    retries : int
        Further attempts after a time-out or a server error (5xx), and after nothing else.
    backoff : float
        Seconds before the first of them; doubled before each of the following.
    max_bytes : int
        Larger files are not taken.

    Raises
    ------
    FetchError
        If a value makes no sense.
    """

    concurrency: int = 64
    per_host: int = 8
    connect_timeout: float = 10.0
    read_timeout: float = 10.0
    total_timeout: float = 30.0
    retries: int = 2
    backoff: float = 1.0
    max_bytes: int = 20 * 2**20

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value < 0 or (value == 0 and field.name not in ("retries", "backoff")):
                raise FetchError(f"{field.name} is {value}: it has to be positive")


REQUEST_LIMITS = RequestLimits()
"""The defaults."""


class Web:
    """A client for many addresses at once, inside one event loop.

    Parameters
    ----------
    request_limits : RequestLimits
    """

    def __init__(self, request_limits):
        self.request_limits = request_limits
        self._slots = asyncio.Semaphore(request_limits.concurrency)
        self._hosts = collections.defaultdict(lambda: asyncio.Semaphore(request_limits.per_host))
        self._tls = httpx.create_ssl_context()
        self._idle = []
        self._open = contextlib.AsyncExitStack()

    async def __aenter__(self):
        return self

    async def __aexit__(self, *details):
        await self._open.aclose()

    async def get(self, address, use, is_wanted):
        """Fetch an address and use what comes.

        Parameters
        ----------
        address : str
        use : coroutine function
            Takes the bytes. The address keeps its place until it is done, so that no more
            than `RequestLimits.concurrency` files are in memory.
        is_wanted : callable
            Asked, once the address' turn has come, whether it is to be fetched at all.

        Returns
        -------
        object
            What `use` returned; None if the address was not wanted any more.

        Raises
        ------
        WebError
            If nothing came.
        """
        for attempt in range(self.request_limits.retries + 1):
            try:
                return await self._attempt(address, use, is_wanted)
            except WebError as error:
                if error.fate not in RETRIED:
                    raise
                last = error
            if attempt < self.request_limits.retries:
                await asyncio.sleep(self.request_limits.backoff * 2**attempt)
        raise WebError(last.fate, f"{last.why} (attempts: {self.request_limits.retries + 1})")

    async def _attempt(self, address, use, is_wanted):
        url, left = _checked(address, Status.BAD_ADDRESS), self.request_limits.total_timeout
        clock = asyncio.get_running_loop().time
        for _ in range(MAX_REDIRECTS + 1):
            async with self._hosts[url.host], self._slots:
                if not is_wanted():
                    return None
                start = clock()
                async with self._client() as client:
                    answer = await self._request(client, url, left)
                left -= clock() - start
                if isinstance(answer, bytes):
                    return await use(answer)
            url = _checked(answer, Status.BAD_REDIRECT)
        raise WebError(Status.BAD_REDIRECT, f"more than {MAX_REDIRECTS} redirects")

    # One client would look through all its connections at each request: a client per slot.
    @contextlib.asynccontextmanager
    async def _client(self):
        if not self._idle:
            client = _client(self.request_limits, self._tls)
            self._idle.append(await self._open.enter_async_context(client))
        client = self._idle.pop()
        try:
            yield client
        finally:
            self._idle.append(client)

    async def _request(self, client, url, seconds):
        body = bytearray()
        try:
            async with asyncio.timeout(seconds), client.stream("GET", url) as response:
                if response.has_redirect_location:
                    return response.next_request.url
                self._check(response)
                async for chunk in response.aiter_raw():
                    body += chunk
                    self._check_size(len(body))
                return self._decoded(bytes(body), response.headers.get("Content-Encoding", ""))
        except WebError:
            raise
        except Exception as error:  # whatever comes up costs one address, not the crawl
            raise self._explain(error, len(body)) from None

    def _check(self, response):
        if response.status_code != 200:
            fate = Status.SERVER_ERROR if response.status_code >= 500 else Status.REFUSED
            raise WebError(fate, f"{response.status_code} {response.reason_phrase}")
        self._check_size(int(response.headers.get("Content-Length", 0)))

    def _check_size(self, size):
        if size > self.request_limits.max_bytes:
            raise WebError(Status.TOO_LARGE, f"more than {self.request_limits.max_bytes} bytes")

    # Asked for nothing of the kind, some servers compress all the same.
    def _decoded(self, body, encoding):
        if encoding.strip().lower() not in COMPRESSED:
            return body
        unpacker = zlib.decompressobj(zlib.MAX_WBITS + 32)  # 32: gzip's header or zlib's
        try:
            data = unpacker.decompress(body, self.request_limits.max_bytes + 1)
        except zlib.error:
            return body  # it is not what they say
        self._check_size(len(data))
        if not unpacker.eof:
            raise WebError(Status.CUT_OFF, f"after {len(body)} bytes ({encoding})")
        return data

    def _explain(self, error, received):
        request_limits = self.request_limits
        match error:
            case TimeoutError():
                return WebError(
                    Status.TIMED_OUT, f"not complete within {request_limits.total_timeout} s"
                )
            case httpx.ConnectTimeout():
                return WebError(
                    Status.TIMED_OUT, f"no connection in {request_limits.connect_timeout} s"
                )
            case httpx.TimeoutException():
                return WebError(Status.TIMED_OUT, f"silent for {request_limits.read_timeout} s")
            case httpx.InvalidURL() | httpx.LocalProtocolError():
                return WebError(Status.BAD_ADDRESS, str(error))
        why = f"{type(error).__name__}: {error}".removesuffix(": ")
        if received:
            return WebError(Status.CUT_OFF, f"after {received} bytes ({why})")
        return WebError(Status.UNREACHABLE, why)


def _client(request_limits, tls):
    timeout = httpx.Timeout(
        request_limits.read_timeout, connect=request_limits.connect_timeout, pool=None
    )
    # Servers drop idle connections after five seconds or more: be there first.
    limits = httpx.Limits(max_keepalive_connections=1, keepalive_expiry=2.0)
    no_cookies = http.cookiejar.DefaultCookiePolicy(allowed_domains=[])
    return httpx.AsyncClient(
        headers={"User-Agent": USER_AGENT, "Accept": "image/*", "Accept-Encoding": "identity"},
        cookies=http.cookiejar.CookieJar(no_cookies),
        timeout=timeout,
        verify=tls,
        limits=limits,
    )


def _checked(address, fate):
    try:
        url = httpx.URL(address)
    except httpx.InvalidURL as error:
        raise WebError(fate, str(error)) from None
    if url.scheme not in ("http", "https"):
        raise WebError(fate, f"{url.scheme!r} is neither http nor https")
    labels = url.raw_host.decode("ascii").removesuffix(".").split(".")
    if not all(0 < len(label) < 64 for label in labels) or not 0 <= (url.port or 0) < 2**16:
        raise WebError(fate, f"{url.netloc.decode('ascii')!r} can't be a host")
    return url


LOOKAHEAD = 16
"""How many times more addresses wait for their host than are fetched at once."""

MAY_PASS = {Status.SERVER_ERROR, Status.TIMED_OUT, Status.UNREACHABLE, Status.CUT_OFF}
"""Fates that another day may change."""


def fetch_urls(
    list_path,
    destination,
    per_class=None,
    limit=None,
    again=False,
    request_limits=REQUEST_LIMITS,
    placeholders=PLACEHOLDERS,
):
    """Fetch the images of a list of addresses; go on where an earlier call stopped.

    Parameters
    ----------
    list_path : path-like
        See `read_list`. Every class gets its turn: the first address of each, then the second.
    destination : path-like
        A folder; images with an id ``class_number`` lie in a folder per class.
        `colorlib.data.manifest` says what else lies there.
    per_class, limit : int, optional
        Stop at so many good images of each class, and in all.
    again : bool
        Try once more what earlier calls failed at in a way that may have passed.
    request_limits : colorlib.data.crawler.RequestLimits
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
    with Manifest(destination) as ledger:
        if again:
            for url, outcome in list(ledger.outcomes.items()):
                if outcome.fate in MAY_PASS:
                    del ledger.outcomes[url]
        crawl = _Crawl(entries, ledger, per_class, limit, request_limits, placeholders)
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

    def __init__(self, entries, ledger, per_class, limit, request_limits, placeholders):
        self.ledger, self.request_limits, self.placeholders = ledger, request_limits, placeholders
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
        self.loop.set_default_executor(ThreadPoolExecutor(self.request_limits.concurrency))
        done = sum(entry.url in self.ledger.outcomes for entry in self.entries)
        with (
            ThreadPoolExecutor(os.cpu_count()) as self.judges,
            tqdm(total=len(self.entries), initial=done, unit=" URLs") as self.bar,
        ):
            async with Web(self.request_limits) as self.web:
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
            return Outcome(Status.NOT_NEEDED, f"there are {self.limit} good images")
        if self._is_full(self.class_of[entry.url]):
            return Outcome(Status.NOT_NEEDED, f"its class has {self.per_class} good images")
        return NOT_TRIED

    def _count(self, url):
        outcome = self.ledger.outcomes.get(url)
        good = outcome is not None and outcome.fate is Status.GOOD
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
        count = min(len(todo), self.request_limits.concurrency * LOOKAHEAD)
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
        return await self.loop.run_in_executor(self.judges, validate, data, self.placeholders)


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
