"""Hypothesis' strategies that damage a file, for `fuzz.py`."""

import io
import json
import struct
import zipfile

import h5py
import numpy as np
from hypothesis import strategies as st
from PIL import PngImagePlugin

EXTREMES = (0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 10_000, 16_383, 65_500, 0x7FFFFFFF, 0xFFFFFFFF)

SIDES = (48, 64)

ENDINGS = (b"\xff\xd9", b"\0\0\0\0IEND\xaeB`\x82", b"\0;", b"PK\x05\x06" + bytes(18))
"""Of JPEG, PNG, GIF and zip files."""

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.sampled_from(EXTREMES)
    | st.floats()
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=5,
)


SCALARS = (1, -1, 2**40, 0.5, np.nan, "text", "[1]", b"bytes", True)

ARRAYS = [
    np.ones(shape, kind)
    for shape in ((), (0,), (6,), (6, 16, 16, 3), (6, 16, 16, 1), (3, 3, 1, 1))
    for kind in ("u1", "i4", "f2", "f8", "S3", "c8")
]
"""By what values of an HDF5 file are replaced."""


@st.composite
def damaged_bytes(draw, data, others):
    """Damage some bytes, mostly in one way."""
    for _ in range(draw(st.sampled_from((1, 1, 1, 2, 4)))):
        data = draw(st.sampled_from(WAYS))(draw, data, others)
    return data


def place(draw, data, size=0):
    """Choose a place; half of all are in the header."""
    last = max(0, len(data) - size)
    return draw(st.integers(0, min(last, 64)) | st.integers(0, last))


def cut(draw, data, others):
    return data[: place(draw, data)]


def flip(draw, data, others):
    changed = bytearray(data)
    for _ in range(draw(st.integers(1, 8)) if data else 0):
        changed[place(draw, data, 1)] ^= 1 << draw(st.integers(0, 7))
    return bytes(changed)


def insert(draw, data, others):
    where = place(draw, data)
    return data[:where] + draw(st.binary(min_size=1, max_size=32)) + data[where:]


def leave_out(draw, data, others):
    where = place(draw, data)
    return data[:where] + data[where + draw(st.integers(1, 64)) :]


def zero(draw, data, others):
    where, count = place(draw, data), draw(st.integers(1, 256))
    return data[:where] + bytes(len(data[where : where + count])) + data[where + count :]


def splice(draw, data, others):
    other = draw(st.sampled_from(others))
    where, begin = place(draw, data), place(draw, other)
    piece = other[begin : begin + draw(st.integers(1, 2048))]
    return data[:where] + piece + data[where + draw(st.sampled_from((0, len(piece)))) :]


def number(draw):
    form = draw(st.sampled_from(("<H", ">H", "<I", ">I")))
    largest = 2 ** (8 * struct.calcsize(form)) - 1
    return form, struct.pack(form, min(draw(st.sampled_from(EXTREMES)), largest))


def set_number(draw, data, others):
    _, packed = number(draw)
    where = place(draw, data, len(packed))
    return data[:where] + packed + data[where + len(packed) :]


def set_side(draw, data, others):
    """Set what looks like the width or the height to an extreme; wherever it stands, or once."""
    form, packed = number(draw)
    old = struct.pack(form, draw(st.sampled_from(SIDES)))
    return data.replace(old, packed, draw(st.sampled_from((1, 2, -1))))


def end_otherwise(draw, data, others):
    return data[: place(draw, data)] + draw(st.sampled_from(ENDINGS))


WAYS = (cut, flip, insert, leave_out, zero, splice, set_number, set_side, end_otherwise)


@st.composite
def damaged_png(draw, data, others):
    """Damage a chunk of a PNG file; its checksum is right."""
    chunks, where = [], 8
    while where < len(data):
        (size,) = struct.unpack_from(">I", data, where)
        chunks.append((data[where + 4 : where + 8], data[where + 8 : where + 8 + size]))
        where += 12 + size
    chosen = draw(st.integers(0, len(chunks) - 1))
    kind, content = chunks[chosen]
    new = kind, draw(damaged_bytes(content, others))
    chunks[chosen : chosen + draw(st.integers(0, 1))] = [new]
    file = io.BytesIO()
    file.write(data[:8])
    for kind, content in chunks:
        PngImagePlugin.putchunk(file, kind, content)
    return file.getvalue()


@st.composite
def damaged_zip(draw, data, others):
    """Damage, rename or leave out a file of a zip archive; its checksum is right."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    chosen, how = draw(st.sampled_from(sorted(contents))), draw(st.integers(0, 4))
    content = contents.pop(chosen)
    if how == 0:
        other = st.text(min_size=1, max_size=9) | st.sampled_from(sorted(contents) or ["a"])
        contents[draw(other)] = content
    elif how > 1:
        contents[chosen] = draw(damaged_bytes(content, others))
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return file.getvalue()


@st.composite
def damaged_json(draw, data, others):
    """Replace a value of a JSON file; of several lines, in one."""
    try:
        root = {"": json.loads(data)}
    except ValueError:
        lines = [line for line in data.split(b"\n") if line]
        if len(lines) < 2 or not lines[0].startswith(b"{"):
            return draw(damaged_bytes(data, others))
        chosen = draw(st.integers(0, len(lines) - 1))
        lines[chosen] = draw(damaged_json(lines[chosen], others))
        return b"\n".join(lines)
    inside, key = root, ""
    while isinstance(inside[key], dict | list) and inside[key] and draw(st.integers(0, 3)):
        inside = inside[key]
        keys = range(len(inside)) if isinstance(inside, list) else sorted(inside)
        key = draw(st.sampled_from(keys))
    inside[key] = draw(JSON)
    return json.dumps(root[""]).encode()


@st.composite
def damaged_hdf5(draw, data, others):
    """Replace an array or an attribute of an HDF5 file by another."""
    values = draw(st.sampled_from(SCALARS) | st.sampled_from(ARRAYS))
    file = io.BytesIO(data)
    with h5py.File(file, "r+") as opened:
        names = []
        opened.visititems(lambda name, found: names.append(name))
        spots = [*names, *(f"@{name}" for name in opened.attrs)]
        chosen = draw(st.sampled_from(spots))
        where = opened.attrs if chosen.startswith("@") else opened
        del where[chosen.removeprefix("@")]
        if draw(st.integers(0, 4)):
            where[chosen.removeprefix("@")] = values
    return file.getvalue()


STRUCTURES = {
    b"\x89PNG": damaged_png,
    b"PK\x03\x04": damaged_zip,
    b"\x89HDF": damaged_hdf5,
    b"{": damaged_json,
    b"[": damaged_json,
    b"\n{": damaged_json,
}
"""How a file begins -> what damages it and keeps its structure."""


def damaged(data, others):
    """Return the strategy for a file: its bytes are damaged, or where that is known, its parts."""
    inner = [how for begin, how in STRUCTURES.items() if data.startswith(begin)]
    return st.one_of(*(how(data, others) for how in [damaged_bytes, *inner]))
