"""Fixtures for all tests, and what nbval does not compare."""

import contextlib
import os
import resource
import signal

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.pop("TQDM_DISABLE", None)  # some tests look for a progress bar

import numpy as np
import pytest
import shallow as shallow_network

from colorlib import colorize, config, samples

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # a shell starts jobs in the background so; processes that tests interrupt would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Dyer:
    """A network that says the same everywhere."""

    def predict_on_batch(self, lightness):
        logits = np.zeros((1, lightness.shape[1] // 4, lightness.shape[2] // 4, 313), np.float32)
        logits[..., 200] = 9
        return logits


def pytest_collectstart(collector):
    """Leave stderr out of the comparison: a backend's start-up lines differ between machines."""
    if getattr(collector, "skip_compare", None):
        collector.skip_compare += ("stderr",)


@pytest.fixture(scope="session")
def patches():
    """Forty colored squares of 32 pixels, cut from the sample photographs."""
    return samples.patches(40, 32)


@pytest.fixture(scope="session")
def tiny():
    """Settings of a training that takes a moment."""
    return config.TrainConfig(
        image_size=32, crop=16, width=1 / 16, epochs=2, batch_size=8, learning_rate=3e-3
    )


@pytest.fixture(scope="module")
def shallow():
    """Let Table 1 have few layers in a module's tests."""
    with pytest.MonkeyPatch.context() as patch:
        shallow_network.patch(patch)
        yield


@pytest.fixture
def small_files():
    """A context in which no file may grow beyond so many bytes: a full disk, nearly."""

    @contextlib.contextmanager
    def limited(size):
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited


@pytest.fixture
def rng():
    """A generator of random numbers, the same in each test."""
    return np.random.default_rng(0)


@pytest.fixture
def colorizer():
    """A colorizer whose network says the same everywhere."""
    return colorize.Colorizer(Dyer(), config.DecodeConfig(working_size=16))
