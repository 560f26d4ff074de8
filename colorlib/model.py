"""The Keras model that Table 1 of the report describes.

Not here: the table (`colorlib.table`), the loss (`colorlib.losses`) and the training
(`colorlib.training`).
The network is that of Zhang et al. 2016, version 2 of the paper: eight blocks of convolutions
that see lightness and give, at a quarter of the resolution, a distribution over 313 colors.
"""

import keras
import numpy as np

from colorlib import config, quantizer, table


def build_model(
    width=1.0,
    input_size=None,
    initializer="he_normal",
    l2=0.0,
    batch_norm_momentum=0.99,
    seed=0,
    dtype=None,
):
    """Build the network.

    Parameters
    ----------
    width : float
        Factor on every channel count but the 313 bins; 1 is the paper's 24.79 million
        parameters.
    input_size : int, optional
        Side of the input in pixels, a multiple of 8. None (the default) builds a network for
        any such size, square or not.
    initializer : str
        Of the kernels: ``"he_normal"`` (the report's choice), ``"glorot_normal"`` (Xavier), or
        any other Keras initializer.
    l2 : float
        Factor of the sum of squares of each kernel in the loss.
    batch_norm_momentum : float
        Share of the old value in each update of BatchNorm's running statistics.
    seed : int
        Of the initial weights.
    dtype : str, optional
        A Keras dtype policy such as ``"mixed_bfloat16"``; Keras' global policy by default.
        The last layer computes in float32 all the same.

    Returns
    -------
    keras.Model
        From float32 (batch, height, width, 1), L in 0..100, to float32 logits
        (batch, height / 4, width / 4, 313).

    Raises
    ------
    ValueError
        If `input_size` is no multiple of 8 or `width` is not within `config.WIDTHS`.
    """
    if input_size is not None and (input_size <= 0 or input_size % table.INPUT_MULTIPLE):
        raise ValueError(f"input_size has to be a positive multiple of 8, not {input_size}")
    config.check_width(width)
    lightness = keras.Input((input_size, input_size, 1), name="lightness")
    x = keras.layers.Rescaling(table.LIGHTNESS_SCALE, table.LIGHTNESS_OFFSET, name="to_unit_range")(
        lightness
    )
    for number, row in enumerate(table.TABLE_1):
        kernels = dict(
            kernel_initializer=_initializer(initializer, seed * len(table.TABLE_1) + number),
            kernel_regularizer=keras.regularizers.L2(l2) if l2 else None,
        )
        x = _block(x, row, width, batch_norm_momentum, dtype, kernels)
    return keras.Model(lightness, x, name="colorizer")


def model_for(settings):
    """Build the network that a configuration describes.

    Parameters
    ----------
    settings : colorlib.config.TrainConfig

    Returns
    -------
    keras.Model
        For inputs of any size that is a multiple of 8.
    """
    if not isinstance(settings, config.TrainConfig):
        raise TypeError(f"a TrainConfig is needed, not {type(settings).__name__}")
    return build_model(
        width=settings.width,
        initializer=settings.initializer,
        l2=settings.l2,
        batch_norm_momentum=settings.batch_norm_momentum,
        seed=settings.seed,
        dtype=settings.precision,
    )


def start_from_prior(network, prior):
    """Make a network predict the same for every pixel: how often each color occurs.

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


def start_from(network, source, seed=0):
    """Give a network the weights of another that is as wide or narrower, and so its answers.

    A channel is copied as often as the width asks for, and what its copies send on is shared out
    between them, which leaves the function as it was: Net2WiderNet of Chen et al. 2016,
    "Net2Net: Accelerating Learning via Knowledge Transfer", arXiv 1511.05641. The shares differ at
    random, so that the copies get different gradients and part.

    Parameters
    ----------
    network, source : keras.Model
        From `build_model`; the weights go from `source` to `network`.
    seed : int
        Of the shares.

    Raises
    ------
    ValueError
        If `source` is wider than `network`.
    """
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


def mix(network, start, share):
    """Move a network's weights part of the way back to those that its training began with.

    What was trained further on few images knows them better and the rest worse. On the straight
    line between the two are networks that are good at both: Wortsman et al. 2022, "Robust
    Fine-Tuning of Zero-Shot Models", arXiv 2109.01903.

    Parameters
    ----------
    network : keras.Model
        Its weights are changed.
    start : list of ndarray
        As from `keras.Model.get_weights`, before the training.
    share : float
        Of the network's own weights: 1 changes nothing, 0 gives `start`, and more than 1 goes on
        beyond the network on the same line.
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
        If the network takes inputs of any size, so that no resolution can be told.
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


def _block(x, row, width, batch_norm_momentum, dtype, kernels):
    last = row is table.TABLE_1[-1]
    if row.stride == 0.5:
        x = keras.layers.UpSampling2D(2, name=f"{row.name}_upsample", dtype=dtype)(x)
    x = keras.layers.Conv2D(
        row.channels if last else round(row.channels * width),
        row.kernel,
        strides=max(1, int(row.stride)),
        dilation_rate=row.dilation,
        padding="same",
        activation=None if last else "relu",
        name=row.name,
        dtype="float32" if last else dtype,
        **kernels,
    )(x)
    if row.batch_norm:
        x = keras.layers.BatchNormalization(
            momentum=batch_norm_momentum,
            epsilon=table.BATCH_NORM_EPSILON,
            name=f"{row.name}_bn",
            dtype=dtype,
        )(x)
    return x


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
