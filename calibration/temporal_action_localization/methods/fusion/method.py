"""Multimodal and unimodal detectors, fused by weighted boundary fusion (Solovyev et al. 2021).

This follows the winning entry of the 2024 challenge (Han et al. 2024), without its augmentation: two
ActionFormers on video and audio, and one on video alone. Overlapping segments of one class are replaced
by their mean, weighted by their scores and by their model.
"""

import numpy as np

from detector import Detector
from training import fit, predict, samples_of, standardised

EPOCHS, OVERLAP, LIMIT, LEAST = 15, 0.6, 100, 0.01


def detect(train, videos, classes):
    """Fuse the segments of three models."""
    answers, weights = [], []
    for features, weight in ((both, 1.0), (both, 1.0), (pictures, 0.3)):
        samples = samples_of(train, features)
        model = fit(Detector(samples[0][0].shape[1], classes), samples, EPOCHS)
        answers.append(predict(model, videos, features))
        weights.append(weight)
    return [fused(parts, weights, v.duration) for v, *parts in zip(videos, *answers, strict=True)]


def pictures(video):
    """The standardised video features alone."""
    return standardised(video.video)


def both(video):
    """Standardised video features, and audio features."""
    return np.concatenate([standardised(video.video), video.audio], 1)


def fused(parts, weights, duration):
    """Fuse several models' segments of one video into one list."""
    rows = [
        (s, e, label, score * w)
        for part, w in zip(parts, weights, strict=True)
        for s, e, label, score in part
    ]
    rows = sorted((row for row in rows if row[3] > LEAST), key=lambda row: -row[3])
    clusters = []  # sums of weight, weight * start, weight * end; label
    for start, end, label, score in rows:
        new = np.array([score, score * start, score * end])
        for cluster in clusters:
            a, b = cluster[0][1:] / cluster[0][0]
            inner = min(b, end) - max(a, start)
            if cluster[1] == label and inner > OVERLAP * (b - a + end - start - inner):
                cluster[0] += new
                break
        else:
            clusters.append([new, label])
    fused_rows = [(a / w, min(b / w, duration), label, w / sum(weights)) for (w, a, b), label in clusters]
    return sorted(fused_rows, key=lambda row: -row[3])[:LIMIT]
