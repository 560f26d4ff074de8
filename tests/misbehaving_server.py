"""A web server on 127.0.0.1 that has the faults of real servers, one path for each.

The faults were collected from issue trackers and from a crawl of ImageNet's URLs.
"""

import collections
import contextlib
import functools
import gzip
import http.server
import io
import itertools
import re
import socket
import struct
import threading
import urllib.parse
import zlib

import cv2
import numpy as np
import pillow_heif
from PIL import Image

pillow_heif.register_heif_opener()

PIECE = b"x" * 65536


class Server(http.server.ThreadingHTTPServer):
    """The server runs inside its context.

    Attributes
    ----------
    hits : collections.Counter
        Number of requests, by path.
    ranges : list of str
        The range headers of the requests for `files`.
    most_at_once : collections.Counter
        Largest number of simultaneous requests, by the host they named.
    files : dict of str to bytes
        The content of ``/files/NAME``, which supports ranges. ``/cut/NAME`` and
        ``/no-ranges/NAME`` cut the first response in the middle; the latter has no ranges.
    pause : float
        Seconds before every response.
    together : int
        The server waits for so many simultaneous requests before it responds.
    """

    daemon_threads = True
    request_queue_size = 512

    def __init__(self, pause=0.0, together=1):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.ranges, self.pause = {}, [], pause
        self.hits, self.most_at_once = collections.Counter(), collections.Counter()
        self.over, self.meeting = threading.Event(), threading.Barrier(together)
        self._now, self._lock = collections.Counter(), threading.Lock()

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, *_):
        """Print nothing when a client hangs up."""

    def url(self, path, host="127.0.0.1"):
        """Return the address of a path; localhost is another host to a crawler."""
        return f"http://{host}:{self.server_port}{path}"

    @contextlib.contextmanager
    def count(self, path, host):
        with self._lock:
            self.hits[path] += 1
            self._now[host] += 1
            self.most_at_once[host] = max(self.most_at_once[host], self._now[host])
        try:
            yield
        finally:
            with self._lock:
                self._now[host] -= 1


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        """Print nothing."""

    def do_GET(self):
        path = self.path.partition("?")[0]
        host = self.headers["Host"].partition(":")[0]
        with self.server.count(path, host):
            self.server.over.wait(self.server.pause)
            self.server.meeting.wait(timeout=20)
            kind, _, rest = path.lstrip("/").partition("/")
            getattr(self, f"get_{kind.partition('.')[0].replace('-', '_')}")(rest)

    def answer(self, body, status=200, length=None, content_type="image/jpeg", **headers):
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", len(body) if length is None else length)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def get_good(self, rest):
        self.answer(photograph(int(re.sub(r"\D", "", rest))))

    def get_gzip(self, rest):
        body = gzip.compress(photograph(110))
        cut = len(body) // 2 if rest == "cut" else None
        self.answer(body[:cut], Content_Encoding="gzip")

    def get_gzip_bomb(self, _):
        self.answer(gzip.compress(bytes(10**7)), Content_Encoding="gzip")

    def get_gzip_said_only(self, _):
        self.answer(photograph(112), Content_Encoding="gzip")

    def get_heic(self, _):
        self.answer(encode(Image.fromarray(pixels(113)), "HEIF"), content_type="image/heic")

    def get_avif(self, _):
        self.answer(encode(Image.fromarray(pixels(114)), "AVIF"), content_type="image/avif")

    def get_same(self, _):
        self.answer(photograph(7777))

    def get_status(self, rest):
        self.answer(b"<html>no</html>", int(rest), content_type="text/html")

    def get_flaky(self, _):
        if self.server.hits[self.path] == 1:
            self.answer(b"", 500)
        else:
            self.answer(photograph(101))

    def get_hang(self, _):
        self.server.over.wait(30)

    def get_drip(self, _):
        self.answer(b"", length=10**6)
        self._drip(b"x")

    def get_drip_headers(self, _):
        self._drip(b"HTTP/1.1 200 OK\r\n" + b"X-Header: x\r\n" * 10**4)

    def _drip(self, data):
        for byte in itertools.cycle(data):
            if self.server.over.wait(0.02):
                break
            self.wfile.write(bytes([byte]))

    def get_reset(self, _):
        self._reset()

    def get_reset_midway(self, _):
        data = photograph(102)
        self.answer(data[:1000], length=len(data))
        self._reset()

    def _reset(self):
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def get_truncated(self, _):
        data = photograph(103)
        self.answer(data[: len(data) // 2], length=len(data))
        self.close_connection = True

    def get_length_too_small(self, _):
        data = photograph(104)
        self.answer(data, length=len(data) // 2)
        self.close_connection = True

    def get_length_too_large(self, _):
        data = photograph(105)
        self.answer(data, length=2 * len(data))
        self.server.over.wait(30)

    def get_length_nonsense(self, _):
        self.answer(photograph(106), length="many")

    def get_no_http(self, _):
        self.wfile.write(b"What do you want?\r\n\r\n")
        self.close_connection = True

    def get_html(self, _):
        self.answer(b"<!DOCTYPE html><title>Gone</title>", content_type="text/html")

    def get_empty(self, _):
        self.answer(b"")

    def get_placeholder(self, _):
        self.answer(PLACEHOLDER)

    def get_loop(self, _):
        self.answer(b"", 302, Location=self.path)

    def get_to(self, rest):
        self.answer(b"", 301, Location=urllib.parse.unquote(rest))

    def get_huge(self, _):
        self.send_response(200)
        self.end_headers()
        while not self.server.over.is_set():
            self.wfile.write(PIECE)

    def get_huge_announced(self, _):
        self.answer(b"", length=10**12)

    def get_grey(self, _):
        self.answer(encode(Image.fromarray(pixels(1)).convert("L")))

    def get_cmyk(self, _):
        self.answer(encode(Image.fromarray(pixels(2)).convert("CMYK")))

    def get_animated(self, _):
        frames = [Image.fromarray(pixels(seed)) for seed in (3, 4, 5)]
        self.answer(encode(frames[0], "GIF", save_all=True, append_images=frames[1:]))

    def get_alpha(self, _):
        image = Image.fromarray(pixels(6)).convert("RGBA")
        image.putalpha(Image.linear_gradient("L").resize(image.size))
        self.answer(encode(image, "PNG"))

    def get_rotated(self, _):
        exif = Image.Exif()
        exif[0x0112] = 6
        self.answer(encode(Image.fromarray(pixels(8)), exif=exif))

    def get_small(self, _):
        self.answer(encode(Image.fromarray(pixels(9)[:63])))

    def get_bomb(self, _):
        self.answer(BOMB)

    def get_non_ascii(self, rest):
        ok = urllib.parse.unquote(rest) == "caf\xe9 \u96ea.jpg"
        self.answer(photograph(107) if ok else b"", 200 if ok else 404)

    def get_cookie(self, rest):
        body, status = photograph(200 + int(rest)), 400 if "Cookie" in self.headers else 200
        self.answer(body, status, Set_Cookie="a=b")

    def get_files(self, rest):
        self._serve(self.server.files[rest], None)

    def get_cut(self, rest):
        data = self.server.files[rest]
        first = self.server.hits[self.path] == 1
        self._serve(data, len(data) // 2 if first else None)

    def get_no_ranges(self, rest):
        data = self.server.files[rest]
        cut = len(data) // 2 if self.server.hits[self.path] == 1 else len(data)
        self.answer(data[:cut], length=len(data))
        self.close_connection = True

    def _serve(self, data, cut):
        wanted = self.headers.get("Range", "")
        self.server.ranges.append(wanted)
        start = int(re.sub(r"\D", "", wanted) or 0)
        if start >= len(data):
            self.answer(b"", 416, Content_Range=f"bytes */{len(data)}")
            return
        headers = {"Content_Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
        self.answer(data[start:cut], 206 if start else 200, len(data) - start, **headers)
        self.close_connection = True


def pixels(seed, height=80, width=100):
    """Return a colorful smooth picture, another one for every seed."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def encode(image, image_format="JPEG", **options):
    """Return the bytes of an image file."""
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


@functools.cache
def photograph(seed, height=80, width=100):
    """Return a colorful JPEG file, another one for every seed."""
    return encode(Image.fromarray(pixels(seed, height, width)), quality=90)


def huge_png(side):
    """Return a PNG file that only says that it is huge."""
    data = bytearray(encode(Image.new("RGB", (1, 1)), "PNG"))
    data[16:24] = struct.pack(">II", side, side)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


PLACEHOLDER, BOMB = photograph(6666), huge_png(30000)
