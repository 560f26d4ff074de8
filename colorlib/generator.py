"""Make seeded batches of (L, ab codes) from a store: a `keras.utils.PyDataset`.

Not here: reading files (`colorlib.store`), what the codes mean (`colorlib.quantizer`) and how
hints are drawn (`colorlib.hints`).
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

from colorlib import augmentation, colorspace, distributed, hints, memory, quantizer
from colorlib.store import squares
from colorlib.table import STRIDE

LIGHTNESS_STEP = np.float32(colorspace.L_MAX / 255)
"""L of one step of its 8-bit values."""


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
        The images of the store to use; all by default.
    workers : int
        Threads that prefetch; 0 computes each batch when it is asked for.
    crop_scale : float, optional
        With `train`: squares of at least this share of an image's area, resized to `crop`
        (`random_resized_crops`); by default crops keep the images' own resolution.
    degrade : float
        With `train`: probability of each kind of degradation of an image's lightness
        (`augmentation.degrade`).
    take_hints : bool
        Whether the network takes hints (`colorlib.hints`); they are drawn at random, without
        `train` for each image the same in all epochs.
    world : colorlib.distributed.World
        With whom this process trains: it gets its part of every batch, and reads no other image.
        All batches can be divided among all devices, so up to ``world.devices - 1`` images are
        left out of an epoch. Order, crops and flips are those of one process; degradations and
        hints are drawn by each process for itself.

    Attributes
    ----------
    epoch : int
        The epoch of the batches that `__getitem__` gives; `callbacks.SetEpoch` sets it.

    Raises
    ------
    ValueError
        If there are no images, or too few for the devices, or the crop or its scale does not fit.
    """

    def __init__(
        self,
        store,
        batch_size,
        crop,
        train=True,
        flip=False,
        seed=0,
        indices=None,
        workers=2,
        crop_scale=None,
        degrade=0.0,
        take_hints=False,
        world=distributed.ALONE,
    ):
        super().__init__()
        self.store, self.crop, self.train, self.flip, self.seed = store, crop, train, flip, seed
        self.crop_scale, self.degrade = crop_scale, degrade if train else 0.0
        self.take_hints = take_hints
        self.indices = np.arange(len(store)) if indices is None else np.asarray(indices)
        self.size = store.shape[1] if isinstance(store, np.ndarray) else store.size
        if crop % 8 or not 8 <= crop <= self.size:
            raise ValueError(f"a crop of {crop} has to be a multiple of 8, at most {self.size}")
        if not 0 <= degrade <= 1:
            raise ValueError(f"degrade is a probability: it has to be in 0..1, not {degrade}")
        if crop_scale is not None and not 0 < crop_scale <= 1:
            raise ValueError(f"crop_scale {crop_scale} has to be in 0..1, above 0, or None")
        if len(self.indices) == 0:
            raise ValueError("no images to make batches of")
        self.world = world
        self._groups = len(self.indices) // world.devices  # an image for each device
        if not (self._groups and batch_size >= world.devices):
            few = f"a batch of {batch_size} of {len(self.indices)} images"
            raise ValueError(f"{few} is too small for {world.devices} devices; make it larger")
        self.batches = -(-self._groups // (batch_size // world.devices))
        self.epoch = 0
        self._threads = workers
        memory.keep_freed()
        self._pool = ThreadPoolExecutor(workers) if workers else None
        self._pending = {}

    def __len__(self):
        return self.batches

    def __getitem__(self, index):
        """Return batch `index` of the current epoch; see `batch`."""
        if self._pool is None:
            return self.batch(self.epoch, index)
        ahead = range(index, min(index + 1 + 2 * self._threads, self.batches))
        keys = [(self.epoch, k) for k in ahead]
        pending = self._pending
        self._pending = {k: pending.get(k) or self._pool.submit(self.batch, *k) for k in keys}
        return self._pending.pop(keys[0]).result()

    def batch(self, epoch, index):
        """Compute one batch.

        Parameters
        ----------
        epoch, index : int
            The epoch, and the batch in it.

        Returns
        -------
        lightness : ndarray of float32, shape (batch, crop, crop, 1)
            L in 0..100, of this process' part of the batch. With `take_hints` it is a pair of this
            and the hints, ndarray of float32, shape (batch, crop, crop, 3).
        codes : ndarray of int32, shape (batch, crop / 4, crop / 4)
            The ab code of each output pixel: the mean over its 4x4 input pixels.
        """
        lightness, codes, ab8 = _encode(*self._crops(epoch, index))
        if self.degrade:
            rng = self._own_rng(2, epoch, index)
            augmentation.degrade(lightness, self.degrade, rng)
        if not self.take_hints:
            return lightness, codes
        rng = self._own_rng(3, epoch if self.train else 0, index)
        return (lightness, hints.random(ab8, rng)), codes

    def photographs(self, epoch, index):
        """Return the crops of a batch before they are encoded.

        Parameters
        ----------
        epoch, index : int
            The epoch, and the batch in it.

        Returns
        -------
        ndarray of uint8, shape (batch, crop, crop, 3)
            sRGB.
        """
        crops, mirrored = self._crops(epoch, index)
        crops[mirrored] = crops[mirrored, :, ::-1]
        return crops

    def _chosen(self, epoch, index):
        groups = _share(self._groups, self.batches, index)
        of_all = slice(groups.start * self.world.devices, groups.stop * self.world.devices)
        return self.indices[self._order(epoch)[of_all]]

    def _own_rng(self, purpose, epoch, index):
        rank = [self.world.rank] if self.world.rank else []
        return np.random.default_rng((self.seed, purpose, epoch, index, *rank))

    def _order(self, epoch):
        if not self.train:
            return np.arange(len(self.indices))
        return _permutation(self.seed, epoch, len(self.indices))

    # This process' crops of a batch, and which of them to mirror. What is random is drawn for the
    # crops of all processes.
    def _crops(self, epoch, index):
        chosen = self._chosen(epoch, index)
        count, room = len(chosen), self.size - self.crop
        own = _share(count, self.world.processes, self.world.rank)
        if not self.train:
            crops = read_images(self.store, chosen[own], room // 2, room // 2, self.crop)
            return crops, np.zeros(len(crops), bool)
        rng = np.random.default_rng((self.seed, 1, epoch, index))
        if self.crop_scale is None:
            tops, lefts = rng.integers(0, room + 1, (2, count))
            crops = read_images(self.store, chosen[own], tops[own], lefts[own], self.crop)
        else:
            sides, corners = random_squares(count, self.size, self.crop_scale, rng)
            whole = read_images(self.store, chosen[own])
            crops = resized_squares(whole, sides[own], corners[own], self.crop)
        return crops, (rng.random(count) < self.flip / 2)[own]


class RecordError(RuntimeError):
    """An image of a store that can't be read; the message has its number and its name."""


def read_images(store, indices, tops=0, lefts=0, side=None):
    """Read images by number, or a square from each; an error names the image.

    Parameters
    ----------
    store : Store or ndarray of uint8, shape (n, size, size, 3)
    indices : ndarray of int, shape (k,)
    tops, lefts, side
        As for `colorlib.store.Store.read`.

    Returns
    -------
    ndarray of uint8, shape (k, side, side, 3)
        sRGB.

    Raises
    ------
    RecordError
        If one of the images can't be read.
    """
    if isinstance(store, np.ndarray):
        return squares(store, indices, tops, lefts, side or store.shape[1])
    try:
        return store.read(indices, tops, lefts, side)
    except Exception:
        for index in indices:  # read one by one to find the one that fails
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


def random_resized_crops(rgb, crop, scale, rng):
    """Cut a square of random area and position from each image, and resize it.

    Parameters
    ----------
    rgb : ndarray of uint8, shape (n, size, size, 3)
        sRGB.
    crop : int
        Side in pixels of the results.
    scale : float
        Smallest share of an image's area, in 0..1; the shares are uniform in scale..1.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of uint8, shape (n, crop, crop, 3)
        Averaged over areas where they shrink, interpolated where they grow. The shapes of
        things are kept: a changed aspect ratio teaches nothing about color.
    """
    return resized_squares(rgb, *random_squares(*rgb.shape[:2], scale, rng), crop)


def random_squares(count, size, scale, rng):
    """Draw the squares of `random_resized_crops`.

    Parameters
    ----------
    count, size : int
        Number of images, and their side in pixels.
    scale, rng
        As for `random_resized_crops`.

    Returns
    -------
    sides : ndarray of int, shape (count,)
        In pixels.
    corners : ndarray of int, shape (count, 2)
        First row and column.
    """
    sides = np.rint(size * np.sqrt(rng.uniform(scale, 1, count))).astype(int).clip(1)
    return sides, rng.integers(0, size - sides + 1, (2, count)).T


def resized_squares(rgb, sides, corners, crop):
    """Cut a square from each image and resize it; see `random_resized_crops`."""
    resized = np.empty((len(rgb), crop, crop, 3), np.uint8)
    for image, side, (top, left), target in zip(rgb, sides, corners, resized, strict=True):
        way = cv2.INTER_AREA if side > crop else cv2.INTER_CUBIC
        square = image[top : top + side, left : left + side]
        cv2.resize(square, (crop, crop), target, interpolation=way)
    return resized


def encode(rgb):
    """Split images into the network's input and its target.

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
    return _encode(rgb, np.zeros(len(rgb), bool))[:2]


# Some images are mirrored. The third result is a + 128 and b + 128 of every pixel, uint8, shape
# (2, n, size, size).
def _encode(rgb, mirrored):
    count, size = rgb.shape[:2]
    # (n, s, s, 3) -> (1, n * s * s, 3): one row, so that OpenCV starts no threads below ours;
    # and into planes that are there already, several times faster than into new ones
    planes = np.empty((3, 1, count * size * size), np.uint8)
    cv2.split(colorspace.rgb_to_lab8(rgb.reshape(1, -1, 3)), list(planes))
    images = planes.reshape(3, count, size, size)
    for plane in images if mirrored.any() else ():  # OpenCV mirrors pixels of three bytes slowly
        plane[mirrored] = cv2.flip(plane[mirrored].reshape(-1, size), 1).reshape(-1, size, size)
    lightness = images[0, ..., None] * LIGHTNESS_STEP
    small = count, size // STRIDE, size // STRIDE
    codes = quantizer.ab_codes(*_block_means(images[1:].reshape(-1, size)).reshape(2, *small))
    return lightness, codes, images[1:]


def _share(count, parts, k):
    return slice(k * count // parts, (k + 1) * count // parts)


# Over a whole factor OpenCV adds whole numbers up and rounds their mean once, halves to even. With
# halves rounded up, or means rounded twice, the targets would be too large on average.
def _block_means(plane):
    height, width = plane.shape
    return cv2.resize(plane, (width // STRIDE, height // STRIDE), interpolation=cv2.INTER_AREA)
