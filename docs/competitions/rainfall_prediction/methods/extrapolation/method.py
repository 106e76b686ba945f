"""Read the rain of the last frame off the satellite's bands, and move it with the clouds.

One motion for the whole picture, by least squares on brightness gradients (Lucas and Kanade 1981);
the rain keeps its strength, as in the "dense" models of rainymotion (Ayzel et al. 2019).
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from dataset import AHEAD, BANDS, TARGET, ZOOM

STEPS, FRAMES, RATE = 300, 24, 5e-3
MOTION = [BANDS.index(name) for name in ("IR_108", "WV_073")]


def fit(reflbt, rates):
    """A pixel-wise network from bands to the rain rate of the same time, by mean squared error."""
    sample = reflbt[:, ::5].astype(np.float32)
    scale = sample.mean((0, 1, 3, 4)), sample.std((0, 1, 3, 4))
    net = nn.Sequential(
        nn.Conv2d(len(BANDS), 24, 1), nn.ReLU(), nn.Conv2d(24, 24, 1), nn.ReLU(), nn.Conv2d(24, 1, 1)
    )
    optimizer = torch.optim.Adam(net.parameters(), lr=RATE)
    for step in range(STEPS):
        period, frame = np.random.default_rng(step).integers(0, rates.shape[:2], (FRAMES, 2)).T
        truth = torch.from_numpy(rates[period, frame])
        found = net(centre(scaled(reflbt[period, frame], scale), torch.zeros(FRAMES, 2)))[:, 0]
        loss = functional.mse_loss(found[~truth.isnan()], truth[~truth.isnan()])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"retrieval: mean squared error {loss.item():.3f}", flush=True)
    return net, scale


@torch.no_grad()
def predict(model, reflbt):
    """The rain of the last frame, moved to every time ahead."""
    net, scale = model
    x = scaled(reflbt, scale)
    speed = motion(x[:, :, MOTION])
    return torch.cat([net(centre(x[:, -1], lead * speed)).relu() for lead in range(1, AHEAD + 1)], 1).numpy()


def scaled(x, scale):
    """Standardised bands (..., 11, side, side)."""
    return torch.from_numpy(((x - scale[0][:, None, None]) / scale[1][:, None, None]).astype(np.float32))


def centre(x, by):
    """What stands over the radar's pixels when the pictures (n, bands, side, side) have moved by (n, 2)."""
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
