"""Images per second from one local server: `colorlib.data.crawler` against img2dataset.

Not here: failing servers (`tests/test_crawl.py`) and other networks. img2dataset is no
dependency; install it in an environment of its own and name that interpreter:

    python3.11 -m venv /tmp/img2dataset
    /tmp/img2dataset/bin/pip install img2dataset
    python benchmarks/download.py --img2dataset /tmp/img2dataset/bin/python

Both get the same list, 64 connections, no limit per host and a timeout of ten seconds.
"""

import argparse
import contextlib
import http.server
import io
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

from colorlib import samples

CONNECTIONS = 64

MEASURE = """
import json, resource, sys, time
listed, out, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
{imports}
start = time.perf_counter()
{call}
seconds = time.perf_counter() - start
usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
cpu = sum(each.ru_utime + each.ru_stime for each in usage)
print(json.dumps(dict(seconds=seconds, cpu=cpu)))
"""

OURS = MEASURE.format(
    imports="from colorlib.data import crawler",
    call="crawler.fetch_urls(listed, out, request_limits=crawler.RequestLimits(**options))",
)

THEIRS = MEASURE.format(
    imports="from img2dataset import download",
    call="download(url_list=listed, output_folder=out, **options)",
)

OUR_OPTIONS = dict(concurrency=CONNECTIONS, per_host=CONNECTIONS)

CORES = os.cpu_count()

THEIR_OPTIONS = dict(
    processes_count=CORES,
    thread_count=CONNECTIONS // CORES,
    number_sample_per_shard=250,
    timeout=10,
    resize_mode="no",
    extract_exif=False,
)


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves photographs from memory, by number."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        """Print nothing."""

    def do_GET(self):
        """Respond after the server's pause."""
        time.sleep(self.server.pause)
        body = self.server.photographs[int(self.path.strip("/").partition(".")[0])]
        self.send_response(200)
        self.send_header("Content-Type", "image/jpeg")
        self.send_header("Content-Length", len(body))
        self.end_headers()
        self.wfile.write(body)


class Server(http.server.ThreadingHTTPServer):
    """A thread per connection."""

    daemon_threads = True
    request_queue_size = 512

    def handle_error(self, *_):
        """Print nothing when a client hangs up."""


def serve(photographs, pause, port):
    server = Server(("127.0.0.1", 0), Handler)
    server.photographs, server.pause = photographs, pause
    port.send(server.server_port)
    server.serve_forever()


@contextlib.contextmanager
def serving(photographs, pause):
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=serve, args=(photographs, pause, theirs), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        process.terminate()
        process.join()


def make_photographs(count, size):
    patches = samples.patches(count, size)
    return [encode(patch) for patch in patches]


def encode(rgb):
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def measure(python, code, listed, options):
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder) / "out")
        result = subprocess.run(
            [python, "-c", code, str(listed), out, json.dumps(options)],
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode:
            sys.exit(f"{python} failed:\n{result.stderr}")
        kept = sum(path.suffix in (".jpg", ".jpeg") for path in Path(out).rglob("*"))
        return kept, json.loads(result.stdout.splitlines()[-1])


def rows(python):
    yield "colorlib: decoded, color and duplicates checked", sys.executable, OURS, OUR_OPTIONS
    has_it = subprocess.run([python, "-c", "import img2dataset"], capture_output=True, check=False)
    if has_it.returncode:
        print(f"{python} has no img2dataset; see the head of this file for how to install it")
        return
    undecoded = THEIR_OPTIONS | dict(disable_all_reencoding=True)
    yield "img2dataset: not decoded", python, THEIRS, undecoded
    decoded = THEIR_OPTIONS | dict(skip_reencode=True, min_image_size=64)
    yield "img2dataset: decoded, size checked", python, THEIRS, decoded


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--img2dataset", default=sys.executable, metavar="PYTHON")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--size", type=int, default=256)
    arguments = parser.parse_args()
    photographs = make_photographs(arguments.count, arguments.size)
    mean = sum(map(len, photographs)) / len(photographs) / 1000
    print(f"{arguments.count} JPEG of {arguments.size}x{arguments.size}, {mean:.0f} kB on average")
    print(f"{CONNECTIONS} connections, {CORES} cores, server on the same machine\n")
    print(f"{'':48}{'server':>8}{'images':>8}{'images/s':>10}{'CPU s/1000':>12}")
    for pause in (0.0, 0.05, 0.2):
        with serving(photographs, pause) as port, tempfile.TemporaryDirectory() as folder:
            listed = Path(folder) / "list.txt"
            urls = (f"http://127.0.0.1:{port}/{i}.jpg" for i in range(arguments.count))
            listed.write_text("\n".join(urls) + "\n")
            for name, python, code, options in rows(arguments.img2dataset):
                kept, took = measure(python, code, listed, options)
                print(
                    f"{name:48}{pause * 1000:>5.0f} ms{kept:>8}"
                    f"{kept / took['seconds']:>10.0f}{took['cpu'] / kept * 1000:>12.1f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
