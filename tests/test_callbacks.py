"""The callbacks that show a training's progress."""

import numpy as np
import pytest

from colorlib import callbacks, model, quantizer, runs, training

pytestmark = pytest.mark.usefixtures("shallow")


def test_predictions_follow_the_network(tmp_path, patches, tiny):
    watched = patches[:2, :16, :16]
    run = training.train(tiny, patches[:16], patches[16:24], tmp_path, (), False, watched=watched)
    with np.load(tmp_path / runs.PREDICTIONS) as file:
        plain, vivid = file["plain"], file["vivid"]
    assert plain.shape == vivid.shape == (tiny.epochs, 2, 4, 4, 2) and plain.dtype == np.int8
    # the recorded weights are those of one of the epochs, and color as it was seen then
    callback = callbacks.Predictions(tmp_path / "again.npz", watched, np.ones(quantizer.BINS))
    callback.set_model(run.model())
    callback.on_epoch_end(0)
    with np.load(tmp_path / "again.npz") as file:
        nearest = min(np.abs(file["plain"][0] - ab.astype(int)).max() for ab in plain)
        assert nearest <= 1
        np.testing.assert_array_equal(file["plain"], file["vivid"])  # all weights are 1


def test_predictions_of_repeated_epochs_are_replaced(tmp_path, patches, tiny):
    watched = patches[:1, :16, :16]
    path = tmp_path / "seen.npz"
    callback = callbacks.Predictions(path, watched, np.ones(quantizer.BINS))
    callback.set_model(model.model_for(tiny))
    for epoch in (0, 1, 2, 1):  # killed after the third, and gone on from the first
        callback.on_epoch_end(epoch)
    with np.load(path) as file:
        assert file["plain"].shape[0] == 2
