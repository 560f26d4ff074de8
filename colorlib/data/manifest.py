"""The manifest of a download: the status of each image that was requested, and the reason.

Not here: the sources of the images (`colorlib.data.download`, `colorlib.data.crawler`) and the
checks of an image (`colorlib.data.validation`). Chapter 3 of the report.

A destination holds, beside the images, three files. `journal.jsonl` gets one line per image as
soon as its status is known; a run that was killed resumes from it. `report.csv` is written when a
run ends. `.lock` is held by the one run that may write there.
"""

import collections
import csv
import dataclasses
import errno
import hashlib
import json
import os
import re
import zlib
from pathlib import Path, PurePosixPath

import filelock

from colorlib import files
from colorlib.data.validation import FetchError, Outcome, Status

JOURNAL, REPORT, LOCK = "journal.jsonl", "report.csv", ".lock"


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """A requested image: its line and its id in the list, and its URL or path."""

    line: int
    id: str
    url: str


NOT_TRIED = Outcome(Status.NOT_TRIED, "the run was stopped before its turn")

COLUMNS = [field.name for kind in (Entry, Outcome) for field in dataclasses.fields(kind)]


class Manifest:
    """The outcomes of one destination, written to disk one by one.

    Parameters
    ----------
    folder : path-like
        The destination; created if missing. Temporary files of a killed run are deleted.

    Attributes
    ----------
    outcomes : dict of str to Outcome
        By URL, from this run and the earlier ones. A good outcome is left out, so that the image
        is fetched again, if its file is missing, has another size or belongs to another URL.

    Raises
    ------
    FetchError
        If the folder can't be created, or another process is writing to it.
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._journal = (self.folder / JOURNAL).open("ab+", buffering=0)
            self._lock = filelock.FileLock(self.folder / LOCK)
            self._lock.acquire(timeout=0)
        except filelock.Timeout:
            self._journal.close()
            why = "another fetch is writing there; let it end, or choose another"
            raise FetchError(f"{folder}: {why}") from None
        except OSError as error:
            reason = error.strerror
            raise FetchError(f"{folder}: can't be used ({reason}); choose another folder") from None
        for leftover in self.folder.rglob(".*.partial"):
            leftover.unlink(missing_ok=True)
        self.outcomes = self._replay()
        self._owner = _owners(self.outcomes)
        self._first = {}
        for url, outcome in self.outcomes.items():
            if outcome.sha256:
                self._first.setdefault(outcome.sha256, url)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._journal.close()
        self._lock.release()

    def record(self, url, outcome):
        """Append the outcome of a URL to the journal.

        Parameters
        ----------
        url : str
        outcome : Outcome

        Raises
        ------
        FetchError
            If the journal can't be written.
        """
        self.outcomes[url] = outcome
        row = {"url": url, **dataclasses.asdict(outcome)}
        line = json.dumps({**row, "crc": _checksum(row)}).encode() + b"\n"
        with _explained(self.folder / JOURNAL):
            if self._journal.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def admit(self, url, file, validation, source=None, keep_first=False):
        """Write an image to the destination, unless another URL had the same bytes before.

        Parameters
        ----------
        url : str
        file : str
            Path relative to the destination. If it belongs to another image, a hash of the URL
            is appended to the name.
        validation : colorlib.data.validation.Validation
            The result of `colorlib.data.validation.validate`.
        source : pathlib.Path, optional
            A file with these bytes; a hard link to it is made if possible.
        keep_first : bool
            Keep the first of several identical images. By default all of them are dropped,
            the earlier ones too: on the web they are usually placeholders.

        Returns
        -------
        str or None
            The URL of the earlier image, if that was dropped.

        Raises
        ------
        FetchError
            If the image can't be written.
        """
        outcome, dropped = validation.outcome, None
        if self._unlink(url):
            self._first.pop(self.outcomes[url].sha256, None)
        if outcome.status is not Status.GOOD:
            self.record(url, outcome)
            return None
        first = self._first.setdefault(outcome.sha256, url)
        if first == url:
            self._keep(url, file, validation, source)
            return None
        if not keep_first:
            dropped = self._drop(first, f"the same image as {url}")
        why = f"the same image as {first}"
        self.record(url, dataclasses.replace(outcome, status=Status.IDENTICAL, why=why))
        return dropped

    def write_report(self, entries, missing=lambda entry: NOT_TRIED):
        """Write `report.csv`: one row per entry.

        Parameters
        ----------
        entries : iterable of Entry
        missing : callable
            Returns the outcome of an entry for which none was recorded.

        Returns
        -------
        collections.Counter
            Number of entries per `Status`; the sum is the number of entries.

        Raises
        ------
        FetchError
            If the report can't be written.
        """
        counts, seen = collections.Counter(), {}
        with (
            _explained(self.folder / REPORT),
            files.replacing(self.folder / REPORT) as temporary,
            temporary.open("w", encoding="utf-8", newline="") as file,
        ):
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            for entry in entries:
                outcome = self.outcomes.get(entry.url) or missing(entry)
                first = seen.setdefault(entry.url, entry.line)
                if first != entry.line:
                    outcome = Outcome(Status.REPEATED, f"the same address as line {first}")
                row = dataclasses.asdict(entry) | dataclasses.asdict(outcome)
                writer.writerow({key: files.escaped(str(row[key])) for key in row})
                counts[outcome.status] += 1
        return counts

    # The row is written before the file: a row without its file is fetched again, but a file
    # without its row would never appear in the report.
    def _keep(self, url, file, validation, source):
        file = self._free(url, file)
        path = self.folder / file
        self.record(url, dataclasses.replace(validation.outcome, file=file))
        try:
            with _explained(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                if not (source and _link(source, path, validation.outcome.bytes)):
                    with files.replacing(path) as temporary:
                        temporary.write_bytes(validation.data)
        except FetchError:
            del self.outcomes[url]
            raise
        self._owner[file.casefold()] = url

    def _free(self, url, file):
        if self._owner.get(file.casefold(), url) == url and not (self.folder / file).is_dir():
            return file
        digest = hashlib.sha256(url.encode("utf-8", "surrogateescape")).hexdigest()[:16]
        path = PurePosixPath(file)
        return path.with_name(f"{path.stem}-{digest}{path.suffix}").as_posix()

    # The file is deleted before its row is written, for the same reason.
    def _drop(self, url, why):
        if not self._unlink(url):
            return None
        old = self.outcomes[url]
        self.record(url, dataclasses.replace(old, status=Status.IDENTICAL, why=why, file=""))
        return url

    def _unlink(self, url):
        old = self.outcomes.get(url)
        if old is None or old.status is not Status.GOOD:
            return False
        (self.folder / old.file).unlink(missing_ok=True)
        self._owner.pop(old.file.casefold(), None)
        return True

    def _replay(self):
        self._journal.seek(0)
        outcomes, end = {}, b"\n"
        for line in self._journal:
            end = line[-1:]
            if found := _read(line):
                url, outcome = found
                outcomes.pop(url, None)  # the order is that of the last outcomes
                outcomes[url] = outcome
        if end != b"\n":
            self._journal.write(b"\n")
        owner = _owners(outcomes)
        return {
            url: outcome
            for url, outcome in outcomes.items()
            if outcome.status is not Status.GOOD
            or (owner[outcome.file.casefold()] == url and self._is_there(outcome))
        }

    def _is_there(self, outcome):
        path = self.folder / outcome.file
        return path.is_file() and path.stat().st_size == outcome.bytes


def _checksum(row):
    return zlib.crc32(json.dumps(row).encode())


# The URL and its outcome; None of a line that a kill cut off, or that is damaged or older: the URL
# is fetched again.
def _read(line):
    try:
        row = json.loads(line)
        if row.pop("crc", None) not in (None, _checksum(row)):  # older lines have none
            return None
        url, outcome = row.pop("url"), Outcome(Status(row.pop("status")), **row)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return (url, outcome) if isinstance(url, str) and files.has_types(outcome) else None


def _owners(outcomes):
    """Map each file to its URL; names that differ only in upper and lower case are the same."""
    good = ((url, outcome) for url, outcome in outcomes.items() if outcome.status is Status.GOOD)
    return {outcome.file.casefold(): url for url, outcome in good}


def _explained(path):
    return files.explained_writing(path, FetchError, "make room and call again to resume")


def _link(source, path, size):
    try:
        if source.stat().st_size == size:
            path.hardlink_to(source.resolve())
            return True
    except OSError:
        pass  # another file system, or one without links: copy
    return False


def safe_name(text):
    """Turn an id from a list into a file name that stays in its folder.

    Parameters
    ----------
    text : str

    Returns
    -------
    str
        Letters, digits, ``-``, ``_`` and ``.`` only, not hidden, at most 100 characters.
    """
    return re.sub(r"[^A-Za-z0-9._-]", "_", text).lstrip(".")[:100]
