"""A folder of image files -> a store to train on and others to measure on, with no image in two.

Not here: how a store is written (`colorlib.store`). The report's sets came divided, but for its
photographs of ImageNet: 71 000 to train, 1 000 to validate and 1 000 to test (chapter 3).
"""

from pathlib import Path

import numpy as np

from colorlib import store

TRAIN = "train"


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
        ``"train"`` first.

    Raises
    ------
    colorlib.store.StoreError
        If the folder has not enough images, or a part has none that is usable.
    """
    files = store.find_images(folder)
    try:
        parts = divide(files, held_out, seed)
    except ValueError as error:
        raise store.StoreError(f"{folder}: {error}; hold fewer back") from None
    paths = {name: path_of(path, name) for name in parts}
    return {
        paths[name]: store.pack(folder, paths[name], size, files=part)
        for name, part in parts.items()
    }
