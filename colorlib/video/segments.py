"""The segments and checkpoints of an unfinished film, in a hidden folder beside the target.

Not here: coloring (`colorlib.video.pipeline`) and film files (`colorlib.video.io`).

A segment and its checkpoint are written under temporary names and renamed, so a killed process
leaves complete files only.
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
    """The state of a film at the end of a segment.

    Attributes
    ----------
    frames : int
        Number of frames colored so far.
    start, time : int
        Presentation times of the segment's first and last frames.
    source_time : int or None
        The last frame's time stamp in the source.
    frame_checksum : int
        CRC-32 of the last frame's pixels in the source.
    damaged : int
        Number of places so far that could not be decoded.
    checksum : int
        CRC-32 of the segment's file.
    state : colorlib.video.smoothing.TemporalSmoothing or None
    """

    frames: int = 0
    start: int = 0
    time: int | None = None
    source_time: int | None = None
    frame_checksum: int = 0
    damaged: int = 0
    checksum: int = 0
    state: smoothing.TemporalSmoothing | None = None


@contextlib.contextmanager
def work_folder(target, settings):
    """Open and lock the folder for the segments of a film.

    Parameters
    ----------
    target : pathlib.Path
        The path of the finished film.
    settings : dict
        Values that JSON can hold. Segments of other settings are deleted.

    Yields
    ------
    pathlib.Path
        The folder; it is kept if there is a segment in it.

    Raises
    ------
    colorlib.images.ImageError
        If another process uses the folder, or it can't be written.
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


# Deletes temporary files of a killed run, and the segments of other settings.
def _clear(folder, settings):
    for left in [*folder.glob(".*.partial"), folder / "concatenated"]:
        _remove(left)
    path = folder / "settings.json"
    if not path.is_file() or path.read_bytes() != settings:
        for old in [*folder.glob("[0-9]*.*"), path]:
            _remove(old)
        with files.replacing(path) as temporary:
            temporary.write_bytes(settings)


def _remove(path):
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def segment(folder, number):
    """Return the path of a segment, counted from 0."""
    return folder / f"{number:05}.mp4"


def checkpoints(folder):
    """Load the checkpoints of a film.

    Parameters
    ----------
    folder : pathlib.Path
        From `work_folder`.

    Returns
    -------
    list of SegmentCheckpoint
        One for each segment up to the first that is missing or damaged; the files of later
        segments are deleted.
    """
    done = []
    while checkpoint := _load(segment(folder, len(done))):
        done.append(checkpoint)
    for path in folder.glob("[0-9]*.*"):
        if path.name >= f"{len(done):05}":
            _remove(path)
    return done


def save(path, checkpoint):
    """Write a `SegmentCheckpoint` into an NPZ file beside its segment."""
    fields = vars(checkpoint).items()
    numbers = {name: value for name, value in fields if name != "state" and value is not None}
    path = path.with_suffix(".npz")
    with files.replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, ab=checkpoint.state.ab, lightness=checkpoint.state.lightness, **numbers)


def checksum(path):
    """Return the CRC-32 of a file."""
    return zlib.crc32(path.read_bytes())


def _load(path):
    try:
        with path.with_suffix(".npz").open("rb") as file, np.load(file) as arrays:
            state = smoothing.TemporalSmoothing(arrays["ab"], arrays["lightness"])
            numbers = {name: int(arrays[name]) for name in arrays if name not in vars(state)}
        checkpoint = SegmentCheckpoint(state=state, **numbers)
        whole = checkpoint.checksum == checksum(path) and checkpoint.frames > 0 and _is_state(state)
    except Exception:  # NumPy and zipfile raise nearly anything on damaged files
        return None
    return checkpoint if whole else None


def _is_state(state):
    height, width = state.lightness.shape
    types = state.ab.dtype == state.lightness.dtype == np.float32
    return types and state.ab.shape == (height, width, 2)
