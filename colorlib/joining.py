"""Segments of a film and the sound of the film they were made of -> one file.

Not here: what is in the segments (`colorlib.films`), and how they are written (`colorlib.reels`).

Nothing is decoded where it can be helped: pictures, sound and subtitles are carried over as they
are. Sound that the new format can't hold is encoded anew.
"""

import heapq
import itertools

import av
import av.error

from colorlib import reels

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


def join(parts, source, path, ending):
    """Put segments one behind the other, with the sound of the film they are of.

    Parameters
    ----------
    parts : sequence of (path-like, int)
        Files of a `reels.Writer`, and the time at which each begins, in the film's unit.
    source : path-like
        The film.
    path : path-like
        Written.
    ending : str
        One of `reels.FORMATS`, which decides the format.

    Returns
    -------
    list of str
        What of the film could not be kept, in words.
    """
    # faststart puts the table of contents first, so that a browser can begin at once
    options = {"movflags": "+faststart"} if reels.FORMATS[ending] in ("mp4", "mov") else {}
    with (
        reels.opened(source) as film,
        av.open(str(path), "w", format=reels.FORMATS[ending], container_options=options) as out,
        av.open(str(parts[0][0])) as first,
    ):
        out.metadata.update(words := _words(film))
        out.set_chapters(film.chapters())
        unit = film.streams.best("video").time_base
        pictures = out.add_stream_from_template(first.streams.video[0])
        pictures.time_base = unit
        lanes, lost = _lanes(film, out, ending)
        tracks = [_pictures(parts, unit, pictures)]
        if lanes:
            tracks.append(_sound(film, lanes))
        # by time: written one behind the other, ffmpeg would have to hold them in memory
        for _, packet in heapq.merge(*tracks, key=lambda pair: pair[0]):
            out.mux(packet)
    with reels.opened(path) as written:
        there = _words(written)
    return lost + [KEPT[key] for key in words if key not in there]


# Matroska has its keys in capitals.
def _words(film):
    named = {key.lower(): words for key, words in film.metadata.items()}
    others = {new: named[old] for old, new in OTHER_KEYS.items() if old in named}
    return {key: words for key, words in (others | named).items() if key in KEPT}


# A lane is what carries on the packets of one stream: (from, to, whether they are encoded anew).
def _lanes(film, out, ending):
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
    ours = (packet for packet in reels.packets(film) if packet.stream.index in lanes)
    for packet in itertools.chain(ours, [None]):
        done = lanes.items() if packet is None else [(packet.stream.index, None)]
        for index, _ in list(done):
            stream, anew = lanes[index]
            for new in _anew(packet, stream) if anew else [packet]:
                if new is None or new.dts is None or new.dts <= ended.get(index, new.dts - 1):
                    continue
                ended[index], new.stream = new.dts, stream
                yield float(new.dts * new.time_base), new


def _anew(packet, stream):
    try:
        sounds = [None] if packet is None else packet.decode()
    except av.error.FFmpegError:
        return []  # a moment of damaged sound
    return [
        new for sound in sounds if sound is None or sound.samples for new in stream.encode(sound)
    ]
