"""The built network against every row of Table 1."""

import keras
import numpy as np
import pytest

from colorlib import generator, model, quantizer, runs, table

# name, resolution at a 256-pixel input, channels, stride, dilation, BatchNorm after, kernel
REPORT_TABLE_1 = """
conv1_1 256 64 1 1 - 3
conv1_2 128 64 2 1 BN 3
conv2_1 128 128 1 1 - 3
conv2_2 64 128 2 1 BN 3
conv3_1 64 256 1 1 - 3
conv3_2 64 256 1 1 - 3
conv3_3 32 256 2 1 BN 3
conv4_1 32 512 1 1 - 3
conv4_2 32 512 1 1 - 3
conv4_3 32 512 1 1 BN 3
conv5_1 32 512 1 2 - 3
conv5_2 32 512 1 2 - 3
conv5_3 32 512 1 2 BN 3
conv6_1 32 512 1 2 - 3
conv6_2 32 512 1 2 - 3
conv6_3 32 512 1 2 BN 3
conv7_1 32 256 1 1 - 3
conv7_2 32 256 1 1 - 3
conv7_3 32 256 1 1 BN 3
conv8_1 64 128 0.5 1 - 3
conv8_2 64 128 1 1 - 3
conv8_3 64 128 1 1 BN 3
conv_1x1 64 313 1 1 - 1
"""


def test_every_row_of_table_1_is_in_the_built_model():
    rows = [line.split() for line in REPORT_TABLE_1.split("\n") if line]
    described = model.describe(model.build_model(input_size=256))
    assert len(described) == len(rows)
    for row, layer in zip(rows, described, strict=True):
        name, resolution, channels, stride, dilation, batch_norm, kernel = row
        expected = (name, int(resolution), int(channels), float(stride), int(dilation))
        assert tuple(layer.values())[:5] == expected
        assert layer["batch_norm"] == (batch_norm == "BN")
        assert layer["kernel"] == int(kernel)


def test_the_published_network_has_no_batch_norm_in_block_8():
    names = {
        network: [layer.name for layer in model.build_model(1 / 64, network=network).layers]
        for network in ("table_1", "published")
    }
    assert [name for name in names["table_1"] if name != "conv8_3_bn"] == names["published"]
    assert table.input_multiple("published") == table.input_multiple("table_1")


def test_parameters_at_full_width():
    assert model.build_model().count_params() == 24_792_569 + 4 * 128  # with conv8_3's BatchNorm


def test_relu_everywhere_but_at_the_end():
    layers = [x for x in model.build_model(1 / 16).layers if isinstance(x, keras.layers.Conv2D)]
    assert [x.activation.__name__ for x in layers] == ["relu"] * 22 + ["linear"]


@pytest.mark.parametrize("shape", [(8, 8), (56, 56), (24, 40)])
def test_any_multiple_of_8_goes_in_and_a_quarter_comes_out(shape):
    network = model.build_model(1 / 16)
    logits = network.predict_on_batch(np.full((2, *shape, 1), 50, np.float32))
    assert logits.shape == (2, shape[0] // 4, shape[1] // 4, 313)


not_on_jax = pytest.mark.skipif(
    keras.backend.backend() == "jax", reason="JAX has no float64 unless told to"
)


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=not_on_jax)])
def test_a_dilated_convolution_is_keras_own(rng, dtype):
    images = rng.normal(size=(2, 9, 14, 3)).astype(dtype)
    found = []
    for kind in (model.Conv2D, keras.layers.Conv2D):
        settings = dict(padding="same", dilation_rate=2, kernel_initializer="ones", dtype=dtype)
        network = keras.Sequential([kind(4, 3, **settings), kind(2, 3, **settings)])
        network.compile(keras.optimizers.SGD(1e-3), "mse")
        loss = network.train_on_batch(images, np.ones((2, 9, 14, 2), dtype))
        found.append([loss, *network.get_weights()])
    for own, expected in zip(*found, strict=True):
        np.testing.assert_allclose(own, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow's")
def test_no_image_is_divided_where_dilations_can_be_trained(monkeypatch):
    import tensorflow

    divided = []
    for takes in (True, False):
        monkeypatch.setattr(model, "_takes_dilations", lambda dtype, takes=takes: takes)
        network = model.build_model(1 / 16)
        graph = tensorflow.function(network).get_concrete_function(np.ones((1, 56, 56, 1), "f4"))
        divided.append("SpaceToBatchND" in {x.type for x in graph.graph.get_operations()})
    assert divided == [False, True]


def test_width_scales_every_channel_count_but_the_last():
    for row, layer in zip(table.TABLE_1, model.describe(model.build_model(0.25, 32)), strict=True):
        expected = row.channels if row.name == "conv_1x1" else row.channels // 4
        assert layer["channels"] == expected


def test_initializers_and_l2_are_arguments():
    he, glorot = (model.build_model(0.25, initializer=n) for n in ("he_normal", "glorot_normal"))
    spread = [m.get_layer("conv4_1").get_weights()[0].std() for m in (he, glorot)]
    fan_in, fan_out = 9 * 64, 9 * 128
    assert spread[0] == pytest.approx((2 / fan_in) ** 0.5, rel=0.05)
    assert spread[1] == pytest.approx((2 / (fan_in + fan_out)) ** 0.5, rel=0.05)
    penalized = model.build_model(1 / 16, l2=0.5)
    squares = [(w**2).sum() for w in penalized.get_weights() if w.ndim == 4]
    loss = keras.ops.convert_to_numpy(sum(penalized.losses))
    assert loss == pytest.approx(0.5 * sum(squares), rel=1e-4)


def test_the_seed_decides_the_weights():
    first, same, other = (model.build_model(1 / 16, seed=seed) for seed in (3, 3, 4))
    for a, b, c in zip(first.weights, same.weights, other.weights, strict=True):
        np.testing.assert_array_equal(a, b)
        assert not a.path.endswith("kernel") or not np.array_equal(a, c)


def test_mixed_precision_ends_in_float32():
    network = model.build_model(1 / 16, dtype="mixed_bfloat16")
    assert network.get_layer("conv4_1").compute_dtype == "bfloat16"
    assert network.predict_on_batch(np.zeros((1, 8, 8, 1), np.float32)).dtype == np.float32


def test_lightness_is_brought_to_unit_range():
    first = model.build_model(1 / 16).layers[1]
    np.testing.assert_allclose(first(np.array([[0.0], [50.0], [100.0]])), [[-1], [0], [1]])


@pytest.mark.parametrize("arguments", [{"input_size": 20}, {"input_size": 0}, {"width": 1e-3}])
def test_impossible_networks_are_refused(arguments):
    with pytest.raises(ValueError, match=r"multiple of 8|1/64\.\.2"):
        model.build_model(**arguments)


def test_describe_needs_a_fixed_size():
    with pytest.raises(ValueError, match="input_size"):
        model.describe(model.build_model(1 / 16))


@pytest.mark.parametrize("width", [2 / 32, 3 / 32, 4 / 32])
def test_a_widened_network_answers_as_the_one_it_starts_from(width, rng):
    lightness = rng.uniform(0, 100, (2, 16, 24, 1)).astype(np.float32)
    source, wider = model.build_model(2 / 32, seed=1), model.build_model(width, seed=2)
    for layer in source.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.1, 1, w.shape) for w in layer.get_weights()])
    expected = source.predict_on_batch(lightness)
    close = dict(rtol=0, atol=1e-4 * np.abs(expected).max())
    assert not np.allclose(wider.predict_on_batch(lightness), expected, **close)
    model.start_from(wider, source)
    np.testing.assert_allclose(wider.predict_on_batch(lightness), expected, **close)


def test_the_copies_of_a_channel_send_on_different_shares():
    source, wider = model.build_model(1 / 32), model.build_model(2 / 32)
    model.start_from(wider, source)
    kernel = wider.get_layer("conv1_2").get_weights()[0]
    first, second = kernel[:, :, :2], kernel[:, :, 2:]
    old = np.tile(source.get_layer("conv1_2").get_weights()[0], 2)
    np.testing.assert_allclose(first + second, old, atol=1e-6)
    assert np.abs(first - second).min() > 0 and np.abs(first - second).mean() > 0.1 * old.std()


def test_a_network_can_not_start_from_a_wider_one():
    with pytest.raises(ValueError, match="narrower"):
        model.start_from(model.build_model(1 / 32), model.build_model(2 / 32))


def test_half_precision_weights_color_alike(patches, tmp_path):
    run = runs.load_run("model-64")
    network = run.model()
    halved = tmp_path / "half.weights.h5"
    for weight in network.weights:
        noise = np.random.default_rng(0).normal(0, 1e-3, weight.shape)
        weight.assign(np.asarray(weight) * (1 + noise))
    runs.save_weights(network, halved)
    assert halved.stat().st_size < 0.75 * 4 * network.count_params()
    lightness, _ = generator.encode(patches[:4])
    before = quantizer.annealed_mean(network.predict_on_batch(lightness), 1)
    other = run.model()
    runs.load_weights(other, halved)
    after = quantizer.annealed_mean(other.predict_on_batch(lightness), 1)
    assert np.abs(after - before).mean() < 1e-2
    assert other.weights[0].dtype == "float32"
