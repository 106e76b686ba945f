"""Audio and video together, spliced training videos, and an ensemble.

This is an independent implementation of what the best entries of the Perception Test's localisation
challenge have in common: an ActionFormer on concatenated video and audio features, additional training
videos, and several fused models. New videos are spliced from the beginning of one and the end of another,
at a moment at which nothing happens in either. Channels are scaled, shifted and made noisy, and the sound
is sometimes switched off. The outputs of the models are averaged point by point.
"""

import numpy as np
import torch

from augmentation import disturbed
from detector import Detector
from training import fit, predict, samples_of, standardised

MODELS, EPOCHS = 2, 22


def detect(train, videos, classes):
    """Segments of `videos`; see the docstring of the module."""
    samples = samples_of(train, features)
    pictures = train[0].video.shape[1]
    models = []
    for number in range(MODELS):
        print(f"model {number + 1} of {MODELS}", flush=True)
        model = Detector(samples[0][0].shape[1], classes)
        models.append(fit(model, samples, EPOCHS, draw=lambda all_, row: disturbed(all_, row, pictures)))
    return predict(lambda x, mask: fused([model(x, mask) for model in models]), videos, features)


def features(video):
    """Standardised video features, and unchanged audio features, in which silence is zero."""
    return np.concatenate([standardised(video.video), video.audio], 1)


def fused(answers):
    """Fuse the logits and distances of several models."""
    logits, distances = zip(*answers, strict=True)
    mean = torch.stack(logits).sigmoid().mean(0).clamp(1e-6, 1 - 1e-6)
    return mean.logit(), torch.stack(distances).mean(0)
