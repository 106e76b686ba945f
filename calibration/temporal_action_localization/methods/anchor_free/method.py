"""The anchor-free branch of A2Net (Yang et al. 2020): convolutions, an overlap loss, hard NMS.

It is from before ActionFormer: it has no attention and no focal loss, and every point in an action learns it.
"""

import torch
from torch import nn
from torch.nn import functional

import detector
from detector import STRIDES, Conv, Detector, assign, points
from training import fit, predict, samples_of, standardised

EPOCHS = 15
detector.CENTRE = float("inf")


class ConvBlock(nn.Module):
    """One plain convolution instead of a transformer block."""

    def __init__(self, width):
        super().__init__()
        self.conv = Conv(width, width)

    def forward(self, x, mask):
        return self.conv(x, mask)


def detect(train, videos, classes):
    """Segments from a convolutional pyramid."""
    samples = samples_of(train, features)
    model = Detector(samples[0][0].shape[1], classes, block=ConvBlock)
    model = fit(model, samples, EPOCHS, loss=overlap_loss)
    return predict(model, videos, features, decode=decode)


def features(video):
    """The standardised video features."""
    return standardised(video.video)


def overlap_loss(model, x, mask, segments, labels):
    """Cross-entropy of all points, plus 1 - tIoU of those in an action."""
    logits, distances = model(x, mask)
    classes, targets, positive = assign(segments, labels, x.shape[1], logits.shape[2])
    exists = torch.cat([mask[:, ::stride] for stride in STRIDES], 1)
    positive = positive & exists
    count = positive.sum().clamp(min=1)
    cross = functional.binary_cross_entropy_with_logits(logits[exists], classes[exists], reduction="sum")
    ours, theirs = distances[positive], targets[positive]
    inner, outer = torch.minimum(ours, theirs).sum(1), torch.maximum(ours, theirs).sum(1)
    return cross / count + (1 - inner / outer).sum() / count


def decode(logits, distances, mask, limit=100, threshold=0.3):
    """Decode as the starter does, but remove a segment that overlaps a better one of its class."""
    exists = torch.cat([mask[:, ::stride] for stride in STRIDES], 1)
    scores, places = (logits.sigmoid() * exists[:, :, None]).flatten(1).topk(limit, 1)
    labels, places = places % logits.shape[2], places // logits.shape[2]
    middle = points(mask.shape[1])[0][places]
    reach = distances.gather(1, places[:, :, None].expand(-1, -1, 2))
    start, end = middle - reach[:, :, 0], middle + reach[:, :, 1]
    inner = torch.minimum(end[:, :, None], end[:, None]) - torch.maximum(start[:, :, None], start[:, None])
    inner = inner.clamp(min=0)
    tiou = inner / ((end - start)[:, :, None] + (end - start)[:, None] - inner)
    rival = (tiou > threshold) & (labels[:, :, None] == labels[:, None])
    keep = torch.ones_like(scores, dtype=torch.bool)
    for place in range(limit):  # by falling score
        keep[:, place + 1 :] &= ~(rival[:, place, place + 1 :] & keep[:, place, None])
    return start, end, labels, scores * keep
