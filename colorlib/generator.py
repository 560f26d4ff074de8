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
        rgb = read_images(self.store, self.indices[self._order(epoch)[first:last]])
        rng = np.random.default_rng((self.seed, 1, epoch, index))
        return encode(self._crops(rgb, rng))

    def _order(self, epoch):
        if not self.train:
            return np.arange(len(self.indices))
        return _permutation(self.seed, epoch, len(self.indices))

    def _crops(self, rgb, rng):
        room = self.size - self.crop
        if not self.train:
            return centre_crop(rgb, self.crop)
        corners = rng.integers(0, room + 1, (len(rgb), 2)).tolist()
        mirrored = (self.flip & (rng.random(len(rgb)) < 0.5)).tolist()
        out = np.empty((len(rgb), self.crop, self.crop, 3), np.uint8)
        for image, (top, left), mirror, target in zip(rgb, corners, mirrored, out, strict=True):
            part = image[top : top + self.crop, left : left + self.crop]
            if mirror:
                cv2.flip(part, 1, target)  # many times faster than part[:, ::-1]
            else:
                target[:] = part
        return out


class RecordError(RuntimeError):
    """An image of a store that can't be read; the message has its number and its name."""


def read_images(store, indices):
    """Read images by number; of a failure say which image it was.

    Parameters
    ----------
    store : Store or ndarray of uint8, shape (n, size, size, 3)
    indices : ndarray of int, shape (k,)

    Returns
    -------
    ndarray of uint8, shape (k, size, size, 3)
        sRGB.

    Raises
    ------
    RecordError
        If one of the images can't be read.
    """
    if isinstance(store, np.ndarray):
        return store[indices]
    try:
        return store.read(indices)
    except Exception:
        for index in indices:  # one of them alone fails again, and gives its number away
            _read_one(store, index)
        raise


def _read_one(store, index):
    try:
        store.read([index])
    except Exception as error:
        name = f" ({store.names[index]})" if index < len(store.names) else ""
        raise RecordError(f"image {index}{name} can't be read: {error}; pack it again") from error


@functools.lru_cache(maxsize=4)
def _permutation(seed, epoch, count):
    return np.random.default_rng((seed, 0, epoch)).permutation(count)


def centre_crop(rgb, crop):
    """Cut out the middle of each image.

    Parameters
    ----------
    rgb : ndarray, shape (n, size, size, 3)
    crop : int
        Side in pixels.

    Returns
    -------
    ndarray, shape (n, crop, crop, 3)
    """
    start = (rgb.shape[1] - crop) // 2
    return rgb[:, start : start + crop, start : start + crop]


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
    # (n, s, s, 3) -> (n * s, s, 3): one tall image, so OpenCV is called once for the batch
    lab = colorspace.rgb_to_lab8(rgb.reshape(count * size, size, 3))
    lightness = np.multiply(cv2.extractChannel(lab, 0), colorspace.L_MAX / 255, dtype=np.float32)
    # the mean over 4x4 as twice the mean over 2x2, for which OpenCV has a much faster path
    _, a, b = cv2.split(_halve(_halve(lab)))
    codes = quantizer.ab_codes(a, b).reshape(count, size // STRIDE, size // STRIDE)
    return lightness.reshape(count, size, size, 1), codes


def _halve(image):
    height, width = image.shape[:2]
    return cv2.resize(image, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
