"""A store -> seeded batches of (L, ab codes), a `keras.utils.PyDataset`.

Not here: reading files (`colorlib.store`) and what the codes mean (`colorlib.quantizer`).
Chapter 3 of the report, where this was the bottleneck.

Batch k of epoch e is a pure function of (seed, e, k): nothing depends on which thread computes
it, or when. Keras' own workers are not used; a few threads prefetch, and OpenCV and NumPy
release the interpreter's lock where the time goes.
"""

import functools
from concurrent.futures import ThreadPoolExecutor

import cv2
import keras
import numpy as np

from colorlib import colorspace, quantizer

STRIDE = 4
"""Input pixels a side for each pixel of the network's output."""

CHUNK = 2**17
"""Pixels that are encoded at once."""


class ColorBatches(keras.utils.PyDataset):
    """Batches of lightness and the ab codes to predict from it.

    Parameters
    ----------
    store : Store or ndarray of uint8, shape (n, size, size, 3)
        Where the images are.
    batch_size : int
        Largest number of images in a batch. Batches of one epoch differ by at most one image,
        so that none is too small for BatchNorm.
    crop : int
        Side of the crops in pixels; a multiple of 8, at most the images' size.
    train : bool
        True: a new order and new random crops each epoch. False: stored order, centre crops.
    flip : bool
        Mirror half of the training images.
    seed : int
        Decides order, crops and flips.
    indices : array-like of int, optional
        Which images of the store to use; all by default.
    workers : int
        Threads that prefetch; 0 computes each batch when it is asked for.

    Attributes
    ----------
    epoch : int
        Which epoch's batches `__getitem__` gives. `colorlib.training` sets it.

    Raises
    ------
    ValueError
        If there are no images or the crop does not fit.
    """

    def __init__(
        self, store, batch_size, crop, train=True, flip=False, seed=0, indices=None, workers=2
    ):
        super().__init__()
        self.store, self.crop, self.train, self.flip, self.seed = store, crop, train, flip, seed
        self.indices = np.arange(len(store)) if indices is None else np.asarray(indices)
        self.size = store.shape[1] if isinstance(store, np.ndarray) else store.size
        if crop % 8 or not 8 <= crop <= self.size:
            raise ValueError(f"a crop of {crop} has to be a multiple of 8, at most {self.size}")
        if len(self.indices) == 0:
            raise ValueError("no images to make batches of")
        self.batches = -(-len(self.indices) // batch_size)
        self.epoch = 0
        self._threads = workers
        self._pool = ThreadPoolExecutor(workers) if workers else None
        self._pending = {}

    def __len__(self):
        return self.batches

    def __getitem__(self, index):
        """Return batch `index` of the current epoch; see `batch`."""
        if self._pool is None:
            return self.batch(self.epoch, index)
        key = (self.epoch, index)
        ready = self._pending.pop(key, None) or self._pool.submit(self.batch, *key)
        ahead = range(index + 1, min(index + 1 + 2 * self._threads, self.batches))
        wanted = {(self.epoch, k) for k in ahead}
        kept = {k: v for k, v in self._pending.items() if k in wanted}
        new = {k: self._pool.submit(self.batch, *k) for k in sorted(wanted - kept.keys())}
        self._pending = kept | new
        return ready.result()

    def batch(self, epoch, index):
        """Compute one batch.

        Parameters
        ----------
        epoch, index : int
            Which batch of which epoch.

        Returns
        -------
        lightness : ndarray of float32, shape (batch, crop, crop, 1)
            L in 0..100.
        codes : ndarray of int32, shape (batch, crop / 4, crop / 4)
            The ab code of each output pixel: the mean over its 4x4 input pixels.
        """
        count = len(self.indices)
        first, last = (k * count // self.batches for k in (index, index + 1))
        chosen = self.indices[self._order(epoch)[first:last]]
        cuts = self._cuts(len(chosen), np.random.default_rng((self.seed, 1, epoch, index)))
        lightness = np.empty((len(chosen), self.crop, self.crop, 1), np.float32)
        codes = np.empty((len(chosen), self.crop // STRIDE, self.crop // STRIDE), np.int32)
        # as many images at a time as stay in a core's cache from one step to the next
        step = max(1, CHUNK // self.crop**2)
        for start in range(0, len(chosen), step):
            part = slice(start, start + step)
            crops = cut(read_images(self.store, chosen[part]), self.crop, cuts[part])
            _encode_into(lightness[part], codes[part], crops)
        return lightness, codes

    def _order(self, epoch):
        if not self.train:
            return np.arange(len(self.indices))
        return _permutation(self.seed, epoch, len(self.indices))

    def _cuts(self, count, rng):
        room = self.size - self.crop
        if not self.train:
            return [(room // 2, room // 2, False)] * count
        tops, lefts = rng.integers(0, room + 1, (2, count)).tolist()
        mirrored = (self.flip & (rng.random(count) < 0.5)).tolist()
        return list(zip(tops, lefts, mirrored, strict=True))


class RecordError(RuntimeError):
    """An image of a store that can't be read; the message has its number and its name."""


def read_images(store, indices):
    """Look at images by number; of a failure say which image it was.

    Parameters
    ----------
    store : Store or ndarray of uint8, shape (n, size, size, 3)
    indices : ndarray of int, shape (k,)

    Returns
    -------
    sequence of ndarray of uint8, shape (size, size, 3)
        sRGB.

    Raises
    ------
    RecordError
        If one of the images can't be read.
    """
    if isinstance(store, np.ndarray):
        return [store[index] for index in indices]
    try:
        return store.views(indices)
    except Exception:
        for index in indices:  # one of them alone fails again, and gives its number away
            _view_one(store, index)
        raise


def _view_one(store, index):
    try:
        store.views([index])
    except Exception as error:
        name = f" ({store.names[index]})" if index < len(store.names) else ""
        raise RecordError(f"image {index}{name} can't be read: {error}; pack it again") from error


@functools.lru_cache(maxsize=4)
def _permutation(seed, epoch, count):
    return np.random.default_rng((seed, 0, epoch)).permutation(count)


def cut(rgb, crop, cuts):
    """Cut a square out of each image, and mirror it if wished.

    Parameters
    ----------
    rgb : sequence of n ndarray of uint8, shape (size, size, 3)
        sRGB.
    crop : int
        Side of the squares in pixels.
    cuts : sequence of (int, int, bool)
        Top, left, and whether to mirror, for each image.

    Returns
    -------
    ndarray of uint8, shape (n, crop, crop, 3)
    """
    out = np.empty((len(rgb), crop, crop, 3), np.uint8)
    for image, (top, left, mirror), target in zip(rgb, cuts, out, strict=True):
        part = image[top : top + crop, left : left + crop]
        if mirror:
            cv2.flip(part, 1, target)  # many times faster than part[:, ::-1]
        else:
            target[:] = part
    return out


def encode(rgb):
    """Split images into what the network sees and what it has to predict.

    Parameters
    ----------
    rgb : ndarray of uint8, shape (n, size, size, 3)
        sRGB; the size is a multiple of 4.

    Returns
    -------
    lightness : ndarray of float32, shape (n, size, size, 1)
        L in 0..100.
    codes : ndarray of int32, shape (n, size / 4, size / 4)
        ab codes of the mean (a, b) over 4x4 pixels.
    """
    count, size = rgb.shape[:2]
    lightness = np.empty((count, size, size, 1), np.float32)
    codes = np.empty((count, size // STRIDE, size // STRIDE), np.int32)
    _encode_into(lightness, codes, rgb)
    return lightness, codes


def _encode_into(lightness, codes, rgb):
    count, size = rgb.shape[:2]
    # (n, s, s, 3) -> (n * s, s, 3): one tall image, so OpenCV is called once for all
    lab = colorspace.rgb_to_lab8(rgb.reshape(count * size, size, 3))
    tall = lightness.reshape(count * size, size)
    np.multiply(cv2.extractChannel(lab, 0), np.float32(colorspace.L_MAX / 255), out=tall)
    # the mean over 4x4 as twice the mean over 2x2, for which OpenCV has a much faster path
    _, a, b = cv2.split(_halve(_halve(lab)))
    codes[:] = quantizer.ab_codes(a, b).reshape(codes.shape)


def _halve(image):
    height, width = image.shape[:2]
    return cv2.resize(image, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
