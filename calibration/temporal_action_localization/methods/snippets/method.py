"""Classify steps one by one, then group them (like CDC, Shou et al. 2017, and TAG, Zhao et al. 2017).

A network gives each step its classes, from the step's own features alone. For each class and several
thresholds, runs of steps above the threshold are segments. The score of a segment is its mean probability
minus that of its surroundings (the contrast of AutoLoc, Shou et al. 2018), times the root of its length.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from training import fit, pad, samples_of, standardised, to_seconds

EPOCHS, WIDTH = 40, 64
SMOOTH = np.ones(5) / 5
THRESHOLDS, LIMIT, OVERLAP = np.geomspace(0.005, 0.9, 24), 100, 0.5


class Steps(nn.Module):
    """Logits (batch, steps, classes) of each step by itself."""

    def __init__(self, channels, classes):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(channels, WIDTH), nn.LayerNorm(WIDTH), nn.ReLU(),
            nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH), nn.ReLU(),
            nn.Linear(WIDTH, classes),
        )  # fmt: skip
        nn.init.constant_(self.layers[-1].bias, -3.0)  # because few steps are in an action

    def forward(self, x, mask):
        return self.layers(x)


def detect(train, videos, classes):
    """Group classified steps."""
    samples = samples_of(train, features)
    model = fit(Steps(samples[0][0].shape[1], classes), samples, EPOCHS, loss=step_loss)
    with torch.no_grad():
        x, mask = pad([features(video) for video in videos])
        chances = model(x, mask).sigmoid().numpy()
    return [
        to_seconds(video, *groups(one[: len(video.video)]))
        for video, one in zip(videos, chances, strict=True)
    ]


def features(video):
    """The standardised video features."""
    return standardised(video.video)


def step_loss(model, x, mask, segments, labels):
    """Cross-entropy of all steps; a step belongs to an action that covers its middle."""
    logits = model(x, mask)
    middle = torch.arange(x.shape[1])[None, :, None] + 0.5
    inside = (middle > segments[:, None, :, 0]) & (middle < segments[:, None, :, 1]) & (labels[:, None] >= 0)
    targets = inside.float() @ functional.one_hot(labels.clamp(min=0), logits.shape[2]).float()
    return functional.binary_cross_entropy_with_logits(logits[mask], targets.clamp(max=1)[mask])


def groups(chances):
    """Starts, ends (in steps), labels and scores of the best runs; `chances` is (steps, classes)."""
    rows = []
    for label, column in enumerate(chances.T):
        chance = np.convolve(column, SMOOTH, "same")
        runs = {}
        for threshold in THRESHOLDS:
            edges = np.flatnonzero(np.diff(np.concatenate([[0], chance > threshold, [0]])))
            runs.update({(a, b): contrast(chance, a, b) for a, b in edges.reshape(-1, 2).tolist()})
        separate = []
        for (a, b), score in sorted(runs.items(), key=lambda run: -run[1]):
            if all((min(b, d) - max(a, c)) <= OVERLAP * (max(b, d) - min(a, c)) for c, d in separate):
                separate.append((a, b))
                rows.append((a, b, label, float(score)))
    rows = sorted(rows, key=lambda row: -row[3])[:LIMIT]
    return zip(*rows, strict=True) if rows else ((), (), (), ())


def contrast(chance, start, end):
    """Mean chance within a run minus the mean around it, in units of its standard error."""
    margin = max(1, (end - start) // 2)
    around = np.concatenate([chance[max(0, start - margin) : start], chance[end : end + margin]])
    return (chance[start:end].mean() - (around.mean() if len(around) else 0.0)) * (end - start) ** 0.5
