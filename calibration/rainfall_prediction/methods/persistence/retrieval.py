"""A pixel-wise network that maps bands to the rain rate at the same time."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from dataset import BANDS, SEEN, TARGET, ZOOM

STEPS, FRAMES, RATE = 300, 32, 5e-3


def retrieve(reflbt, rates, place):
    """Train with the mean squared error; `place` maps pictures to the radar's pixels."""
    sample = reflbt[::5].astype(np.float32)
    scale = sample.mean((0, 1, 3, 4)), sample.std((0, 1, 3, 4))
    net = nn.Sequential(
        nn.Conv2d(len(BANDS), 24, 1), nn.ReLU(), nn.Conv2d(24, 24, 1), nn.ReLU(), nn.Conv2d(24, 1, 1)
    )
    optimizer = torch.optim.Adam(net.parameters(), lr=RATE)
    for step in range(STEPS):
        sequence, frame = np.random.default_rng(step).integers(0, (len(rates), SEEN), (FRAMES, 2)).T
        truth = torch.from_numpy(rates[sequence, frame])
        predicted = net(place(scaled(reflbt[sequence, frame], *scale)))[:, 0]
        loss = functional.mse_loss(predicted[~truth.isnan()], truth[~truth.isnan()])
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
