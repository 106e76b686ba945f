"""Audio and video together, spliced training videos, and an ensemble.

Own implementation of what the best entries of the Perception Test's localisation challenge have
in common: an ActionFormer on video and audio features side by side, more training videos than there
are, and several models fused. New videos are spliced from the beginning of one and the end of
another, at a moment at which nothing happens in either; channels are scaled, shifted and made noisy,
and the sound is sometimes switched off. The models' answers are averaged point by point.
"""

import numpy as np
import torch

from detector import Detector
from training import fit, predict, samples_of, standardised

MODELS, EPOCHS = 2, 22
SPLICE, MARGIN = 0.4, 8  # share of spliced videos; steps that each part has at least
NOISE, CHANNEL, DEAF = 0.35, 0.2, 0.15  # per value, per channel of a video, share without sound


def detect(train, videos, classes):
    """Segments of `videos`; see the module's text."""
    samples = samples_of(train, features)
    pictures = train[0].video.shape[1]
    models = []
    for number in range(MODELS):
        print(f"model {number + 1} of {MODELS}", flush=True)
        model = Detector(samples[0][0].shape[1], classes)
        models.append(fit(model, samples, EPOCHS, draw=lambda all_, row: disturbed(all_, row, pictures)))
    return predict(lambda x, mask: fused([model(x, mask) for model in models]), videos, features)


def features(video):
    """Video features, standardised, and audio features as they are: silence is zero there."""
    return np.concatenate([standardised(video.video), video.audio], 1)


def fused(answers):
    """Logits and distances of several models in one."""
    logits, distances = zip(*answers, strict=True)
    mean = torch.stack(logits).sigmoid().mean(0).clamp(1e-6, 1 - 1e-6)
    return mean.logit(), torch.stack(distances).mean(0)


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
