"""One address -> the bytes behind it: politely, within limits, or with the reason why not.

Not here: lists of addresses (`colorlib.crawl`) and what the bytes are (`colorlib.verdict`).
Chapter 3 of the report.
"""

import asyncio
import collections
import contextlib
import dataclasses
import http.cookiejar
import zlib

import httpx

from colorlib.verdict import Fate, FetchError

USER_AGENT = "colorlib (a course on image colorization)"

MAX_REDIRECTS = 5

COMPRESSED = ("gzip", "x-gzip", "deflate")
"""Encodings of an answer that are undone."""

RETRIED = {Fate.SERVER_ERROR, Fate.TIMED_OUT}


class WebError(Exception):
    """An address that brought nothing, with a `fate` and a `why` for the report."""

    def __init__(self, fate, why):
        super().__init__(why)
        self.fate, self.why = fate, why


@dataclasses.dataclass(frozen=True)
class Manners:
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


MANNERS = Manners()
"""The defaults."""


class Web:
    """A client for many addresses at once, inside one event loop.

    Parameters
    ----------
    manners : Manners
    """

    def __init__(self, manners):
        self.manners = manners
        self._slots = asyncio.Semaphore(manners.concurrency)
        self._hosts = collections.defaultdict(lambda: asyncio.Semaphore(manners.per_host))
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
            than `Manners.concurrency` files are in memory.
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
        for attempt in range(self.manners.retries + 1):
            try:
                return await self._attempt(address, use, is_wanted)
            except WebError as error:
                if error.fate not in RETRIED:
                    raise
                last = error
            if attempt < self.manners.retries:
                await asyncio.sleep(self.manners.backoff * 2**attempt)
        raise WebError(last.fate, f"{last.why} (attempts: {self.manners.retries + 1})")

    async def _attempt(self, address, use, is_wanted):
        url, left = _checked(address, Fate.BAD_ADDRESS), self.manners.total_timeout
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
            url = _checked(answer, Fate.BAD_REDIRECT)
        raise WebError(Fate.BAD_REDIRECT, f"more than {MAX_REDIRECTS} redirects")

    # One client would look through all its connections at each request: a client per slot.
    @contextlib.asynccontextmanager
    async def _client(self):
        if not self._idle:
            client = _client(self.manners, self._tls)
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
            fate = Fate.SERVER_ERROR if response.status_code >= 500 else Fate.REFUSED
            raise WebError(fate, f"{response.status_code} {response.reason_phrase}")
        self._check_size(int(response.headers.get("Content-Length", 0)))

    def _check_size(self, size):
        if size > self.manners.max_bytes:
            raise WebError(Fate.TOO_LARGE, f"more than {self.manners.max_bytes} bytes")

    # Asked for nothing of the kind, some servers compress all the same.
    def _decoded(self, body, encoding):
        if encoding.strip().lower() not in COMPRESSED:
            return body
        unpacker = zlib.decompressobj(zlib.MAX_WBITS + 32)  # 32: gzip's header or zlib's
        try:
            data = unpacker.decompress(body, self.manners.max_bytes + 1)
        except zlib.error:
            return body  # it is not what they say
        self._check_size(len(data))
        if not unpacker.eof:
            raise WebError(Fate.CUT_OFF, f"after {len(body)} bytes ({encoding})")
        return data

    def _explain(self, error, received):
        manners = self.manners
        match error:
            case TimeoutError():
                return WebError(Fate.TIMED_OUT, f"not complete within {manners.total_timeout} s")
            case httpx.ConnectTimeout():
                return WebError(Fate.TIMED_OUT, f"no connection in {manners.connect_timeout} s")
            case httpx.TimeoutException():
                return WebError(Fate.TIMED_OUT, f"silent for {manners.read_timeout} s")
            case httpx.InvalidURL() | httpx.LocalProtocolError():
                return WebError(Fate.BAD_ADDRESS, str(error))
        why = f"{type(error).__name__}: {error}".removesuffix(": ")
        if received:
            return WebError(Fate.CUT_OFF, f"after {received} bytes ({why})")
        return WebError(Fate.UNREACHABLE, why)


def _client(manners, tls):
    timeout = httpx.Timeout(manners.read_timeout, connect=manners.connect_timeout, pool=None)
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
