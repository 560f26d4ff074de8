"""How soon the page of `make app` shows its first picture, and what a visitor costs.

    python benchmarks/page.py [--visitors 2] [--json RESULTS.json]

Needs Chromium, as tests/test_browser.py does; CHROMIUM names another one than Debian's. Seconds:

- answers: from the start of the server to its first answer;
- picture: from that answer (later visitors: from their request) until the first photograph is
  drawn, in a browser without a cache.

Memory in MB that belongs to one process alone: the server's, and that of each visitor's kernel.
"""

import os
import subprocess
import sys
import time
import urllib.request

import harness
import psutil
from playwright import sync_api

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")

DRAWN = "document.querySelector('.cl-after')?.naturalWidth > 0"
"""JavaScript: whether the first photograph is drawn."""

PORT = 8877


def wait_for(address, server):
    while server.poll() is None:
        try:
            return urllib.request.urlopen(address, timeout=5).close()
        except OSError:
            time.sleep(0.01)
    raise SystemExit(f"the server did not start; is port {PORT} taken?")


def visit(browser, address):
    """Open the page; return the time when its picture is drawn."""
    page = browser.new_context(viewport={"width": 1280, "height": 1000}).new_page()
    page.goto(address, wait_until="commit")
    page.wait_for_function(DRAWN, polling=10)
    return time.perf_counter()


def megabytes(process):
    return round(process.memory_full_info().uss / 2**20)


def measure(browser, visitors):
    begin = time.perf_counter()
    arguments = [f"--port={PORT}", f"--max-visitors={visitors}"]
    command = [sys.executable, "-m", "colorlib.app.server", *arguments]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    address, pictures = f"http://127.0.0.1:{PORT}/", []
    try:
        wait_for(f"{address}voila/static/voila.js", server)
        answered = time.perf_counter()
        for number in range(visitors):
            asked = time.perf_counter() if number else answered
            pictures.append(visit(browser, address) - asked)
        running = psutil.Process(server.pid)
        kernels = [megabytes(kernel) for kernel in running.children()]
        return {
            "answers": answered - begin,
            "pictures": pictures,
            "server_mb": megabytes(running),
            "kernels_mb": kernels,
        }
    finally:
        server.terminate()
        server.wait()


def main():
    parser = harness.parser(__doc__)
    parser.add_argument("--visitors", type=int, default=2)
    options = parser.parse_args()
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        found = harness.rounded(measure(browser, options.visitors), ".2f")
        browser.close()
    print("\n".join(f"{name:>12}: {value}" for name, value in found.items()))
    harness.write(options.json, {**harness.machine(), "unit": "seconds, MB", **found})


if __name__ == "__main__":
    main()
