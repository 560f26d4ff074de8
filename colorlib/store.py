"""Pack image files into HDF5 files of unprocessed 8-bit images, for training and evaluation.

Not here: how one file is decoded (`colorlib.images`), color conversion and crops
(`colorlib.generator`). Chapter 3 of the report: of the three ways it tried to feed the network,
this is the one it kept. Its photographs of ImageNet were divided into 71 000 to train, 1 000 to
validate and 1 000 to test; Tiny ImageNet comes divided.

The images are stored contiguously and uncompressed, so that reading is a memory map at the
dataset's offset: no HDF5 call, no global lock, any number of threads.
"""

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from tqdm.auto import tqdm

from colorlib import files, images

FORMAT = "colorlib-images"
VERSION = 1

BLOCK = 256
"""Images decoded at once while packing; it limits the memory."""

FURTHER = "further pages or frames"
"""The end of the reason why pages and frames after the first are left out."""


class StoreError(ValueError):
    """A file that is not a usable store; the message names it and the remedy."""


@dataclasses.dataclass(frozen=True)
class Record:
    """An image to store, or the reason why it is left out."""

    name: str
    class_name: str
    rgb: np.ndarray | None
    reason: str = ""
    pages: int = 1


class Store:
    """Images in one or several HDF5 files (shards), opened as one array.

    Parameters
    ----------
    *paths : path-like
        Files that `write` or `pack` made, all of the same image size.

    Attributes
    ----------
    names : list of str
        Path of each image's file, relative to the packed folder.
    class_ids : ndarray of int32, shape (n,)
        Index into `classes`.
    classes : list of str
        Names of the classes, of all shards.
    dropped : list of (str, str)
        Name and reason of each image that was left out.
    size : int
        Side of the images in pixels.

    Raises
    ------
    StoreError
        If a file is missing, cut off, of another kind or another version.
    """

    def __init__(self, *paths):
        if not paths:
            raise StoreError("no store named: give at least one file made by `colorlib pack`")
        shards = [_open_shard(Path(path)) for path in paths]
        self.size = shards[0].pixels.shape[1]
        if any(shard.pixels.shape[1] != self.size for shard in shards):
            names = ", ".join(map(str, paths))
            raise StoreError(f"{names}: shards of different image sizes; pack them in one size")
        self._pixels = [shard.pixels for shard in shards]
        self._starts = np.cumsum([0, *(len(pixels) for pixels in self._pixels)])
        self.names = [name for shard in shards for name in shard.names]
        self.classes = sorted({name for shard in shards for name in shard.classes})
        self.class_ids = np.concatenate([_renumber(shard, self.classes) for shard in shards])
        self.dropped = [item for shard in shards for item in shard.dropped]

    def __len__(self):
        return int(self._starts[-1])

    def read(self, indices, tops=0, lefts=0, side=None):
        """Read images by number, or a square from each, in any order and from any thread.

        Parameters
        ----------
        indices : array-like of int, shape (k,)
            Each in 0..len-1.
        tops, lefts : int or ndarray of int, shape (k,)
            Where the squares begin, in pixels.
        side : int, optional
            Side of the squares in pixels; the whole image by default.

        Returns
        -------
        ndarray of uint8, shape (k, side, side, 3)
            sRGB.

        Raises
        ------
        IndexError
            If an image number or a square is out of range.
        """
        indices = np.asarray(indices, np.int64)
        side = self.size if side is None else side
        if len(self._pixels) == 1:
            return squares(self._pixels[0], indices, tops, lefts, side)
        _check_range("image numbers", indices, len(self))
        indices, tops, lefts = np.broadcast_arrays(indices, tops, lefts)
        shards = np.searchsorted(self._starts, indices, side="right") - 1
        out = np.empty((len(indices), side, side, 3), np.uint8)
        for shard in np.unique(shards):
            mine = shards == shard
            rows = indices[mine] - self._starts[shard]
            out[mine] = squares(self._pixels[shard], rows, tops[mine], lefts[mine], side)
        return out


def squares(pixels, indices, tops, lefts, side):
    """Copy a square from each of some images, in one step that releases Python's global lock.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (n, size, size, 3)
        Images, in memory or in a memory map.
    indices : ndarray of int, shape (k,)
        Numbers of the images.
    tops, lefts : int or ndarray of int, shape (k,)
        Where the squares begin, in pixels.
    side : int
        Side of the squares in pixels.

    Returns
    -------
    ndarray of uint8, shape (k, side, side, 3)

    Raises
    ------
    IndexError
        If an image number or a square is out of range.
    """
    _check_range("image numbers", indices, len(pixels))
    for corners in (tops, lefts):
        _check_range(f"corners of squares of {side} pixels", corners, pixels.shape[1] - side + 1)
    # (n, s, s, 3) -> (n, s - side + 1, s - side + 1, side, 3 side): a view of every square
    lines = pixels.reshape(*pixels.shape[:2], -1)
    every = sliding_window_view(lines, (side, 3 * side), axis=(1, 2))[:, :, ::3]
    return every[indices, tops, lefts].reshape(-1, side, side, 3)


def checksum(images):
    """Hash all pixels in their order; the hash identifies the training images.

    Parameters
    ----------
    images : Store or ndarray of uint8, shape (n, size, size, 3)
        The number of shards makes no difference.

    Returns
    -------
    str
        The first 16 hexadecimal digits of the SHA-256. It takes about a second per gigabyte.
    """
    parts = [images] if isinstance(images, np.ndarray) else images._pixels
    found = hashlib.sha256()
    for part in parts:
        for start in range(0, len(part), BLOCK):
            found.update(np.ascontiguousarray(part[start : start + BLOCK]))
    return found.hexdigest()[:16]


def write(path, pixels, names=None, class_names=None, dropped=()):
    """Write images that are already in memory (or in a memory map) to a store.

    Parameters
    ----------
    path : path-like
        The HDF5 file; written under a temporary name and renamed.
    pixels : ndarray of uint8, shape (n, size, size, 3)
        sRGB.
    names : sequence of str, optional
        Name of each image; numbers by default.
    class_names : sequence of str, optional
        Class of each image; by default all are in one class without a name.
    dropped : sequence of (str, str)
        Name and reason of images that were left out.

    Raises
    ------
    StoreError
        If there are no images, they are not square 8-bit RGB, or the file can't be written.

    Notes
    -----
    HDF5 crashes if the disk is full. So it writes only the part before the images, and into
    memory; the images are written as into any other file.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[2:] != (pixels.shape[1], 3):
        raise StoreError(
            f"{path}: need uint8 (n, size, size, 3), not {pixels.dtype} {pixels.shape}"
        )
    if len(pixels) == 0:
        raise StoreError(f"{path}: no image is left to store; see why each was dropped: {dropped}")
    names = [str(i) for i in range(len(pixels))] if names is None else list(names)
    classes, class_ids = np.unique(class_names or [""] * len(pixels), return_inverse=True)
    head = io.BytesIO()
    with h5py.File(head, "w", libver="latest") as file:
        target = file.create_dataset("images", pixels.shape, np.uint8, fill_time="never")
        file.attrs["format"] = FORMAT
        file.attrs["version"] = VERSION
        file.attrs["classes"] = json.dumps(classes.tolist())
        file.attrs["dropped"] = json.dumps([list(item) for item in dropped])
        file.create_dataset("names", data=names, dtype=h5py.string_dtype())
        file["class_ids"] = class_ids.astype(np.int32)
        target[0, 0, 0, 0] = 0  # only now HDF5 reserves the place of the images
        offset = target.id.get_offset()
    with (
        files.explained_writing(path, StoreError),
        files.replacing(path) as temporary,
        temporary.open("wb") as file,
    ):
        file.write(head.getvalue()[:offset])
        for start in range(0, len(pixels), BLOCK):
            file.write(np.ascontiguousarray(pixels[start : start + BLOCK]))


def pack(folder, path, size, limit=None, keep_grey=False):
    """Pack a folder of image files into a store, on all cores and in bounded memory.

    Parameters
    ----------
    folder : path-like
        Searched through all levels. An image's class is the first folder of its path below
        it, or what Tiny ImageNet's ``val_annotations.txt`` says.
    path : path-like
        The HDF5 file to write. Beside it a temporary file takes up to its size.
    size : int
        Side in pixels: the centre square of each image, resized by area.
    limit : int, optional
        Largest number of files; they are taken at even distances from the sorted list.
    keep_grey : bool
        Whether to keep grey images, as an evaluation does; a training leaves them out.

    Returns
    -------
    Store
        The new file, opened. Its `dropped` lists what was left out: broken and grey images,
        pages and frames after the first, and subfolders that can't be looked into.

    Raises
    ------
    StoreError
        If the folder is missing or holds no usable image, or the file can't be written.
    """
    path = Path(path)
    with _gathered(folder, [path], size, limit, keep_grey) as (pixels, records, others):
        _write_records(path, pixels, records + others)
    return Store(path)


# Decode a folder's images into a temporary file beside the first target. It is a memory map while
# the block runs, together with a record for each file (those without a reason are in the map) and
# records of subfolders that can't be read and of further pages and frames.
@contextlib.contextmanager
def _gathered(folder, targets, size, limit=None, keep_grey=False):
    for target in targets:
        if target.is_dir():
            raise StoreError(f"{target}: is a folder; name a file, such as {target / 'images.h5'}")
    found = find_images(folder)
    paths, records = found.files, []
    if limit is not None and limit < len(paths):
        paths = [paths[i] for i in np.linspace(0, len(paths) - 1, limit).astype(int)]
    target = targets[0]
    with (
        files.explained_writing(target, StoreError),
        tempfile.TemporaryFile(dir=target.parent) as raw,  # without a name: a kill leaves nothing
    ):
        for record in _records(paths, Path(folder), size, keep_grey):
            if record.rgb is not None:
                raw.write(record.rgb.tobytes())
            records.append(dataclasses.replace(record, rgb=None))
        raw.flush()
        count = sum(not record.reason for record in records)
        if not count:
            why = f"the first, {records[0].name}, was dropped: {records[0].reason}"
            raise StoreError(f"{folder}: no usable image; {why}")
        pixels = np.memmap(raw, np.uint8, "r", shape=(count, size, size, 3))
        others = [
            Record(files.escaped(place.relative_to(folder)), "", None, files.escaped(why))
            for place, why in found.problems
        ]
        for record in records:
            if record.pages > 1:
                reason = f"{record.pages - 1} {FURTHER}"
                others.append(dataclasses.replace(record, reason=reason))
        yield pixels, records, others


# The records of these images, in their order, and of images that are left out.
def _write_records(path, pixels, records):
    kept = [record for record in records if not record.reason]
    dropped = [(record.name, record.reason) for record in records if record.reason]
    names, classes = [record.name for record in kept], [record.class_name for record in kept]
    write(path, pixels, names, classes, dropped)


class _Rows:
    """Some images of an array, read when they are sliced."""

    def __init__(self, pixels, chosen):
        self.pixels, self.chosen = pixels, np.asarray(chosen, np.int64)
        self.dtype, self.ndim = pixels.dtype, pixels.ndim
        self.shape = (len(self.chosen), *pixels.shape[1:])

    def __len__(self):
        return len(self.chosen)

    def __getitem__(self, rows):
        return self.pixels[self.chosen[rows]]


def find_images(folder):
    """List the image files below a folder.

    Parameters
    ----------
    folder : path-like

    Returns
    -------
    colorlib.files.Found
        Its files are sorted; hidden ones are left out.

    Raises
    ------
    StoreError
        If the folder does not exist or holds no image.
    """
    if not files.is_folder(folder):
        raise StoreError(f"{folder}: no such folder; name one that holds image files")
    found = files.below(folder)
    taken = sorted(filter(_is_image, found.files))
    if not taken:
        why = found.problems[0][1] if found.problems else " ".join(images.READABLE)
        raise StoreError(f"{folder}: holds no image ({why})")
    return files.Found(taken, found.problems)


def skipped_files(folder):
    """Count the files of a folder that are skipped because of their names.

    Parameters
    ----------
    folder : path-like

    Returns
    -------
    str
        From `files.counted`.
    """
    return files.counted([x for x in files.below(folder).files if not _is_image(x)])


def _is_image(path):
    return path.suffix.lower() in images.READABLE


@dataclasses.dataclass(frozen=True)
class _Shard:
    pixels: np.ndarray
    names: list
    class_ids: np.ndarray
    classes: list
    dropped: list


def _open_shard(path):
    if not path.is_file():
        raise StoreError(f"{path}: no such file; make it with `colorlib pack`")
    try:
        with h5py.File(path, "r") as file:
            _check_version(path, file.attrs)
            return _shard(path, file)
    except StoreError:
        raise
    except Exception as error:  # h5py raises nearly anything on damaged files
        why = f"not a store, or cut off ({files.reason(error)})"
        raise StoreError(f"{path}: {why}; pack it again") from None


def _shard(path, file):
    dataset = file["images"]
    offset, (count, side, *_) = dataset.id.get_offset(), dataset.shape
    if dataset.dtype != np.uint8 or dataset.shape != (count, side, side, 3) or not dataset.size:
        raise ValueError(f"its images are {dataset.dtype} {dataset.shape}")
    if offset is None or path.stat().st_size < offset + dataset.size:
        raise StoreError(f"{path}: cut off; pack it again")
    if not file["names"].shape == file["class_ids"].shape == (count,):
        raise ValueError("not each image has a name and a class")
    names, class_ids = file["names"].asstr()[:].tolist(), file["class_ids"][:]
    classes, dropped = (json.loads(file.attrs[name]) for name in ("classes", "dropped"))
    _check_range("numbers of classes", class_ids, len(classes))
    if class_ids.dtype.kind != "i" or not all(isinstance(name, str) for name in classes):
        raise ValueError("its classes are no names")
    dropped = [(str(name), str(reason)) for name, reason in dropped]
    # a plain view of the map: np.memmap itself is slow at making views
    pixels = np.asarray(np.memmap(path, np.uint8, "r", offset, dataset.shape))
    return _Shard(pixels, names, class_ids, classes, dropped)


def _check_version(path, attributes):
    if attributes.get("format") != FORMAT:
        raise StoreError(f"{path}: is HDF5, but no store; make one with `colorlib pack`")
    if attributes["version"] != VERSION:
        found = attributes["version"]
        raise StoreError(f"{path}: version {found}, but this is for {VERSION}; pack it again")


def _renumber(shard, classes):
    numbers = np.array([classes.index(name) for name in shard.classes], np.int32)
    return numbers[shard.class_ids]


def _check_range(what, values, end):
    if np.size(values) and not (np.min(values) >= 0 and np.max(values) < end):
        raise IndexError(f"{what} have to be in 0..{end - 1}")


def _class_names(folder):
    annotations = folder / "val_annotations.txt"
    if annotations.is_file():
        table = dict(line.split("\t")[:2] for line in annotations.read_text().splitlines())
        return lambda path: table.get(path.name, "")
    return lambda path: path.relative_to(folder).parts[0] if path.parent != folder else ""


def _records(paths, folder, size, keep_grey):
    class_of = _class_names(folder)

    def load(file):
        name, class_name = file.relative_to(folder), class_of(file)
        return _load(file, *map(files.escaped, (name, class_name)), size, keep_grey)

    with ThreadPoolExecutor(os.cpu_count()) as pool, tqdm(total=len(paths), unit=" images") as bar:
        for start in range(0, len(paths), BLOCK):
            block = paths[start : start + BLOCK]
            yield from pool.map(load, block)
            bar.update(len(block))


def _load(file, name, class_name, size, keep_grey):
    try:
        with images.opened(file) as image:
            pages = len(images.page_numbers(image))
            rgb = images.square(images.to_rgb(image), size)
    except images.ImageError as error:
        return Record(name, class_name, None, files.escaped(str(error)))
    if not keep_grey and images.is_grey(rgb):
        return Record(name, class_name, None, "grey")
    return Record(name, class_name, rgb, pages=pages)


TRAIN = "train"

EQUAL = "the same image as"
"""The beginning of the reason for a duplicate that is left out."""


def divide(items, held_out, seed=0):
    """Divide items at random into named parts.

    Parameters
    ----------
    items : sequence
        In an order that is always the same.
    held_out : dict of str to int
        Number of items of each part; the rest goes into ``"train"``.
    seed : int
        The same items, numbers and seed give the same parts.

    Returns
    -------
    dict of str to list
        ``"train"`` first; each part in the order of `items`.

    Raises
    ------
    ValueError
        If a number is negative or nothing is left for ``"train"``.
    """
    left = len(items) - sum(held_out.values())
    if left <= 0 or min(held_out.values(), default=0) < 0:
        raise ValueError(f"{len(items)} images can't be divided into {held_out} and the rest")
    order = np.random.default_rng(seed).permutation(len(items))
    # the held-out parts come first, so they do not depend on what is done with the rest
    sizes = {**held_out, TRAIN: left}
    ends = np.cumsum(list(sizes.values()))
    parts = dict(zip(sizes, np.split(order, ends[:-1]), strict=True))
    return {name: [items[i] for i in sorted(parts[name])] for name in (TRAIN, *held_out)}


def pack_splits(folder, path, size, held_out, seed=0):
    """Divide the files of a folder at random and pack each part into a store of its own.

    Parameters
    ----------
    folder : path-like
        As for `colorlib.store.pack`.
    path : path-like
        ``photos.h5`` makes ``photos-train.h5``, ``photos-val.h5``, ...
    size : int
        Side in pixels of the stored squares.
    held_out : dict of str to int
        Number of files in each part except ``"train"``, such as ``{"val": 60, "test": 60}``. It
        includes grey and broken files, which are then left out.
    seed : int
        The same files, numbers and seed give the same parts.

    Returns
    -------
    dict of pathlib.Path to Store
        ``"train"`` first. Of images with equal stored squares only the first is kept; the others
        are listed in the `dropped` of its store. Names and formats of the files do not count. A
        photograph that was saved again as a JPEG has other pixels and is another image.

    Raises
    ------
    colorlib.store.StoreError
        If the folder has not enough images, a part has none that is usable, or a file can't be
        written.
    """
    _divide(folder, find_images(folder).files, held_out, seed)  # before the work
    path = Path(path)
    names = (TRAIN, *held_out)
    paths = {name: path.with_name(f"{path.stem}-{name}{path.suffix}") for name in names}
    with _gathered(folder, list(paths.values()), size) as (pixels, records, others):
        firsts = _firsts(pixels, records)
        distinct = [i for i, first in enumerate(firsts) if i == first]
        parts = _divide(folder, distinct, held_out, seed)
        part_of = {i: name for name, part in parts.items() for i in part}
        rows = np.cumsum([not record.reason for record in records]) - 1
        records = [_explained(records, i, first) for i, first in enumerate(firsts)]
        for name in parts:
            mine = [i for i, first in enumerate(firsts) if part_of[first] == name]
            chosen = rows[[i for i in mine if not records[i].reason]]
            listed = [records[i] for i in mine] + (others if name == TRAIN else [])
            _write_records(paths[name], _Rows(pixels, chosen), listed)
    return {place: Store(place) for place in paths.values()}


def _divide(folder, items, held_out, seed):
    try:
        return divide(items, held_out, seed)
    except ValueError as error:
        raise StoreError(f"{folder}: {error}; hold out fewer") from None


# For each record the number of the first one with the same pixels, which may be its own.
def _firsts(pixels, records):
    seen, images = {}, iter(pixels)
    return [
        i if record.reason else seen.setdefault(hashlib.sha256(next(images)).digest(), i)
        for i, record in enumerate(records)
    ]


def _explained(records, i, first):
    if i == first:
        return records[i]
    return dataclasses.replace(records[i], reason=f"{EQUAL} {records[first].name}")
