"""The record of colored files, with their sources and settings: a hidden list beside them.

Not here: the choice of names and whether a file is kept (`colorlib.photos.batch`).

A list is used since some image formats can't hold this information and in others it would be
public. A source is identified by the hash of its content: it may be moved, and a file that changed
under the same name is another source.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import re
import stat
import zlib
from pathlib import Path

import numpy as np

from colorlib import files
from colorlib.colorspace import L_MAX

LIST = ".colorlib.jsonl"
"""Name of the list; a line is appended per file, and the last line about a file is valid."""


UNFINISHED = -1
"""The size of a file in a line that is written before the file."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """One line of a list.

    Attributes
    ----------
    file : str
        Name of the colored file, in the list's folder.
    size : int
        Its size in bytes when it was written; `UNFINISHED` while it is being colored.
    content : str
        SHA-256 of the source.
    settings : str
        From `fingerprint`.
    source : str
        Absolute path of the source, links resolved.
    source_size, source_time : int
        Size in bytes and modification time in ns; while path, size and time are the same, the
        source is not hashed again.
    """

    file: str
    size: int
    content: str
    settings: str
    source: str
    source_size: int
    source_time: int


class Records:
    """The lists of several folders; each is read at its first use."""

    def __init__(self):
        self._entries, self._by_size = {}, {}

    def entry(self, target):
        """Look up a colored file.

        Parameters
        ----------
        target : pathlib.Path

        Returns
        -------
        Entry or None
        """
        return self._of(target.parent).get(target.name.casefold())

    def made_from(self, source, target, others=()):
        """Find the files that earlier calls made from a source.

        Parameters
        ----------
        source : pathlib.Path
        target : pathlib.Path
            The name without a number; ``-2``, ``-3``, ... may be appended.
        others : collection of str
            Absolute paths of all sources that are colored together, links resolved. What was made
            from one of the others with the same content is left to that one.

        Returns
        -------
        list of pathlib.Path
            Files that were made from the source at its present path come first.
        """
        self._of(target.parent)
        try:
            size = source.stat().st_size
        except OSError:
            return []
        known = self._by_size[target.parent].get(size)
        if not known:
            return []
        name = re.compile(f"{re.escape(target.stem)}(-[0-9]+)?{re.escape(target.suffix)}", re.I)
        known = [entry for entry in known if name.fullmatch(entry.file) and is_from(entry, source)]
        real = os.path.realpath(source)
        own = [entry for entry in known if entry.source == real]
        moved = [entry for entry in known if entry.source != real and not _is_left(entry, others)]
        return [target.with_name(entry.file) for entry in own + moved]

    def _of(self, folder):
        if folder not in self._entries:
            entries = {entry.file.casefold(): entry for entry in _read(folder)}
            self._entries[folder] = entries
            by_size = self._by_size[folder] = {}
            for entry in entries.values():
                by_size.setdefault(entry.source_size, []).append(entry)
        return self._entries[folder]


def is_from(entry, source):
    """Return whether a colored file was made from a source with its present content.

    Parameters
    ----------
    entry : Entry
    source : path-like

    Returns
    -------
    bool
    """
    try:
        file = Path(source).stat()
        if file.st_size != entry.source_size:
            return False
        where = os.path.realpath(source), file.st_mtime_ns
        return where == (entry.source, entry.source_time) or content(source) == entry.content
    except OSError:
        return False


def content(path):
    """Hash a file.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    str
        The SHA-256 of its bytes; empty for a pipe or a device.

    Raises
    ------
    OSError
        If it can't be read.
    """
    path = Path(path)
    if not stat.S_ISREG(path.stat().st_mode):
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(colorizer, **others):
    """Identify a network and all settings by their result for one picture and by their values.

    Parameters
    ----------
    colorizer : colorlib.colorize.Colorizer
    **others : object
        Further settings that change the result; JSON can hold them.

    Returns
    -------
    str
        16 hexadecimal digits.
    """
    probe = np.linspace(0, L_MAX, 64 * 64, dtype=np.float32).reshape(64, 64)
    ab = np.rint(colorizer.decode(colorizer.predict(probe))).astype(np.int16)
    return digest([zlib.crc32(ab.tobytes()), dataclasses.asdict(colorizer.decoding), others])


def digest(settings):
    """Identify settings by their values.

    Parameters
    ----------
    settings : object
        JSON can hold it.

    Returns
    -------
    str
        16 hexadecimal digits.
    """
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


@contextlib.contextmanager
def begun(target, source, settings, known=None):
    """Add a line about a file that is colored in the block; after an error it is taken back.

    So the next call knows a file that was written right before a kill, and colors it again.

    Parameters
    ----------
    target, source : pathlib.Path
    settings : str
        From `fingerprint`.
    known : Entry, optional
        What the list says of the target so far.

    Yields
    ------
    Entry or None
        The line, for `record`; None if the source can't be read.
    """
    entry = None
    with contextlib.suppress(OSError):  # it is reported when the file is recorded
        entry = entry_of(target, source, settings)
        _add(target, entry)
    try:
        yield entry
    except Exception:
        with contextlib.suppress(OSError):
            if entry:
                _add(target, known or dataclasses.replace(entry, source_size=UNFINISHED))
        raise


def record(target, entry):
    """Add a line about a file that has just been colored.

    Parameters
    ----------
    target : pathlib.Path
    entry : Entry
        From `begun` or `entry_of`.

    Raises
    ------
    OSError
        If the list can't be written.
    """
    _add(target, dataclasses.replace(entry, size=target.stat().st_size))


def entry_of(target, source, settings):
    """Describe a file that is going to be colored.

    Parameters
    ----------
    target, source : pathlib.Path
    settings : str
        From `fingerprint`.

    Returns
    -------
    Entry
        Its size is `UNFINISHED`.

    Raises
    ------
    OSError
        If the source can't be read.
    """
    file = source.stat()
    return Entry(
        _portable(target.name),
        UNFINISHED,
        content(source),
        settings,
        _portable(os.path.realpath(source)),
        file.st_size,
        file.st_mtime_ns,
    )


def _add(target, entry):
    # the line break comes first: half a line left by a full disk does not damage the next one
    line = b"\n" + json.dumps(dataclasses.asdict(entry)).encode()
    with target.with_name(LIST).open("ab", buffering=0) as file:
        with contextlib.suppress(OSError):  # a file system that has no locks
            fcntl.flock(file, fcntl.LOCK_EX)  # over NFS, two machines append only so one by one
        file.write(line)


def _is_left(entry, sources):
    return entry.source in sources and is_from(entry, entry.source)


def _read(folder):
    try:
        lines = Path(folder, LIST).read_bytes().splitlines()
    except OSError:
        return []
    return [entry for entry in map(_entry, lines) if entry]


def _entry(line):
    try:
        entry = Entry(**json.loads(line))
        if not files.has_types(entry):
            return None
        names = {name: os.fsdecode(_raw(getattr(entry, name))) for name in ("file", "source")}
        return dataclasses.replace(entry, **names)
    except (ValueError, TypeError, AttributeError):
        return None


# In the C locale, Python represents the bytes of other letters as lone surrogates.
def _portable(name):
    return _raw(name).decode("utf-8", "surrogateescape")


def _raw(name):
    return name.encode("utf-8", "surrogateescape")
