"""Notebook 10 in a real browser: in JupyterLab, and as the page that `make app` serves.

Needs Chromium; without it these tests are skipped. Nothing is fetched from the network: requests
that would leave this machine fail a test.
"""

import base64
import contextlib
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import numpy as np
import odd_files
import pytest
from PIL import ExifTags, Image

from colorlib import config, images, runs, samples
from colorlib.app import game

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))
NOTEBOOK = config.ROOT / "notebooks" / "10_color_your_own.ipynb"
BIN = Path(sys.executable).parent
PATIENCE = 60_000
"""Milliseconds: far more than needed, for machines with other work."""

ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

PIXELS = """image => {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [24, 24];
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0, 24, 24);
  return Array.from(context.getImageData(0, 0, 24, 24).data);
}"""
"""JavaScript: what an image element shows."""

CHOOSE = """(input, files) => {
  for (const [name, text] of files) {
    const chosen = new DataTransfer();
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    chosen.items.add(new File([bytes], name));
    input.files = chosen.files;
    input.dispatchEvent(new Event("change"));
  }
}"""
"""JavaScript: choose files, one right after the other."""

sync_api.expect.set_options(timeout=PATIENCE)

pytestmark = pytest.mark.skipif(
    not CHROMIUM.exists(),
    reason=f"no browser at {CHROMIUM}; install Debian's chromium, or set CHROMIUM to one",
)


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser):
    """A page that notes who is asked for anything."""
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    context.set_default_timeout(PATIENCE)
    opened = context.new_page()
    asked = set()
    opened.on("request", lambda request: asked.add(request.url.partition("?")[0]))
    yield opened
    context.close()
    outside = [url for url in asked if "//" in url and "//127.0.0.1" not in url]
    assert [url for url in outside if url.startswith("http")] == [], "asked other machines"


@pytest.fixture
def granny(tmp_path):
    """A grey photograph to upload."""
    grey = samples.square("grace_hopper", 300)[..., 1]
    images.write(tmp_path / "granny.jpg", np.dstack([grey] * 3))
    return tmp_path / "granny.jpg"


@contextlib.contextmanager
def serving(command, folder, url):
    """Run a server until the block ends, together with all that it started."""
    environment = {**os.environ, "PYTHONPATH": str(config.ROOT)}
    log = folder / "server.log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            command, cwd=config.ROOT, env=environment, stdout=output, stderr=output,
            stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
    try:
        _wait_for(url, server, log)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait(10)


def _wait_for(url, server, log):
    end = time.monotonic() + PATIENCE / 1000
    while time.monotonic() < end and server.poll() is None:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(url, timeout=5).close()
            return
        time.sleep(0.2)
    pytest.fail(f"the server did not start:\n{log.read_text()}")


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def app_command(port):
    """Return the command that `make app` runs, as make itself says it, for two visitors."""
    variables = [f"BIN={BIN}", f"PORT={port}", "VISITORS=2"]
    made = subprocess.run(
        ["make", "--no-print-directory", "--dry-run", "app", *variables],
        cwd=config.ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return shlex.split(made.stdout.splitlines()[-1])


def shown(page):
    return np.array(page.locator(".cl-after").evaluate(PIXELS)).reshape(24, 24, 4)


def until(condition, what):
    end = time.monotonic() + PATIENCE / 1000
    while not condition():
        assert time.monotonic() < end, f"waited in vain until {what}"
        time.sleep(0.1)


def use_the_studio(page, granny):
    """Upload a photograph, move a slider, click, wipe: each has to show."""
    stage = page.locator(".cl-stage")
    stage.scroll_into_view_if_needed()
    until(lambda: shown(page).any(), "a picture is shown")
    first = shown(page)
    page.locator(".cl-bar .cl-upload input").set_input_files(granny)
    sync_api.expect(page.locator(".cl-shown")).to_contain_text("granny.jpg, 300 × 300 pixels")
    until(lambda: not np.array_equal(shown(page), first), "the upload is shown")
    sync_api.expect(page.locator(".cl-bar .cl-upload p")).to_have_text("")
    vividness = page.locator(".cl-slider", has_text="Vividness").locator(".widget-readout")
    own = runs.load_run(config.DEFAULT_RUN).decoding.vividness
    sync_api.expect(vividness).to_have_text(f"{own:.2f}")
    colored = shown(page)
    spread = np.ptp(colored[..., :3].astype(int), axis=-1)
    assert spread.max() > 10, "a grey photograph has got colors"

    saturation = page.locator(".cl-slider", has_text="Saturation").locator(".noUi-handle")
    saturation.focus()
    for _ in range(3):
        page.keyboard.press("Home")
    until(lambda: np.ptp(shown(page)[..., :3], axis=-1).max() < 10, "saturation 0 is grey")
    page.get_by_role("button", name="Reset").click()
    until(lambda: np.array_equal(shown(page), colored), "reset shows the colors again")

    prediction = page.locator(".cl-plane").inner_html()
    stage.click(position={"x": 30, "y": 30})
    until(lambda: page.locator(".cl-plane").inner_html() != prediction, "a click changes it")
    assert page.locator(".cl-swatches b").count() == 6, "five likeliest and the chosen one"

    handle = page.locator(".cl-handle")
    before = page.locator(".cl-before").evaluate("e => e.style.clipPath")
    handle.focus()
    page.keyboard.press("ArrowRight")
    until(
        lambda: page.locator(".cl-before").evaluate("e => e.style.clipPath") != before,
        "the divider moves",
    )
    with page.expect_download() as waiting:
        page.locator(".cl-actions .cl-download button").click()
    assert waiting.value.suggested_filename == "granny-colored.jpg"
    assert images.read(waiting.value.path()).shape == (300, 300, 3)


def use_hints(page, folder):
    """Color a point, move it, remove it, take that back, save and load."""
    page.get_by_role("button", name="Hints", exact=True).click()
    stage, marks = page.locator(".cl-stage"), page.locator(".cl-mark")
    suggested = page.locator(".cl-palette button")
    suggested.first.wait_for()
    plain = shown(page)
    stage.click(position={"x": 200, "y": 90})
    suggested.last.click()
    sync_api.expect(marks).to_have_count(1)
    until(lambda: not np.array_equal(shown(page), plain), "a hint changes the picture")
    page.locator(".cl-palette input").fill("#00a020")
    sync_api.expect(marks).to_have_css("background-color", "rgb(0, 160, 32)")

    place = marks.bounding_box()
    x, y = (place[start] + place[side] / 2 for start, side in (("x", "width"), ("y", "height")))
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 60, y + 40, steps=4)
    page.mouse.up()
    until(lambda: abs(marks.bounding_box()["x"] - place["x"] - 60) < 2, "the hint is dragged")
    moved = shown_when_still(page)
    marks.focus()
    page.keyboard.press("Delete")
    sync_api.expect(marks).to_have_count(0)
    until(lambda: np.array_equal(shown(page), plain), "without the hint it is as before")
    page.get_by_role("button", name="Undo").click()
    sync_api.expect(marks).to_have_count(1)
    until(lambda: np.array_equal(shown(page), moved), "the removal is taken back")

    with page.expect_download() as waiting:
        page.get_by_role("button", name="Save hints").click()
    assert waiting.value.suggested_filename == "granny-hints.csv"
    waiting.value.save_as(folder / "granny-hints.csv")
    assert re.search(r"^\d+,\d+,#00a020$", (folder / "granny-hints.csv").read_text(), re.M)
    page.get_by_role("button", name="Clear").click()
    sync_api.expect(marks).to_have_count(0)
    page.locator(".cl-buttons .cl-upload input").set_input_files(folder / "granny-hints.csv")
    sync_api.expect(marks).to_have_count(1)


def shown_when_still(page):
    """Return the picture once it stays the same for a second."""
    pictures = [shown(page)]
    while len(pictures) == 1 or not np.array_equal(*pictures[-2:]):
        time.sleep(1)
        pictures.append(shown(page))
    return pictures[-1]


def run_all(page):
    """Run all cells; again if the notebook was not connected to its kernel yet."""
    sync_api.expect(page.locator("#jp-main-statusbar")).to_contain_text("| Idle")
    begun = page.locator(".jp-InputPrompt", has_text=re.compile(r"\[[*\d]+\]"))

    def running():
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        with contextlib.suppress(sync_api.TimeoutError):
            begun.first.wait_for(state="attached", timeout=5000)
        return begun.count()

    until(running, "cells are running")


def test_jupyterlab_runs_the_notebook(page, granny, tmp_path):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    nbformat.write(notebook, tmp_path / NOTEBOOK.name)
    port = free_port()
    command = [
        BIN / "jupyter", "lab", f"--ServerApp.root_dir={tmp_path}", f"--port={port}",
        "--ip=127.0.0.1", "--no-browser", "--IdentityProvider.token=", "--allow-root",
        "--LabApp.news_url=None", "--ServerApp.port_retries=0",
        f"--LabApp.workspaces_dir={tmp_path / 'workspaces'}",
        f"--LabApp.user_settings_dir={tmp_path / 'settings'}",
    ]  # fmt: skip
    with serving(command, tmp_path, f"http://127.0.0.1:{port}/api"):
        page.goto(f"http://127.0.0.1:{port}/lab/tree/{NOTEBOOK.name}")
        page.locator(".jp-Notebook .jp-Cell").first.wait_for()
        run_all(page)
        page.locator(".cl-plane").wait_for(state="attached")
        use_the_studio(page, granny)


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    """Run `make app`; give its address, and its folder for temporary files."""
    folder, port = tmp_path_factory.mktemp("app"), free_port()
    address = f"http://127.0.0.1:{port}/"
    (place := folder / "temporary").mkdir()
    command = ["env", f"TMPDIR={place}", *app_command(port)]
    with serving(command, folder, f"{address}voila/static/voila.js"):
        yield address, place


@pytest.fixture
def visit(page, app):
    """The page that `make app` serves; at the end the visitor leaves it."""
    page.goto(app[0])
    yield page
    page.goto("about:blank")


def test_the_page_that_make_app_serves(visit, granny, app, tmp_path):
    page, (_, place) = visit, app
    kept = game.ANSWERS.read_bytes() if game.ANSWERS.exists() else None
    page.locator(".cl-plane").wait_for()
    use_the_studio(page, granny)
    use_hints(page, tmp_path)
    overlap_uploads(page, granny)
    refuse_bad_files(page, tmp_path)
    fail_to_download(page, place)
    sync_api.expect(page.locator(".cl-card img")).to_have_count(2)
    assert page.locator(".jp-InputArea-editor").count() == 0, "the page shows no code"
    assert "Traceback" not in page.content() and "error when executing" not in page.content()
    tool, prose = (page.locator(name).first.bounding_box() for name in (".cl-studio", "h2"))
    assert tool["y"] < prose["y"], "the studio leads the page"
    for width in (800, 400):
        page.set_viewport_size({"width": width, "height": 900})
        reached = page.evaluate("document.documentElement.scrollWidth")
        assert reached <= width, "nothing reaches over the edge of a narrow page"
    now = game.ANSWERS.read_bytes() if game.ANSWERS.exists() else None
    assert now == kept, "a test leaves no answers"


SCRIPT = '<img src=x onerror="window.hacked=1">'

ATTACK = """async ([address, kernel]) => {
  const told = (start) => new Promise((done) => start(() => done("got in"), () => done("refused")));
  const socket = await told((yes, no) => {
    const opened = new WebSocket(`${address.replace("http", "ws")}api/kernels/${kernel}/channels`);
    Object.assign(opened, { onopen: yes, onerror: no });
  });
  const read = await told((yes, no) => fetch(`${address}api/kernels/${kernel}`).then(yes, no));
  const image = await told((yes, no) => {
    Object.assign(new Image(), { onload: yes, onerror: no, src: address });
  });
  const form = { method: "POST", mode: "no-cors", credentials: "include" };
  await told((yes, no) => fetch(`${address}voila/api/shutdown/${kernel}`, form).then(yes, no));
  return [socket, read, image];
}"""
"""JavaScript of another page: everything that it can try, even if it knew the kernel's id."""


def kernel_of(page):
    return page.evaluate("JSON.parse(document.getElementById('jupyter-config-data').text).kernelId")


def is_served(page):
    """Return whether the page's kernel still runs."""
    return page.evaluate("id => fetch(`api/kernels/${id}`).then(it => it.ok)", kernel_of(page))


def test_names_metadata_and_other_pages_do_no_harm(visit, granny, app, tmp_path):
    page, (address, _) = visit, app
    page.locator(".cl-plane").wait_for()
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = exif[ExifTags.Base.Artist] = SCRIPT
    Image.open(granny).save(tmp_path / f"{SCRIPT}.jpg", exif=exif, comment=SCRIPT.encode())
    page.locator(".cl-bar .cl-upload input").set_input_files(tmp_path / f"{SCRIPT}.jpg")
    sync_api.expect(page.locator(".cl-shown")).to_contain_text(f"{SCRIPT}.jpg, 300 × 300 pixels")
    sync_api.expect(page.locator(".cl-bar select")).to_contain_text(SCRIPT)

    page.get_by_role("button", name="Hints", exact=True).click()
    (tmp_path / f"{SCRIPT}.csv").write_text(f"x,y,color\n1,1,{SCRIPT}\n")
    page.locator(".cl-buttons .cl-upload input").set_input_files(tmp_path / f"{SCRIPT}.csv")
    sync_api.expect(page.locator(".cl-buttons .cl-upload p")).to_contain_text("no color '<img")

    path = ("../../colorlib/up.jpg", base64.b64encode(granny.read_bytes()).decode())
    page.locator(".cl-bar .cl-upload input").evaluate(CHOOSE, [path])
    sync_api.expect(page.locator(".cl-shown")).to_contain_text(re.compile(r"(?<!/)up\.jpg, 300"))
    assert page.evaluate("window.hacked") is None and page.locator("img[src=x]").count() == 0

    port, stranger = free_port(), page.context.new_page()
    command = [sys.executable, "-m", "http.server", f"{port}", "--bind=127.0.0.1", "-d", tmp_path]
    with serving(command, tmp_path, f"http://127.0.0.1:{port}/"):
        stranger.goto(f"http://127.0.0.1:{port}/")
        assert stranger.evaluate(ATTACK, [address, kernel_of(page)]) == ["refused"] * 3
    assert is_served(page)


def test_visitors_are_apart_and_no_more_than_allowed(visit, browser, granny, app):
    page, (address, _) = visit, app
    other = page.context.new_page()  # another tab of the same browser
    other.goto(address)
    for each in (page, other):
        sync_api.expect(each.locator(".cl-shown")).to_contain_text("coffee.png")
    page.locator(".cl-bar .cl-upload input").set_input_files(granny)
    sync_api.expect(page.locator(".cl-shown")).to_contain_text("granny.jpg")
    assert kernel_of(page) != kernel_of(other)
    assert "granny" not in other.content() and "granny" not in other.goto(address).text()
    sync_api.expect(other.locator(".cl-shown")).to_contain_text("coffee.png")

    third = browser.new_context().new_page()
    third.set_default_timeout(PATIENCE)
    assert third.goto(address).status == 503
    sync_api.expect(third.locator("h1")).to_have_text("All places are taken")
    other.goto("about:blank")
    until(lambda: third.goto(address).status == 200, "the place of a closed page is free")
    assert is_served(page), "others go on"
    third.goto("about:blank")
    third.context.close()


def overlap_uploads(page, granny):
    """The newest counts, whatever an older one still sends."""
    older, newer = bytes(3 * 2**20), granny.read_bytes()
    files = [("older.jpg", older), ("newer.jpg", newer), ("older.jpg", older), ("last.jpg", newer)]
    texts = [(name, base64.b64encode(data).decode()) for name, data in files]
    page.locator(".cl-bar .cl-upload input").evaluate(CHOOSE, texts)
    sync_api.expect(page.locator(".cl-shown")).to_contain_text("last.jpg, 300 × 300 pixels")
    sync_api.expect(page.locator(".cl-bar .cl-upload p")).to_have_text("")
    page.locator(".cl-bar .cl-upload input").evaluate(CHOOSE, [("granny.jpg", texts[1][1])])
    sync_api.expect(page.locator(".cl-shown")).to_contain_text("granny.jpg, 300 × 300 pixels")


def fail_to_download(page, temporary):
    """Without a place for temporary files nothing can be written."""
    away = temporary.rename(temporary.with_name("away"))
    button = page.locator(".cl-actions .cl-download button")
    button.click()
    sync_api.expect(page.locator(".cl-actions .cl-download p")).to_contain_text("try again")
    sync_api.expect(button).to_have_text("Download in full resolution")
    away.rename(temporary)
    with page.expect_download():
        button.click()
    sync_api.expect(page.locator(".cl-actions .cl-download p")).to_have_text("")


def refuse_bad_files(page, folder):
    message = page.locator(".cl-bar .cl-upload p")
    for name, (data, reason) in {
        "text.png": odd_files.HOSTILE["text.png"],
        "cut.jpg": odd_files.HOSTILE["cut.jpg"],
        "bomb.png": odd_files.HOSTILE["bomb.png"],
        "page.svg": (b"<svg/>", "no photograph by its name"),
        "long.jpg": (bytes(41 * 2**20), "at most 40 MB"),
    }.items():
        (folder / name).write_bytes(data)
        page.locator(".cl-bar .cl-upload input").set_input_files(folder / name)
        sync_api.expect(message).to_contain_text(name)
        sync_api.expect(message).to_contain_text(reason, timeout=PATIENCE)
    sync_api.expect(page.locator(".cl-shown")).to_contain_text("granny.jpg")
    for sample in ("Coffee", "Chelsea"):  # by the second all that is said is the page's own
        page.locator(".cl-bar .cl-upload input").set_input_files(folder / "page.svg")
        sync_api.expect(message).to_contain_text("page.svg")
        page.locator(".cl-bar select").select_option(label=sample)
        sync_api.expect(page.locator(".cl-shown")).to_contain_text(sample.lower())
        sync_api.expect(message).to_have_text("")
