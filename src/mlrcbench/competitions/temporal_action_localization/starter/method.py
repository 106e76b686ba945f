"""The method: change this file.

The method given here is a small ActionFormer on the video features alone, trained from scratch.
"""

from detector import Detector
from training import fit, predict, samples_of, standardised

EPOCHS = 15


def detect(train, videos, classes):
    """Find the actions of `videos`.

    Args:
        train: Labelled videos (`main.Video`): `video` and `audio` features, each (steps, channels),
            `seconds` per step, `duration` in seconds, `segments` (actions, 2) in seconds, `labels`
            (actions,).
        videos: Videos without labels: their `segments` and `labels` are empty.
        classes: Number of classes.

    Returns:
        For each of `videos` a list of at most 200 segments (start, end, label, score), in seconds.
    """
    samples = samples_of(train, features)
    model = fit(Detector(samples[0][0].shape[1], classes), samples, EPOCHS)
    return predict(model, videos, features)


def features(video):
    """The features (steps, channels) of a video that the detector sees."""
    return standardised(video.video)
