"""Download the images of a list of URLs, within request limits. Chapter 3 of the report.

The report got its ImageNet photographs in this way. Not here: the checks of an image
(`colorlib.data.validation`), the record of all URLs (`colorlib.data.manifest`), archives and
folders (`colorlib.data.download`).

img2dataset is the closest existing downloader. It is not used here, for these reasons: it has no
limit per host, no total timeout and no limit on a file's size; it retries at once and after any
error; it resumes per shard of 10 000 URLs instead of per URL; it detects neither grey images nor
placeholders; it does not import on Python 3.13; and it installs 350 MB of packages that are not
needed otherwise, among them pandas, PyArrow and Weights & Biases. `benchmarks/download.py`
compares both.
"""

import asyncio
import codecs
import collections
import contextlib
import dataclasses
import hashlib
import http.cookiejar
import os
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
from tqdm.auto import tqdm

from colorlib.data.manifest import NOT_TRIED, Entry, Manifest, safe_name
from colorlib.data.validation import FetchError, Outcome, Status, validate

USER_AGENT = "colorlib (a course on image colorization)"

MAX_REDIRECTS = 5

COMPRESSED = ("gzip", "x-gzip", "deflate")
"""Content encodings of a response that are decoded."""

RETRIED = {Status.SERVER_ERROR, Status.TIMED_OUT}


class WebError(Exception):
    """A failed request, with the `status` and the reason (`why`) for the report."""

    def __init__(self, status, why):
        super().__init__(why)
        self.status, self.why = status, why


@dataclasses.dataclass(frozen=True)
class RequestLimits:
    """Limits on the number, duration and size of requests.

    Attributes
    ----------
    concurrency, per_host : int
        Maximum number of simultaneous requests, in total and to one host.
    connect_timeout, read_timeout : float
        Seconds until the connection is established, and between two chunks of a response.
    total_timeout : float
        Seconds for one attempt at a URL, redirects included.
    retries : int
        Further attempts after a timeout or a server error (5xx). Other errors are not retried.
    backoff : float
        Seconds before the first retry; doubled before each further one.
    max_bytes : int
        Larger files are rejected.

    Raises
    ------
    FetchError
        If a value is out of range.
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


class _Web:
    """An HTTP client for many simultaneous requests, inside one event loop."""

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
        """Return what the coroutine `use` makes of a response's body.

        The request counts as running until `use` is done, so that no more than
        `RequestLimits.concurrency` files are in memory. If `is_wanted` returns False right before
        the request, none is made, and the result is None. A WebError is raised if every attempt
        failed.
        """
        for attempt in range(self.request_limits.retries + 1):
            try:
                return await self._attempt(address, use, is_wanted)
            except WebError as error:
                if error.status not in RETRIED:
                    raise
                last = error
            if attempt < self.request_limits.retries:
                await asyncio.sleep(self.request_limits.backoff * 2**attempt)
        raise WebError(last.status, f"{last.why} (attempts: {self.request_limits.retries + 1})")

    async def _attempt(self, address, use, is_wanted):
        url, remaining = _checked(address, Status.BAD_ADDRESS), self.request_limits.total_timeout
        clock = asyncio.get_running_loop().time
        for _ in range(MAX_REDIRECTS + 1):
            async with self._hosts[url.host], self._slots:
                if not is_wanted():
                    return None
                start = clock()
                async with self._client() as client:
                    result = await self._request(client, url, remaining)
                remaining -= clock() - start
                if isinstance(result, bytes):
                    return await use(result)
            url = _checked(result, Status.BAD_REDIRECT)
        raise WebError(Status.BAD_REDIRECT, f"more than {MAX_REDIRECTS} redirects")

    # A single client searches all its connections at each request, so each slot has a client.
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
        except Exception as error:  # no error of one address may stop the crawl
            raise self._explain(error, len(body)) from None

    def _check(self, response):
        if response.status_code != 200:
            status = Status.SERVER_ERROR if response.status_code >= 500 else Status.REFUSED
            raise WebError(status, f"{response.status_code} {response.reason_phrase}")
        self._check_size(int(response.headers.get("Content-Length", 0)))

    def _check_size(self, size):
        if size > self.request_limits.max_bytes:
            raise WebError(Status.TOO_LARGE, f"more than {self.request_limits.max_bytes} bytes")

    # Some servers compress although the request asks for the identity encoding.
    def _decoded(self, body, encoding):
        if encoding.strip().lower() not in COMPRESSED:
            return body
        unpacker = zlib.decompressobj(zlib.MAX_WBITS + 32)  # 32: gzip's header or zlib's
        try:
            data = unpacker.decompress(body, self.request_limits.max_bytes + 1)
        except zlib.error:
            return body  # the header was wrong: the body is not compressed
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
    # Servers close idle connections after five seconds or more; the client closes them earlier.
    limits = httpx.Limits(max_keepalive_connections=1, keepalive_expiry=2.0)
    no_cookies = http.cookiejar.DefaultCookiePolicy(allowed_domains=[])
    return httpx.AsyncClient(
        headers={"User-Agent": USER_AGENT, "Accept": "image/*", "Accept-Encoding": "identity"},
        cookies=http.cookiejar.CookieJar(no_cookies),
        timeout=timeout,
        verify=tls,
        limits=limits,
    )


def _checked(address, status):
    try:
        url = httpx.URL(address)
    except httpx.InvalidURL as error:
        raise WebError(status, str(error)) from None
    if url.scheme not in ("http", "https"):
        raise WebError(status, f"{url.scheme!r} is neither http nor https")
    labels = url.raw_host.decode("ascii").removesuffix(".").split(".")
    if not all(0 < len(label) < 64 for label in labels) or not 0 <= (url.port or 0) < 2**16:
        raise WebError(status, f"{url.netloc.decode('ascii')!r} can't be a host")
    return url


LOOKAHEAD = 16
"""Tasks per slot: most of them wait for a slot of their host."""

TEMPORARY = {Status.SERVER_ERROR, Status.TIMED_OUT, Status.UNREACHABLE, Status.CUT_OFF}
"""Failures that may not occur again later; `fetch_urls(again=True)` retries them."""


def fetch_urls(
    list_path, destination, per_class=None, limit=None, again=False, request_limits=REQUEST_LIMITS
):
    """Download the images of a list of URLs; resume where an earlier call stopped.

    Parameters
    ----------
    list_path : path-like
        See `read_list`. The classes take turns: the first URL of each, then the second.
    destination : path-like
        A folder. Images with an id ``class_number`` are written to a subfolder per class.
        `colorlib.data.manifest` describes the other files there.
    per_class, limit : int, optional
        Maximum number of good images of each class, and in total.
    again : bool
        Retry the URLs whose earlier failure may be temporary (`TEMPORARY`).
    request_limits : RequestLimits

    Returns
    -------
    collections.Counter
        Number of URLs per `Status`, as in ``report.csv``.

    Raises
    ------
    FetchError
        If the list can't be read, or the destination can't be written to.
    KeyboardInterrupt
        After Ctrl-C, once the report is written.
    """
    entries = read_list(list_path)
    if per_class is not None and not all(_class(entry) for entry in entries):
        raise FetchError(f"{list_path}: a number per class needs an id of the form class_number")
    with Manifest(destination) as manifest:
        if again:
            for url, outcome in list(manifest.outcomes.items()):
                if outcome.status in TEMPORARY:
                    del manifest.outcomes[url]
        crawl = _Crawl(entries, manifest, per_class, limit, request_limits)
        try:
            _run(crawl)
        finally:
            counts = manifest.write_report(entries, crawl.missing)
    return counts


def read_list(path):
    """Read a list of URLs.

    Parameters
    ----------
    path : path-like
        Each line is a URL, or an id, a tab and a URL, as in ImageNet's lists of 2011. The
        encoding is UTF-8, or UTF-16 with a byte order mark, as PowerShell writes it; a line
        that is neither is read as Latin-1. Empty lines and the fragment of a URL (from ``#``
        on) are dropped.

    Returns
    -------
    list of Entry

    Raises
    ------
    FetchError
        If the file does not exist or holds no URL.
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


# Bytes are split and stripped, not text: in text, some Latin-1 characters count as white space.
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
    """One call of `fetch_urls`; everything but the decoding runs in its event loop."""

    def __init__(self, entries, manifest, per_class, limit, request_limits):
        self.manifest = manifest
        self.per_class, self.limit, self.request_limits = per_class, limit, request_limits
        self.entries = list({entry.url: entry for entry in reversed(entries)}.values())[::-1]
        self.stems = _stems(self.entries)
        self.class_of = {entry.url: _class(entry) for entry in self.entries}
        self.loop = self.task = None
        self.stopped = False

    async def run(self):
        """Fetch until no wanted address remains."""
        self.loop, self.task = asyncio.get_running_loop(), asyncio.current_task()
        self.good, self.good_of = set(), collections.Counter()
        for url in self.class_of:
            self._count(url)
        self.loop.set_default_executor(ThreadPoolExecutor(self.request_limits.concurrency))
        done = sum(entry.url in self.manifest.outcomes for entry in self.entries)
        with (
            ThreadPoolExecutor(os.cpu_count()) as self.validators,
            tqdm(total=len(self.entries), initial=done, unit=" URLs") as self.bar,
        ):
            async with _Web(self.request_limits) as self.web:
                # A duplicate that is dropped later leaves room for another image.
                while not self.stopped and (todo := self._todo()):
                    await self._sweep(todo)

    def stop(self):
        """End `run`, called from another thread."""
        self.stopped = True
        if self.loop is not None:
            with contextlib.suppress(RuntimeError):  # it has just ended, and its loop is closed
                self.loop.call_soon_threadsafe(self.task.cancel)

    def missing(self, entry):
        """Return the outcome of an entry that was not fetched."""
        if self._is_full():
            return Outcome(Status.NOT_NEEDED, f"there are {self.limit} good images")
        if self._is_full(self.class_of[entry.url]):
            return Outcome(Status.NOT_NEEDED, f"its class has {self.per_class} good images")
        return NOT_TRIED

    def _count(self, url):
        outcome = self.manifest.outcomes.get(url)
        good = outcome is not None and outcome.status is Status.GOOD
        if url in self.class_of and good != (url in self.good):
            (self.good.add if good else self.good.remove)(url)
            self.good_of[self.class_of[url]] += 1 if good else -1

    def _is_full(self, class_name=None):
        if class_name is None:
            return self.limit is not None and len(self.good) >= self.limit
        return self.per_class is not None and self.good_of[class_name] >= self.per_class

    def _is_wanted(self, entry):
        full = self._is_full() or self._is_full(self.class_of[entry.url])
        return not full and entry.url not in self.manifest.outcomes

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
                await self._process(entry)
                self.bar.set_postfix(good=len(self.good), refresh=False)
                self.bar.update()

    async def _process(self, entry):
        try:
            validation = await self.web.get(
                entry.url, self._validate, lambda: self._is_wanted(entry)
            )
        except WebError as error:
            self.manifest.record(entry.url, Outcome(error.status, error.why))
            return
        if not self._is_wanted(entry):
            return
        file = f"{self.stems[entry.url]}{validation.suffix}"
        dropped = self.manifest.admit(entry.url, file, validation)
        self._count(entry.url)
        self._count(dropped)
        if self._is_full():
            for task in self.tasks:
                if task is not asyncio.current_task():
                    task.cancel()

    async def _validate(self, data):
        return await self.loop.run_in_executor(self.validators, validate, data)


# A notebook's main thread already has an event loop, so the crawl runs in another thread.
def _run(crawl):
    # after Ctrl-C in an earlier bar this thread may hold the bars' lock, which the other waits for
    tqdm.set_lock(threading.RLock())
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(lambda: asyncio.run(crawl.run()))
        try:
            future.result()
        except KeyboardInterrupt:
            crawl.stop()
            raise


def _stems(entries):
    """Name each address' file, without the ending: its id, or the address' hash if it has none."""
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
