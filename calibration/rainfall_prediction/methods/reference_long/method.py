"""The reference with three times as many epochs."""

import training
from training import EPOCHS, forecast, scaled, train


def fit(reflbt, rates):
    """Train a network for longer and choose cut-offs."""
    training.EPOCHS = 3 * EPOCHS
    return train(scaled(reflbt, *statistics(reflbt[::4])), rates)


def predict(model, reflbt):
    """Predict the rates that follow."""
    return forecast(*model, scaled(reflbt, *statistics(reflbt)))


def statistics(reflbt):
    """Mean and standard deviation of each band."""
    sample = reflbt.astype("float32")
    return sample.mean((0, 1, 3, 4)), sample.std((0, 1, 3, 4))
