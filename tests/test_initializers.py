"""What the papers promise of weights that depend on data."""

import keras
import numpy as np
import pytest
import shallow

from colorlib import generator, initializers, model, samples


@pytest.fixture(scope="module")
def lightness():
    """Two sets of L of 32x32 pixels: to initialize with, and to check on."""
    found, _ = generator.encode(samples.patches(64, 32))
    order = np.random.default_rng(0).permutation(64)
    return found[order[:32]], found[order[32:]]


def small(network="table_1", **settings):
    return model.build_model(width=1 / 16, network=network, **settings)


def last_outputs(network, lightness):
    return np.stack(initializers.layer_moments(network, lightness)["conv_1x1"])[0]


def spread(rates):
    return max(rates.values()) / min(rates.values())


def test_within_layer_normalization_gives_each_channel_mean_0_and_variance_1(lightness):
    network = small()
    initializers.normalize_layers(network, lightness[0])
    for mean, variance in initializers.layer_moments(network, lightness[0]).values():
        np.testing.assert_allclose(mean, 0, atol=2e-3)
        np.testing.assert_allclose(variance, 1, atol=5e-3)


def test_lsuv_gives_each_layer_variance_1_and_orthogonal_kernels(lightness):
    network = small()
    initializers.lsuv(network, lightness[0])
    for layer in network.layers:
        if isinstance(layer, keras.layers.Conv2D):
            flat = keras.ops.convert_to_numpy(layer.kernel).reshape(-1, layer.filters)
            gram = flat.T @ flat if flat.shape[0] >= flat.shape[1] else flat @ flat.T
            np.testing.assert_allclose(gram / gram[0, 0], np.eye(len(gram)), atol=1e-4)
    for mean, variance in initializers.layer_moments(network, lightness[0]).values():
        assert np.mean(variance + mean**2) - np.mean(mean) ** 2 == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("name", ["table_1", "published"])
def test_between_layer_scaling_equalizes_the_rates_and_scales_the_outputs(name, lightness):
    network = small(name)
    initializers.normalize_layers(network, lightness[0])
    before = last_outputs(network, lightness[0])
    unequal = spread(initializers.change_rates(network, lightness[1], seed=1))
    initializers.equalize_rates(network, lightness[0])
    after = last_outputs(network, lightness[0])
    equal = spread(initializers.change_rates(network, lightness[1], seed=1))
    assert unequal > 4 and equal < 1.6, "on other images and with another loss"
    factor = (after * before).sum() / (before**2).sum()
    np.testing.assert_allclose(after / factor, before, atol=0.1)


def test_rates_leave_the_network_as_it_was_and_do_not_see_the_penalty(lightness):
    rates = []
    for l2 in (0.0, 10.0):
        network = small(l2=l2)
        before = network.get_weights()
        rates.append(initializers.change_rates(network, lightness[0]))
        for old, new in zip(before, network.get_weights(), strict=True):
            np.testing.assert_array_equal(old, new)
    assert rates[0] == pytest.approx(rates[1])
    assert network.losses


def test_the_rate_of_a_linear_layer_is_known(monkeypatch):
    monkeypatch.setattr(initializers, "BATCH", 4)
    inputs = keras.Input((8, 8, 1))
    network = keras.Model(inputs, keras.layers.Conv2D(1, 1, use_bias=False)(inputs))
    network.layers[1].kernel.assign(np.full((1, 1, 1, 1), 0.5))
    lightness = np.random.default_rng(0).normal(size=(4, 8, 8, 1)).astype(np.float32)
    weights = np.random.default_rng(3).normal(size=(4, 8, 8, 1)).astype(np.float32)
    rate = initializers.change_rates(network, lightness, seed=3)
    expected = abs((weights * lightness).mean()) / 0.5
    assert rate[network.layers[1].name] == pytest.approx(expected, rel=1e-4)


def test_kmeans_kernels_find_the_directions_that_patches_have(rng):
    directions = np.linalg.qr(rng.normal(size=(6, 6)))[0][:3]
    patches = directions[rng.integers(0, 3, 600)] * rng.uniform(1, 2, (600, 1))
    kernels = initializers.kmeans_kernels(patches + rng.normal(0, 1e-3, patches.shape), 3)
    answers = directions @ kernels
    answers -= answers.mean(axis=0)
    assert sorted(answers.argmax(axis=0)) == [0, 1, 2], "each kernel answers to one of them"


def test_more_kernels_than_patches_are_still_kernels(rng):
    kernels = initializers.kmeans_kernels(rng.normal(size=(5, 9)), 12)
    assert kernels.shape == (9, 12) and np.isfinite(kernels).all()
    assert (np.linalg.norm(kernels, axis=0) > 0).all()


def test_seeds_decide_and_the_same_seed_repeats(lightness, monkeypatch):
    shallow.patch(monkeypatch)

    def kernels(seed):
        network = small()
        initializers.data_dependent(network, lightness[0], seed=seed)
        return np.concatenate([weight.ravel() for weight in network.get_weights()])

    assert np.array_equal(kernels(1), kernels(1))
    assert not np.array_equal(kernels(1), kernels(2))


def test_other_networks_are_refused(lightness):
    with pytest.raises(ValueError, match="chain"):
        initializers.lsuv(model.build_model(network="lite0", width=1 / 16), lightness[0])
