"""First weights that depend on data, so that all layers of a network learn at the same rate.

Not here: initializers that look at shapes alone, which are Keras' own (`model.build_model`).
Kraehenbuehl et al. 2015, "Data-dependent Initializations of Convolutional Neural Networks",
arXiv 1511.06856, which the paper of Zhang et al. used and the report left for later; and LSUV:
Mishkin and Matas 2016, "All You Need Is a Good Init", arXiv 1511.06422.

All functions want a network whose layers form a chain, as those of Table 1 do.
"""

import contextlib

import keras
import numpy as np
from keras import ops
from sklearn.cluster import MiniBatchKMeans

CLUSTERED = 2
"""Number of convolutions, from the first one on, whose kernels are k-means centers."""

PATCHES = 20_000
"""Maximum number of patches that are clustered."""

WHITENING_EPSILON = 1e-3
"""Added to the variances before whitening, as a share of the largest: noise is not amplified."""

BATCH = 8
"""Images in a batch in which gradients are measured, since BatchNorm depends on the batch."""

ITERATIONS, TOLERANCE = 10, 1.01
"""`equalize_rates` does at most so many steps; it stops when all rates are within this factor of
their target."""


def lsuv(network, lightness, seed=0):
    """Give each convolution orthogonal kernels and an output of unit variance.

    Parameters
    ----------
    network : keras.Model
        From `model.build_model`, a chain of layers. Its weights are changed.
    lightness : ndarray of float32, shape (n, height, width, 1)
        L in 0..100, of images like those to train on.
    seed : int
        Seed of the kernels.
    """
    for number, (layer, x) in enumerate(_convolutions(network, lightness)):
        orthogonal = keras.initializers.Orthogonal(seed=_seed(seed, number))
        layer.kernel.assign(orthogonal(layer.kernel.shape))
        layer.bias.assign(ops.zeros(layer.bias.shape))
        # The paper repeats this until the variance is near 1; without a bias once is exact.
        layer.kernel.assign(layer.kernel / ops.std(layer.convolution_op(x, layer.kernel)))


def data_dependent(network, lightness, seed=0):
    """Initialize a network as Kraehenbuehl et al. 2015 do: `normalize_layers`, `equalize_rates`.

    Parameters
    ----------
    network, lightness, seed
        As for `normalize_layers`.
    """
    normalize_layers(network, lightness, seed=seed)
    equalize_rates(network, lightness, seed)


def normalize_layers(network, lightness, clustered=CLUSTERED, seed=0):
    """Give every channel of every convolution zero mean and unit variance on data.

    Algorithm 1 of Kraehenbuehl et al. 2015, applied to the outputs before the ReLU.

    Parameters
    ----------
    network : keras.Model
        From `model.build_model`, a chain of layers. Its weights are changed.
    lightness : ndarray of float32, shape (n, height, width, 1)
        L in 0..100, of images like those to train on.
    clustered : int
        Number of convolutions, from the first one on, that get `kmeans_kernels`; the others get
        random kernels.
    seed : int
        Seed of the random kernels, patches and centers.
    """
    for number, (layer, x) in enumerate(_convolutions(network, lightness)):
        rng = np.random.default_rng((seed, number))
        shape = tuple(layer.kernel.shape)
        kernel = rng.normal(size=shape)
        if number < clustered:
            kernel = kmeans_kernels(_patches(layer, x, rng), shape[-1], _seed(seed, number))
        layer.kernel.assign(kernel.reshape(shape))
        mean, variance = ops.moments(layer.convolution_op(x, layer.kernel), axes=(0, 1, 2))
        deviation = ops.sqrt(ops.where(variance > 0, variance, 1.0))
        layer.kernel.assign(layer.kernel / deviation)
        layer.bias.assign(-mean / deviation)


def kmeans_kernels(patches, count, seed=0):
    """Make kernels that are typical patches: spherical k-means of whitened ones.

    Coates and Ng 2012, "Learning Feature Representations with K-means".

    Parameters
    ----------
    patches : ndarray of floating point, shape (n, size)
        What a kernel of `size` numbers sees in n places.
    count : int
        Kernels wanted. There are as many centers, or as many as there are different directions;
        what is left is filled with random combinations of them.
    seed : int

    Returns
    -------
    ndarray of float64, shape (size, count)
        Kernels for patches as they are; they include the whitening.
    """
    centered = np.asarray(patches, np.float64) - patches.mean(axis=0)
    variances, directions = np.linalg.eigh(centered.T @ centered / len(centered))
    whitening = directions / np.sqrt(variances + WHITENING_EPSILON * variances.max())
    white = centered @ whitening
    lengths = np.linalg.norm(white, axis=1, keepdims=True)
    white = (white / np.maximum(lengths, 1e-12))[lengths[:, 0] > 0]
    found = MiniBatchKMeans(min(count, len(white)), n_init=1, random_state=seed).fit(white)
    centers = found.cluster_centers_
    if len(centers) < count:
        mixed = np.random.default_rng(seed).normal(size=(count - len(centers), len(centers)))
        centers = np.concatenate([centers, mixed @ centers])
    return whitening @ centers.T


def equalize_rates(network, lightness, seed=0):
    """Scale the layers so that all learn at the same relative rate.

    Algorithm 2 of Kraehenbuehl et al. 2015. A kernel times s means its gradient divided by s, if
    the layers above undo the scale, and so its `change_rates` divided by s squared. The scales of
    all layers multiply to 1. Without BatchNorm that leaves the outputs as they are. Each BatchNorm
    undoes the scales before it, so the outputs are multiplied by those after the last one. One step
    would be exact without BatchNorm's epsilon, so there is no damping, unlike in the paper.

    Parameters
    ----------
    network : keras.Model
        From `model.build_model`, a chain of layers. Its weights are changed.
    lightness : ndarray of float32, shape (n, height, width, 1)
        L in 0..100, of images like those to train on.
    seed : int
        Seed of the random loss.
    """
    probe = _Probe(network)
    for _ in range(ITERATIONS):
        rates = probe.rates(lightness, seed)
        target = np.exp(np.mean(np.log([*rates.values()])))
        if all(1 / TOLERANCE < rate / target < TOLERANCE for rate in rates.values()):
            return
        for segment in _segments(network):
            total = 1.0
            for layer in segment:
                scale = np.sqrt(rates[layer.name] / target)
                total *= scale
                layer.kernel.assign(layer.kernel * scale)
                layer.bias.assign(layer.bias * total)


def change_rates(network, lightness, seed=0):
    """Measure how large each layer's gradients are, relative to its weights.

    Parameters
    ----------
    network : keras.Model
        From `model.build_model`. Its weights are left as they are.
    lightness : ndarray of float32, shape (n, height, width, 1)
        L in 0..100; n is a multiple of `BATCH`.
    seed : int
        Seed of the loss: a sum of the outputs with Gaussian weights, as in the paper.

    Returns
    -------
    dict of str to float
        For each convolution, the root mean square of the gradients divided by that of the kernel.
    """
    return _Probe(network).rates(lightness, seed)


def layer_moments(network, lightness):
    """Measure mean and variance of each convolution's output before its ReLU.

    Parameters
    ----------
    network : keras.Model
        From `model.build_model`, a chain of layers.
    lightness : ndarray of float32, shape (n, height, width, 1)
        L in 0..100. BatchNorm takes the statistics of all these images.

    Returns
    -------
    dict of str to (ndarray, ndarray)
        Mean and variance of each channel, shape (channels,), by the layer's name.
    """
    found = {}
    for layer, x in _convolutions(network, lightness):
        out = layer.convolution_op(x, layer.kernel) + layer.bias
        moments = ops.moments(out, axes=(0, 1, 2))
        found[layer.name] = tuple(ops.convert_to_numpy(moment) for moment in moments)
    return found


class _SquaredGradients(keras.optimizers.Optimizer):
    """Add up the squares of the gradients, and change no weight."""

    def build(self, variables):
        if not self.built:
            super().build(variables)
            self.squares = self.add_optimizer_variables(variables, "squares")

    def update_step(self, gradient, variable, learning_rate):
        square = self.squares[self._get_variable_index(variable)]
        self.assign_add(square, ops.square(gradient))


class _Probe:
    """Measure gradients of a network: its layers, compiled with an optimizer that changes none."""

    def __init__(self, network):
        self.network = network
        self.optimizer = _SquaredGradients(1.0, name="squared_gradients")
        self.optimizer.build(network.trainable_variables)
        self.twin = keras.Model(network.inputs, network.outputs)
        self.twin.compile(self.optimizer, loss=lambda eta, out: ops.mean(eta * out, axis=-1))

    def rates(self, lightness, seed):
        """Return what `change_rates` does."""
        before, rng = self.network.get_weights(), np.random.default_rng(seed)
        for square in self.optimizer.squares:
            square.assign(ops.zeros(square.shape))
        with _without_penalty(self.network):
            for start in range(0, len(lightness) - BATCH + 1, BATCH):
                batch = lightness[start : start + BATCH]
                shape = self.network.compute_output_shape(batch.shape)
                self.twin.train_on_batch(batch, rng.normal(size=shape).astype(np.float32))
        self.network.set_weights(before)  # also BatchNorm's running statistics
        squares = map(ops.convert_to_numpy, self.optimizer.squares)
        paths = [variable.path for variable in self.network.trainable_variables]
        sums = dict(zip(paths, squares, strict=True))
        batches = len(lightness) // BATCH
        return {
            one.name: float(np.sqrt(sums[one.kernel.path].mean() / batches) / _size(one.kernel))
            for segment in _segments(self.network)
            for one in segment
        }


# Yield each convolution with its input, after the caller has set the weights of those before.
def _convolutions(network, lightness):
    x = ops.convert_to_tensor(lightness)
    for layer in _chain(network):
        if isinstance(layer, keras.layers.Conv2D):
            yield layer, x
        if isinstance(layer, keras.layers.BatchNormalization):
            mean, variance = ops.moments(x, axes=(0, 1, 2), keepdims=True)
            x = (x - mean) / ops.sqrt(variance + layer.epsilon) * layer.gamma + layer.beta
        else:
            x = layer(x)


def _chain(network):
    before, *layers = network.layers
    for layer in layers:
        if layer.input is not before.output:
            raise ValueError(
                f"{layer.name} does not follow {before.name}: only networks whose layers form a "
                "chain can be initialized from data, as that of Table 1"
            )
        before = layer
    return layers


# The convolutions between one BatchNorm and the next.
def _segments(network):
    segments = [[]]
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            segments.append([])
        elif isinstance(layer, keras.layers.Conv2D):
            segments[-1].append(layer)
    return segments


def _patches(layer, x, rng):
    taken = ops.image.extract_patches(
        x,
        layer.kernel_size,
        strides=layer.strides,
        dilation_rate=layer.dilation_rate[0],
        padding="same",
    )
    rows = ops.convert_to_numpy(taken).reshape(-1, taken.shape[-1])
    return rows[rng.permutation(len(rows))[:PATCHES]]


@contextlib.contextmanager
def _without_penalty(network):
    kept = [(variable, variable.regularizer) for variable in network.trainable_variables]
    try:
        for variable, _ in kept:
            variable.regularizer = None
        yield
    finally:
        for variable, regularizer in kept:
            variable.regularizer = regularizer


def _size(kernel):
    return np.sqrt(np.mean(ops.convert_to_numpy(kernel) ** 2))


def _seed(seed, number):
    return 1000 * seed + number
