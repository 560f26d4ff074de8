"""The clock of a film that restarts, as where two recordings were joined -> one that goes on.

Not here: film files (`colorlib.reels`).

In MPEG's streams a recording can follow another one in the same file; each has times of its own.
At such a place the streams of a film (pictures, sound) go back one after the other, since their
packets are interleaved; then all of them are moved by the same offset.
"""

import itertools
import math

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
