"""Plan the outputs of many photographs and films, and color the photographs.

Not here: a single photograph (`colorlib.photos.photo`, `colorlib.colorize`), the coloring of films
(`colorlib.video.pipeline`) and the messages (`colorlib.cli.color`).
"""

import collections
import contextlib
import dataclasses
import functools
import hashlib
import itertools
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from colorlib import colorize, files, images, memory
from colorlib.photos import outputs, pages, photo

FILMS = (".mp4", ".m4v", ".mov", ".mkv", ".webm")
"""Endings of films that can be written."""

READABLE_FILMS = (*FILMS, ".avi", ".mpg", ".mpeg", ".mpe", ".vob", ".ts", ".mts", ".m2ts", ".m2t")
READABLE_FILMS += (".wmv", ".asf", ".3gp", ".3g2", ".flv", ".f4v", ".ogv", ".qt", ".dv")
"""Endings of the films that are taken from a folder."""

AT_ONCE = min(4, os.cpu_count() or 1)
"""Photographs colored at the same time."""

LARGE = 2**24
"""Photographs of so many pixels are colored one at a time, to save memory."""

WAITING = 64
"""Photographs that wait for a thread or for the ones before them: an archive may have millions."""

COLORED, KEPT, FAILED = "colored", "kept", "failed"


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
    """A photograph or a film to color.

    Attributes
    ----------
    source, target : pathlib.Path
        The file to read and the file to write.
    problem : str
        The reason why the job is impossible, with the remedy; otherwise empty.
    known : colorlib.photos.outputs.Entry or None
        The record of an existing file with the target's name.
    """

    source: Path
    target: Path
    problem: str = ""
    known: outputs.Entry | None = None


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The result of a job.

    Attributes
    ----------
    job : Job
    status : {"colored", "kept", "failed"}
        A target is kept if an earlier call made it from this source with these settings.
    why : str
        A line that names the file and the reason of a failure, or what could not be kept.
    replaced : bool
        Whether it replaces a target made from this source with other settings.
    """

    job: Job
    status: str
    why: str = ""
    replaced: bool = False


def plan(paths, output, recursive=False, overwrite=False, shard=(1, 1)):
    """Choose the target of each photograph and film.

    Parameters
    ----------
    paths : sequence of path-like
        Image files, films, and folders of them.
    output : path-like
        A file for a single photograph or film, otherwise a folder, which is created if missing.
        Files in subfolders keep their relative paths below `output`.
    recursive : bool
        Whether to include subfolders. Hidden files and folders, and `output` itself, are left out.
        A GIF, which can't be written, becomes ``NAME.gif.png``, an AVI ``NAME.avi.mp4``.
    overwrite : bool
        Whether a source that changed replaces the target that was made from its old content.
    shard : (int, int)
        Which part of the files, from 1, and of how many parts. A file's part follows from its path
        below the folder in `paths` alone. The calls of all parts, on any machines and in any
        order, choose the same targets as one call for all files.

    Returns
    -------
    list of Job
        Each file of the part once. Targets with the same name, ignoring upper and lower case, get
        ``-2``, ``-3``, ... appended. This includes the targets of earlier calls, which
        `colorlib.photos.outputs` records: another source with the same name gets a number, and the
        same source gets its earlier target.

    Raises
    ------
    colorlib.images.ImageError
        If `output` is one file for several sources or of the wrong kind, or the folder can't be
        created.
    ValueError
        If there is no such part.
    """
    if not 1 <= shard[0] <= shard[1]:
        raise ValueError(f"no part {shard[0]} of {shard[1]}; the parts are 1 to {shard[1]}")
    output, paths = Path(output), [Path(path) for path in paths]
    endings, lists = (*images.READABLE, *READABLE_FILMS), outputs.Records()
    if output.suffix.lower() in endings and not files.is_folder(output):
        jobs = [_single(paths, output)] * _is_in(Path(paths[0].name), shard)
        return _guarded(jobs, {os.path.realpath(paths[0])}, lists)
    _make(output)
    found, jobs, taken = {}, [], set()
    for path in paths:
        inside = _inside(path, output, recursive) if files.is_folder(path) else [_named(path)]
        for job in inside:
            found.setdefault(os.path.realpath(job.source), job)
    for job in found.values():
        named = dataclasses.replace(job, target=output / job.target)
        target = _free_name(named, taken, lists, overwrite, found)
        taken.add(str(target).casefold())
        if _is_in(job.target, shard):
            jobs.append(_placed(dataclasses.replace(job, target=target)))
    return _guarded(jobs, found, lists)


def skipped_files(paths, output, recursive=False):
    """Count the files in folders that are skipped because of their names.

    Parameters
    ----------
    paths, output, recursive
        As for `plan`.

    Returns
    -------
    str
        From `files.counted`.
    """
    inside = [files.below(x, recursive, output) for x in paths if files.is_folder(x)]
    unique = {os.path.realpath(file): file for found in inside for file in found.files}
    return files.counted([file for file in unique.values() if not _is_taken(file)])


def color_all(colorizer, jobs, overwrite=False, side_by_side=False, at_once=AT_ONCE):
    """Color photographs in several threads.

    Parameters
    ----------
    colorizer : colorlib.colorize.Colorizer
    jobs : sequence of Job
    overwrite : bool
        Whether to color photographs whose targets exist already, whatever they were made from.
    side_by_side : bool
        Put the grey photograph to the left of the colored one.
    at_once : int
        Number of threads; large photographs are colored one at a time.

    Yields
    ------
    Outcome
        One for each job, in order. If the iteration is stopped, running jobs are finished and the
        others are not started.
    """
    several = len(jobs) > 1
    if several:
        memory.keep_freed()
    alone = threading.Lock()
    settings = functools.cache(lambda: outputs.fingerprint(colorizer, side_by_side=side_by_side))

    def do(job):
        return _do(job, colorizer, overwrite, side_by_side, alone, settings, several)

    with workers(min(at_once, len(jobs)) or 1) as pool:
        yield from ahead(pool, do, jobs, WAITING)


@contextlib.contextmanager
def workers(count):
    """Start threads for photographs or frames.

    Parameters
    ----------
    count : int
        With several threads, NumPy computes each product of matrices in one: its own threads would
        wait for each other, and photographs took half as long again.

    Yields
    ------
    concurrent.futures.ThreadPoolExecutor
        At the end, running jobs are finished and the others are not started.
    """
    with contextlib.ExitStack() as stack:
        if count > 1:
            from threadpoolctl import threadpool_limits  # takes time that one photograph needs not

            stack.enter_context(threadpool_limits(1, user_api="blas"))
        pool = ThreadPoolExecutor(count)
        stack.callback(pool.shutdown, cancel_futures=True)
        yield pool


def ahead(pool, do, items, waiting):
    """Do something with each item in the threads of a pool, a limited number of items ahead.

    Parameters
    ----------
    pool : concurrent.futures.Executor
    do : callable
    items : iterable
    waiting : int
        Results, at most, that are computed or begun and not yet taken.

    Yields
    ------
    object
        The results, in order.
    """
    begun = collections.deque()
    for item in items:
        begun.append(pool.submit(do, item))
        if len(begun) > waiting:
            yield begun.popleft().result()
    while begun:
        yield begun.popleft().result()


def color_file(colorizer, source, target, side_by_side=False, threads=colorize.THREADS):
    """Color one image file.

    Parameters
    ----------
    colorizer : colorlib.colorize.Colorizer
    source, target : path-like
        The file to read and the file to write, whose ending decides its format.
    side_by_side : bool
        Put the grey photograph to the left of the colored one.
    threads : int
        As for `colorize.paint`.

    Returns
    -------
    str
        A line that names what of the photograph was lost, or "".

    Raises
    ------
    colorlib.images.ImageError
        If the source can't be read or the target can't be written.
    """
    color = functools.partial(colorize.render, colorizer, threads=threads)
    return _convert(source, target, color, side_by_side)


def color_scribbled(job, marked, overwrite=False, side_by_side=False):
    """Color one photograph by strokes that somebody painted on it.

    Parameters
    ----------
    job : Job
    marked : path-like
        The file with the strokes, as for `scribbles.read`.
    overwrite : bool
        Whether to color it if its target exists already, whatever that was made from.
    side_by_side : bool
        Put the grey photograph to the left of the colored one.

    Returns
    -------
    Outcome
    """
    from colorlib import scribbles  # SciPy takes as long to start as a photograph to color

    def color(photograph, depth, side_by_side):
        strokes = scribbles.read(marked, job.source)
        return colorize.paint(
            photograph, scribbles.colors(photograph, strokes), depth, side_by_side
        )

    def settings():
        return outputs.digest(["scribbles", outputs.content(marked), side_by_side])

    return _color_by(job, marked, "strokes", color, settings, overwrite, side_by_side)


def color_hinted(colorizer, job, hinted, overwrite=False, side_by_side=False):
    """Color one photograph by a user's hints.

    Parameters
    ----------
    colorizer : colorlib.colorize.Colorizer
        Its network takes hints.
    job : Job
    hinted : path-like
        The file with the hints, as for `hint_files.read`.
    overwrite, side_by_side
        As for `color_scribbled`.

    Returns
    -------
    Outcome
    """
    from colorlib.photos import hint_files

    def color(photograph, depth, side_by_side):
        points = hint_files.read(hinted, job.source)
        return colorize.render(colorizer, photograph, depth, side_by_side, points)

    def settings():
        changes = dict(side_by_side=side_by_side, hints=outputs.content(hinted))
        return outputs.fingerprint(colorizer, **changes)

    return _color_by(job, hinted, "hints", color, settings, overwrite, side_by_side)


# Colors a photograph of one page with what is in another file, and does not overwrite that.
def _color_by(job, given, what, color, settings, overwrite, side_by_side):
    def color_only_page(photograph, depth, side_by_side):
        if photograph.pages > 1:
            count = f"has {photograph.pages} pages or frames, and {what} belong to one"
            raise images.ImageError(f"{job.source}: {count}; save that one as a file of its own")
        return color(photograph, depth, side_by_side)

    if os.path.realpath(job.target) == os.path.realpath(given):
        why = f"{job.target}: would overwrite the {what}; choose another output"
        job = dataclasses.replace(job, problem=job.problem or why)
    return attempt(
        job,
        overwrite,
        lambda: _convert(job.source, job.target, color_only_page, side_by_side),
        settings,
    )


def _convert(source, target, color, side_by_side):
    images.format_of(target)  # a name that can't be written is refused before the work

    def page_of(photograph):
        depth = photo.depth_in(target, photograph)
        pixels = color(photograph, depth, side_by_side)
        return pages.Page(pixels, photograph.profile, photograph.kept, photograph.duration)

    losses = pages.convert(source, target, page_of)
    return f"{target}: {'; '.join(losses)}" if losses else ""


def attempt(job, overwrite, color, settings):
    """Run a job unless it is done or impossible; turn every error into a failed outcome.

    Parameters
    ----------
    job : Job
    overwrite : bool
        Whether to run it if its target exists already.
    color : callable
        Colors the file, and returns a line about what could not be kept, or "".
    settings : callable
        Returns the result of `outputs.fingerprint`.

    Returns
    -------
    Outcome
    """
    if job.problem:
        return Outcome(job, FAILED, job.problem)
    try:
        replaced = job.target.exists() and not overwrite
        if replaced and _is_done(job, settings()):
            return Outcome(job, KEPT)
        with outputs.begun(job.target, job.source, settings(), job.known) as entry:
            lost = color()
        lines = lost, _noted(job, entry, settings())
        replaced = replaced and job.known.size != outputs.UNFINISHED
        return Outcome(job, COLORED, "; ".join(filter(None, lines)), replaced)
    except images.ImageError as error:
        return Outcome(job, FAILED, str(error))
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        return Outcome(job, FAILED, f"{job.source}: can't be colored ({reason}); leave it out")


def is_film(path):
    """Return whether a file's name is that of a film."""
    return Path(path).suffix.lower() in READABLE_FILMS


def _single(paths, output):
    if len(paths) > 1 or paths[0].is_dir():
        raise images.ImageError(f"{output}: is one file for several photographs; name a folder")
    film = is_film(paths[0])
    endings = FILMS if film else images.EXTENSIONS
    if output.suffix.lower() not in endings:
        what = "a film" if film else "a photograph"
        raise images.ImageError(f"{output}: {what} becomes one of {' '.join(endings)}; choose one")
    return Job(paths[0], output)


# Raises an error if the target was not made by colorlib from this source.
def _is_done(job, settings):
    remedy = "--overwrite replaces it, another output keeps both"
    if job.known is None or not outputs.is_from(job.known, job.source):
        why = f"is there, and not known to be made from {job.source}"
        raise images.ImageError(f"{job.target}: {why}; {remedy}")
    if job.known.size == outputs.UNFINISHED:
        return False
    if job.known.settings == settings:
        return True
    if job.target.stat().st_size != job.known.size:
        why = "was made with other settings and has been changed since"
        raise images.ImageError(f"{job.target}: {why}; {remedy}")
    return False


def _noted(job, entry, settings):
    try:
        entry = entry or outputs.entry_of(job.target, job.source, settings)
        outputs.record(job.target, entry)
    except OSError as error:
        why = f"is colored, but {outputs.LIST} beside it can't be written ({error.strerror})"
        return f"{job.target}: {why}; the next call will not recognize it"
    return ""


def _do(job, colorizer, overwrite, side_by_side, alone, settings, several):
    def color():
        large = photo.count_pixels(job.source) >= LARGE
        threads = 1 if several and not large else colorize.THREADS
        with alone if large else contextlib.nullcontext():
            return color_file(colorizer, job.source, job.target, side_by_side, threads)

    return attempt(job, overwrite, color, settings)


def _inside(folder, output, recursive):
    found = files.below(folder, recursive, skip=output)
    jobs = [Job(path, path.relative_to(folder)) for path in found.files if _is_taken(path)]
    jobs += [Job(place, Path("unreadable"), why) for place, why in found.problems]
    if not jobs:
        remedy = "name a folder of image files" if recursive else "--recursive looks deeper"
        why = f"{folder}: has no photographs or films in it; {remedy}"
        jobs.append(Job(folder, Path("empty"), why))
    return jobs


def _is_taken(path):
    film = is_film(path) and not (path.suffix.lower() == ".ts" and _is_text(path))
    return film or path.suffix.lower() in images.READABLE


# TypeScript files have the same ending as MPEG transport streams, which begin with byte 0x47.
def _is_text(path):
    try:
        if not path.is_file():  # reading a pipe would block
            return False
        with path.open("rb") as file:
            return file.read(1) != b"\x47"
    except OSError:
        return False


def _named(path):
    return Job(path, Path(path.name))


# Python's own hash of a text differs from process to process.
def _is_in(path, shard):
    number, count = shard
    hashed = hashlib.sha256(os.fsencode(path)).digest()
    return int.from_bytes(hashed[:8]) % count == number - 1


def _guarded(jobs, sources, lists):
    return [_checked(job, sources, lists) for job in jobs]


def _checked(job, sources, lists):
    if job.problem or os.path.realpath(job.target) not in sources:
        return dataclasses.replace(job, known=lists.entry(job.target))
    why = f"{job.target}: would overwrite what is to be colored; choose another output"
    return dataclasses.replace(job, problem=why)


def _placed(job):
    try:
        _make(job.target.parent)
    except images.ImageError as error:
        return dataclasses.replace(job, problem=job.problem or str(error))
    return job


def _free_name(job, taken, lists, overwrite, sources):
    source, target = job.source, job.target
    if target.suffix.lower() not in (*images.EXTENSIONS, *FILMS):
        target = target.with_name(f"{target.name}{'.mp4' if is_film(target) else '.png'}")
    numbered = (target.with_stem(f"{target.stem}-{number}") for number in itertools.count(2))
    own = [] if job.problem else lists.made_from(source, target, sources)
    for name in itertools.chain(own, [target], numbered):
        entry = None if name in own else lists.entry(name)
        again = overwrite and entry and entry.source == os.path.realpath(source)
        others = entry and not again and name.exists()
        if str(name).casefold() not in taken and not others:
            return name


def _make(folder):
    with files.explained_writing(folder, images.ImageError):
        folder.mkdir(parents=True, exist_ok=True)
