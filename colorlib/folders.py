"""Many photographs and films: paths -> where each colored one goes, and the photographs colored.

Not here: what happens to one photograph (`colorlib.photographs`, `colorlib.colorize`), to films
(`colorlib.films`), and what is said about it (`colorlib.commands_color`).
"""

import contextlib
import dataclasses
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from colorlib import colorize, images, photographs

FILMS = (".mp4", ".m4v", ".mov", ".mkv", ".webm")
"""Endings of films that can be written."""

READABLE_FILMS = (*FILMS, ".avi", ".mpg", ".mpeg", ".mts", ".m2ts", ".wmv", ".3gp", ".flv", ".ogv")
"""Endings of the films that are taken from a folder."""

AT_ONCE = min(4, os.cpu_count() or 1)
"""Photographs colored at the same time."""

LARGE = 2**24
"""Pixels from which a photograph has the memory to itself."""

COLORED, KEPT, FAILED = "colored", "kept", "failed"


@dataclasses.dataclass(frozen=True)
class Job:
    """A photograph or a film to color.

    Attributes
    ----------
    source, target : pathlib.Path
        Read from and written to.
    problem : str
        Why it can't be done, with the remedy; empty if it can.
    """

    source: Path
    target: Path
    problem: str = ""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes
    ----------
    job : Job
    fate : {"colored", "kept", "failed"}
        Kept is a target that was there before.
    why : str
        A line that names the file: why it failed, or what of it could not be kept.
    """

    job: Job
    fate: str
    why: str = ""


def plan(paths, output, recursive=False):
    """Decide where each colored photograph and film goes.

    Parameters
    ----------
    paths : sequence of path-like
        Image files, films, and folders of them.
    output : path-like
        A file's name for a single photograph or film, else a folder, which is made if missing.
        What lies in subfolders of a folder keeps its place below `output`.
    recursive : bool
        Whether to look into the subfolders of folders too. Hidden files and folders, and `output`
        itself, are left out. A GIF, which can't be written, becomes ``NAME.gif.png``, an AVI
        ``NAME.avi.mp4``.

    Returns
    -------
    list of Job
        Each file once. Those that would get the same name, or names that differ only in
        upper and lower case, get ``-2``, ``-3``, ... appended.

    Raises
    ------
    colorlib.images.ImageError
        If several files are to go into one, a film into a photograph or the other way round, or
        the folder can't be made.
    """
    output, paths = Path(output), [Path(path) for path in paths]
    if output.suffix.lower() in (*images.EXTENSIONS, *READABLE_FILMS) and not output.is_dir():
        return _guarded([_single(paths, output)])
    _make(output)
    jobs, seen, taken = [], set(), set()
    for path in paths:
        found = _inside(path, output, recursive) if path.is_dir() else [Job(path, Path(path.name))]
        for job in found:
            if (real := job.source.resolve()) not in seen:
                seen.add(real)
                target = _free_name(output / job.target, taken)
                taken.add(str(target).casefold())
                jobs.append(_placed(dataclasses.replace(job, target=target)))
    return _guarded(jobs)


def color_all(colorizer, jobs, overwrite=False, side_by_side=False, at_once=AT_ONCE):
    """Color photographs, several at once.

    Parameters
    ----------
    colorizer : colorlib.colorize.Colorizer
    jobs : sequence of Job
    overwrite : bool
        Whether to color photographs whose targets are there already.
    side_by_side : bool
        Put the grey photograph to the left of the colored one.
    at_once : int
        Large ones are colored one by one all the same.

    Yields
    ------
    Outcome
        One for each job, in their order. If the loop over them is left, jobs in hand are ended
        and those behind them are not begun.
    """
    alone = threading.Lock()
    pool = ThreadPoolExecutor(at_once)

    def do(job):
        return _do(job, colorizer, overwrite, side_by_side, alone)

    try:
        yield from pool.map(do, jobs)
    finally:
        pool.shutdown(cancel_futures=True)


def color_file(colorizer, source, target, side_by_side=False):
    """Color one image file.

    Parameters
    ----------
    colorizer : colorlib.colorize.Colorizer
    source, target : path-like
        Read from and written to; the target's ending decides its format.
    side_by_side : bool
        Put the grey photograph to the left of the colored one.

    Returns
    -------
    str
        A line that names what of the photograph was lost, or "".

    Raises
    ------
    colorlib.images.ImageError
        If the source can't be read or the target can't be written.
    """
    images.format_of(target)  # a name that can't be written is refused before the work
    photograph = photographs.read(source)
    depth = photographs.depth_in(target, photograph)
    pixels = colorize.render(colorizer, photograph, depth, side_by_side)
    profile, kept, pages = photograph.profile, photograph.kept, photograph.pages
    del photograph  # its pixels are not needed while the file is encoded
    losses = []
    if pages > 1:
        losses.append(f"only the first of {pages} pages or frames is colored")
    if not photographs.write(target, pixels, profile, kept):
        losses.append("the metadata are too long or damaged and left out")
    return f"{target}: {'; '.join(losses)}" if losses else ""


def attempt(job, overwrite, color):
    """Do a job, unless it is done or can't be; one odd file does not end the work on a folder.

    Parameters
    ----------
    job : Job
    overwrite : bool
        Whether to do it if its target is there already.
    color : callable
        Does it, and returns a line about what could not be kept, or nothing.

    Returns
    -------
    Outcome
    """
    if job.problem:
        return Outcome(job, FAILED, job.problem)
    if job.target.exists() and not overwrite:
        return Outcome(job, KEPT)
    try:
        return Outcome(job, COLORED, color())
    except images.ImageError as error:
        return Outcome(job, FAILED, str(error))
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        return Outcome(job, FAILED, f"{job.source}: can't be colored ({reason}); leave it out")


def is_film(path):
    """Say whether a file is a film, by its name."""
    return Path(path).suffix.lower() in READABLE_FILMS


def _single(paths, output):
    if len(paths) > 1 or paths[0].is_dir():
        raise images.ImageError(f"{output}: is one file for several photographs; name a folder")
    film = is_film(paths[0])
    endings = FILMS if film else images.EXTENSIONS
    if output.suffix.lower() not in endings:
        what = "a film" if film else "a photograph"
        raise images.ImageError(f"{output}: {what} becomes one of {' '.join(endings)}; name such")
    return Job(paths[0], output)


def _do(job, colorizer, overwrite, side_by_side, alone):
    def color():
        large = photographs.count_pixels(job.source) >= LARGE
        with alone if large else contextlib.nullcontext():
            return color_file(colorizer, job.source, job.target, side_by_side)

    return attempt(job, overwrite, color)


def _inside(folder, output, recursive):
    errors, jobs = [], []
    for place, folders, names in os.walk(folder, onerror=errors.append):
        place = Path(place)
        inner = [name for name in folders if recursive and not name.startswith(".")]
        folders[:] = sorted(name for name in inner if not (place / name).samefile(output))
        for name in sorted(names):
            taken = is_film(name) or Path(name).suffix.lower() in images.READABLE
            if taken and not name.startswith("."):
                jobs.append(Job(place / name, (place / name).relative_to(folder)))
    for error in errors:
        why = f"{error.filename}: can't be looked into ({error.strerror}); check its permissions"
        jobs.append(Job(Path(error.filename), Path("unreadable"), why))
    if not jobs:
        remedy = "name a folder of image files" if recursive else "--recursive looks deeper"
        why = f"{folder}: has no photographs or films in it; {remedy}"
        jobs.append(Job(folder, Path("empty"), why))
    return jobs


def _guarded(jobs):
    sources = {job.source.resolve() for job in jobs}
    return [_checked(job, sources) for job in jobs]


def _checked(job, sources):
    if job.problem or job.target.resolve() not in sources:
        return job
    why = f"{job.target}: would overwrite what is to be colored; choose another output"
    return dataclasses.replace(job, problem=why)


def _placed(job):
    try:
        _make(job.target.parent)
    except images.ImageError as error:
        return dataclasses.replace(job, problem=job.problem or str(error))
    return job


def _free_name(target, taken):
    if target.suffix.lower() not in (*images.EXTENSIONS, *FILMS):
        target = target.with_name(f"{target.name}{'.mp4' if is_film(target) else '.png'}")
    free, number = target, 1
    while str(free).casefold() in taken:
        number += 1
        free = target.with_stem(f"{target.stem}-{number}")
    return free


def _make(folder):
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise images.ImageError(f"{folder}: can't be made ({reason}); choose another") from None
