"""A folder of image files -> a store to train on and others to measure on, with no image in two.

Not here: how a store is written (`colorlib.store`). The report's sets came divided, but for its
photographs of ImageNet: 71 000 to train, 1 000 to validate and 1 000 to test (chapter 3).
"""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np

from colorlib import store

TRAIN = "train"

EQUAL = "the same image as"
"""How the reason begins for which a copy is left out."""


def divide(items, held_out, seed=0):
    """Divide items at random into named parts.

    Parameters
    ----------
    items : sequence
        In an order that is always the same.
    held_out : dict of str to int
        How many go into each part; the rest goes into ``"train"``.
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


def path_of(path, part):
    """Return where a part is written: ``photos.h5`` becomes ``photos-val.h5``.

    Parameters
    ----------
    path : path-like
    part : str

    Returns
    -------
    pathlib.Path
    """
    path = Path(path)
    return path.with_name(f"{path.stem}-{part}{path.suffix}")


def pack(folder, path, size, held_out, seed=0):
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
        Files for each part but ``"train"``, such as ``{"val": 60, "test": 60}``. Grey and broken
        ones are counted, then left out.
    seed : int
        The same files, numbers and seed give the same parts.

    Returns
    -------
    dict of pathlib.Path to Store
        ``"train"`` first. Of equal images one is taken; the others are listed in the `dropped` of
        its store. Equal are those whose stored squares are: what the network sees, whatever else
        is in the files, their names and formats. The same photograph saved anew as a JPEG is
        another image.

    Raises
    ------
    colorlib.store.StoreError
        If the folder has not enough images, a part has none that is usable, or a file can't be
        written.
    """
    _divide(folder, store.find_images(folder), held_out, seed)  # before the work
    paths = {name: path_of(path, name) for name in (TRAIN, *held_out)}
    with store.gathered(folder, list(paths.values()), size) as (pixels, records, unseen):
        firsts = _firsts(pixels, records)
        distinct = [i for i, first in enumerate(firsts) if i == first]
        parts = _divide(folder, distinct, held_out, seed)
        part_of = {i: name for name, part in parts.items() for i in part}
        rows = np.cumsum([not record.reason for record in records]) - 1
        records = [_explained(records, i, first) for i, first in enumerate(firsts)]
        for name in parts:
            mine = [i for i, first in enumerate(firsts) if part_of[first] == name]
            chosen = rows[[i for i in mine if not records[i].reason]]
            listed = [records[i] for i in mine] + (unseen if name == TRAIN else [])
            store.write_records(paths[name], store.Rows(pixels, chosen), listed)
    return {place: store.Store(place) for place in paths.values()}


def _divide(folder, items, held_out, seed):
    try:
        return divide(items, held_out, seed)
    except ValueError as error:
        raise store.StoreError(f"{folder}: {error}; hold fewer back") from None


def _firsts(pixels, records):
    """Find for each record the first one with the same pixels: itself, if there is none before."""
    seen, images = {}, iter(pixels)
    return [
        i if record.reason else seen.setdefault(hashlib.sha256(next(images)).digest(), i)
        for i, record in enumerate(records)
    ]


def _explained(records, i, first):
    if i == first:
        return records[i]
    return dataclasses.replace(records[i], reason=f"{EQUAL} {records[first].name}")
