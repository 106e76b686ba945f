"""The reference, with bands standardised by the training year's mean and deviation in every year."""

import numpy as np

from training import forecast, scaled, train


def fit(reflbt, rates):
    """A network and cut-offs, and the training year's statistics."""
    sample = reflbt[:, ::5].astype(np.float32)
    statistics = sample.mean((0, 1, 3, 4)), sample.std((0, 1, 3, 4))
    return train(reflbt, rates, *statistics), statistics


def predict(model, reflbt):
    """Rates."""
    trained, statistics = model
    return forecast(*trained, scaled(reflbt, *statistics))
