"""Histograms of oriented gradients (Dalal & Triggs 2005): handmade features, not learnt.

Orientations have no sign, so light on dark and dark on light look the same.
"""

import math

import torch
from torch.nn import functional

ORIENTATIONS, GRIDS = 8, (4, 2, 1)


@torch.no_grad()
def gradients(images):
    """Square roots of histograms (n, 168) on grids of 4, 2 and 1 cells per side, each of unit length."""
    grey = functional.pad(images.float().mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    across = grey[:, :, 1:-1, 2:] - grey[:, :, 1:-1, :-2]
    down = grey[:, :, 2:, 1:-1] - grey[:, :, :-2, 1:-1]
    angle = torch.atan2(down, across)
    centres = (torch.arange(ORIENTATIONS) + 0.5) * math.pi / ORIENTATIONS
    apart = (angle - centres[:, None, None] + math.pi / 2).remainder(math.pi) - math.pi / 2
    votes = torch.hypot(across, down) * (1 - apart.abs() * ORIENTATIONS / math.pi).clamp_min(0)
    cells = [functional.adaptive_avg_pool2d(votes, grid).flatten(1).sqrt() for grid in GRIDS]
    return torch.cat([functional.normalize(each) for each in cells], 1)
