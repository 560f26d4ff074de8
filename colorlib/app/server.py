"""Serve notebook 10 as a page: who may come in, how many at a time, and for how long.

    python -m colorlib.app.server [--ip ADDRESS] [--port NUMBER] [--max-visitors NUMBER]

Not here: what is on the page (the notebook and `colorlib.app.studio`) and how it looks
(``voila/templates/course``). The server is Voila; this file has its settings, a limit on the number
of visitors, and the rules for other computers and other pages. ``docs/page.md`` says why.
"""

import asyncio
import ipaddress
import os
import time
from pathlib import Path

from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from nbformat.sign import MemorySignatureStore
from tornado import web
from traitlets import Integer
from traitlets.config import Config
from voila.app import Voila

from colorlib import config

NOTEBOOK = config.ROOT / "notebooks" / "10_color_your_own.ipynb"

TEMPLATES = Path(__file__).parent / "voila"

FIRST = "page-first"
"""Tag of the cells that lead the page; in the notebook they keep their place."""

LEAVING = 5
"""Seconds in which the kernel of a page that was closed or loaded again ends."""


class Kernels(AsyncMappingKernelManager):
    """A kernel for each visitor, and a limit on their number."""

    max_visitors = Integer(4, min=1, config=True, help="Visitors at the same time.")

    def __init__(self, **options):
        super().__init__(**options)
        self._starting = set()

    async def start_kernel(self, **options):
        """Start a visitor's kernel.

        Raises
        ------
        tornado.web.HTTPError
            503, if all places are taken.
        """
        end = time.monotonic() + LEAVING
        while len(self._starting | set(self.list_kernel_ids())) >= self.max_visitors:
            if time.monotonic() > end:
                raise web.HTTPError(503, self._full(), reason="All places are taken")
            await asyncio.sleep(0.1)
        name = options["kernel_id"] = self.new_kernel_id(**options)
        self._starting.add(name)
        try:
            return await super().start_kernel(**options)
        finally:
            self._starting.discard(name)

    def _full(self):
        return (
            f"Places in all: {self.max_visitors}. One becomes free when a visitor closes the page, "
            f"or leaves it alone for {self.cull_idle_timeout // 60} minutes. This page tries again "
            "every 20 seconds."
        )


class Server(Voila):
    """Voila with the page's settings."""

    classes = (*Voila.classes, Kernels)
    aliases = Voila.aliases | {"ip": "Voila.ip", "max-visitors": "Kernels.max_visitors"}

    def initialize(self, argv=None):
        """Read the command line, and ask for a token if other computers can come in."""
        self.update_config(settings())
        super().initialize(argv)
        self.notebook_path = self.notebook_path or str(NOTEBOOK)
        here = is_here(self.ip)
        if not here:
            self.auto_token, self.token = True, self.token or None  # an empty one is none
        # a name that leads to this computer may be an attacker's
        self.tornado_settings = {**self.tornado_settings, "allow_remote_access": not here}


def settings():
    """Return Voila's settings for the page.

    Returns
    -------
    traitlets.config.Config
        Each can be set differently on the command line.
    """
    page = Config()
    page.Voila.ip = "127.0.0.1"
    page.Voila.open_browser = False
    page.VoilaConfiguration.template = "course"
    page.VoilaConfiguration.allow_template_override = "NO"
    page.VoilaConfiguration.allow_theme_override = "NO"
    page.VoilaConfiguration.file_allowlist = []
    page.VoilaConfiguration.multi_kernel_manager_class = Kernels
    page.VoilaConfiguration.prelaunch_hook = prepare
    page.NotebookNotary.store_factory = MemorySignatureStore  # no database of trusted notebooks
    page.TagRemovePreprocessor.enabled = True
    page.TagRemovePreprocessor.remove_cell_tags = ["notebook-only"]
    page.Kernels.cull_idle_timeout = 30 * 60
    page.Kernels.cull_interval = 60
    page.Kernels.cull_connected = True
    return page


def prepare(handler, notebook, cwd):
    """Refuse what is no visit, and put the cells with the tag `FIRST` first.

    A page that is closed says good-bye with the cookie that is set here; then its kernel ends.

    Parameters
    ----------
    handler : tornado.web.RequestHandler
    notebook : nbformat.NotebookNode
    cwd : str
        Not used.

    Returns
    -------
    nbformat.NotebookNode

    Raises
    ------
    tornado.web.HTTPError
        403, if another page asks for this one as its picture, its frame or its data.
    """
    if handler.request.headers.get("Sec-Fetch-Dest", "document") != "document":
        raise web.HTTPError(403, "Open this page in a tab of its own.")
    _ = handler.xsrf_token  # reading it sets the cookie
    notebook.cells.sort(key=lambda cell: FIRST not in cell.metadata.get("tags", []))
    return notebook


def is_here(address):
    """Return whether only this computer reaches an address.

    Parameters
    ----------
    address : str
        That the server listens to; a name or an IP address.

    Returns
    -------
    bool
    """
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def main():
    """Run the server."""
    others = os.environ.get("JUPYTER_PATH")
    os.environ["JUPYTER_PATH"] = os.pathsep.join(filter(None, [str(TEMPLATES.parent), others]))
    Server.launch_instance()


if __name__ == "__main__":
    main()
