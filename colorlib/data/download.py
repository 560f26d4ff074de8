"""Download Tiny ImageNet, unpack archives, and copy the usable photographs of a folder.

Tiny ImageNet is the training set of the report's Model-64 (chapter 3). Not here: lists of URLs
(`colorlib.data.crawler`) and packing into one file (`colorlib.store`).

`shutil.unpack_archive` was weighed: it has no limits, and unpacks the entries of a zip file that
lead out of the folder under other names. So `zipfile` and `tarfile`, with its filter for data, are
called for each entry.
"""

import errno
import hashlib
import os
import re
import shutil
import stat
import tarfile
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import httpx
from tqdm.auto import tqdm

from colorlib import config, files, images
from colorlib.data.manifest import Entry, Manifest
from colorlib.data.validation import FetchError, Outcome, Status, Validation, validate

MAX_FILES = 250_000
"""Twice what Tiny ImageNet has."""

MAX_BYTES = 2 * 10**9
"""Unpacked; eight times the size of Tiny ImageNet."""

CLUTTER = re.compile(r"(^|/)(__MACOSX(/|$)|\._|\.DS_Store$)")
"""Names of what macOS adds to archives and folders: it is left out."""

ENCRYPTED = 1
"""The bit of a zip entry's flags for encryption."""


def unpack(source, folder, max_files=MAX_FILES, max_bytes=MAX_BYTES):
    """Unpack an archive, or copy a folder, into an empty folder; write nothing outside it.

    Parameters
    ----------
    source : path-like
        A zip file, a tar file (also compressed) or a folder.
    folder : path-like
        It exists and is empty.
    max_files, max_bytes : int
        Limits on the unpacked files.

    Raises
    ------
    FetchError
        If the source is missing or damaged, is no archive, exceeds a limit, or holds a link, a
        device, an encrypted file or a path that leads out of the folder.
    """
    source, folder = Path(source), Path(folder)
    check = _checker(source, max_files, max_bytes)
    try:
        with tqdm(desc=f"unpacking {source.name}", unit=" files", disable=None, leave=False) as bar:
            if source.is_dir():
                _copy_folder(source, folder, check, bar)
            elif not source.is_file():
                raise FetchError(f"{source}: no such file or folder; name an archive or a folder")
            elif zipfile.is_zipfile(source):
                _unpack_zip(source, folder, check, bar)
            elif tarfile.is_tarfile(source):
                _unpack_tar(source, folder, check, bar)
            else:
                raise FetchError(f"{source}: is neither zip nor tar, or cut off; get it again")
    except FetchError:
        raise
    except Exception as error:  # zipfile and tarfile raise nearly anything on damaged files
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise  # it comes from writing
        why = f"is damaged or cut off ({files.reason(error)})"
        raise FetchError(f"{source}: {why}; get it again") from None


def _checker(source, max_files, max_bytes):
    """Return what refuses an entry by its name, size and kind, or if all are too much."""
    seen, total = set(), 0

    def check(name, size, is_file, is_folder=False):
        nonlocal total
        path = PurePosixPath(name)
        if not (is_file or is_folder):
            raise FetchError(f"{source}: {name!r} is a link or a device; don't use this archive")
        if path.is_absolute() or ".." in path.parts or set(name) & set("\\:\0"):
            raise FetchError(f"{source}: {name!r} leads out of the folder; don't use this archive")
        if is_folder:
            return
        if path in seen:
            raise FetchError(f"{source}: names {name} twice; get it again")
        seen.add(path)
        total += size
        if total > max_bytes or len(seen) > max_files:
            limit = f"{max_files} files or {max_bytes} bytes"
            raise FetchError(f"{source}: unpacks to over {limit}; get the right archive")

    return check


def _copy_folder(source, folder, check, bar):
    for path in source.rglob("*"):
        plain = not path.is_symlink()
        name = path.relative_to(source).as_posix()
        if CLUTTER.search(name):
            continue
        check(name, path.lstat().st_size, plain and path.is_file(), plain and path.is_dir())
        if path.is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, folder / name)
            bar.update()


def _unpack_zip(source, folder, check, bar):
    with zipfile.ZipFile(source) as archive:
        infos = [info for info in archive.infolist() if not CLUTTER.search(info.filename)]
        for info in infos:
            kind = stat.S_IFMT(info.external_attr >> 16)
            is_folder = info.is_dir() and kind in (0, stat.S_IFDIR)
            check(info.filename, info.file_size, kind in (0, stat.S_IFREG), is_folder)
            if info.flag_bits & ENCRYPTED:
                raise FetchError(f"{source}: is encrypted; get it without a password")
        bar.reset(len(infos))
        for info in infos:
            archive.extract(info, folder)
            bar.update()


def _unpack_tar(source, folder, check, bar):
    def checked(member, place):  # before each is unpacked: a compressed tar has no index to read
        if CLUTTER.search(member.name):
            return None
        check(member.name, member.size, member.isreg(), member.isdir())
        bar.update()
        return tarfile.data_filter(member, place)

    with tarfile.open(source) as archive:
        archive.extractall(folder, filter=checked)


TINY_IMAGENET_URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
"""From Stanford's course CS231n; 248 100 043 bytes."""

TINY_IMAGENET_HASH = "md5:90528d7ca1a48142e341f4ef8d21d0de"

TINY_IMAGENET = config.DATA / "tiny-imagenet-200"


TIMEOUT = 30.0
"""Seconds without data from the server that count as a failure."""

PATIENCE = 5
"""Failures in a row, without new data, after which a download is given up."""


def fetch_tiny_imagenet(
    destination=TINY_IMAGENET, archive=None, url=TINY_IMAGENET_URL, known_hash=TINY_IMAGENET_HASH
):
    """Download and unpack Tiny ImageNet; do nothing if the destination already holds it.

    Parameters
    ----------
    destination : path-like
        The folder that will hold ``train/``, ``val/`` and the rest of the original layout. It
        is created only when complete. A downloaded archive is kept beside it, as ``.zip``.
    archive : path-like, optional
        A copy on disk to use instead of a download: zip, tar (also compressed), or a folder in
        the original layout.
    url, known_hash : str
        Address of the archive, and its hash (`download`). An interrupted download is continued.

    Returns
    -------
    pathlib.Path
        The destination.

    Raises
    ------
    FetchError
        If the archive can't be downloaded, is not Tiny ImageNet or is unsafe to unpack, or if
        the destination holds something else.
    """
    destination = Path(destination)
    if _is_tiny_imagenet(destination):
        return destination
    if destination.exists() and not (destination.is_dir() and not any(destination.iterdir())):
        raise FetchError(f"{destination}: holds something else; move it away or choose another")
    with files.explained_writing(destination, FetchError):
        destination.parent.mkdir(parents=True, exist_ok=True)
        if archive is None:
            archive = download(url, destination.with_name(f"{destination.name}.zip"), known_hash)
        with files.staging(destination) as folder:
            unpack(archive, folder)
            root = next(iter(folder.glob("*/wnids.txt")), folder / "wnids.txt").parent
            _check_tiny_imagenet(archive, root)
            root.replace(destination)
    return destination


def download(url, path, known_hash, option="--archive"):
    """Download a file; continue an earlier download in ``<path>.partial``.

    Parameters
    ----------
    url : str
        If the server does not support range requests, the file is downloaded from its start.
    path : path-like
        Nothing is done if it exists and has the right hash.
    known_hash : str
        The file's hash as ``md5:...`` or ``sha256:...``; its first digits are enough.
    option : str
        The command's option for a file on disk; error messages name it.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    FetchError
        If the download fails. A partial file is kept; a complete one with a wrong hash is not.
    """
    path = Path(path)
    if path.is_file() and has_hash(path, known_hash):
        return path
    partial = path.with_name(f"{path.name}.partial")
    remedy = f"get a copy of the file elsewhere and name it with {option}"
    _complete(url, partial, remedy)
    if not has_hash(partial, known_hash):
        partial.unlink()
        raise FetchError(
            f"{url}: the file had another hash than {known_hash} and was deleted; try again, or "
            f"{remedy}"
        )
    return partial.replace(path)


def has_hash(path, known_hash):
    """Compare a file with its known hash.

    Parameters
    ----------
    path : path-like
    known_hash : str
        ``md5:...`` or ``sha256:...``; its first digits are enough.

    Returns
    -------
    bool

    Raises
    ------
    OSError
        If the file can't be read.
    """
    kind, _, digits = known_hash.partition(":")
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest().startswith(digits)


def fetch_folder(folder, destination, link=False):
    """Copy the usable images of a folder to another folder.

    Parameters
    ----------
    folder : path-like
        Searched with its subfolders; hidden files and folders are left out.
    destination : path-like
        It gets the same subfolders, and ``report.csv`` with a row per file. Images that an
        earlier call copied are not read again. A file without an image's ending gets that of its
        format; if another file has that name, a hash is put before the ending.
    link : bool
        Make hard links instead of copies where the file system can.

    Returns
    -------
    collections.Counter
        Number of files, and of subfolders that can't be read, per `Status`.

    Raises
    ------
    FetchError
        If the folder is missing or empty, or the destination is inside it or can't be written to.
    """
    folder, destination = Path(folder), Path(destination)
    if not folder.is_dir():
        raise FetchError(f"{folder}: no such folder; name one that holds photographs")
    if destination.resolve().is_relative_to(folder.resolve()):
        raise FetchError(f"{destination}: is in the folder to fetch from; choose another place")
    found = files.below(folder)
    names = [path.relative_to(folder).as_posix() for path in sorted(found.files)]
    locked = {place.relative_to(folder).as_posix(): why for place, why in found.problems}
    if not names and not locked:
        raise FetchError(f"{folder}: holds no files; name a folder of photographs")
    entries = [Entry(line, "", name) for line, name in enumerate([*names, *locked], 1)]
    with Manifest(destination) as manifest:
        try:
            for name, why in locked.items():
                manifest.record(name, Outcome(Status.UNREADABLE, why))
            todo = [name for name in names if not _is_taken(manifest, folder / name, name)]
            todo.sort(key=_has_ending, reverse=True)  # files with an ending keep their names
            _add(manifest, folder, todo, link)
        finally:
            counts = manifest.write_report(entries)
    return counts


def _has_ending(name):
    return Path(name).suffix.lower() in images.EXTENSIONS


def _is_taken(manifest, path, name):
    old = manifest.outcomes.get(name)
    is_good = old is not None and old.status is Status.GOOD and path.is_file()
    return is_good and old.bytes == path.stat().st_size


def _add(manifest, folder, names, link):
    def check(name):
        path = folder / name
        try:
            if not stat.S_ISREG(path.stat().st_mode):
                raise OSError(errno.EINVAL, "is a pipe or a device")
            return validate(path.read_bytes())
        except OSError as error:
            return Validation(Outcome(Status.UNREADABLE, f"can't be read ({error.strerror})"))

    block = 2 * os.cpu_count()
    with ThreadPoolExecutor(os.cpu_count()) as pool, tqdm(total=len(names), unit=" files") as bar:
        for start in range(0, len(names), block):
            some = names[start : start + block]
            for name, validation in zip(some, pool.map(check, some), strict=True):
                file = name if _has_ending(name) else f"{name}{validation.suffix}"
                source = folder / name if link else None
                manifest.admit(name, file, validation, source, keep_first=True)
                bar.update()


def _complete(url, partial, remedy):
    """Download the rest of a partial file; reconnect after a failure."""
    most, failures = _size(partial), 0
    while True:
        try:
            return _transfer(url, partial)
        except (httpx.UnsupportedProtocol, httpx.TooManyRedirects, httpx.InvalidURL) as error:
            raise FetchError(f"{url}: {error}; check the address") from None
        except httpx.HTTPError as error:
            failures = failures + 1 if _size(partial) <= most else 1
            most = max(most, _size(partial))
            if failures >= PATIENCE or _is_final(error):
                raise FetchError(
                    f"{url}: {error}; call again later ({most} bytes are kept), or {remedy}"
                ) from None
        time.sleep(2 ** (failures - 1))  # seconds


def _transfer(url, partial):
    start = _size(partial)
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    options = dict(headers=headers, timeout=TIMEOUT, follow_redirects=True)
    with httpx.stream("GET", url, **options) as answer:
        content_range = answer.headers.get("Content-Range", "")
        if answer.status_code == 416 and content_range == f"bytes */{start}":
            return
        if answer.status_code == 416:
            partial.unlink()
        answer.raise_for_status()
        # A server that can't continue sends the whole file again.
        if not (answer.status_code == 206 and content_range.startswith(f"bytes {start}-")):
            start = 0
        size = int(answer.headers.get("Content-Length", 0))
        bar = tqdm(initial=start, total=start + size or None, unit="B", unit_scale=True)
        with bar, partial.open("ab" if start else "wb") as file:
            for chunk in answer.iter_raw():
                file.write(chunk)
                bar.update(len(chunk))


def _is_final(error):
    status = getattr(getattr(error, "response", None), "status_code", 500)
    return status < 500 and status not in (408, 416, 429)


def _size(path):
    return path.stat().st_size if path.exists() else 0


def _is_tiny_imagenet(folder):
    """Check the main files only: the folder is created only when it is complete."""
    train, listed = folder / "train", folder / "wnids.txt"
    return (
        listed.is_file()
        and (folder / "val" / "val_annotations.txt").is_file()
        and all((train / name / "images").is_dir() for name in listed.read_text().split())
    )


def _check_tiny_imagenet(source, root):
    if not _is_tiny_imagenet(root):
        raise FetchError(
            f"{source}: is not Tiny ImageNet in its original layout (wnids.txt, train/, val/); "
            "name another archive, or none to download it"
        )
    lists = {folder / f"{folder.name}_boxes.txt": folder for folder in (root / "train").iterdir()}
    lists[root / "val" / "val_annotations.txt"] = root / "val"
    for listed, folder in lists.items():
        names = {line.split("\t")[0] for line in listed.read_text().splitlines()}
        missing = names - {path.name for path in (folder / "images").iterdir()}
        if missing:
            raise FetchError(
                f"{source}: {len(missing)} images of {folder.name} are missing, {min(missing)} is "
                "one; get a complete archive"
            )
