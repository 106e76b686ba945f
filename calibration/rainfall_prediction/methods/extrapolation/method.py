"""Read the rain of the last frame off the satellite's bands, and move it with the clouds.

The whole picture has one motion, from least squares on brightness gradients (Lucas and Kanade 1981).
The rain keeps its strength, as in the "dense" models of rainymotion (Ayzel et al. 2019).
"""

import torch
from torch.nn import functional

from dataset import BANDS, LEADS, TARGET, ZOOM
from retrieval import centre, retrieve, scaled

MOTION = [BANDS.index(name) for name in ("IR_108", "WV_073")]


def fit(reflbt, rates):
    """Train the network that reads rain off pictures."""
    return retrieve(reflbt, rates, centre)


@torch.no_grad()
def predict(model, reflbt):
    """The rain of the last frame, moved to each of the following frames."""
    net, scale = model
    x = scaled(reflbt, *scale)
    speed = motion(x[:, :, MOTION])
    parts = [net(moved(x[:, -1], lead * speed)).relu() for lead in LEADS]
    return torch.cat(parts, 1).numpy()


def moved(x, by):
    """Pictures (n, bands, side, side) over the radar's pixels, after they have moved by (n, 2)."""
    axis = ((torch.arange(TARGET * ZOOM) + 0.5) / ZOOM - TARGET / 2) * 2 / x.shape[-1]
    places = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1)
    grid = places - by[:, None, None] * 2 / x.shape[-1]
    return functional.grid_sample(x, grid, padding_mode="border", align_corners=False)


def motion(x):
    """Motion (n, 2) in pixels per frame from standardised frames (n, 4, bands, side, side)."""
    middle, change = x.mean(1), (x[:, -1] - x[:, 0]) / 3
    dx = (middle[..., 1:-1, 2:] - middle[..., 1:-1, :-2]) / 2
    dy = (middle[..., 2:, 1:-1] - middle[..., :-2, 1:-1]) / 2
    slopes = torch.stack([dx, dy], -1).flatten(1, -2)
    right = slopes.transpose(1, 2) @ change[..., 1:-1, 1:-1].flatten(1)[:, :, None]
    return -torch.linalg.solve(slopes.transpose(1, 2) @ slopes + 1e-3 * torch.eye(2), right)[..., 0]
