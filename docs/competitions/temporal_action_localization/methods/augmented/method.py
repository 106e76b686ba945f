"""One ActionFormer on video and audio, with spliced and disturbed training videos.

The reference without its ensemble.
"""

import numpy as np

from detector import Detector
from training import fit, predict, samples_of, standardised

EPOCHS = 22
SPLICE, MARGIN = 0.4, 8  # share of spliced videos; steps that each part has at least
NOISE, CHANNEL, DEAF = 0.35, 0.2, 0.15  # per value, per channel of a video, share without sound


def detect(train, videos, classes):
    """Segments of `videos`; see the module's text."""
    samples = samples_of(train, features)
    pictures = train[0].video.shape[1]
    model = Detector(samples[0][0].shape[1], classes)
    model = fit(model, samples, EPOCHS, draw=lambda all_, row: disturbed(all_, row, pictures))
    return predict(model, videos, features)


def features(video):
    """Video features, standardised, and audio features as they are: silence is zero there."""
    return np.concatenate([standardised(video.video), video.audio], 1)


def disturbed(samples, row, pictures):
    """A training video that differs from all others."""
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
    """The beginning of one video and the end of another; the first video if there is no place to cut."""
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
