"""A pixel-wise network from bands to the rain rate of the same time."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from dataset import BANDS, TARGET, ZOOM

STEPS, FRAMES, RATE = 300, 24, 5e-3


def retrieve(reflbt, rates, place):
    """Train by mean squared error; `place` makes of pictures what stands over the radar's pixels."""
    sample = reflbt[:, ::5].astype(np.float32)
    scale = sample.mean((0, 1, 3, 4)), sample.std((0, 1, 3, 4))
    net = nn.Sequential(
        nn.Conv2d(len(BANDS), 24, 1), nn.ReLU(), nn.Conv2d(24, 24, 1), nn.ReLU(), nn.Conv2d(24, 1, 1)
    )
    optimizer = torch.optim.Adam(net.parameters(), lr=RATE)
    for step in range(STEPS):
        period, frame = np.random.default_rng(step).integers(0, rates.shape[:2], (FRAMES, 2)).T
        truth = torch.from_numpy(rates[period, frame])
        found = net(place(scaled(reflbt[period, frame], *scale)))[:, 0]
        loss = functional.mse_loss(found[~truth.isnan()], truth[~truth.isnan()])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"retrieval: mean squared error {loss.item():.3f}", flush=True)
    return net, scale


def scaled(x, mean, sd):
    """Standardised bands (..., 11, side, side)."""
    return torch.from_numpy(((x - mean[:, None, None]) / sd[:, None, None]).astype(np.float32))


def centre(x):
    """The part that the radar covers, at its resolution."""
    edge = (x.shape[-1] - TARGET) // 2 - 1
    x = functional.interpolate(x[..., edge:-edge, edge:-edge], scale_factor=ZOOM, mode="bilinear")
    return x[..., ZOOM:-ZOOM, ZOOM:-ZOOM]
