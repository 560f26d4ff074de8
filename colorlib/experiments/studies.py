"""Three small studies: rebalancing, initialization, regression.

Not here: the experiments that record them (`benchmarks/studies.py`), their results (notebook 13),
and the search over settings (`experiments.tuning`). Sections 2.1 to 2.3 of Zhang et al. 2016;
chapter 5 and the conclusion of the report.

All trainings see the same few thousand crops of 32 pixels, so that one takes a minute, and end
clearly below the colors' frequencies.
"""

import dataclasses

import keras
import numpy as np
from keras import ops
from scipy import stats

from colorlib import (
    callbacks,
    colorize,
    colorspace,
    config,
    evaluate,
    generator,
    initializers,
    metrics,
    model,
    quantizer,
    table,
    training,
)
from colorlib.experiments import ablation

SIZE, CROP = 40, 32
"""Sides in pixels of the images and of the crops."""

SETTINGS = ablation.SOUND.settings.replace(
    image_size=SIZE,
    crop=CROP,
    l2=ablation.PAPERS_L2 / (2 * (CROP // table.STRIDE) ** 2),
    epochs=32,
    schedule="cosine",
    warmup=0.05,
)
"""Settings of all trainings of the three studies; an epoch is a point of the curve, with
`ablation.POINT` images."""

POINT = 10
"""Iterations between two points of the curve of `overfit`."""

SEEN = 64
"""Images that data-dependent weights are made from."""

AB_UNIT = 10.0
"""Errors of the regression are measured in this many ab units: the spacing of the bins."""

STRENGTHS = tuple(np.linspace(-1, 1.5, 11).tolist())
"""Strengths of the rebalancing at decoding."""

SATURATIONS = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
TEMPERATURES = (1.0, 0.7, 0.38, 0.2, 0.05)

DOSES = (0.5, 0.0)
"""Lambdas of the weights that are applied at decoding."""


@dataclasses.dataclass(frozen=True)
class Variant:
    """A way to train.

    Attributes
    ----------
    settings : colorlib.config.TrainConfig
        Its `initializer` may also be one of `FROM_DATA`.
    regression : bool
        The last layer gives (a, b), and the loss is half the squared error, in units of `AB_UNIT`.
    """

    settings: config.TrainConfig
    regression: bool = False


FROM_DATA = {"lsuv": initializers.lsuv, "data_dependent": initializers.data_dependent}
"""Initializers that look at data."""

INITIALIZERS = ("he_normal", "glorot_normal", *FROM_DATA)

VARIANTS = {
    "plain": Variant(SETTINGS),
    "lambda 0.5": Variant(SETTINGS.replace(rebalance=0.5)),
    "lambda 0": Variant(SETTINGS.replace(rebalance=0.0)),
    "regression": Variant(SETTINGS, regression=True),
    **{name: Variant(SETTINGS.replace(initializer=name)) for name in INITIALIZERS[1:]},
    "lambda 1": Variant(SETTINGS.replace(rebalance=1.0)),
}
"""The variants that are compared; "plain" is He's initializer without rebalancing."""

OVERFIT = {
    "as in notebook 03": dict(settings=config.OVERFIT.replace(decay=1e-3)),
    "as published": dict(
        settings=config.OVERFIT.replace(
            network="published", batch_norm_momentum=0.99, decay=1e-3, l2=1e-4
        ),
        wrapped=True,
        bilinear=True,
    ),
}
"""Two ways to overfit one photograph; the decay is the report's."""

RATES = (3e-5, 1e-4)
"""Learning rates: the paper's and the report's."""


class SquaredError(keras.losses.Loss):
    """Half the squared error of (a, b), in units of `AB_UNIT`.

    Called with integer codes (batch, h, w) and (a, b), shape (batch, h, w, 2).
    """

    def call(self, y_true, y_pred):
        """Return the loss of each pixel: (batch, h, w), float32."""
        true = ops.take(quantizer.code_colors(), ops.cast(y_true, "int32"), axis=0)
        return ops.sum(ops.square((y_pred - true) / AB_UNIT), axis=-1) / 2


def regressor(settings, mean):
    """Build a network that gives (a, b) instead of a distribution.

    Parameters
    ----------
    settings : colorlib.config.TrainConfig
    mean : ndarray, shape (2,)
        The mean color, which it begins with everywhere.

    Returns
    -------
    keras.Model
        From L, shape (batch, height, width, 1), to (a, b), shape (batch, height / 4, width / 4, 2);
        all layers but the last are those of `model.model_for`.
    """
    trunk = model.model_for(settings)
    penalty = keras.regularizers.L2(settings.l2) if settings.l2 else None
    last = keras.layers.Conv2D(
        2, 1, kernel_initializer="zeros", kernel_regularizer=penalty, name="conv_ab"
    )
    scaled = keras.layers.Rescaling(AB_UNIT, name="ab")
    network = keras.Model(trunk.inputs, scaled(last(trunk.layers[-2].output)))
    last.bias.assign(np.asarray(mean) / AB_UNIT)
    return network


def new_network(variant, images, prior, steps):
    """Build a variant's network with its first weights, optimizer and loss.

    Parameters
    ----------
    variant : Variant
    images : ndarray of float32, shape (n, size, size, 1)
        L, to make data-dependent weights from.
    prior : ndarray, shape (313,)
        How often each bin occurs.
    steps : int
        Batches in an epoch.

    Returns
    -------
    keras.Model
        Compiled.
    """
    settings, lam = variant.settings, variant.settings.rebalance
    from_data = FROM_DATA.get(settings.initializer)
    if from_data:
        settings = settings.replace(initializer="he_normal")
    if variant.regression:
        network = regressor(settings, prior @ quantizer.bin_centers())
    else:
        network = model.model_for(settings)
    if from_data:
        from_data(network, images, seed=settings.seed)
    if settings.start_from_prior and not variant.regression:
        weights = 1.0 if lam is None else quantizer.rebalancing_weights(prior, lam)
        model.start_from_prior(network, prior * weights)  # the best answer without looking
    training.compile_model(network, settings, steps, prior)
    if variant.regression:
        network.compile(optimizer=network.optimizer, loss=SquaredError())
    return network


def train(variant, images, validation, point=ablation.POINT, progress=()):
    """Train a variant and follow its validation loss.

    Parameters
    ----------
    variant : Variant
    images, validation : ndarray of uint8, shape (n, size, size, 3)
        sRGB: to train on, and to measure on.
    point : int
        Images between two points of the curve.
    progress : sequence of keras.callbacks.Callback

    Returns
    -------
    network : keras.Model
    curve : list of float
        The validation loss at each point, without the L2 penalty, in the variant's own terms.

    Raises
    ------
    colorlib.callbacks.DivergedError
        If a loss is no finite number any more.
    KeyboardInterrupt
        After the batch during which Ctrl-C was pressed.
    """
    settings, recipe = variant.settings, ablation.Recipe(variant.settings)
    with callbacks.Interrupt() as interrupt:
        keras.utils.set_random_seed(settings.seed)
        crop = settings.crop
        seen = ablation.Photographs(images, recipe, crop, settings.batch_size, True, point)
        measured = ablation.Photographs(validation, recipe, crop, 250, False, len(validation))
        prior = colors_of(images, crop)
        shown = ablation.Photographs(images, recipe, crop, SEEN, True, SEEN)
        network = new_network(variant, shown.batch(0, 0)[0], prior, len(seen))
        rules = [interrupt, callbacks.StopWhenDiverged("the study"), *progress]
        _, curve = ablation.fit(network, seen, measured, settings.epochs, rules)
    return network, curve


def report(variant, network, images, validation):
    """Measure a trained variant on the centers of the validation images.

    Parameters
    ----------
    variant, images, validation
        As for `train`.
    network : keras.Model

    Returns
    -------
    dict
        What `losses` and `measure` return.
    """
    crop = variant.settings.crop
    prior, rgb = colors_of(images, crop), _centers(validation, crop)
    lightness, codes = generator.encode(rgb)
    answers = colorize.predict(network, lightness)
    return {**losses(variant, answers, codes, prior), **measure(answers, rgb, prior)}


def overfit(photograph, settings, images, wrapped=False, bilinear=False, progress=()):
    """Overfit a network on one photograph.

    Parameters
    ----------
    photograph : ndarray of uint8, shape (size, size, 3)
        sRGB.
    settings : colorlib.config.TrainConfig
        Its `initializer` may be one of `FROM_DATA`; an epoch is an iteration.
    images : ndarray of uint8, shape (n, size, size, 3)
        sRGB: to make data-dependent weights from.
    wrapped, bilinear : bool
        Spoil lightness and targets as the published code does (`ablation.Recipe`).
    progress : sequence of keras.callbacks.Callback

    Returns
    -------
    dict
        ``curve``, the training loss, a mean over `POINT` iterations each; ``loss``, ``psnr``,
        ``inconsistency`` and ``ab``, rounded, of the result as BatchNorm's running statistics show
        it, at the resolution of the network's output.
    """

    def seen(rgb):
        lightness, codes = generator.encode(rgb)
        lightness = ablation.raw_lightness(lightness) if wrapped else lightness
        return lightness, ablation.bilinear_codes(rgb) if bilinear else codes

    keras.utils.set_random_seed(settings.seed)
    network = new_network(
        Variant(settings), seen(images)[0], np.full(quantizer.BINS, 1 / quantizer.BINS), 1
    )
    batch, codes = seen(photograph[None])
    with callbacks.Interrupt() as interrupt:
        history = network.fit(
            _Repeated(batch, codes),
            epochs=settings.epochs // POINT,
            callbacks=[interrupt, callbacks.StopWhenDiverged("the study"), *progress],
            shuffle=False,
            verbose=0,
        )
    answer = colorize.predict(network, batch)
    ab = colorize.Colorizer(None, config.DecodeConfig()).decode(answer[0])
    lightness = colorspace.rgb_to_lab(photograph)[..., 0]
    return {
        "curve": history.history["loss"],
        "loss": float(metrics.cross_entropy(answer, codes).mean()),
        "psnr": float(metrics.psnr(colorize.apply_colors(lightness, ab), photograph)),
        "inconsistency": inconsistency(
            ab, quantizer.code_colors()[generator.encode(photograph[None])[1][0]]
        ),
        "ab": np.rint(ab).astype(int).tolist(),
    }


class _Repeated(keras.utils.PyDataset):
    def __init__(self, lightness, codes):
        super().__init__()
        self.pair = lightness, codes

    def __len__(self):
        return POINT

    def __getitem__(self, index):
        return self.pair


def colors_of(images, crop):
    """Return how often each bin occurs in the centers of images.

    Parameters
    ----------
    images : ndarray of uint8, shape (n, size, size, 3)
        sRGB.
    crop : int
        Side in pixels.

    Returns
    -------
    ndarray of float64, shape (313,)
        Smoothed, none below `quantizer.PRIOR_FLOOR`; sums to 1.
    """
    prior = quantizer.prior(quantizer.code_histogram(_centers(images, crop)))
    prior = np.maximum(prior, quantizer.PRIOR_FLOOR)
    return prior / prior.sum()


def losses(variant, answers, codes, prior):
    """Compare a network's loss with that of the best answer that is the same for all pixels.

    Parameters
    ----------
    variant : Variant
    answers : ndarray of float32, shape (n, h, w, 313) or (n, h, w, 2)
    codes : ndarray of int, shape (n, h, w)
        The truth.
    prior : ndarray, shape (313,)
        How often each bin occurs in the training images.

    Returns
    -------
    dict of str to float
        ``loss`` and ``chance`` in the variant's own terms, rebalanced or of the regression; of
        classifiers ``cross_entropy``, with their rebalancing undone, and ``prior``, both plain.
    """
    if variant.regression:
        true = quantizer.code_colors()[codes]
        mean = prior @ quantizer.bin_centers()
        halves = (((one - true) / AB_UNIT) ** 2 for one in (answers, mean))
        own, chance = (float(half.sum(axis=-1).mean() / 2) for half in halves)
        return {"loss": own, "chance": chance}
    lam = variant.settings.rebalance
    weights = np.ones(quantizer.BINS) if lam is None else quantizer.rebalancing_weights(prior, lam)
    of_pixel = weights[quantizer.nearest_bins(codes)]
    rebalanced, calibrated = np.log(prior * weights), answers - np.log(weights)
    return {
        "loss": float((of_pixel * metrics.cross_entropy(answers, codes)).mean()),
        "chance": float((of_pixel * metrics.cross_entropy(rebalanced, codes)).mean()),
        "cross_entropy": float(metrics.cross_entropy(calibrated, codes).mean()),
        "prior": float(metrics.cross_entropy(np.log(prior), codes).mean()),
    }


def measure(answers, rgb, prior):
    """Decode a network's answers in many ways, and measure the colors.

    Parameters
    ----------
    answers : ndarray of float32, shape (n, h, w, 313) or (n, h, w, 2)
        Logits, or (a, b).
    rgb : ndarray of uint8, shape (n, height, width, 3)
        The true images.
    prior : ndarray, shape (313,)
        How often each bin occurs in the training images, for the weights.

    Returns
    -------
    dict
        ``decodings``: a list of dicts with ``temperature``, ``lam``, ``strength``, ``saturation``
        and the metrics of `metrics.ColorTally`; ``truth`` and ``grey``, the same of the true colors
        and of none; ``bins``: how often each of the 313 colors is given, by the decodings of
        `SHOWN` and in truth.
    """
    lab = colorspace.rgb_to_lab(rgb)
    floor = quantizer.rebalancing_weights(prior, 0)

    def metrics_of(ab):
        tally = metrics.ColorTally()
        tally.add(ab, lab[..., 1:], evaluate.paint(lab[..., 0], ab), rgb)
        return {name: round(value, 4) for name, value in tally.result(floor).items()}

    ways = decodings(answers)
    colors = [_decoded(answers, lab[..., 0], prior, way) for way in ways]
    return {
        "decodings": [{**way, **metrics_of(ab)} for way, ab in zip(ways, colors, strict=True)],
        "truth": metrics_of(lab[..., 1:]),
        "grey": metrics_of(np.zeros_like(lab[..., 1:])),
        "bins": {
            **{name: _bins(colors[ways.index(way)]) for name, way in SHOWN.items() if way in ways},
            "truth": _bins(lab[..., 1:]),
        },
    }


def _way(temperature=quantizer.TEMPERATURE, lam=None, strength=0.0, saturation=1.0):
    return dict(temperature=temperature, lam=lam, strength=strength, saturation=saturation)


SHOWN = {
    "annealed mean": _way(),
    "mean": _way(temperature=1.0),
    "rebalanced": _way(lam=0.5, strength=1.0),
    "regression": _way(temperature=None),
}
"""Decodings whose colors are counted."""


def decodings(answers):
    """List the ways in which answers can be decoded.

    Parameters
    ----------
    answers : ndarray, shape (..., 313) or (..., 2)

    Returns
    -------
    list of dict
        ``temperature`` (None for a regression), ``lam`` of the weights (None without), their
        ``strength``, ``saturation``.
    """
    if not colorize.has_bins(answers):
        return [_way(temperature=None, saturation=factor) for factor in SATURATIONS]
    return [
        *(_way(temperature=one) for one in TEMPERATURES),
        *(_way(lam=lam, strength=one) for lam in DOSES for one in STRENGTHS if one),
        *(_way(saturation=factor) for factor in SATURATIONS if factor != 1),
    ]


def at_equal(rows, name, value):
    """Interpolate decodings linearly to where one of their metrics has a value.

    Parameters
    ----------
    rows : list of dict
        Decodings of one network that differ in one number.
    name : str
        The metric that is to be equal, as ``"colorfulness"``.
    value : float

    Returns
    -------
    dict of str to float
        All metrics at that value, or at the nearest one that the decodings reach.
    """
    order = sorted(rows, key=lambda row: row[name])
    places = [row[name] for row in order]
    names = ("auc", "rebalanced_auc", "psnr", "colorfulness")
    return {key: float(np.interp(value, places, [row[key] for row in order])) for key in names}


def interval(values):
    """Return a mean with its 95% interval, from few independent values.

    Parameters
    ----------
    values : array-like of float, shape (n,)
        At least 2.

    Returns
    -------
    mean, half : float
        The interval, by Student's t, goes from mean - half to mean + half.
    """
    values = np.asarray(values, float)
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean()), float(half)


def inconsistency(ab, true_ab, least=10.0):
    """Measure spatial inconsistencies: neighbors whose colors differ though their truth does not.

    Parameters
    ----------
    ab, true_ab : ndarray, shape (height, width, 2)
        (a, b).
    least : float
        Neighbors differ if their distance is larger than that of the true colors by this, in ab
        units.

    Returns
    -------
    float
        Share of all pairs of neighbors, 0..1.
    """
    found = []
    for axis in (0, 1):
        one, two = (np.linalg.norm(np.diff(x, axis=axis), axis=-1) for x in (ab, true_ab))
        found.append((one - two > least).ravel())
    return float(np.concatenate(found).mean())


def _decoded(answers, lightness, prior, way):
    weights = None if way["lam"] is None else quantizer.rebalancing_weights(prior, way["lam"])
    decoding = config.DecodeConfig(
        temperature=quantizer.TEMPERATURE if way["temperature"] is None else way["temperature"],
        vividness=way["strength"],
        saturation=way["saturation"],
    )
    return evaluate.decode(colorize.Colorizer(None, decoding, weights), answers, lightness)


def _bins(ab):
    found = quantizer.nearest_bins(quantizer.nearest_codes(ab))
    return np.bincount(found.ravel(), minlength=quantizer.BINS).tolist()


def _centers(images, crop):
    first = (images.shape[1] - crop) // 2
    return images[:, first : first + crop, first : first + crop]
