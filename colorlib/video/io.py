"""Film files in and out: PyAV (ffmpeg's libraries) reads and writes a frame at a time.

Not here: colors (`colorlib.colorize`), and how a film is colored so that it can be stopped
(`colorlib.video.pipeline`).

What is kept of a film: its resolution, every frame's time, the shape of its pixels, its sound and,
where the format can hold them, its subtitles, its chapters and its metadata (`KEPT`). The
orientation is applied, the two fields of an interlaced picture become one frame, and time stamps
that restart go on: where all streams jump back, they are moved by the same offset. New pictures are
H.264 (VP9 in WebM) with 8 bits and color at half the resolution, as every player expects; that
needs even sides, so the last row or column of an odd one is doubled.

Nothing is decoded where it can be avoided: the segments, sound and subtitles are copied as they
are. Sound that the new format can't hold is encoded again.
"""

import contextlib
import dataclasses
import heapq
import itertools
import math
from fractions import Fraction
from pathlib import Path

import av
import av.error
import av.filter
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, ColorTrc

from colorlib import images

JUMP = 0.25
"""Seconds by which the times of a stream have to go back; within a recording they never do."""

STRAY = 1.0
"""Seconds that a stream goes on in the old times where another one only has a wrong time."""

WAIT = 400
"""Packets within which all streams go back; a stream of pictures or sound can have ended."""


def continuous(packets):
    """Let the clock go on where it restarts.

    Parameters
    ----------
    packets : iterable of av.packet.Packet
        Of a film, all its streams, in the order of the file.

    Yields
    ------
    av.packet.Packet
        The same ones in the same order. Behind a restart `pts` and `dts` are changed, so that
        they begin where the latest packet before it ends.
    """
    packets, part, shift = iter(packets), _Part(), 0
    for packet in packets:
        if part.step(packet) >= -JUMP:
            part.add(packet)
            yield _moved(packet, shift)
            continue
        around = part.until_all_went_back(itertools.chain([packet], packets))
        behind, further = _Part(), shift
        for each, went_back in around:
            (behind if went_back else part).add(each)
        if behind.latest:
            further = shift + part.end - behind.start
        for each, went_back in around:
            yield _moved(each, further if went_back else shift)
        if behind.latest:
            part, shift = behind, further


class _Part:
    """What is between two restarts: the latest time of each stream, and where all begins and ends.

    Subtitles do not count: they are too rare to tell a restart by.
    """

    def __init__(self):
        self.latest, self.start, self.end = {}, math.inf, -math.inf

    def add(self, packet):
        if packet.dts is not None and packet.stream.type in ("video", "audio"):
            self.latest[packet.stream.index] = _time(packet.dts, packet)
            shown = _time(packet.dts if packet.pts is None else packet.pts, packet)
            self.start = min(self.start, shown)
            self.end = max(self.end, shown + _time(packet.duration or 0, packet))

    def step(self, packet):
        index = packet.stream.index
        if packet.dts is None or index not in self.latest:
            return 0
        return _time(packet.dts, packet) - self.latest[index]

    def until_all_went_back(self, packets):
        """Return packets, each with whether it is behind the restart; none is if it is a stray."""
        now, gone_back, around = _Part(), set(), []
        now.latest = dict(self.latest)
        for packet in packets:
            index = packet.stream.index
            if now.step(packet) < -JUMP:
                gone_back.add(index)
            elif now.step(packet) > JUMP and self.step(packet) >= 0:
                gone_back.discard(index)
            now.add(packet)
            around.append((packet, index in gone_back or index not in self.latest))
            if gone_back == set(self.latest) or len(around) == WAIT:
                break
        limit = max(self.latest.values()) + STRAY
        stray = any(now.latest[index] > limit for index in set(self.latest) - gone_back)
        if stray or not gone_back:
            return [(packet, False) for packet, _ in around]
        return around


def _time(ticks, packet):
    return ticks * packet.time_base


def _moved(packet, shift):
    if shift:
        ticks = round(shift / packet.time_base)
        packet.dts = None if packet.dts is None else packet.dts + ticks
        packet.pts = None if packet.pts is None else packet.pts + ticks
    return packet


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
    announces_pictures : bool
        Whether these are the seconds of its pictures; else they are those of all that is in it.
    reached : float
        Seconds into the film, of its pictures or its sound, up to which it was read.
    may_restart : bool
        Whether its clock may restart, so that a time can be in it twice.
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
        self.path, self.damaged, self.reached = path, 0, 0.0
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
        self.may_restart = av.format.Flags.ts_discont in av.format.Flags(
            self._container.format.flags
        )
        self.seconds, self.announces_pictures = None, bool(video.duration)
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
        for packet in itertools.chain(self._packets(), [None]):
            try:
                yield from self._video.decode(packet)
            except av.error.EOFError:
                return
            except av.error.FFmpegError:
                self.damaged += 1

    def _packets(self):
        start = (self._container.start_time or 0) / av.time_base
        for packet in packets(self._container, self._count_damage):
            if packet.dts is not None:
                end = (packet.dts + (packet.duration or 0)) * packet.time_base
                self.reached = max(self.reached, float(end) - start)
            if packet.stream.index == self._video.index:
                yield packet

    def _count_damage(self):
        self.damaged += 1

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


def packets(film, damaged=lambda: None):
    """Read a film's pictures, sound and subtitles, as far as they can be read.

    Parameters
    ----------
    film : av.container.InputContainer
        From `opened`.
    damaged : callable
        Called if nothing behind a place can be read.

    Yields
    ------
    av.packet.Packet
        In the order of the file; where its clock restarts the times go on.
    """
    streams = film.streams

    def readable():
        try:
            yield from film.demux([*streams.video, *streams.audio, *streams.subtitles])
        except av.error.FFmpegError:
            damaged()

    return continuous(readable())


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


KEPT = {
    "title": "title",
    "artist": "artist",
    "album": "album",
    "composer": "composer",
    "genre": "genre",
    "date": "date",
    "creation_time": "creation time",
    "location": "place",
    "make": "camera's make",
    "model": "camera's model",
    "comment": "comment",
    "copyright": "copyright",
    "description": "description",
    "synopsis": "synopsis",
    "keywords": "keywords",
}
"""ffmpeg's keys of what goes into the new file -> what they are called here."""

OTHER_KEYS = {
    "com.apple.quicktime.location.iso6709": "location",
    "com.apple.quicktime.creationdate": "date",
    "com.apple.quicktime.make": "make",
    "com.apple.quicktime.model": "model",
}
"""Keys that cameras write -> ffmpeg's."""


def concatenate(parts, source, path, ending):
    """Put segments one behind the other, with the sound of the film they are of.

    Parameters
    ----------
    parts : sequence of (path-like, int)
        Files of a `io.Writer`, and the time at which each begins, in the film's unit.
    source : path-like
        The film.
    path : path-like
        Written.
    ending : str
        One of `io.FORMATS`, which decides the format.

    Returns
    -------
    list of str
        What of the film could not be kept, in words.
    """
    # faststart puts the table of contents first, so that a browser can begin at once
    options = {"movflags": "+faststart"} if FORMATS[ending] in ("mp4", "mov") else {}
    with (
        opened(source) as film,
        av.open(str(path), "w", format=FORMATS[ending], container_options=options) as out,
        av.open(str(parts[0][0])) as first,
    ):
        out.metadata.update(words := _metadata(film))
        out.set_chapters(film.chapters())
        unit = film.streams.best("video").time_base
        pictures = out.add_stream_from_template(first.streams.video[0])
        pictures.time_base = unit
        lanes, lost = _mapped_streams(film, out, ending)
        tracks = [_pictures(parts, unit, pictures)]
        if lanes:
            tracks.append(_sound(film, lanes))
        # by time: written one behind the other, ffmpeg would have to hold them in memory
        for _, packet in heapq.merge(*tracks, key=lambda pair: pair[0]):
            out.mux(packet)
    with opened(path) as written:
        there = _metadata(written)
    return lost + [KEPT[key] for key in words if key not in there]


# Matroska has its keys in capitals.
def _metadata(film):
    named = {key.lower(): words for key, words in film.metadata.items()}
    others = {new: named[old] for old, new in OTHER_KEYS.items() if old in named}
    return {key: words for key, words in (others | named).items() if key in KEPT}


# A lane is what carries on the packets of one stream: (from, to, whether they are encoded anew).
def _mapped_streams(film, out, ending):
    lanes, lost = {}, []
    for stream in [*film.streams.audio, *film.streams.subtitles]:
        context = stream.codec_context
        name = context.codec.canonical_name if context else "unknown"
        raw_sound = name.startswith("pcm_") and ending in (".mp4", ".m4v")  # few players take it
        if name in out.supported_codecs and not raw_sound:
            lane = (out.add_stream_from_template(stream), False)
        elif stream.type == "audio" and context:
            codec = "libopus" if ending == ".webm" else "aac"
            lane = (_encoder(out, codec, context), True)
        else:
            lost.append(f"{'sound' if stream.type == 'audio' else 'subtitles'} ({name})")
            continue
        lane[0].metadata.update({k: v for k, v in stream.metadata.items() if k == "language"})
        lanes[stream.index] = lane
    return lanes, lost


def _encoder(out, codec, context):
    rates = av.Codec(codec, "w").audio_rates
    rate = context.rate if not rates or context.rate in rates else 48_000
    # some files give a number of channels, but not which
    layout = {1: "mono", 2: "stereo"}.get(context.layout.nb_channels, context.layout.name)
    return out.add_stream(codec, rate=rate, layout=layout)


def _pictures(parts, unit, stream):
    for path, start in parts:
        with av.open(str(path)) as part:
            for packet in part.demux(part.streams.video[0]):
                if packet.dts is None:
                    continue
                ticks = packet.time_base / unit
                packet.pts = packet.dts = start + round(packet.pts * ticks)
                packet.duration = round(packet.duration * ticks)
                packet.time_base, packet.stream = unit, stream
                yield float(packet.dts * unit), packet


def _sound(film, lanes):
    ended = {}  # the latest time of each stream: damaged ones go back, which no file may
    ours = (packet for packet in packets(film) if packet.stream.index in lanes)
    for packet in itertools.chain(ours, [None]):
        done = lanes.items() if packet is None else [(packet.stream.index, None)]
        for index, _ in list(done):
            stream, anew = lanes[index]
            for new in _remapped(packet, stream) if anew else [packet]:
                if new is None or new.dts is None or new.dts <= ended.get(index, new.dts - 1):
                    continue
                ended[index], new.stream = new.dts, stream
                yield float(new.dts * new.time_base), new


def _remapped(packet, stream):
    try:
        sounds = [None] if packet is None else packet.decode()
    except av.error.FFmpegError:
        return []  # a moment of damaged sound
    return [
        new for sound in sounds if sound is None or sound.samples for new in stream.encode(sound)
    ]
