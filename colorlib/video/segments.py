"""What is done of a film that is not whole yet: segments in a folder, and how to go on from them.

Not here: how a segment is colored (`colorlib.video.pipeline`), and the film files
(`colorlib.video.io`).

The folder is hidden, lies beside the target and is gone when the film is whole. A segment and
what the next one needs are written under other names and renamed, so a killed process leaves
whole ones.
"""

import contextlib
import dataclasses
import json
import shutil
import zlib

import filelock
import numpy as np

from colorlib import files, images
from colorlib.video import smoothing


@dataclasses.dataclass(frozen=True)
class SegmentCheckpoint:
    """How far a film is, as of the end of a segment.

    Attributes
    ----------
    frames : int
        Colored so far.
    start, time : int
        When the segment's first and last frames are shown.
    told : int or None
        The last frame's time, as the source says it.
    mark : int
        By which the last frame is known again.
    damaged : int
        Places so far that could not be decoded.
    checksum : int
        CRC-32 of the segment's file.
    state : colorlib.video.smoothing.TemporalSmoothing or None
    """

    frames: int = 0
    start: int = 0
    time: int | None = None
    told: int | None = None
    mark: int = 0
    damaged: int = 0
    checksum: int = 0
    state: smoothing.TemporalSmoothing | None = None


@contextlib.contextmanager
def work_folder(target, settings):
    """Open the folder in which a film is worked on; one process at a time.

    Parameters
    ----------
    target : pathlib.Path
        The film to be.
    settings : dict
        JSON's types. Segments that were made with others are thrown away.

    Yields
    ------
    pathlib.Path
        The folder; it stays if there is a segment in it.

    Raises
    ------
    colorlib.images.ImageError
        If another process works in it, or it can't be written.
    """
    folder = target.with_name(f".{target.name}.partial")
    with images.explained_writing(target):
        lock = _locked(folder, target)
    with lock:
        with images.explained_writing(target):
            _clear(folder, json.dumps(settings, indent=1).encode())
        try:
            yield folder
        finally:
            if not segment(folder, 0).exists():
                shutil.rmtree(folder, ignore_errors=True)


def _locked(folder, target):
    folder.mkdir(exist_ok=True)
    try:
        return filelock.FileLock(folder / "lock").acquire(timeout=0)
    except filelock.Timeout:
        why = "is being colored by another process; let it end, or name another output"
        raise images.ImageError(f"{target}: {why}") from None


# What a killed run was writing goes, and so do the segments of other settings.
def _clear(folder, told):
    for left in [*folder.glob(".*.partial"), folder / "joined"]:
        _remove(left)
    note = folder / "settings.json"
    if not note.is_file() or note.read_bytes() != told:
        for old in [*folder.glob("[0-9]*.*"), note]:
            _remove(old)
        with files.replacing(note) as temporary:
            temporary.write_bytes(told)


def _remove(path):
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def segment(folder, number):
    """Return the path of a segment, counted from 0."""
    return folder / f"{number:05}.mp4"


def checkpoints(folder):
    """Find out how far a film is.

    Parameters
    ----------
    folder : pathlib.Path
        From `workshop`.

    Returns
    -------
    list of Stand
        At the end of each whole segment, up to the first that is missing or damaged; what is
        there of the others is removed.
    """
    done = []
    while stand := _load(segment(folder, len(done))):
        done.append(stand)
    for path in folder.glob("[0-9]*.*"):
        if path.name >= f"{len(done):05}":
            _remove(path)
    return done


def save(path, stand):
    """Write a `Stand` into an NPZ file beside its segment."""
    numbers = {
        name: value for name, value in vars(stand).items() if name != "state" and value is not None
    }
    path = path.with_suffix(".npz")
    with files.replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, ab=stand.state.ab, lightness=stand.state.lightness, **numbers)


def checksum(path):
    """Return the CRC-32 of a file."""
    found = 0
    with path.open("rb") as file:
        while part := file.read(2**20):
            found = zlib.crc32(part, found)
    return found


def _load(path):
    try:
        with path.with_suffix(".npz").open("rb") as file, np.load(file) as arrays:
            state = smoothing.TemporalSmoothing(arrays["ab"], arrays["lightness"])
            numbers = {name: int(arrays[name]) for name in arrays if name not in vars(state)}
        stand = SegmentCheckpoint(state=state, **numbers)
        whole = stand.checksum == checksum(path) and stand.frames > 0 and _is_state(state)
    except Exception:  # NumPy and zipfile raise nearly anything on damaged files
        return None
    return stand if whole else None


def _is_state(state):
    height, width = state.lightness.shape
    types = state.ab.dtype == state.lightness.dtype == np.float32
    return types and state.ab.shape == (height, width, 2)
