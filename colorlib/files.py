"""Files and their names: atomic writing, listing folders, and names as printable text.

Not here: what the files hold (`colorlib.images`, `colorlib.store`).
"""

import collections
import contextlib
import dataclasses
import fcntl
import json
import os
import secrets
import shutil
from pathlib import Path

REMEDY = "check the folder's permissions"


@dataclasses.dataclass(frozen=True)
class Found:
    """The files below a folder.

    Attributes
    ----------
    files : list of pathlib.Path
        Folder by folder, sorted within each; links and other things that are no folders too.
    problems : list of (pathlib.Path, str)
        Folders that can't be looked into, and a line about each that names it and the remedy.
    """

    files: list
    problems: list


def below(folder, recursive=True, skip=None):
    """List the files of a folder; hidden ones, and those in hidden subfolders, are left out.

    Parameters
    ----------
    folder : path-like
    recursive : bool
        Whether to look into its subfolders; links to folders are not followed.
    skip : path-like, optional
        A subfolder to leave out.

    Returns
    -------
    Found
    """
    files, errors = [], []
    skipped = None if skip is None else os.path.realpath(skip)
    for place, folders, names in os.walk(folder, onerror=errors.append):
        if not os.access(place, os.X_OK):  # its names can be read, but nothing behind them
            errors.append(PermissionError(0, "may not be entered", place))
            folders.clear()
            continue
        place = Path(place)
        inner = sorted(name for name in folders if recursive and not name.startswith("."))
        folders[:] = [name for name in inner if os.path.realpath(place / name) != skipped]
        files += [place / name for name in sorted(names) if not name.startswith(".")]
    problems = [
        (Path(x.filename), f"{x.filename}: can't be looked into ({x.strerror}); {REMEDY}")
        for x in errors
    ]
    return Found(files, problems)


def is_folder(path):
    """Return whether a path is a folder that can be accessed.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    bool
    """
    return os.path.isdir(path)  # noqa: PTH112 - pathlib raises where nobody may look


def counted(files):
    """Count files by their endings; the five most frequent endings are named.

    Parameters
    ----------
    files : sequence of pathlib.Path

    Returns
    -------
    str
        For example ``"3 files (2 .txt, 1 without an ending)"``; empty if there are none.
    """
    if not files:
        return ""
    endings = collections.Counter(path.suffix.lower() for path in files).most_common()
    named = [f"{count:,} {ending or 'without an ending'}" for ending, count in endings[:5]]
    named += ["..."] * (len(endings) > 5)
    return escaped(f"{len(files):,} file{'s' * (len(files) > 1)} ({', '.join(named)})")


def escaped(text):
    r"""Escape a file's name so that it is valid UTF-8.

    Parameters
    ----------
    text : str or path-like
        Bytes that are not UTF-8 are in it as Python has them, as lone surrogates.

    Returns
    -------
    str
        With ``\xe9`` in place of such a byte; other names stay as they are.
    """
    raw = os.fspath(text).encode("utf-8", "surrogateescape")
    return raw.decode("utf-8", "backslashreplace")


def has_types(record):
    """Return whether a dataclass has values of its fields' types; what was read may have others."""
    fields = dataclasses.fields(record)
    return all(isinstance(getattr(record, field.name), field.type) for field in fields)


def reason(error):
    """Return what an error says in one line, the first; the name of its kind if it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]


@contextlib.contextmanager
def explained_writing(path, kind, remedy="make room there, or choose another place"):
    """Turn an OSError into an error of this kind that names the file or folder and the remedy."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise kind(f"{path}: can't be written ({reason}); {remedy}") from None


@contextlib.contextmanager
def replacing(path):
    """Hand out a temporary path that becomes `path` if the block ends well, else vanishes.

    What a killed process left of it is written over, so that nothing piles up.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.0.partial")
    with contextlib.ExitStack() as stack:
        if not _is_ours(temporary, stack):
            temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
        temporary.write_bytes(b"")  # with the rights that new files have here
        try:
            yield temporary
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


# Whether no other process writes this file; it stays locked until the stack is closed. A lock ends
# with its process, so a file without one was left by a kill.
def _is_ours(temporary, stack):
    is_new = not temporary.exists()
    try:
        file = stack.enter_context(temporary.open("ab"))
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # else the other process has just renamed it
        return os.path.samestat(os.fstat(file.fileno()), temporary.stat())
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks, or a file of another user
        return is_new


@contextlib.contextmanager
def staging(folder):
    """Hand out a new hidden folder beside `folder`; if it is not renamed, it is deleted."""
    hidden = Path(folder).with_name(f".{Path(folder).name}.partial")
    shutil.rmtree(hidden, ignore_errors=True)  # of a killed process
    try:
        hidden.mkdir(parents=True)
        yield hidden
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def write_json(path, value):
    """Write a value as JSON, indented by one space, under a temporary name that is then renamed."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1) + "\n")
