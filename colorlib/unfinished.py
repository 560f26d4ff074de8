"""What is done of a film that is not whole yet: segments in a folder, and how to go on from them.

Not here: how a segment is colored (`colorlib.films`), and the film files (`colorlib.reels`).

The folder is hidden, lies beside the target and is gone when the film is whole. A segment and
what the next one needs are written under other names and renamed, so a killed process leaves
whole ones.
"""

import contextlib
import dataclasses
import json
import shutil

import filelock
import numpy as np

from colorlib import images, reels, steadying


@dataclasses.dataclass(frozen=True)
class Stand:
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
    state : colorlib.steadying.Steady or None
    """

    frames: int = 0
    start: int = 0
    time: int | None = None
    told: int | None = None
    mark: int = 0
    damaged: int = 0
    state: steadying.Steady | None = None


@contextlib.contextmanager
def workshop(target, settings):
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
        If another process works in it.
    """
    folder = target.with_name(f".{target.name}.partial")
    folder.mkdir(exist_ok=True)
    try:
        lock = filelock.FileLock(folder / "lock").acquire(timeout=0)
    except filelock.Timeout:
        why = "is being colored by another process; let it end, or name another output"
        raise images.ImageError(f"{target}: {why}") from None
    with lock:
        for left in folder.glob(".*.partial"):
            left.unlink()  # what a killed run was writing
        note, told = folder / "settings.json", json.dumps(settings, indent=1)
        if not note.exists() or note.read_text() != told:
            for old in folder.glob("[0-9]*.*"):
                old.unlink()
            with images.replacing(note) as temporary:
                temporary.write_text(told)
        try:
            yield folder
        finally:
            if not segment(folder, 0).exists():
                shutil.rmtree(folder, ignore_errors=True)


def segment(folder, number):
    """Return the path of a segment, counted from 0."""
    return folder / f"{number:05}.mp4"


def stands(folder):
    """Return the `Stand` at the end of each whole segment, up to the first that is missing."""
    done, frames = [], 0
    while (path := segment(folder, len(done))).exists():
        try:
            stand = _load(path.with_suffix(".npz"))
        except (OSError, ValueError, KeyError, EOFError):
            break
        if reels.count_frames(path) != stand.frames - frames:
            break
        done, frames = [*done, stand], stand.frames
    return done


def save(path, stand):
    """Write a `Stand` into an NPZ file."""
    numbers = {
        name: value for name, value in vars(stand).items() if name != "state" and value is not None
    }
    with images.replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, ab=stand.state.ab, lightness=stand.state.lightness, **numbers)


def _load(path):
    with np.load(path) as arrays:
        state = steadying.Steady(arrays["ab"], arrays["lightness"])
        numbers = {name: int(arrays[name]) for name in arrays if name not in ("ab", "lightness")}
    return Stand(state=state, **numbers)
