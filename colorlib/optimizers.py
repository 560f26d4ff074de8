"""Make a configuration's Keras optimizer: kind, schedule, and old Keras' time decay.

Not here: the rule that reduces the rate on a plateau (`colorlib.training`), which only reads
and writes `learning_rate`. Chapter 4 of the report.
"""

import keras
from keras import ops

from colorlib import table
from colorlib.losses import PACKAGE


@keras.saving.register_keras_serializable(PACKAGE)
class DecayedAdam(keras.optimizers.Adam):
    """Adam whose rate falls as rate / (1 + decay * iterations), as ``decay`` meant in old Keras.

    Keras 3 accepts ``Adam(decay=...)`` and ignores it, and allows no schedule together with
    `keras.callbacks.ReduceLROnPlateau`. So the factor is applied inside the update, and
    `learning_rate` stays the base rate, which a plateau rule may read and reduce.

    Parameters
    ----------
    decay : float
        Per iteration; 0 is plain Adam.
    **settings
        Settings of `keras.optimizers.Adam`.
    """

    def __init__(self, decay=0.0, **settings):
        super().__init__(**settings)
        self.decay = decay

    def update_step(self, gradient, variable, learning_rate):
        """Update a variable with the decayed rate."""
        factor = 1 + self.decay * ops.cast(self.iterations, "float32")
        super().update_step(gradient, variable, ops.cast(learning_rate, "float32") / factor)

    def get_config(self):
        """Return what `from_config` needs."""
        return {**super().get_config(), "decay": self.decay}


@keras.saving.register_keras_serializable(PACKAGE)
class EncoderAdamW(keras.optimizers.AdamW):
    """AdamW with a separate learning rate for a classifier's encoder.

    Parameters
    ----------
    encoder_rate : float
        Factor on the rate of the encoder's variables.
    **settings
        Settings of `keras.optimizers.AdamW`.
    """

    def __init__(self, encoder_rate=1.0, **settings):
        super().__init__(**settings)
        self.encoder_rate = encoder_rate

    def update_step(self, gradient, variable, learning_rate):
        """Update a variable with the rate of its part."""
        # TensorFlow hands its own variable in, which has no path
        path = self._trainable_variables[self._get_variable_index(variable)].path
        factor = self.encoder_rate if path.startswith(table.ENCODER) else 1.0
        super().update_step(gradient, variable, ops.cast(learning_rate, "float32") * factor)

    def get_config(self):
        """Return what `from_config` needs."""
        return {**super().get_config(), "encoder_rate": self.encoder_rate}


def build_optimizer(settings, steps):
    """Make the optimizer of a configuration.

    Parameters
    ----------
    settings : colorlib.config.TrainConfig
    steps : int
        Batches in the whole training; the cosine schedule ends with the last.

    Returns
    -------
    keras.optimizers.Optimizer

    Raises
    ------
    ValueError
        If the optimizer or the schedule is unknown.
    """
    common = dict(beta_1=settings.beta_1, beta_2=settings.beta_2)
    if settings.ema:
        common |= dict(use_ema=True, ema_momentum=settings.ema)
    rate = _rate(settings, steps)
    if settings.optimizer == "adam":
        return DecayedAdam(settings.decay, learning_rate=rate, **common)
    if settings.optimizer == "adamw":
        common |= dict(weight_decay=settings.weight_decay, encoder_rate=settings.encoder_rate)
        optimizer = EncoderAdamW(learning_rate=rate, **common)
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
        return optimizer
    raise ValueError(f"unknown optimizer {settings.optimizer!r}; use 'adam' or 'adamw'")


def current_rate(optimizer):
    """Return the rate that the next update will use.

    Parameters
    ----------
    optimizer : keras.optimizers.Optimizer

    Returns
    -------
    float
    """
    decay = getattr(optimizer, "decay", 0.0)
    return float(optimizer.learning_rate) / (1 + decay * int(optimizer.iterations))


def _rate(settings, steps):
    if settings.schedule == "constant":
        return settings.learning_rate
    if settings.schedule == "cosine":
        warmup = round(settings.warmup * steps)
        start = 0.0 if warmup else settings.learning_rate
        return keras.optimizers.schedules.CosineDecay(
            start, steps - warmup, warmup_target=settings.learning_rate, warmup_steps=warmup
        )
    raise ValueError(f"unknown schedule {settings.schedule!r}; use 'constant' or 'cosine'")
