"""TriDet (Shi et al. 2023): scalable-granularity perception blocks, and boundaries as distributions.

Gated convolutions at two widths replace attention. A distance is the expected place of a boundary among
BINS relative places. The logit of a place is the sum of two terms: one from the point, and one from the step
at that place for being a boundary.
"""

import torch
from torch import nn
from torch.nn import functional

from detector import STRIDES, Detector, Head
from training import fit, predict, samples_of, standardised

EPOCHS, BINS = 15, 8


class Sgp(nn.Module):
    """Scalable-granularity perception (section 3.2): an instant branch and a window branch."""

    def __init__(self, width):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.whole, self.instant = nn.Linear(width, width), nn.Linear(width, width)
        self.gate = nn.Linear(width, width)
        self.near = nn.Conv1d(width, width, 3, padding=1, groups=width)
        self.far = nn.Conv1d(width, width, 7, padding=3, groups=width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x, mask):
        here = self.norm1(x) * mask[:, :, None]
        mean = here.sum(1, keepdim=True) / mask.sum(1)[:, None, None]
        turned = here.transpose(1, 2)
        window = (self.near(turned) + self.far(turned)).transpose(1, 2) * self.gate(here)
        x = x + self.whole(mean).relu() * self.instant(here) + window + here
        return (x + self.mlp(self.norm2(x))) * mask[:, :, None]


class TriDet(Detector):
    """The starter's pyramid with `Sgp` blocks and a trident head (section 3.3)."""

    def __init__(self, channels, classes, width=48):
        super().__init__(channels, classes, width, block=Sgp)
        self.regress = Head(width, 2 * (BINS + 1))
        self.boundary = Head(width, 2)

    def forward(self, x, mask):
        levels = self.pyramid(x, mask)
        logits = torch.cat([self.classify(x, mask) for x, mask in levels], 1)
        distances = [
            self.distances(x, mask) * stride for stride, (x, mask) in zip(STRIDES, levels, strict=True)
        ]
        return logits, torch.cat(distances, 1)

    def distances(self, x, mask):
        """Expected distances (batch, points, 2) to the start and the end, in points."""
        centre = self.regress(x, mask).view(*x.shape[:2], 2, BINS + 1)
        ends = self.boundary(x, mask) * mask[:, :, None]
        before = functional.pad(ends[:, :, 0], (BINS, 0)).unfold(1, BINS + 1, 1).flip(2)
        after = functional.pad(ends[:, :, 1], (0, BINS)).unfold(1, BINS + 1, 1)
        chances = (centre + torch.stack([before, after], 2)).softmax(3)
        return chances @ torch.arange(BINS + 1.0) + 1e-3


def detect(train, videos, classes):
    """Segments from TriDet on the video features."""
    samples = samples_of(train, features)
    model = fit(TriDet(samples[0][0].shape[1], classes), samples, EPOCHS)
    return predict(model, videos, features)


def features(video):
    """The standardised video features."""
    return standardised(video.video)
