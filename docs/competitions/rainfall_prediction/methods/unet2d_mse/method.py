"""2-D U-Net with the central part cropped and enlarged, trained with the mean squared error.

After WeatherFusionNet (Pihrt et al. 2022) without its two side networks.
"""

import numpy as np
import torch
from torch.nn import functional

from dataset import ahead, seen, starts
from network import UNet2d
from training import BATCH, scaled, statistics, train

EPOCHS, STRIDE = 8, 2


def fit(reflbt, rates):
    """Train by mean squared error, epoch by epoch."""
    bands, at, net = statistics(reflbt), starts(rates, STRIDE), UNet2d(1)
    batches = len(at) // BATCH

    def losses():
        for _ in range(EPOCHS):
            for rows in torch.randperm(len(at))[: batches * BATCH].view(-1, BATCH).numpy():
                truth = torch.from_numpy(ahead(rates, at[rows]))
                yield rain_loss(net(scaled(seen(reflbt, at[rows]), *bands)), truth)

    return train(net, losses(), EPOCHS * batches, decay=1e-2, norm=1.0), bands


@torch.no_grad()
def predict(model, reflbt):
    """The network's rates."""
    net, bands = model
    found = torch.cat([net(scaled(part, *bands)) for part in np.array_split(reflbt, 10)])
    return found[:, 0].relu().numpy()


def rain_loss(found, truth):
    """Mean squared error of rates (n, 1, 12, 24, 24) where something was measured."""
    known = ~truth.isnan()
    return functional.mse_loss(found[:, 0][known], truth[known])
