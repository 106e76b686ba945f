"""BMN (Lin et al. 2019) in two stages: proposals without classes, then a classifier of steps.

One network gives each step its probability of being a start or an end, and each candidate segment a
confidence, from features sampled evenly within it. A second network, an independent classifier as in
the paper, gives the class of a segment: the mean over its steps.
"""

import torch
from torch import nn
from torch.nn import functional

from detector import Conv, soft_nms
from training import fit, predict, samples_of, standardised

EPOCHS, WIDTH, LONGEST, SAMPLES, LIMIT = 30, 48, 20, 8, 100


class Proposals(nn.Module):
    """Boundary logits (batch, steps, 2), confidence logits (batch, steps, LONGEST), class logits of steps."""

    def __init__(self, channels, classes):
        super().__init__()
        self.base = nn.ModuleList([Conv(channels, WIDTH), Conv(WIDTH, WIDTH)])
        self.ends = nn.ModuleList([Conv(WIDTH, WIDTH), nn.Linear(WIDTH, 2)])
        self.part = nn.Linear(WIDTH, SAMPLES * 16)
        self.confidence = nn.Sequential(nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 1))
        self.classifier = nn.ModuleList(
            [Conv(channels, WIDTH), Conv(WIDTH, WIDTH), nn.Linear(WIDTH, classes)]
        )
        nn.init.constant_(self.classifier[2].bias, -3.0)  # because few steps are in an action

    def forward(self, x, mask):
        classes = self.classifier[2](self.classifier[1](self.classifier[0](x, mask), mask))
        x = self.base[1](self.base[0](x, mask), mask)
        ends = self.ends[1](self.ends[0](x, mask))
        # The boundary-matching layer: each place within a segment has its own linear map.
        parts = self.part(x).view(*x.shape[:2], SAMPLES, 16)
        start, length = torch.arange(x.shape[1])[:, None, None], torch.arange(1, LONGEST + 1)[:, None]
        place = (start + (torch.arange(SAMPLES) + 0.5) / SAMPLES * length).long().clamp(max=x.shape[1] - 1)
        return ends, self.confidence(parts[:, place, torch.arange(SAMPLES)].sum(3))[..., 0], classes


def detect(train, videos, classes):
    """Segments from proposals and classes."""
    samples = samples_of(train, features)
    model = fit(Proposals(samples[0][0].shape[1], classes), samples, EPOCHS, loss=proposal_loss)
    return predict(model, videos, features, decode=decode)


def features(video):
    """The standardised video features."""
    return standardised(video.video)


def candidates(steps):
    """Starts and ends of the candidates, each (steps, LONGEST)."""
    start = torch.arange(steps).float()[:, None].expand(-1, LONGEST)
    return start, start + torch.arange(1, LONGEST + 1)


def proposal_loss(model, x, mask, segments, labels):
    """Balanced cross-entropy of boundaries and candidates (right above tIoU 0.5), and of steps' classes."""
    ends, confidence, classes = model(x, mask)
    start, end = candidates(x.shape[1])
    real = (labels >= 0)[:, None, None]
    a, b = segments[:, None, None, :, 0], segments[:, None, None, :, 1]
    inner = (torch.minimum(b, end[..., None]) - torch.maximum(a, start[..., None])).clamp(min=0)
    tiou = (inner / ((b - a) + (end - start)[..., None] - inner).clamp(min=1e-6) * real).amax(3)
    exists = mask[:, :, None] & (end <= mask.sum(1)[:, None, None])
    middle = torch.arange(x.shape[1])[None, :, None] + 0.5
    near = torch.stack([((middle - segments[:, None, :, i]).abs() < 1) & real[:, 0] for i in (0, 1)], 2).any(
        3
    )
    inside = (middle > segments[:, None, :, 0]) & (middle < segments[:, None, :, 1]) & real[:, 0]
    targets = inside.float() @ functional.one_hot(labels.clamp(min=0), classes.shape[2]).float()
    stepwise = functional.binary_cross_entropy_with_logits(classes[mask], targets.clamp(max=1)[mask])
    return (
        balanced(ends[mask], near[mask].float())
        + balanced(confidence[exists], (tiou[exists] > 0.5).float())
        + 10 * stepwise
    )


def balanced(logits, targets):
    """Cross-entropy in which right and wrong have the same total weight."""
    share = targets.mean().clamp(1e-3, 1 - 1e-3)
    weight = targets / (2 * share) + (1 - targets) / (2 * (1 - share))
    return functional.binary_cross_entropy_with_logits(logits, targets, weight=weight)


def decode(ends, confidence, classes, mask):
    """The best candidates by start x end x confidence x class, after soft-NMS."""
    steps = mask.shape[1]
    start, end = candidates(steps)
    last = (end.long() - 1).clamp(max=steps - 1)
    boundary = ends.sigmoid()
    chance = boundary[:, :, 0, None] * boundary[:, :, 1][:, last] * confidence.sigmoid()
    exists = mask[:, :, None] & (end <= mask.sum(1)[:, None, None])
    total = functional.pad(classes.sigmoid().cumsum(1), (0, 0, 1, 0))
    length = (end - start)[None, ..., None]
    mean = (total[:, last + 1] - total[:, :-1][:, :, None]) / length
    scores, places = ((chance * exists)[..., None] * mean).flatten(1).topk(LIMIT, 1)
    segment, label = places // classes.shape[2], places % classes.shape[2]
    start, end = start.flatten()[segment], end.flatten()[segment]
    return start, end, label, soft_nms(start, end, label, scores)
