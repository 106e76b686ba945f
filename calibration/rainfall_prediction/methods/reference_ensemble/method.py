"""Three references with other seeds; their probabilities are averaged before cut-offs are chosen."""

import numpy as np

from dataset import SEEN
from network import Advect
from training import EPOCHS, RATES, TUNING, best_cuts, learn, probabilities, scaled

MEMBERS = 3


def fit(reflbt, rates):
    """Train the networks and choose cut-offs of their mean probability."""
    x, nets = scaled(reflbt, *statistics(reflbt[::4])), [Advect() for _ in range(MEMBERS)]
    for net in nets:
        learn(net, x[:-TUNING], rates[:-TUNING], EPOCHS)
    return nets, best_cuts(chances(nets, x[-TUNING:]), rates[-TUNING:, SEEN:])


def predict(model, reflbt):
    """Predict the rates that follow."""
    nets, cuts = model
    above = chances(nets, scaled(reflbt, *statistics(reflbt))) >= cuts[:, None, None, None]
    return RATES[np.logical_and.accumulate(above, axis=1).sum(1)]


def chances(nets, x):
    """Mean probabilities (n, 5, 6, 16, 16) of the networks."""
    return np.mean([probabilities(net, x) for net in nets], 0)


def statistics(reflbt):
    """Mean and standard deviation of each band."""
    sample = reflbt.astype(np.float32)
    return sample.mean((0, 1, 3, 4)), sample.std((0, 1, 3, 4))
