"""Move what the satellite sees along the wind, read rain at every lead time, cut where CSI is best.

Own implementation of ideas of the strongest entries of Weather4cast 2023: future satellite frames
as input of the rain network (Li et al., who predict them; here the features are moved along the
motion that the frames show), lead time as a condition and classification by rain rate (RainAI),
only the central part decoded, at the radar's resolution, and outputs tuned to the score.
"""

import numpy as np

from training import forecast, scaled, train


def fit(reflbt, rates):
    """A network and cut-offs."""
    return train(reflbt, rates, *statistics(reflbt[:, ::5]))


def predict(model, reflbt):
    """Rates that follow.

    Bands are standardised by the inputs' own statistics, so that another calibration does no harm.
    """
    return forecast(*model, scaled(reflbt, *statistics(reflbt)))


def statistics(reflbt):
    """Mean and standard deviation of each band."""
    sample = reflbt.astype(np.float32)
    return sample.mean((0, 1, 3, 4)), sample.std((0, 1, 3, 4))
