"""Time stamps of a film are made continuous at restarts, and only there."""

import types
from fractions import Fraction

import pytest

from colorlib.video import io

PICTURES, SOUND, WORDS = (
    types.SimpleNamespace(index=index, type=kind)
    for index, kind in enumerate(("video", "audio", "subtitle"))
)


def packet(stream, time, shown=None):
    shown = time if shown is None else shown
    base = Fraction(1, 100)
    return types.SimpleNamespace(stream=stream, dts=time, pts=shown, duration=4, time_base=base)


def times(packets, stream):
    """Return the times of a stream after the clock has gone on, in its ticks."""
    return [each.dts for each in io.continuous(packets) if each.stream is stream]


def recording(count, start=0, late=0):
    """Return packets of pictures, and of sound that comes so many packets late in the file."""
    pictures = [packet(PICTURES, start + 4 * n) for n in range(count)]
    sound = [packet(SOUND, start + 4 * n) for n in range(count)]
    both = [*zip(pictures[late:], sound, strict=False)]
    tail = sound[count - late :] if late else []
    return [*pictures[:late], *(each for pair in both for each in pair), *tail]


@pytest.mark.parametrize("late", [0, 7])
@pytest.mark.parametrize("stream", [PICTURES, SOUND])
def test_three_recordings_follow_one_another(stream, late):
    joined = [*recording(50, 300, late), *recording(40, 10, late), *recording(30, 0, late)]
    assert times(joined, stream) == [300 + 4 * n for n in range(120)]


def test_streams_that_go_back_one_after_the_other():
    first, second = recording(50), recording(50)
    joined = first[:-8] + second[1:21:2] + first[-8::2] + first[-7::2] + second[::2] + second[21::2]
    pictures = [each for each in joined if each.stream is PICTURES]
    sound = [each for each in joined if each.stream is SOUND]
    assert [each.dts for each in pictures] == [4 * n for n in range(50)] * 2
    assert sorted(each.dts for each in sound) == sorted([4 * n for n in range(50)] * 2)
    assert times(joined, PICTURES) == [4 * n for n in range(100)]


def test_pictures_and_sound_stay_together():
    first = [*recording(50), packet(SOUND, 200), packet(SOUND, 204)]
    joined = [*first, *recording(50)]
    assert times(joined, PICTURES)[50] == 208


def test_a_stray_time_is_no_restart():
    film = recording(400)
    film[100].dts = film[100].pts = 3
    expected = [4 * n for n in range(400)]
    expected[50] = 3
    assert times(film, PICTURES) == expected


def test_a_stray_time_before_the_sound_goes_on_alone():
    """Pictures get other times for good, the sound does not: nothing is moved."""
    film = recording(100) + [
        packet(stream, time)
        for n in range(100, 400)
        for stream, time in ((PICTURES, 4 * (n - 60)), (SOUND, 4 * n))
    ]
    assert times(film, SOUND) == [4 * n for n in range(400)]


def test_a_second_part_without_sound():
    joined = [*recording(50), *(packet(PICTURES, 4 * n) for n in range(600))]
    assert times(joined, PICTURES) == [4 * n for n in range(650)]


def test_a_third_part_without_sound_after_a_second_one_without():
    joined = [*recording(50), *(packet(PICTURES, 4 * n) for n in range(600)), *recording(10)]
    assert times(joined, PICTURES) == [4 * n for n in range(660)]


def test_pictures_that_are_shown_in_another_order_are_left_alone():
    film = [packet(PICTURES, n, n + 40 * (n % 2)) for n in range(50)]
    assert times(film, PICTURES) == list(range(50))


def test_subtitles_and_packets_without_times_go_with_the_others():
    joined = [
        *recording(50),
        packet(WORDS, 190),
        *recording(5),
        packet(WORDS, 24),
        packet(PICTURES, None),
    ]
    found = list(io.continuous(joined))
    assert [each.dts for each in found if each.stream is WORDS] == [190, 224]
    assert found[-1].dts is None
