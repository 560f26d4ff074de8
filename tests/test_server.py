"""The page's server: who may come in, how many at a time, and what nobody gets."""

import asyncio
import contextlib
import re
import uuid
from types import SimpleNamespace

import nbformat
import pytest
from tornado import httpclient, web

from colorlib.app import server

STRANGER = {"Origin": "http://evil.example"}
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}


@pytest.fixture
def started(monkeypatch):
    """Let kernels start that are none; their ids are listed."""
    ids = []

    async def start(manager, kernel_id, **_):
        await asyncio.sleep(0.01)  # others come in meanwhile
        manager._kernels[kernel_id] = None
        ids.append(kernel_id)
        return kernel_id

    monkeypatch.setattr(server.AsyncMappingKernelManager, "start_kernel", start)
    monkeypatch.setattr(server, "LEAVING", 0.3)
    return ids


def asked(monkeypatch, tmp_path, requests, arguments=(), kernel=None):
    """Ask a server on this computer; return its answers, and the server."""
    monkeypatch.setenv("JUPYTER_PATH", str(server.TEMPLATES.parent))
    monkeypatch.setattr("signal.signal", lambda *_: None)  # pytest keeps its own

    async def ask():
        page = server.Server(connection_dir=str(tmp_path))
        page.initialize([*arguments, "--Voila.log_level=CRITICAL"])
        application = web.Application(**page.init_settings())
        application.settings.update(page.tornado_settings)
        application.add_handlers(".*$", page.init_handlers())
        if kernel:
            page.kernel_manager._kernels[kernel] = None
        with contextlib.closing(_Listening(application)) as listening:
            return [await listening.fetch(*request) for request in requests], page

    return asyncio.run(ask())


class _Listening:
    def __init__(self, application):
        self.server = application.listen(0, "127.0.0.1")
        (socket,) = self.server._sockets.values()
        self.address = f"http://127.0.0.1:{socket.getsockname()[1]}"

    async def fetch(self, path, headers=None, method="GET"):
        body = "" if method == "POST" else None
        request = httpclient.HTTPRequest(
            self.address + path, method, headers, body, follow_redirects=False
        )
        return await httpclient.AsyncHTTPClient().fetch(request, raise_error=False)

    def close(self):
        self.server.stop()


def test_no_more_visitors_come_in_than_there_are_places(started):
    async def crowd():
        kernels = server.Kernels(max_visitors=2)
        came = await asyncio.gather(
            *(kernels.start_kernel() for _ in range(5)), return_exceptions=True
        )
        waiting = asyncio.create_task(kernels.start_kernel())
        await asyncio.sleep(0.1)
        kernels._kernels.pop(started[0])
        return came, await waiting

    came, late = asyncio.run(crowd())
    refused = [x for x in came if isinstance(x, web.HTTPError)]
    assert len(refused) == 3 and {x.status_code for x in refused} == {503}
    assert started == [*(x for x in came if isinstance(x, str)), late]


def test_who_finds_all_places_taken_is_told_when_to_come_back(monkeypatch, tmp_path, started):
    arguments = ["--max-visitors=1", "--Kernels.cull_idle_timeout=600"]
    (answer,), _ = asked(monkeypatch, tmp_path, [("/",)], arguments, str(uuid.uuid4()))
    text = answer.body.decode()
    assert answer.code == 503 and not started
    assert "All places are taken" in text and "leaves it alone for 10 minutes" in text
    assert re.search('http-equiv="refresh" content="20"', text) and "//" not in text


def test_kernels_that_nobody_uses_end(monkeypatch, tmp_path):
    _, page = asked(monkeypatch, tmp_path, [])
    kernels = page.kernel_manager
    assert 0 < kernels.cull_interval <= 60 < kernels.cull_idle_timeout <= 3600
    assert kernels.cull_connected, "a tab that was forgotten keeps no place"


def test_a_visitor_runs_no_code(monkeypatch, tmp_path):
    _, page = asked(monkeypatch, tmp_path, [])
    allowed = page.kernel_manager.allowed_message_types
    assert allowed and not {kind for kind in allowed if re.match("exec|compl|insp|debug", kind)}


@pytest.mark.parametrize("use", ["image", "iframe", "script", "empty"])
def test_another_page_can_not_use_this_one(monkeypatch, tmp_path, started, use):
    headers = {"Sec-Fetch-Dest": use, "Sec-Fetch-Site": "cross-site"}
    (answer,), _ = asked(monkeypatch, tmp_path, [("/", headers)])
    assert answer.code == 403 and not started
    assert "frame-ancestors 'self'" in answer.headers["Content-Security-Policy"]


def test_strangers_do_not_reach_a_kernel(monkeypatch, tmp_path):
    kernel = str(uuid.uuid4())
    requests = [
        (f"/api/kernels/{kernel}", STRANGER),
        (f"/voila/api/shutdown/{kernel}", STRANGER, "POST"),
        (f"/voila/api/shutdown/{kernel}", {}, "POST"),  # without the cookie
        (f"/api/kernels/{kernel}", {}, "DELETE"),
        ("/", {"Host": "evil.example"}),  # a name that was led to this computer
        (f"/api/kernels/{kernel}", {"Host": "evil.example"}),
    ]
    answers, page = asked(monkeypatch, tmp_path, requests, kernel=kernel)
    assert {answer.code for answer in answers} <= {403, 404}
    assert kernel in page.kernel_manager


@pytest.mark.parametrize(
    "path",
    [
        "/api/kernels",
        "/voila/api/contents",
        "/voila/files/10_color_your_own.ipynb",
        "/voila/files/../figures/00_eight_photographs.png",
        "/voila/files/%2e%2e/figures/00_eight_photographs.png",
        "/voila/static/../../../../../../../etc/passwd",
        "/voila/templates/course/static/..%2f..%2f..%2fserver.py",
        "/voila/templates/..%2f..%2fstatic/x",
        "/voila/labextensions/..%2f..%2f..%2f..%2fetc/passwd",
        "/voila/tree",
        "/voila/render/10_color_your_own.ipynb",
    ],
)
def test_no_files_and_no_list_of_visitors_are_served(monkeypatch, tmp_path, started, path):
    (answer,), _ = asked(monkeypatch, tmp_path, [(path,)])
    location = answer.headers.get("Location", "/voila/files/")
    assert answer.code >= 400 or location.startswith("/voila/files/")  # which gives nothing
    assert not started


def test_the_address_does_not_choose_template_or_theme(monkeypatch, tmp_path, started):
    path = "/?theme=%3Cscript%3Ehacked()%3C/script%3E&template=reveal"
    (answer,), _ = asked(monkeypatch, tmp_path, [(path,)], ["--max-visitors=1"], "taken")
    assert b"hacked" not in answer.body
    _, page = asked(monkeypatch, tmp_path, [])
    voila = page.voila_configuration
    assert voila.allow_template_override == voila.allow_theme_override == "NO"


def test_other_computers_need_a_token(monkeypatch, tmp_path, started):
    for name in ("JUPYTER_TOKEN", "JUPYTER_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    kernel, arguments = str(uuid.uuid4()), ["--ip=0.0.0.0", "--max-visitors=1"]
    requests = [
        ("/",),
        ("/?token=wrong",),
        (f"/api/kernels/{kernel}/channels", UPGRADE),
        (f"/voila/api/shutdown/{kernel}", {}, "POST"),
    ]
    answers, page = asked(monkeypatch, tmp_path, requests, arguments, kernel)
    assert [answer.headers["Location"].partition("?")[0] for answer in answers[:2]] == [
        "/login"
    ] * 2
    assert [answer.code for answer in answers[2:]] == [403, 403]
    assert kernel in page.kernel_manager and not started
    assert re.search(r"\?token=[0-9a-f]{32,}$", page.display_url)
    _, page = asked(monkeypatch, tmp_path, [], [*arguments, "--token="])
    assert len(page.identity_provider.token) >= 32, "an empty token is none"

    (answer,), page = asked(
        monkeypatch, tmp_path, [("/?token=chosen",)], [*arguments, "--token=chosen"], kernel
    )
    assert answer.code == 503, "with the token it is a visitor"


@pytest.mark.parametrize(
    ("address", "here"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("", False),
        ("192.168.1.7", False),
        ("localhost.example", False),
    ],
)
def test_which_addresses_only_this_computer_reaches(address, here):
    assert server.is_here(address) == here


def test_the_studio_leads_the_page_and_all_else_keeps_its_order():
    visit = SimpleNamespace(request=SimpleNamespace(headers={}), xsrf_token=b"")
    notebook = nbformat.read(server.NOTEBOOK, as_version=4)
    before = [cell.source for cell in notebook.cells]
    after = [cell.source for cell in server.prepare(visit, notebook, "").cells]
    (first,) = (source for source in before if "studio.Studio()" in source)
    assert after[0] == first and before[0].startswith("# ")
    assert after[1:] == [source for source in before if source != first]
