"""Read the rain of the last frame off the satellite's bands, pixel by pixel, and keep it."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from dataset import AHEAD, BANDS, TARGET, ZOOM

STEPS, FRAMES, RATE = 300, 24, 5e-3


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
        found = net(centre(scaled(reflbt[period, frame], scale)))[:, 0]
        loss = functional.mse_loss(found[~truth.isnan()], truth[~truth.isnan()])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"retrieval: mean squared error {loss.item():.3f}", flush=True)
    return net, scale


@torch.no_grad()
def predict(model, reflbt):
    """The rain of the last frame, for every time ahead."""
    net, scale = model
    last = net(centre(scaled(reflbt[:, -1], scale))).relu()
    return last.expand(-1, AHEAD, -1, -1).numpy()


def scaled(x, scale):
    """Standardised bands (n, 11, side, side)."""
    return torch.from_numpy(((x - scale[0][:, None, None]) / scale[1][:, None, None]).astype(np.float32))


def centre(x):
    """The part that the radar covers, at its resolution."""
    edge = (x.shape[-1] - TARGET) // 2 - 1
    x = functional.interpolate(x[..., edge:-edge, edge:-edge], scale_factor=ZOOM, mode="bilinear")
    return x[..., ZOOM:-ZOOM, ZOOM:-ZOOM]
