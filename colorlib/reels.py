"""Film files, read and written a frame at a time: what PyAV, which is ffmpeg's libraries, is asked.

Not here: colors (`colorlib.colorize`), and how a film is colored so that it can be stopped
(`colorlib.films`).

What is kept of a film: its resolution, every frame's time, the shape of its pixels, its sound and,
where the format can hold them, its subtitles, its chapters and its title. The orientation is
applied, and the two halves of an interlaced picture are made one. New pictures are H.264 (VP9 in
WebM) with 8 bits and color at half the resolution, as every player expects; that needs even sides,
so the last row or column of an odd one is doubled.
"""

import contextlib
import dataclasses
from fractions import Fraction
from pathlib import Path

import av
import av.error
import av.filter
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, ColorTrc

from colorlib import images

DEMUXERS = "mov,matroska,webm,avi,mpeg,mpegts,asf,ogg,flv,dv"
"""What ffmpeg may try; others would follow a list to other files, or take a photograph."""

VERSION = av.__version__
"""Of PyAV, and with it of ffmpeg's libraries."""

LARGEST = 2**25
"""Pixels in a frame: 8192 x 4096; more is refused."""

HD = 720
"""Rows from which a film that does not say it has BT.709's colors, below it BT.601's."""

ORIENTATION = "DISPLAYMATRIX"

DEINTERLACING = ("bwdif", "mode=send_frame:parity=auto:deint=interlaced")
"""ffmpeg's filter, so that a picture's even and odd rows, filmed one after the other, agree."""

FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
"""The endings of files that can be written -> ffmpeg's name of the format."""

# x264's looking ahead came out otherwise once in thirty times; a film gone on with would differ
REPEATABLE = {"x264-params": "mbtree=0:rc-lookahead=0:weightp=0"}

# without B-frames each packet holds the next frame, and segments join without arithmetic
H264 = ("libx264", {"crf": "17", "preset": "veryfast", "bf": "0", **REPEATABLE})
VP9 = ("libvpx-vp9", {"crf": "24", "b": "0", "deadline": "good", "cpu-used": "5", "row-mt": "1"})


@dataclasses.dataclass(frozen=True)
class Frame:
    """A picture of a film.

    Attributes
    ----------
    rgb : ndarray of uint8, shape (height, width, 3)
        sRGB, upright.
    time : int or None
        When it is shown, in the film's unit, if the file says so.
    duration : int
        How long it is shown, in the film's unit; 0 if the file does not say.
    aspect : fractions.Fraction or None
        Width of a pixel over its height, if the file says so.
    damaged : int
        Places up to here that could not be decoded.
    """

    rgb: np.ndarray
    time: int | None
    duration: int
    aspect: Fraction | None = None
    damaged: int = 0


class Reader:
    """A film file, open for reading; a context manager.

    Parameters
    ----------
    path : path-like

    Attributes
    ----------
    unit : fractions.Fraction
        Seconds in a tick of its clock.
    step : int
        Ticks between two frames, on the average.
    expected : int or None
        Frames that the file announces, about.
    seconds : float or None
        That the file announces.
    damaged : int
        Places so far that could not be decoded.
    high_dynamic_range : bool
        Whether its brightness is coded for brighter screens (ITU-R BT.2100); it is taken as any
        other film's.

    Raises
    ------
    colorlib.images.ImageError
        If it is no film, has no pictures, or their size is beyond reason.
    """

    def __init__(self, path):
        self.path, self.damaged = path, 0
        self._container = opened(path)
        streams = self._container.streams
        video = streams.best("video")
        if video is None or video.disposition & av.stream.Disposition.attached_pic:
            self._refuse("has no moving pictures; name a film")
        self._video, codec = video, video.codec_context
        if codec is None:
            self._refuse("is compressed in a way that is not known here; convert it to MP4")
        self._size = codec.width, codec.height
        self.high_dynamic_range = codec.color_trc in (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67)
        if not 0 < codec.width * codec.height <= LARGEST:
            limit = f"from 1 to {LARGEST} pixels"
            self._refuse(f"has frames of {codec.width} x {codec.height}, not {limit}; resize it")
        video.thread_type = "AUTO"
        self.unit, self._aspect = video.time_base, codec.sample_aspect_ratio
        self.rate = video.average_rate or video.guessed_rate or Fraction(25)
        self.step = max(1, round(1 / (self.rate * self.unit)))
        self.seconds = None
        if video.duration:
            self.seconds = float(video.duration * video.time_base)
        elif self._container.duration:
            self.seconds = self._container.duration / av.time_base
        self.expected = video.frames or (self.seconds and round(self.seconds * self.rate)) or None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._container.close()

    def frames(self, since=None):
        """Decode the frames, one after the other.

        Parameters
        ----------
        since : int, optional
            Begin at or, as far as the file allows, shortly before this time.

        Yields
        ------
        Frame
            What can't be decoded is left out, and counted in `damaged`.
        """
        if since is not None:
            self._container.seek(since, stream=self._video)
        for frame in self._progressive(self._decoded()):
            self.damaged += bool(frame.is_corrupt)
            rgb, turned = _upright(self._rgb(frame), frame)
            aspect = 1 / self._aspect if self._aspect and turned else self._aspect
            yield Frame(rgb, frame.pts, frame.duration or 0, aspect, self.damaged)

    def _decoded(self):
        packets = self._container.demux(self._video)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except av.error.FFmpegError:
                self.damaged += 1
                packet = None  # nothing behind it can be read; what is in the decoder comes
            try:
                yield from self._video.decode(packet)
            except av.error.EOFError:
                return
            except av.error.FFmpegError:
                self.damaged += 1
            if packet is None:
                return

    # from the first interlaced picture on; the filter itself leaves the others as they are
    def _progressive(self, frames):
        graph = None
        for frame in frames:
            if graph is None and frame.interlaced_frame:
                graph = _graph(self._video, DEINTERLACING)
            if graph is None:
                yield frame
            else:
                graph.push(frame)
                yield from _pulled(graph, self.unit)
        if graph is not None:
            graph.push(None)
            yield from _pulled(graph, self.unit)

    def _rgb(self, frame):
        untold = frame.colorspace not in set(Colorspace)
        usual = Colorspace.ITU709 if self._size[1] >= HD else Colorspace.ITU601
        width, height = self._size
        converted = frame.reformat(
            width, height, "rgb24", src_colorspace=usual if untold else frame.colorspace
        )
        rgb = converted.to_ndarray()
        if frame.format.name.startswith("gray") and frame.color_range == ColorRange.MPEG:
            rgb = _stretched(rgb)  # the conversion takes grey for full range, always
        return rgb

    def _refuse(self, why):
        self._container.close()
        raise images.ImageError(f"{self.path}: {why}")


class Writer:
    """A film file without sound, open for writing; a context manager.

    Parameters
    ----------
    path : path-like
        Of an MP4 file, whatever its name.
    reader : Reader
        Of the film that it is a copy of.
    first : Frame
        As the frames to come are: its shape and aspect count.
    webm : bool
        Whether the pictures are to go into WebM in the end.
    """

    def __init__(self, path, reader, first, webm=False):
        self._container = av.open(str(path), "w", format="mp4")
        codec, options = VP9 if webm else H264
        self._stream = self._container.add_stream(codec, rate=reader.rate, options=options)
        height, width = (side + side % 2 for side in first.rgb.shape[:2])
        context = self._stream.codec_context
        context.width, context.height, context.pix_fmt = width, height, "yuv420p"
        context.time_base = self._unit = reader.unit
        if first.aspect:
            context.sample_aspect_ratio = first.aspect
        self._colors = Colorspace.ITU709 if height >= HD else Colorspace.ITU601
        # 1 is BT.709 in all three of these lists; 6 is BT.601's
        number = 1 if height >= HD else 6
        context.colorspace = context.color_primaries = context.color_trc = number
        context.color_range = ColorRange.MPEG

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self._container.mux(self._stream.encode(None))
            self._container.close()
        else:
            with contextlib.suppress(OSError, av.error.FFmpegError):  # the first error is told
                self._container.close()

    def add(self, rgb, time, duration):
        """Append a frame: `rgb` uint8 of shape (height, width, 3); the rest in the film's unit."""
        height, width = rgb.shape[:2]
        if height % 2 or width % 2:
            rgb = np.pad(rgb, ((0, height % 2), (0, width % 2), (0, 0)), "edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), "rgb24")
        frame = frame.reformat(
            format="yuv420p", dst_colorspace=self._colors, dst_color_range=ColorRange.MPEG
        )
        frame.pts, frame.time_base, frame.duration = time, self._unit, duration
        self._container.mux(self._stream.encode(frame))


def opened(path):
    """Open a film file for reading.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    av.container.InputContainer

    Raises
    ------
    colorlib.images.ImageError
        If there is no such file, or it is no film.
    """
    options = {"format_whitelist": DEMUXERS, "protocol_whitelist": "file"}
    try:
        if not Path(path).stat().st_size:
            raise images.ImageError(f"{path}: is empty; get it anew")
        if not Path(path).is_file():
            raise images.ImageError(f"{path}: is no file; name a film")
        # "file:" so that no name, such as "concat:x.mp4", is an instruction
        return av.open(f"file:{path}", options=options, metadata_errors="replace")
    except FileNotFoundError:
        raise images.ImageError(f"{path}: no such file; check the path") from None
    except PermissionError:
        raise images.ImageError(f"{path}: may not be read; check its permissions") from None
    except (OSError, av.error.FFmpegError):
        why = "is no film, or it is damaged or cut off"
        raise images.ImageError(f"{path}: {why}; get it anew, or convert it to MP4") from None


def count_frames(path):
    """Return how many frames a file has that a `Writer` wrote; 0 if it is damaged."""
    try:
        with av.open(str(path)) as container:
            return container.streams.video[0].frames
    except (OSError, av.error.FFmpegError, IndexError):
        return 0


def _graph(stream, filtering):
    graph = av.filter.Graph()
    steps = [graph.add_buffer(template=stream), graph.add(*filtering), graph.add("buffersink")]
    graph.link_nodes(*steps).configure()
    return graph


def _pulled(graph, unit):
    while True:
        try:
            frame = graph.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
        ticks = frame.time_base / unit  # filters may count time in other units
        if frame.pts is not None:
            frame.pts = round(frame.pts * ticks)
        frame.duration = round((frame.duration or 0) * ticks)
        yield frame


def _stretched(rgb):
    table = np.clip((np.arange(256) - 16) * (255 / 219), 0, 255).round().astype(np.uint8)
    return table[rgb]


# The matrix (a b, c d) sends the pixel (x, y) to (a x + c y, b x + d y).
def _upright(rgb, frame):
    matrix = next((x for x in frame.side_data if x.type.name == ORIENTATION), None)
    if matrix is None:
        return rgb, False
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].tolist()
    if turned := abs(b) > abs(a):
        rgb, a, d = rgb.swapaxes(0, 1), c, b
    return rgb[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1], turned
