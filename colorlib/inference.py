"""A recorded network's forward pass in NumPy: L in, logits out.

Not here: training, which is Keras' (`colorlib.model`, `colorlib.training`). A test holds both to
the same answers. Table 1 of the report.

Starting Keras and its backend takes seconds, coloring a photograph a fraction of one; so coloring
goes without them. The whole network is convolutions, ReLU, a scale and a shift for each channel
where BatchNorm was, and one doubling of the resolution.
"""

import h5py
import numpy as np

from colorlib import table

LARGEST = 3 * 3 * 1024 * 1024
"""Numbers in an array of a weights file: twice the paper's width; more is refused unread."""


class Network:
    """The network of Table 1, ready to predict.

    Parameters
    ----------
    layers : sequence of dict of str to ndarray
        For each row of `table.TABLE_1` ``kernel`` (k, k, channels in, channels out) and ``bias``,
        and where BatchNorm follows ``scale`` and ``shift``; all float32.
    """

    def __init__(self, layers):
        self.layers = layers

    def predict_on_batch(self, lightness):
        """Predict the distribution over the bins; called as a Keras model is.

        Parameters
        ----------
        lightness : ndarray of float32, shape (n, height, width, 1)
            L in 0..100; the sides are multiples of 8.

        Returns
        -------
        ndarray of float32, shape (n, height / 4, width / 4, 313)
            Logits.
        """
        x = np.asarray(lightness, np.float32) * np.float32(table.LIGHTNESS_SCALE)
        x += np.float32(table.LIGHTNESS_OFFSET)
        for row, layer in zip(table.TABLE_1, self.layers, strict=True):
            if row.stride == 0.5:
                x = x.repeat(2, axis=1).repeat(2, axis=2)
            x = convolve(x, layer["kernel"], max(1, int(row.stride)), row.dilation)
            x += layer["bias"]
            if row is not table.TABLE_1[-1]:
                np.maximum(x, 0, out=x)
            if row.batch_norm:
                x *= layer["scale"]
                x += layer["shift"]
        return x


def convolve(x, kernel, stride=1, dilation=1):
    """Convolve as Keras does with ``padding="same"``.

    Parameters
    ----------
    x : ndarray of float32, shape (n, height, width, channels in)
        The sides are multiples of `stride`.
    kernel : ndarray of float32, shape (k, k, channels in, channels out)
        With odd k.
    stride, dilation : int
        At least one of them is 1.

    Returns
    -------
    ndarray of float32, shape (n, height / stride, width / stride, channels out)
    """
    size = len(kernel)
    height, width = x.shape[1] // stride, x.shape[2] // stride
    # where the padding is odd, the larger half goes to the bottom and the right
    padding = dilation * (size - 1) - (stride - 1)
    before, after = padding // 2, padding - padding // 2
    x = np.pad(x, ((0, 0), (before, after), (before, after), (0, 0)))
    corners = (dilation * np.indices((size, size)).reshape(2, -1)).T
    shifted = [
        x[:, i : i + stride * height : stride, j : j + stride * width : stride] for i, j in corners
    ]
    # (n * h * w, k * k * channels in): each output pixel's whole neighborhood, then one product
    weights = kernel.reshape(-1, kernel.shape[-1])
    neighborhoods = np.concatenate(shifted, axis=-1).reshape(-1, len(weights))
    return (neighborhoods @ weights).reshape(len(x), height, width, -1)


def load(path):
    """Load the weights that a training recorded; nothing in the file is executed.

    Parameters
    ----------
    path : path-like
        Written by `runs.save_weights`.

    Returns
    -------
    Network

    Raises
    ------
    OSError, KeyError, ValueError
        If the file can't be read, holds the weights of another network, or leads to other files.
    """
    layers, norms = [], 0
    with h5py.File(path) as file:
        for number, row in enumerate(table.TABLE_1):
            kernel, bias = _arrays(file, "conv2d", number, 2)
            channels = layers[-1]["kernel"].shape[-1] if layers else 1
            if kernel.shape[:3] != (row.kernel, row.kernel, channels):
                raise ValueError(f"{row.name} has a kernel of the shape {kernel.shape}")
            layer = {"kernel": kernel, "bias": bias}
            if row.batch_norm:
                gamma, beta, mean, variance = _arrays(file, "batch_normalization", norms, 4)
                layer["scale"] = gamma / np.sqrt(variance + np.float32(table.BATCH_NORM_EPSILON))
                layer["shift"] = beta - mean * layer["scale"]
                norms += 1
            layers.append(layer)
    if layers[-1]["bias"].shape != (table.BINS,):
        raise ValueError(f"the last layer has {layers[-1]['bias'].shape} biases")
    return Network(layers)


def _arrays(file, kind, number, count):
    # Keras calls the layers of a kind conv2d, conv2d_1, conv2d_2, ...
    name = f"layers/{kind}_{number}/vars" if number else f"layers/{kind}/vars"
    arrays = [_dataset(file, f"{name}/{i}")[()].astype(np.float32) for i in range(count)]
    if any(array.shape[-1] != arrays[0].shape[-1] for array in arrays):
        raise ValueError(f"{name}: the numbers of channels differ")
    if not all(np.isfinite(array).all() for array in arrays):
        raise ValueError(f"{name}: not all of it is numbers")
    return arrays


# Plain numbers that lie in the file itself: HDF5 would follow links to other files, too.
def _dataset(file, path):
    place = file
    for part in path.split("/"):
        link = place.get(part, getlink=True)
        if not isinstance(link, h5py.HardLink):
            raise ValueError(f"{path}: missing" if link is None else f"{path}: leads elsewhere")
        place = place[part]
    if not isinstance(place, h5py.Dataset) or place.dtype.kind != "f" or place.ndim == 0:
        raise ValueError(f"{path}: no array of floating point numbers")
    if place.is_virtual or place.external:
        raise ValueError(f"{path}: its numbers are in another file")
    if place.size > LARGEST:
        raise ValueError(f"{path}: far too large")
    return place
