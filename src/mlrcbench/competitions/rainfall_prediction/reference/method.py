"""Move satellite features along the wind, read rain at every lead time, and cut where CSI is best.

This is an independent implementation of ideas from the strongest entries of Weather4cast 2023: future
satellite frames as input of the rain network (Li et al. predict them; here the features are moved along
the motion that the frames show), lead time as a condition and classification by rain rate (RainAI),
decoding only the central part, at the radar's resolution, and outputs tuned to the score.
"""

import numpy as np

from training import forecast, scaled, train


def fit(reflbt, rates):
    """Train a network and choose cut-offs."""
    return train(scaled(reflbt, *statistics(reflbt[::4])), rates)


def predict(model, reflbt):
    """Predict the rates that follow.

    Bands are standardised by the statistics of the inputs, so that another calibration does no harm.
    """
    return forecast(*model, scaled(reflbt, *statistics(reflbt)))


def statistics(reflbt):
    """Mean and standard deviation of each band."""
    sample = reflbt.astype(np.float32)
    return sample.mean((0, 1, 3, 4)), sample.std((0, 1, 3, 4))
