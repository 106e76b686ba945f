"""2-D U-Net with the central part cropped and enlarged, trained with the mean squared error.

This follows WeatherFusionNet (Pihrt et al. 2022), without its two side networks.
"""

import numpy as np
import torch
from torch.nn import functional

from dataset import SEEN, mapped
from network import UNet2d
from training import BATCH, scaled, statistics, train

EPOCHS, SAMPLE = 3, 400


def fit(reflbt, rates):
    """Train with the mean squared error, epoch by epoch."""
    bands, net, batches = statistics(reflbt), UNet2d(1), len(rates) // BATCH

    def losses():
        for _ in range(EPOCHS):
            for rows in torch.randperm(len(rates))[: batches * BATCH].view(-1, BATCH).numpy():
                yield rain_loss(net(scaled(reflbt[rows], *bands)), torch.from_numpy(rates[rows, SEEN:]))

    model = train(net, losses(), EPOCHS * batches, decay=1e-2, norm=1.0), bands
    return model, (raw(model, reflbt[-SAMPLE:]), rates[-SAMPLE:, SEEN:])


def predict(model, reflbt):
    """Predict the rates of the network, mapped by rank to measured rates."""
    trained, sample = model
    return mapped(raw(trained, reflbt), *sample)


@torch.no_grad()
def raw(model, reflbt):
    """The network's output, (n, 6, 16, 16)."""
    net, bands = model
    return torch.cat([net(scaled(part, *bands)) for part in np.array_split(reflbt, 10)])[:, 0].numpy()


def rain_loss(rain, truth):
    """Mean squared error of rates (n, 1, 6, 16, 16) where something was measured."""
    known = ~truth.isnan()
    return functional.mse_loss(rain[:, 0][known], truth[known])
