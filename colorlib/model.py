"""The Keras models that the networks' tables describe.

Not here: the tables (`colorlib.table`), the loss (`colorlib.losses`) and the training
(`colorlib.training`).
Every network sees lightness and gives, at a quarter of the resolution, a distribution over 313
colors. That of the report is Table 1: Zhang et al. 2016, version 2 of the paper.
"""

import functools

import keras
import numpy as np

from colorlib import config, quantizer, table

CONVOLUTIONS = ("convolution", "depthwise", "transposed")
"""The kinds of layers (`table.Layer`) that have kernels."""


@keras.saving.register_keras_serializable("colorlib")
class Conv2D(keras.layers.Conv2D):
    """Keras' layer, faster where it is dilated and trained by TensorFlow on a CPU.

    There Keras' own divides an image by the dilation into four small ones, which are padded. In
    Table 1, with images of 56 pixels, that costs a third more arithmetic in six of the layers. The
    results are the same up to rounding.
    """

    def convolution_op(self, inputs, kernel):
        """Compute the convolution; see `keras.layers.Conv2D`."""
        if self.dilation_rate == (1, 1) or not _takes_dilations(inputs.dtype):
            return super().convolution_op(inputs, kernel)
        import tensorflow

        padding = self.padding.upper()
        return tensorflow.nn.conv2d(inputs, kernel, 1, padding, dilations=self.dilation_rate)


# oneDNN and GPUs have a dilated convolution's gradient; TensorFlow's own code for CPUs has not.
@functools.cache
def _takes_dilations(dtype):
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow

    shape, kernel = (1, 5, 5, 1), (3, 3, 1, 1)
    with tensorflow.init_scope():  # now, not in a graph
        try:
            tensorflow.raw_ops.Conv2DBackpropInput(
                input_sizes=shape,
                filter=tensorflow.ones(kernel, dtype),
                out_backprop=tensorflow.ones(shape, dtype),
                strides=[1, 1, 1, 1],
                padding="SAME",
                dilations=[1, 2, 2, 1],
            )
        except tensorflow.errors.InvalidArgumentError:
            return False
    return True


def build_model(
    width=1.0,
    input_size=None,
    initializer="he_normal",
    l2=0.0,
    batch_norm_momentum=0.99,
    seed=0,
    dtype=None,
    network="table_1",
):
    """Build a network.

    Parameters
    ----------
    width : float
        Factor on every channel count but the 313 bins; with Table 1, 1 is the paper's 24.79
        million parameters. Of the other networks it scales the decoder alone.
    input_size : int, optional
        Side of the input in pixels, a multiple of `table.input_multiple`. None (the default)
        builds a network for any such size, square or not.
    initializer : str
        How the kernels are drawn: ``"he_normal"`` (the report's choice), ``"glorot_normal"``
        (Xavier), or any other Keras initializer.
    l2 : float
        Factor of the sum of squares of each kernel in the loss.
    batch_norm_momentum : float
        Share of the old value in each update of BatchNorm's running statistics.
    seed : int
        Seed of the initial weights.
    dtype : str, optional
        A Keras dtype policy such as ``"mixed_bfloat16"``; Keras' global policy by default.
        The last layer and a classifier's encoder compute in the precision of the weights.
    network : str
        As for `table.layers`.

    Returns
    -------
    keras.Model
        From float32 (batch, height, width, 1), L in 0..100, to logits in the weights' precision,
        (batch, height / 4, width / 4, 313). Its attribute ``input_multiple`` says what the sides
        have to be multiples of. A network that takes hints has a list of two inputs, and that of
        2017 gives (a, b) (`graph.build`).

    Raises
    ------
    ValueError
        If there is no such network, `input_size` does not fit it, or `width` is not within
        `config.WIDTHS`.
    """
    config.check_width(width)
    rows = table.layers(network, width)
    multiple = table.input_multiple(network)
    if input_size is not None and (input_size <= 0 or input_size % multiple):
        raise ValueError(
            f"input_size has to be a positive multiple of {multiple}, not {input_size}"
        )
    inputs = {
        name: keras.Input((input_size, input_size, table.CHANNELS[name]), name=name)
        for name in table.inputs(rows)
    }
    settings = {
        number: dict(
            kernel_initializer=_initializer(initializer, seed * len(table.TABLE_1) + number),
            kernel_regularizer=keras.regularizers.L2(l2) if l2 else None,
        )
        for number in range(sum(row.kind in CONVOLUTIONS for row in rows))
    }
    outputs = connect(rows, inputs, settings, batch_norm_momentum, dtype)
    taken = [*inputs.values()] if len(inputs) > 1 else inputs[table.INPUT]
    built = keras.Model(taken, outputs[rows[-1].name], name="colorizer")
    built.input_multiple = multiple
    return built


def connect(rows, tensors, kernels=None, batch_norm_momentum=0.99, dtype=None):
    """Turn the layers of a table into Keras layers.

    Parameters
    ----------
    rows : list of table.Layer
        In the order in which they are computed.
    tensors : dict of str to keras.KerasTensor
        What the layers read from outside, by name.
    kernels : dict of int to dict, optional
        For the first, second, ... convolution: its ``kernel_initializer`` and
        ``kernel_regularizer``.
    batch_norm_momentum : float
        As for `build_model`.
    dtype : str, optional
        As for `build_model`.

    Returns
    -------
    dict of str to keras.KerasTensor
        The output of each layer, by its name.
    """
    tensors, kernels, number = dict(tensors), kernels or {}, 0
    for row in rows:
        inputs = [tensors[name] for name in row.inputs]
        if row.kind in CONVOLUTIONS:
            layer = _convolution(row, dtype, kernels.get(number, {}))
            number += 1
        else:
            layer = _other(row, batch_norm_momentum, dtype)
        if row.symmetric:
            reach = row.dilation * (row.kernel - 1) // 2
            inputs = [keras.layers.ZeroPadding2D(reach, name=f"{row.name}_pad")(inputs[0])]
        settings = {"training": False} if row.kind == "frozen_batch_norm" else {}
        tensors[row.name] = layer(inputs if len(inputs) > 1 else inputs[0], **settings)
    return tensors


def model_for(settings):
    """Build the network that a configuration describes.

    Parameters
    ----------
    settings : colorlib.config.TrainConfig

    Returns
    -------
    keras.Model
        For inputs of any size that is a multiple of `table.input_multiple`.
    """
    if not isinstance(settings, config.TrainConfig):
        raise TypeError(f"a TrainConfig is needed, not {type(settings).__name__}")
    return build_model(
        network=settings.network,
        width=settings.width,
        initializer=settings.initializer,
        l2=settings.l2,
        batch_norm_momentum=settings.batch_norm_momentum,
        seed=settings.seed,
        dtype=settings.precision,
    )


def start_from_prior(network, prior):
    """Set the last biases so that a network predicts the prior for every pixel.

    With other initial weights, the first thousands of steps go into learning that most colors
    are rare: Adam moves a bias by about its rate a step, and some have to fall by 10. Lin et al.
    2017, "Focal Loss for Dense Object Detection", section 3.3, start a classifier in the same way.

    Parameters
    ----------
    network : keras.Model
        From `build_model`.
    prior : ndarray, shape (313,)
        Probabilities.
    """
    last = network.get_layer(table.TABLE_1[-1].name)
    last.kernel.assign(np.zeros(last.kernel.shape))
    last.bias.assign(np.log(np.maximum(prior, quantizer.PRIOR_FLOOR)))


def freeze_encoder(network):
    """Freeze a classifier's features, so that only the decoder is trained.

    Parameters
    ----------
    network : keras.Model
        From `build_model`, not yet compiled.
    """
    for layer in network.layers:
        if layer.name.startswith(table.ENCODER):
            layer.trainable = False


def start_from(network, source, seed=0):
    """Give a network another's weights, so that it computes the same.

    A layer that reads more channels than in the source, as those do that read hints, ignores them
    at first: its kernel is zero there. A network of Table 1 may be wider than the source: each
    channel is copied as often as the width needs, and the next layer's weights are shared out
    between the copies, which leaves the function unchanged. This is Net2WiderNet of Chen et al.
    2016, "Net2Net: Accelerating Learning via Knowledge Transfer", arXiv 1511.05641. The shares are
    random, so that the copies get different gradients and become different.

    Parameters
    ----------
    network, source : keras.Model
        From `build_model`; the weights go from `source` to `network`.
    seed : int
        Seed of the shares.

    Raises
    ------
    ValueError
        If `source` is wider than `network`, or another network; only Table 1 can be widened.
    """
    names = [[layer.name for layer in one.layers if layer.weights] for one in (network, source)]
    if names[0] != names[1]:
        raise ValueError("the networks have different layers; start from a run of the same network")
    pairs = [*zip(network.weights, source.get_weights(), strict=True)]
    if all(_reads_more(weight.shape, old.shape) for weight, old in pairs):
        network.set_weights([_with_zeros(old, weight.shape) for weight, old in pairs])
        return
    if [layer.name for layer in network.layers][1:] != [row.name for row in table.layers()]:
        raise ValueError("only the network of Table 1 can be widened; choose the same width")
    rng = np.random.default_rng(seed)
    copied = np.arange(1)  # for each channel, of which channel in the source it is a copy
    for layer, old in zip(network.layers, source.layers, strict=True):
        arrays = old.get_weights()
        if isinstance(layer, keras.layers.Conv2D):
            senders, copied = copied, np.arange(layer.filters) % old.filters
            if layer.filters < old.filters:
                raise ValueError(
                    f"{layer.name} has {layer.filters} channels and {old.filters} in the network "
                    "to start from; choose a wider network, or a narrower one to start from"
                )
            arrays[0] = _share_out(arrays[0], senders, rng)
        layer.set_weights([array[..., copied] for array in arrays])


def interpolate(network, start, share):
    """Interpolate linearly between a network's weights before and after fine-tuning (WiSE-FT).

    Fine-tuning on few images improves a network on them and makes it worse on others; interpolated
    weights are good at both. Wortsman et al. 2022, "Robust Fine-Tuning of Zero-Shot Models", arXiv
    2109.01903.

    Parameters
    ----------
    network : keras.Model
        Its weights are changed.
    start : list of ndarray
        The weights before the training, from `keras.Model.get_weights`.
    share : float
        Weight of the network's own weights: 1 changes nothing, 0 gives `start`; more than 1
        extrapolates.
    """
    pairs = zip(network.get_weights(), start, strict=True)
    network.set_weights([share * now + (1 - share) * before for now, before in pairs])


def describe(network):
    """Read Table 1 back from a built network.

    Parameters
    ----------
    network : keras.Model
        Built with a fixed `input_size`.

    Returns
    -------
    list of dict
        For each convolution: name, resolution, channels, stride, dilation, batch_norm, kernel.

    Raises
    ------
    ValueError
        If the network takes inputs of any size, so that the resolutions are unknown.
    """
    if network.input_shape[1] is None:
        raise ValueError("build the network with a fixed input_size to read resolutions from it")
    layers = [*network.layers, None]  # the last convolution has nothing after it
    return [
        {
            "name": layer.name,
            "resolution": layer.output.shape[1],
            "channels": layer.filters,
            "stride": 0.5 if isinstance(before, keras.layers.UpSampling2D) else layer.strides[0],
            "dilation": layer.dilation_rate[0],
            "batch_norm": isinstance(after, keras.layers.BatchNormalization),
            "kernel": layer.kernel_size[0],
        }
        for before, layer, after in zip(layers, layers[1:], layers[2:], strict=False)
        if isinstance(layer, keras.layers.Conv2D)
    ]


def _convolution(row, dtype, settings):
    common = dict(
        strides=row.stride,
        dilation_rate=row.dilation,
        padding="valid" if row.symmetric else "same",
        activation="relu" if row.relu else None,
        use_bias=row.bias,
        name=row.name,
        dtype=_dtype(row, dtype),
    )
    if row.kind == "depthwise":
        own = {name.replace("kernel", "depthwise"): value for name, value in settings.items()}
        return keras.layers.DepthwiseConv2D(row.kernel, **common, **own)
    kinds = {"convolution": Conv2D, "transposed": keras.layers.Conv2DTranspose}
    return kinds[row.kind](row.channels, row.kernel, **common, **settings)


# Logits, (a, b) and what the first layer sees need the weights' precision. So do depthwise
# convolutions, for speed: in half precision a CPU takes longer over them than the decoder gains.
def _dtype(row, dtype):
    exact = row.channels in (table.BINS, 2) or row.kind in ("rescale", "tanh")
    exact = exact or row.name == table.SEEN or row.name.startswith(table.ENCODER)
    return keras.dtype_policies.get(dtype).variable_dtype if exact else dtype


def _other(row, batch_norm_momentum, dtype):
    layers, norm = keras.layers, dict(momentum=batch_norm_momentum, epsilon=row.epsilon)
    kinds = {
        "rescale": (layers.Rescaling, dict(scale=row.scale, offset=row.offset)),
        "batch_norm": (layers.BatchNormalization, norm),
        "frozen_batch_norm": (layers.BatchNormalization, norm),
        "nearest": (layers.UpSampling2D, dict(size=2, interpolation="nearest")),
        "bilinear": (layers.UpSampling2D, dict(size=2, interpolation="bilinear")),
        "max_pool": (layers.MaxPooling2D, dict(pool_size=row.stride)),
        "subsample": (layers.MaxPooling2D, dict(pool_size=1, strides=2)),
        "relu": (layers.ReLU, {}),
        "relu6": (layers.ReLU, dict(max_value=6.0)),
        "leaky_relu": (layers.LeakyReLU, dict(negative_slope=table.LEAKY_SLOPE)),
        "tanh": (layers.Activation, dict(activation="tanh")),
        "add": (layers.Add, {}),
        "concatenate": (layers.Concatenate, {}),
    }
    kind, settings = kinds[row.kind]
    return kind(**settings, name=row.name, dtype=_dtype(row, dtype))


# Whether the shapes are equal, except perhaps in a kernel's third axis: the channels it reads.
def _reads_more(shape, old):
    same = tuple(shape) == old
    return same or (len(old) == 4 and shape[2] > old[2] and old == (*shape[:2], old[2], shape[3]))


def _with_zeros(array, shape):
    return np.pad(array, [(0, new - old) for new, old in zip(shape, array.shape, strict=True)])


def _share_out(kernel, senders, rng):
    copies = np.bincount(senders)
    shared = (kernel / copies[:, None])[:, :, senders]
    shares = rng.normal(scale=shared.std(), size=shared.shape)
    for sender, count in enumerate(copies):  # the copies' random parts add up to nothing
        mine = senders == sender
        shares[:, :, mine] -= shares[:, :, mine].sum(axis=2, keepdims=True) / count
    return shared + shares


def _initializer(name, seed):
    initializer = keras.initializers.get(name)
    settings = initializer.get_config()
    if "seed" in settings:
        settings["seed"] = seed
    return type(initializer).from_config(settings)
