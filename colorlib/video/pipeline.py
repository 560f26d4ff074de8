"""A film -> the film in color: frame by frame, without flicker, with its sound, and resumable.

Not here: film files (`colorlib.video.io`, `colorlib.video.io`), where flicker goes
(`colorlib.video.smoothing`), and which films there are (`colorlib.photos.batch`).

What is colored is kept in segments, in a hidden folder beside the target that is gone when the
film is whole. Each segment has beside it what the next one needs, so that a film that was
stopped, even killed, and goes on becomes the same as one that was not.
"""

import collections
import contextlib
import dataclasses
import functools
import itertools
import shutil
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from colorlib import colorize, colorspace, files, images
from colorlib.photos import batch, outputs
from colorlib.video import io, segments
from colorlib.video.smoothing import (
    CUT,
    MOVED,
    SMOOTHING,
    STILL,
    TemporalSmoothing,
    on_grid,
    smooth,
)

SEGMENT = 96
"""Frames in a segment, the most that have to be colored again after a stop: some seconds' work."""

AHEAD = 2
"""Frames in hand, times the threads; each takes some tens of bytes a pixel."""

ENDS_EARLY = 1.0
"""Seconds, and 2%, by which a film may be shorter than it announces before a word is said."""


@dataclasses.dataclass(frozen=True)
class Picture:
    """A frame on its way through.

    Attributes
    ----------
    frame : colorlib.video.io.Frame
        Without its pixels once they are not needed.
    mark : int
        By which the frame is known again.
    lightness : ndarray of float32, shape (height, width)
        L, 0..100.
    state : colorlib.video.smoothing.TemporalSmoothing
        The predicted colors, at first as predicted, then without flicker.
    time : int
        When it is shown: after the one before, whatever the file says.
    rgb : ndarray of uint8, shape (height, width, 3), or None
        The result.
    """

    frame: io.Frame
    mark: int
    lightness: np.ndarray
    state: TemporalSmoothing
    time: int = 0
    rgb: np.ndarray | None = None


def color_all(colorizer, jobs, overwrite=False, progress=None, **how):
    """Color films, one after the other.

    Parameters
    ----------
    colorizer : colorlib.colorize.Colorizer
    jobs : sequence of colorlib.photos.batch.Job
    overwrite : bool
        Whether to color films whose targets are there already.
    progress, **how
        For `color_film`.

    Yields
    ------
    colorlib.photos.batch.Outcome
        One for each job, in their order.
    """
    settings = functools.cache(lambda: outputs.fingerprint(colorizer, **how))
    for job in jobs:
        color = functools.partial(
            color_film, colorizer, job.source, job.target, progress=progress, **how
        )
        yield batch.attempt(job, overwrite, color, settings)


def color_film(colorizer, source, target, smoothing=SMOOTHING, side_by_side=False, progress=None):
    """Color a film; where an earlier call was stopped, this one goes on.

    Parameters
    ----------
    colorizer : colorlib.colorize.Colorizer
    source, target : path-like
        Read from and written to; the target's ending, one of `io.FORMATS`, decides its format.
    smoothing : float
        0..1, for `smoothing.smooth`.
    side_by_side : bool
        Put the grey film to the left of the colored one.
    progress : callable, optional
        Called with an iterable of frames and, by name, with their ``total`` (None if unknown)
        and how many are done, ``initial``; its result is iterated over, then closed, as
        ``tqdm``'s is.

    Returns
    -------
    str
        A line that names the target: what could not be kept or decoded; empty if all is well.

    Raises
    ------
    colorlib.images.ImageError
        If the source can't be read, the target can't be written, or another process colors it.
    """
    target = Path(target)
    ending = target.suffix.lower()
    with io.Reader(source) as reader:
        settings = _settings(colorizer, source, ending, smoothing, side_by_side)
        with segments.work_folder(target, settings) as folder:
            done = segments.checkpoints(folder)
            last = done[-1] if done else segments.SegmentCheckpoint()
            frames = _rest(reader, last)
            pictures = _colored(frames, colorizer, last, reader.step, smoothing, side_by_side)
            shown = pictures
            if progress:
                shown = progress(pictures, total=reader.expected, initial=last.frames)
            with (
                contextlib.closing(frames),
                contextlib.closing(pictures),
                contextlib.closing(shown),
                _Segments(target, folder, reader, done) as writer,
            ):
                for picture in shown:
                    writer.add(picture)
            if not done:
                raise images.ImageError(f"{source}: none of it can be decoded; get it anew")
            parts = [(segments.segment(folder, n), stand.start) for n, stand in enumerate(done)]
            with images.explained_writing(target):
                lost = io.concatenate(parts, source, folder / "joined", ending)
                (folder / "joined").replace(target)
    shutil.rmtree(folder, ignore_errors=True)
    return _report(target, reader, done, lost)


def _report(target, reader, done, lost):
    notes = [f"without its {what}, which the format can't hold" for what in lost]
    if reader.high_dynamic_range:
        notes.append("as ordinary film, although the source is HDR: it may look flat")
    if reader.damaged:
        notes.append(f"{reader.damaged} damaged places in the source")
    seconds = float((done[-1].time + reader.step - done[0].start) * reader.unit)
    if not reader.announces_pictures:
        seconds = max(seconds, reader.reached)
    if reader.seconds and seconds < 0.98 * reader.seconds - ENDS_EARLY:
        notes.append(f"only {seconds:.0f} of {reader.seconds:.0f} seconds are in the source")
    return f"{target}: {'; '.join(notes)}" if notes else ""


# Whatever makes a difference to the result: what was colored with others is not gone on with.
def _settings(colorizer, source, ending, smoothing, side_by_side):
    file = Path(source).stat()
    probe = np.linspace(0, 255, 64 * 64 * 3).reshape(64, 64, 3).astype(np.uint8)
    return {
        "source": [Path(source).name, file.st_size, file.st_mtime_ns],
        "network, decoding and drawing": zlib.crc32(colorizer(probe)),
        "decoding": dataclasses.asdict(colorizer.decoding),
        "ending": ending,
        "smoothing": [smoothing, STILL, MOVED, CUT],
        "side by side": side_by_side,
        "film": [SEGMENT, io.DEINTERLACING, io.H264, io.VP9, io.VERSION],
    }


# The frames behind those that are done. A jump is quick, but only trusted if it leads to the
# very frame that was the last one; else the frames are counted from the start.
def _rest(reader, last):
    if last.told is None or reader.may_restart:
        yield from itertools.islice(reader.frames(), last.frames, None)
        return
    with io.Reader(reader.path) as scout:
        frames = scout.frames(since=last.told)
        behind = itertools.dropwhile(lambda x: x.time is None or x.time < last.told, frames)
        found = next(behind, None)
        if found and found.time == last.told and _mark(found.rgb) == last.mark:
            before = last.damaged - found.damaged
            for frame in behind:
                yield dataclasses.replace(frame, damaged=before + frame.damaged)
            reader.damaged, reader.reached = before + scout.damaged, scout.reached
            return
    yield from itertools.islice(reader.frames(), last.frames, None)


def _mark(rgb):
    return zlib.crc32(np.ascontiguousarray(rgb[::4, ::4]))


def _colored(frames, colorizer, last, step, smoothing, side_by_side):
    def look(frame):
        lightness = colorspace.rgb_to_lab(frame.rgb)[..., 0]
        ab = colorizer.predict_ab(lightness)
        state = TemporalSmoothing(ab, on_grid(lightness, ab))
        mark = _mark(frame.rgb)
        return Picture(dataclasses.replace(frame, rgb=None), mark, lightness, state)

    follow = colorizer.decoding.follow_edges

    def dye(picture):
        rgb = colorize.apply_colors(picture.lightness, picture.state.ab, follow_edges=follow)
        if side_by_side:
            grey = colorize.apply_colors(picture.lightness, np.zeros((1, 1, 2), np.float32))
            rgb = np.concatenate([grey, rgb], axis=1)
        return dataclasses.replace(picture, rgb=rgb, lightness=None)

    pool = ThreadPoolExecutor(batch.AT_ONCE)
    try:
        looked = _ahead(pool, look, frames)
        yield from _ahead(pool, dye, _steadied(looked, last, step, smoothing))
    finally:
        pool.shutdown(cancel_futures=True)


def _steadied(pictures, last, step, smoothing):
    state, time = last.state, last.time
    for picture in pictures:
        state = smooth(state, picture.state.ab, picture.state.lightness, smoothing)
        told = picture.frame.time
        if told is None:
            told = 0 if time is None else time + step
        time = told if time is None else max(told, time + 1)
        yield dataclasses.replace(picture, state=state, time=time)


def _ahead(pool, do, items):
    waiting = collections.deque()
    for item in items:
        waiting.append(pool.submit(do, item))
        if len(waiting) > AHEAD * batch.AT_ONCE:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


class _Segments:
    """Where pictures are put, one after the other; `done` grows by a `Stand` for each segment.

    Only writing happens in here, so what goes wrong in here is said to be that.
    """

    def __init__(self, target, folder, reader, done):
        self._target, self._folder, self._reader, self._done = target, folder, reader, done
        self._open, self._frames = contextlib.ExitStack(), 0

    def __enter__(self):
        return self

    def __exit__(self, kind, *error):
        if kind is None:
            self._end()
        self._open.__exit__(kind, *error)

    def add(self, picture):
        with images.explained_writing(self._target):
            if not self._frames:
                self._first = picture
                self._open.enter_context(self._segment())
            duration = picture.frame.duration or self._reader.step
            self._writer.add(picture.rgb, picture.time - self._first.time, duration)
        self._last, self._frames = picture, self._frames + 1
        if self._frames == SEGMENT:
            self._end()

    def _end(self):
        with images.explained_writing(self._target):
            self._open.close()
        self._frames = 0

    @contextlib.contextmanager
    def _segment(self):
        path = segments.segment(self._folder, len(self._done))
        like = dataclasses.replace(self._first.frame, rgb=self._first.rgb)
        webm = self._target.suffix.lower() == ".webm"
        with files.replacing(path) as temporary:
            with io.Writer(temporary, self._reader, like, webm) as self._writer:
                yield
            # before the segment has its name: where one is, all of it is
            self._done.append(self._stand(segments.checksum(temporary)))
            segments.save(path, self._done[-1])

    def _stand(self, checksum):
        before = self._done[-1].frames if self._done else 0
        last = self._last
        return segments.SegmentCheckpoint(
            frames=before + self._frames,
            start=self._first.time,
            time=last.time,
            told=last.frame.time,
            mark=last.mark,
            damaged=last.frame.damaged,
            checksum=checksum,
            state=last.state,
        )
