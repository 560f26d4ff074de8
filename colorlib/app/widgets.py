"""Widgets that ipywidgets lacks: a divider between two pictures, a palette, an upload in parts, a
download; and the style of all.

Not here: their use (`colorlib.app.studio`). The JavaScript of each widget is beside this module;
nothing is loaded from other servers.

A file is sent in parts since a server closes the connection at a message of more than 10 MB. The
browser already refuses files that are too large or of another type. Each upload has an id, so that
the remaining parts of an older upload are ignored.
"""

import re
from pathlib import Path

import anywidget
import ipywidgets
import traitlets

HERE = Path(__file__).parent

COLOR = re.compile("#[0-9a-f]{6}")

PART = 2**19
"""Bytes of an upload that are sent in one message."""


def box(classes, *children):
    """Put widgets into a box that the style sheet arranges.

    Parameters
    ----------
    classes : str
        Of the box, with spaces between them.
    *children : ipywidgets.Widget

    Returns
    -------
    ipywidgets.Box
    """
    made = ipywidgets.Box(children)
    for name in classes.split():
        made.add_class(name)
    return made


def style():
    """Return the style sheet of the page.

    Returns
    -------
    ipywidgets.HTML
        Without a place of its own; all its classes begin with ``cl-``.
    """
    sheet = (HERE / "widgets.css").read_text()
    return ipywidgets.HTML(f"<style>{sheet}</style>").add_class("cl-hidden")


def reason(error):
    """Describe an error on the server, for the page.

    Parameters
    ----------
    error : Exception

    Returns
    -------
    str
        A line of plain text, with the remedy; the message of a `ValueError` unchanged.
    """
    if isinstance(error, MemoryError):
        return "there is not enough memory for this photograph; make it smaller"
    if isinstance(error, ValueError) and str(error):
        return str(error)
    why = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}".strip(": ")
    return f"the server can't do this now ({why.splitlines()[0]}); try again"


class Divider(anywidget.AnyWidget):
    """Two versions of a picture, a divider to drag between them, a point to choose, and marks.

    Attributes
    ----------
    before, after : bytes
        JPEGs of the same size: left and right of the divider.
    width, height : int
        Size of both, in pixels.
    position : float
        Position of the divider, from the left, in 0..1.
    point : list of float
        The point that was clicked on: (x, y) from the upper left corner, in 0..1.
    marks : list of list
        Each x, y and a color as ``#rrggbb``; they can be dragged, and removed with the keyboard.
    marked : bool
        Whether the marks are shown.
    """

    _esm = HERE / "divider.js"
    before = traitlets.Bytes().tag(sync=True)
    after = traitlets.Bytes().tag(sync=True)
    width = traitlets.Int(1).tag(sync=True)
    height = traitlets.Int(1).tag(sync=True)
    position = traitlets.Float(0.4).tag(sync=True)
    point = traitlets.List(traitlets.Float(), [0.7, 0.4], minlen=2, maxlen=2).tag(sync=True)
    marks = traitlets.List(traitlets.List()).tag(sync=True)
    marked = traitlets.Bool(False).tag(sync=True)


class Palette(anywidget.AnyWidget):
    """Colors to choose from, and any other.

    Parameters
    ----------
    choose : callable
        Called with the chosen color as ``#rrggbb``.

    Attributes
    ----------
    colors : list of str
        The colors that are offered.
    """

    _esm = HERE / "palette.js"
    colors = traitlets.List(traitlets.Unicode()).tag(sync=True)

    def __init__(self, choose, **traits):
        super().__init__(**traits)
        self._choose = choose
        self.on_msg(self._on_message)

    def _on_message(self, _, content, __):
        if content.get("kind") == "color" and COLOR.fullmatch(str(content.get("color"))):
            self._choose(content["color"])


class Upload(anywidget.AnyWidget):
    """A place to drop a file on, or to choose one.

    Parameters
    ----------
    receive : callable
        Called with the file's name and its bytes when all of it is there.
    refuse : callable
        Called with the name and the size before the upload; raises ValueError if the file is not
        wanted. The message is shown.

    Attributes
    ----------
    suffixes : list of str
        Endings that the browser offers.
    largest : int
        Largest file in bytes; the browser refuses larger ones.
    label : str
        Text in the place.
    wanted : str
        What the browser says of a file with another ending, after "is".
    message : str
        Plain text, shown below.
    """

    _esm = HERE / "upload.js"
    label = traitlets.Unicode("Upload a photograph, or drop it here").tag(sync=True)
    wanted = traitlets.Unicode("").tag(sync=True)
    suffixes = traitlets.List(traitlets.Unicode()).tag(sync=True)
    largest = traitlets.Int().tag(sync=True)
    part = traitlets.Int(PART).tag(sync=True)
    message = traitlets.Unicode("").tag(sync=True)
    wrong = traitlets.Bool(False).tag(sync=True)

    def __init__(self, receive, refuse, **traits):
        super().__init__(**traits)
        self._receive, self._refuse = receive, refuse
        self._id, self._name, self._size, self._parts = None, "", 0, None
        self.on_msg(self._on_message)

    def say(self, message, wrong=False):
        """Show a message.

        Parameters
        ----------
        message : str
            Plain text.
        wrong : bool
            Whether something went wrong.
        """
        self.wrong, self.message = wrong, message

    def _on_message(self, _, content, buffers):
        try:
            if content.get("kind") == "begin":
                self._begin(content["id"], str(content["name"]), int(content["size"]))
            elif content.get("kind") == "part" and content["id"] == self._id:
                self._part(bytes(buffers[0]))
            elif content.get("kind") == "refused":  # by the page, which says why
                self.say(str(content["words"]), wrong=True)
        except Exception as error:  # whatever goes wrong, the page does not wait for ever
            self._forget()
            self.say(reason(error), wrong=True)

    def _begin(self, upload, name, size):
        self._forget()
        # whatever is said next is then a change, which the page shows
        self.say(f"Reading {name} …")
        self._refuse(name, size)
        self._id, self._name, self._size, self._parts = upload, name, size, bytearray()

    def _part(self, data):
        self._parts += data
        if len(self._parts) > self._size:
            raise ValueError(f"{self._name}: is longer than it said; try again")
        if len(self._parts) == self._size:
            data = bytes(self._parts)
            self._forget()
            self._receive(self._name, data)

    def _forget(self):
        self._id, self._parts = None, None


class Download(anywidget.AnyWidget):
    """A button whose file is made when it is pressed.

    Parameters
    ----------
    make : callable
        Returns the file's name and its bytes; the message of an error is shown.

    Attributes
    ----------
    label, working : str
        Text on the button, and its text while the file is made.
    message : str
        Plain text, shown below.
    """

    _esm = HERE / "download.js"
    label = traitlets.Unicode("Download").tag(sync=True)
    working = traitlets.Unicode("Working …").tag(sync=True)
    message = traitlets.Unicode("").tag(sync=True)
    disabled = traitlets.Bool(False).tag(sync=True)

    def __init__(self, make, **traits):
        super().__init__(**traits)
        self._make = make
        self.on_msg(self._on_message)

    def _on_message(self, _, content, __):
        if content.get("kind") != "want":
            return
        self.message, answer, buffers = "", {"kind": "none"}, []
        try:
            name, data = self._make()
            answer, buffers = {"kind": "file", "name": name}, [data]
        except Exception as error:  # whatever goes wrong, the page does not wait for ever
            self.message = reason(error)
        finally:  # also when the kernel is interrupted
            self.send(answer, buffers)
