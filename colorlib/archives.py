"""An archive from anywhere -> a folder, and nothing outside it.

Not here: where archives come from, and what has to be in them (`colorlib.download`).
Chapter 3 of the report.
"""

import functools
import gzip
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from tqdm.auto import tqdm

from colorlib.verdict import FetchError

MAX_FILES = 250_000
"""Twice what Tiny ImageNet has."""

MAX_BYTES = 2 * 10**9
"""Unpacked; eight times what Tiny ImageNet has."""

ENCRYPTED = 1
"""The bit of a zip entry's flags."""

DAMAGE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError)
DAMAGE += (NotImplementedError, gzip.BadGzipFile)


def unpack(source, folder, max_files=MAX_FILES, max_bytes=MAX_BYTES):
    """Unpack an archive, or copy a folder, into an empty folder.

    Parameters
    ----------
    source : path-like
        A zip file, a tar file (also compressed) or a folder.
    folder : path-like
        Exists and is empty.
    max_files, max_bytes : int
        What may come out at most.

    Raises
    ------
    FetchError
        If the source is missing or damaged, is no archive, holds a link, a device, an
        encrypted file or a path that leaves the folder, or unpacks to too much.
    """
    source, folder = Path(source), Path(folder)
    total, made = 0, set()
    try:
        with tqdm(desc=f"unpacking {source.name}", unit=" files") as bar:
            for count, (name, size, opened) in enumerate(_members(source, bar), 1):
                total += size
                if total > max_bytes or count > max_files:
                    limit = f"{max_files} files or {max_bytes} bytes"
                    raise FetchError(f"{source}: unpacks to over {limit}; get the right archive")
                target = folder / _safe_path(source, name)
                if target.parent not in made:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    made.add(target.parent)
                with opened() as packed, target.open("xb") as file:
                    shutil.copyfileobj(packed, file)
                bar.update()
    except FileExistsError as error:
        raise FetchError(f"{source}: names {error.filename} twice; get it anew") from None
    except DAMAGE as error:
        raise FetchError(f"{source}: is damaged or cut off ({error}); get it anew") from None


def _members(source, bar):
    """Return an iterator over all files of a source: name, bytes, and what opens it."""
    if source.is_dir():
        return _folder_members(source)
    if not source.is_file():
        raise FetchError(f"{source}: no such file or folder; name an archive or a folder")
    if zipfile.is_zipfile(source):
        return _zip_members(source, bar)
    if tarfile.is_tarfile(source):
        return _tar_members(source)
    raise FetchError(f"{source}: is neither zip nor tar nor a folder, or cut off; get it anew")


def _folder_members(source):
    for path in source.rglob("*"):
        name = path.relative_to(source).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise _not_a_file(source, name)
        if path.is_file():
            yield name, path.stat().st_size, functools.partial(path.open, "rb")


def _zip_members(source, bar):
    with zipfile.ZipFile(source) as archive:
        bar.reset(len(archive.infolist()))
        for info in archive.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _not_a_file(source, info.filename)
            if info.flag_bits & ENCRYPTED:
                raise FetchError(f"{source}: is encrypted; get it without a password")
            if not info.is_dir():
                yield info.filename, info.file_size, functools.partial(archive.open, info)


def _tar_members(source):
    with tarfile.open(source) as archive:
        for member in archive:
            if not (member.isreg() or member.isdir()):
                raise _not_a_file(source, member.name)
            if member.isreg():
                yield member.name, member.size, functools.partial(archive.extractfile, member)


def _not_a_file(source, name):
    return FetchError(f"{source}: {name!r} is a link or a device, which is not safe; don't use it")


def _safe_path(source, name):
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or set(name) & set("\\:\0") or not path.parts:
        raise FetchError(f"{source}: {name!r} leads out of the folder; don't use this archive")
    return path
