"""Training videos, spliced and disturbed."""

import numpy as np

SPLICE, MARGIN = 0.4, 8  # share of spliced videos; smallest number of steps in each part
NOISE, CHANNEL, DEAF = 0.35, 0.2, 0.15  # per value; per channel of a video; share of videos without sound


def disturbed(samples, row, pictures):
    """Make a training video that differs from all others."""
    x, segments, labels = samples[row]
    if np.random.random() < SPLICE:
        x, segments, labels = spliced(samples[row], samples[np.random.randint(len(samples))])
    channels = x.shape[1]
    x = x * np.exp(CHANNEL * np.random.randn(channels)) + CHANNEL * np.random.randn(channels)
    x = x + NOISE * np.random.randn(*x.shape)
    if np.random.random() < DEAF:
        x[:, pictures:] = 0
    return x, segments, labels


def spliced(one, two):
    """The beginning of one video and the end of another, or `one` where they cannot be cut."""
    places = np.arange(MARGIN, min(len(one[0]), len(two[0])) - MARGIN)
    for _, segments, _ in (one, two):
        busy = (places[:, None] > segments[:, 0]) & (places[:, None] < segments[:, 1])
        places = places[~busy.any(1)]
    if not len(places):
        return one
    cut = np.random.choice(places)
    before, after = one[1][:, 1] <= cut, two[1][:, 0] >= cut
    x = np.concatenate([one[0][:cut], two[0][cut:]])
    return x, *(np.concatenate([one[part][before], two[part][after]]) for part in (1, 2))
