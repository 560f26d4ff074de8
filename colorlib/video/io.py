"""Read and write film files with PyAV (ffmpeg's libraries), one frame at a time.

Not here: colors (`colorlib.colorize`) and the resumable coloring (`colorlib.video.pipeline`).

A film keeps its resolution, the time of every frame, its pixel aspect ratio, its sound and, where
the format can hold them, its subtitles, chapters and metadata (`KEPT`). The orientation is applied,
and an interlaced film is deinterlaced. Where the time stamps of all streams jump back, a common
offset is added so that they continue. The pictures are encoded as H.264 (VP9 in WebM) with 8 bits
and chroma at half the resolution, which every player supports; this needs even sides, so the last
row or column of an odd side is repeated.

Segments, sound and subtitles are copied without decoding. Sound that the new format can't hold is
encoded again.
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
"""Seconds by which the times of a stream go back at a restart; within a recording they never do."""

STRAY = 1.0
"""If another stream continues for so many seconds, a backward jump is a single wrong time."""

WAIT = 400
"""Packets within which all streams have to jump back, unless a stream has ended."""


def continuous(packets):
    """Make time stamps continue where they restart.

    Parameters
    ----------
    packets : iterable of av.packet.Packet
        The packets of all streams of a film, in the order of the file.

    Yields
    ------
    av.packet.Packet
        The same packets in the same order. After a restart `pts` and `dts` are shifted, so that
        they begin where the last packet before it ends.
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
    """The part between two restarts: the latest time of each stream, and its start and end.

    Subtitles are ignored: they are too rare to detect a restart.
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
        """Pair packets with whether they are after the restart; all False if there is none."""
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
"""The formats that ffmpeg may read; others would open further files, or read photographs."""

VERSION = av.__version__
"""The version of PyAV, which determines that of ffmpeg's libraries."""

LARGEST = 2**25
"""Maximum number of pixels in a frame: 8192 x 4096."""

HD = 720
"""A film without a color space has BT.709's from so many rows on, otherwise BT.601's."""

ORIENTATION = "DISPLAYMATRIX"

DEINTERLACING = ("bwdif", "mode=send_frame:parity=auto:deint=interlaced")
"""ffmpeg's filter; it leaves progressive pictures unchanged."""

FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
"""The endings of files that can be written -> ffmpeg's name of the format."""

# with x264's lookahead one run in thirty differed; a resumed film has to be identical
REPEATABLE = {"x264-params": "mbtree=0:rc-lookahead=0:weightp=0"}

# without B-frames the packets are in presentation order, so segments can be concatenated
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
        Presentation time in the film's unit; None if the file has none.
    duration : int
        Duration in the film's unit; 0 if the file has none.
    aspect : fractions.Fraction or None
        Pixel aspect ratio, width over height; None if the file has none.
    damaged : int
        Number of places so far that could not be decoded.
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
        The time base: seconds in a tick.
    step : int
        Average number of ticks between two frames.
    expected : int or None
        Approximate number of frames, from the file's header.
    seconds : float or None
        Duration, from the file's header.
    announces_pictures : bool
        Whether `seconds` is the duration of the pictures alone, or that of all streams.
    reached : float
        Seconds, of pictures or sound, that were read so far.
    may_restart : bool
        Whether time stamps may restart, so that a time can occur twice.
    damaged : int
        Number of places so far that could not be decoded.
    high_dynamic_range : bool
        Whether the film is HDR (ITU-R BT.2100); its values are read like those of other films.

    Raises
    ------
    colorlib.images.ImageError
        If it is no film, has no pictures, or exceeds `LARGEST`.
    """

    def __init__(self, path):
        self.path, self.damaged, self.reached = path, 0, 0.0
        self._container = _opened(path)
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
        """Decode the frames one by one.

        Parameters
        ----------
        since : int, optional
            Seek to this time; the first frame may be shortly before it.

        Yields
        ------
        Frame
            Damaged places are skipped and counted in `damaged`.
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
        for packet in _packets(self._container, self._count_damage):
            if packet.dts is not None:
                end = (packet.dts + (packet.duration or 0)) * packet.time_base
                self.reached = max(self.reached, float(end) - start)
            if packet.stream.index == self._video.index:
                yield packet

    def _count_damage(self):
        self.damaged += 1

    # the filter starts at the first interlaced picture and leaves progressive ones unchanged
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
        unknown = frame.colorspace not in set(Colorspace)
        usual = Colorspace.ITU709 if self._size[1] >= HD else Colorspace.ITU601
        width, height = self._size
        converted = frame.reformat(
            width, height, "rgb24", src_colorspace=usual if unknown else frame.colorspace
        )
        rgb = converted.to_ndarray()
        if frame.format.name.startswith("gray") and frame.color_range == ColorRange.MPEG:
            # the conversion always treats grey as full range
            rgb = np.clip((np.arange(256) - 16) * (255 / 219), 0, 255).round().astype(np.uint8)[rgb]
        return rgb

    def _refuse(self, why):
        self._container.close()
        raise images.ImageError(f"{self.path}: {why}")


class Writer:
    """A film file without sound, open for writing; a context manager.

    Parameters
    ----------
    path : path-like
        The format is MP4 whatever the ending.
    reader : Reader
        The source film.
    first : Frame
        A frame with the shape and the aspect of all frames.
    webm : bool
        Whether to encode the pictures for WebM.
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
            with contextlib.suppress(OSError, av.error.FFmpegError):  # report the first error only
                self._container.close()

    def add(self, rgb, time, duration):
        """Append a frame: `rgb` uint8 of shape (height, width, 3); the rest in the film's unit."""
        height, width = rgb.shape[:2]
        if height % 2 or width % 2:
            rgb = np.pad(rgb, ((0, height % 2), (0, width % 2), (0, 0)), "edge")
        frame = av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(rgb), "rgb24")
        frame = frame.reformat(
            format="yuv420p", dst_colorspace=self._colors, dst_color_range=ColorRange.MPEG
        )
        frame.pts, frame.time_base, frame.duration = time, self._unit, duration
        self._container.mux(self._stream.encode(frame))


def _opened(path):
    options = {"format_whitelist": DEMUXERS, "protocol_whitelist": "file"}
    try:
        if not Path(path).stat().st_size:
            raise images.ImageError(f"{path}: is empty; get it again")
        if not Path(path).is_file():
            raise images.ImageError(f"{path}: is no file; name a film")
        # with "file:" a name such as "concat:x.mp4" is not taken for a protocol
        return av.open(f"file:{path}", options=options, metadata_errors="replace")
    except FileNotFoundError:
        raise images.ImageError(f"{path}: no such file; check the path") from None
    except PermissionError:
        raise images.ImageError(f"{path}: may not be read; check its permissions") from None
    except (OSError, av.error.FFmpegError):
        why = "is no film, or it is damaged or cut off"
        raise images.ImageError(f"{path}: {why}; get it again, or convert it to MP4") from None


# The packets of pictures, sound and subtitles, in the order of the file and with continuous time
# stamps. `damaged` is called if the rest of the file can't be read.
def _packets(film, damaged=lambda: None):
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
"""ffmpeg's metadata keys that are copied -> their names in messages."""

OTHER_KEYS = {
    "com.apple.quicktime.location.iso6709": "location",
    "com.apple.quicktime.creationdate": "date",
    "com.apple.quicktime.make": "make",
    "com.apple.quicktime.model": "model",
}
"""Keys that cameras write -> ffmpeg's."""


def concatenate(parts, source, path, ending):
    """Concatenate segments, and add the source film's sound, subtitles and metadata.

    Parameters
    ----------
    parts : sequence of (path-like, int)
        Files of a `Writer`, and the start time of each in the film's unit.
    source : path-like
        The film.
    path : path-like
        The file to write.
    ending : str
        A key of `FORMATS`.

    Returns
    -------
    list of str
        Names of the streams and metadata that the format can't hold.
    """
    # faststart puts the index first, so that a browser can start playing before the end is loaded
    options = {"movflags": "+faststart"} if FORMATS[ending] in ("mp4", "mov") else {}
    with (
        _opened(source) as film,
        av.open(str(path), "w", format=FORMATS[ending], container_options=options) as out,
        av.open(str(parts[0][0])) as first,
    ):
        out.metadata.update(words := _metadata(film))
        out.set_chapters(film.chapters())
        unit = film.streams.best("video").time_base
        pictures = out.add_stream_from_template(first.streams.video[0])
        pictures.time_base = unit
        mapping, lost = _mapped_streams(film, out, ending)
        tracks = [_pictures(parts, unit, pictures)]
        if mapping:
            tracks.append(_sound(film, mapping))
        # interleaved by time; otherwise ffmpeg holds the packets in memory
        for _, packet in heapq.merge(*tracks, key=lambda pair: pair[0]):
            out.mux(packet)
    with _opened(path) as written:
        there = _metadata(written)
    return lost + [KEPT[key] for key in words if key not in there]


# Matroska's keys are in capitals.
def _metadata(film):
    named = {key.lower(): words for key, words in film.metadata.items()}
    others = {new: named[old] for old, new in OTHER_KEYS.items() if old in named}
    return {key: words for key, words in (others | named).items() if key in KEPT}


# The stream mapping: a source stream's index -> (target stream, whether its packets are encoded).
def _mapped_streams(film, out, ending):
    mapping, lost = {}, []
    for stream in [*film.streams.audio, *film.streams.subtitles]:
        context = stream.codec_context
        name = context.codec.canonical_name if context else "unknown"
        raw_sound = name.startswith("pcm_") and ending in (".mp4", ".m4v")  # few players take it
        if name in out.supported_codecs and not raw_sound:
            target = (out.add_stream_from_template(stream), False)
        elif stream.type == "audio" and context:
            codec = "libopus" if ending == ".webm" else "aac"
            target = (_encoder(out, codec, context), True)
        else:
            lost.append(f"{'sound' if stream.type == 'audio' else 'subtitles'} ({name})")
            continue
        target[0].metadata.update({k: v for k, v in stream.metadata.items() if k == "language"})
        mapping[stream.index] = target
    return mapping, lost


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


def _sound(film, mapping):
    ended = {}  # the latest time of each stream: packets with earlier times are dropped
    ours = (packet for packet in _packets(film) if packet.stream.index in mapping)
    for packet in itertools.chain(ours, [None]):
        done = mapping.items() if packet is None else [(packet.stream.index, None)]
        for index, _ in list(done):
            stream, is_encoded = mapping[index]
            for new in _remapped(packet, stream) if is_encoded else [packet]:
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
