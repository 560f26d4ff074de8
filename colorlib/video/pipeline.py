"""Color a film frame by frame, without flicker and with its sound; a stopped film is resumed.

Not here: film files (`colorlib.video.io`), temporal smoothing (`colorlib.video.smoothing`) and the
choice of films (`colorlib.photos.batch`).

The colored frames are written in segments, to a hidden folder beside the target that is deleted
when the film is complete. Each segment has a checkpoint with the state that the next one needs, so
a film that was stopped or killed, and resumed, is identical to one that was not.
"""

import contextlib
import dataclasses
import functools
import itertools
import shutil
import zlib
from pathlib import Path

import numpy as np

from colorlib import colorize, files, icc, images, memory
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
"""Frames in a segment: at most so many are colored again after a stop, which takes seconds."""

AHEAD = 2 * batch.AT_ONCE
"""Frames that are predicted or painted ahead; each takes some tens of bytes a pixel."""

ENDS_EARLY = 1.0
"""A film that is shorter than announced by more than these seconds plus 2% gets a note."""


@dataclasses.dataclass(frozen=True)
class Picture:
    """A frame at some stage of the pipeline.

    Attributes
    ----------
    frame : colorlib.video.io.Frame
        Without its pixels, which are not needed any more.
    frame_checksum : int
        Identifies the frame when a film is resumed.
    lightness : ndarray of float32, shape (height, width)
        L, 0..100.
    view : ndarray of float32, shape (h, w)
        L as the network sees it.
    state : colorlib.video.smoothing.TemporalSmoothing
        The predicted colors, before or after smoothing.
    time : int
        Its presentation time, strictly increasing even where the file's times are not.
    rgb : ndarray of uint8, shape (height, width, 3), or None
        The result.
    """

    frame: io.Frame
    frame_checksum: int
    lightness: np.ndarray
    view: np.ndarray
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
        Whether to color films whose targets exist already.
    progress, **how
        For `color_film`.

    Yields
    ------
    colorlib.photos.batch.Outcome
        One for each job, in order.
    """
    settings = functools.cache(lambda: outputs.fingerprint(colorizer, **how))
    for job in jobs:
        color = functools.partial(
            color_film, colorizer, job.source, job.target, progress=progress, **how
        )
        yield batch.attempt(job, overwrite, color, settings)


def color_film(colorizer, source, target, smoothing=SMOOTHING, side_by_side=False, progress=None):
    """Color a film; resume where an earlier call was stopped.

    Parameters
    ----------
    colorizer : colorlib.colorize.Colorizer
    source, target : path-like
        The target's ending, one of `io.FORMATS`, decides its format.
    smoothing : float
        0..1, for `smoothing.smooth`.
    side_by_side : bool
        Put the grey film to the left of the colored one.
    progress : callable, optional
        A progress bar such as ``tqdm``: called with an iterable of frames, their ``total`` (None
        if unknown) and the number that is done, ``initial``. Its result is iterated and closed.

    Returns
    -------
    str
        A line that names the target and what could not be kept or decoded; empty if there is
        nothing to report.

    Raises
    ------
    colorlib.images.ImageError
        If the source can't be read, the target can't be written, or another process colors it.
    """
    memory.keep_freed()
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
                raise images.ImageError(f"{source}: no frame can be decoded; get it again")
            parts = [(segments.segment(folder, n), each.start) for n, each in enumerate(done)]
            with images.explained_writing(target):
                lost = io.concatenate(parts, source, folder / "concatenated", ending)
                (folder / "concatenated").replace(target)
    shutil.rmtree(folder, ignore_errors=True)
    return _report(target, reader, done, lost)


def _report(target, reader, done, lost):
    notes = [f"without its {what}, which the format can't hold" for what in lost]
    if reader.high_dynamic_range:
        notes.append("as ordinary film, although the source is HDR: it may look flat")
    if reader.damaged:
        notes.append(f"{reader.damaged} damaged places in the source were skipped")
    seconds = float((done[-1].time + reader.step - done[0].start) * reader.unit)
    if not reader.announces_pictures:
        seconds = max(seconds, reader.reached)
    if reader.seconds and seconds < 0.98 * reader.seconds - ENDS_EARLY:
        notes.append(f"only {seconds:.0f} of {reader.seconds:.0f} seconds are in the source")
    return f"{target}: {'; '.join(notes)}" if notes else ""


# Everything that changes the result: segments with other settings are not continued.
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


# The frames that remain. Seeking is fast, but its result is used only if it finds the last frame
# that was colored; otherwise the frames are counted from the start.
def _rest(reader, last):
    if last.source_time is None or reader.may_restart:
        yield from itertools.islice(reader.frames(), last.frames, None)
        return
    with io.Reader(reader.path) as seeking:
        frames = seeking.frames(since=last.source_time)
        rest = itertools.dropwhile(lambda x: x.time is None or x.time < last.source_time, frames)
        found = next(rest, None)
        if (
            found
            and found.time == last.source_time
            and _frame_checksum(found.rgb) == last.frame_checksum
        ):
            before = last.damaged - found.damaged
            for frame in rest:
                yield dataclasses.replace(frame, damaged=before + frame.damaged)
            reader.damaged, reader.reached = before + seeking.damaged, seeking.reached
            return
    yield from itertools.islice(reader.frames(), last.frames, None)


def _frame_checksum(rgb):
    return zlib.crc32(np.ascontiguousarray(rgb[::16]))


def _colored(frames, colorizer, last, step, smoothing, side_by_side):
    def predict(frame):
        lightness = icc.srgb()(frame.rgb)  # as of a photograph
        view = colorizer.view(colorize.Lightness(lightness))
        ab = colorizer.decode(colorizer.predict(view))
        state = TemporalSmoothing(ab, on_grid(view, ab))
        checksum = _frame_checksum(frame.rgb)
        return Picture(dataclasses.replace(frame, rgb=None), checksum, lightness, view, state)

    follow = colorizer.decoding.follow_edges

    def paint(picture):
        colors = colorize.fit_to_lightness(picture.view, picture.state.ab, follow)
        source = colorize.Lightness(picture.lightness)
        rgb = colorize.paint(source, colors, side_by_side=side_by_side, threads=1)
        return dataclasses.replace(picture, rgb=rgb, lightness=None)

    with batch.workers(batch.AT_ONCE) as pool:
        predicted = batch.ahead(pool, predict, frames, AHEAD)
        smoothed = _smoothed(predicted, last, step, smoothing)
        yield from batch.ahead(pool, paint, smoothed, AHEAD)


def _smoothed(pictures, last, step, smoothing):
    state, time = last.state, last.time
    for picture in pictures:
        state = smooth(state, picture.state.ab, picture.state.lightness, smoothing)
        source_time = picture.frame.time
        if source_time is None:
            source_time = 0 if time is None else time + step
        time = source_time if time is None else max(source_time, time + 1)
        yield dataclasses.replace(picture, state=state, time=time)


class _Segments:
    """A writer of segments; `done` grows by a `SegmentCheckpoint` for each one.

    It only writes, so every error in it is reported as an error of writing.
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
            # before the segment is renamed: a segment with its name always has its checkpoint
            self._done.append(self._checkpoint(segments.checksum(temporary)))
            segments.save(path, self._done[-1])

    def _checkpoint(self, checksum):
        before = self._done[-1].frames if self._done else 0
        last = self._last
        return segments.SegmentCheckpoint(
            frames=before + self._frames,
            start=self._first.time,
            time=last.time,
            source_time=last.frame.time,
            frame_checksum=last.frame_checksum,
            damaged=last.frame.damaged,
            checksum=checksum,
            state=last.state,
        )
