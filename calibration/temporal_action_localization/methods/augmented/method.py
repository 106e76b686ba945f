"""One ActionFormer on video and audio, with spliced and disturbed training videos.

This is the reference without its ensemble.
"""

import numpy as np

from augmentation import disturbed
from detector import Detector
from training import fit, predict, samples_of, standardised

EPOCHS = 22


def detect(train, videos, classes):
    """Segments of `videos`; see the docstring of the module."""
    samples = samples_of(train, features)
    pictures = train[0].video.shape[1]
    model = Detector(samples[0][0].shape[1], classes)
    model = fit(model, samples, EPOCHS, draw=lambda all_, row: disturbed(all_, row, pictures))
    return predict(model, videos, features)


def features(video):
    """Standardised video features, and unchanged audio features, in which silence is zero."""
    return np.concatenate([standardised(video.video), video.audio], 1)
