"""2-D U-Net, cross-entropy over classes of rain rate, rainy windows drawn more often.

After RainAI (Pablos Sarabia et al. 2023): its 15 classes, its weights of windows, and the mean of the
classes' rates by their chances as forecast. It leaves windows of weight
below 0.1 out, since it has enough; here that would leave a third of 96 periods, and they are drawn rarely
instead. Without its maps of the land and its learnt enlargement.
"""

import numpy as np
import torch
from torch.nn import functional

from dataset import AHEAD, SEEN, ahead, seen, starts
from network import UNet2d
from training import BATCH, scaled, statistics, train

STEPS = 768
EDGES = (0.08, 0.16, 0.25, 0.4, 0.63, 1.0, 1.6, 2.5, 4.0, 6.3, 10.0, 16.0, 25.0, 40.0)  # of classes, mm/h
MEANS = (0.0, 0.12, 0.2, 0.32, 0.51, 0.81, 1.3, 2.0, 3.25, 5.15, 8.1, 13.0, 20.5, 32.5, 45.0)  # of each
DRY, WET = 0.02, 0.6  # mean of 1 - exp(-rate) of a window, its weight: lowest and highest


def fit(reflbt, rates):
    """Train by cross-entropy on windows drawn by how rainy they are."""
    bands, at, net = statistics(reflbt), starts(rates), UNet2d(len(MEANS))
    rainy = np.nanmean(1 - np.exp(-rates), axis=(2, 3))
    rainy = rainy[at[:, :1], at[:, 1:] + np.arange(SEEN + AHEAD)].mean(1)
    weights = torch.from_numpy(np.clip(rainy, DRY, WET))

    def losses():
        for _ in range(STEPS):
            rows = torch.multinomial(weights, BATCH).numpy()
            truth = torch.from_numpy(ahead(rates, at[rows]))
            yield rain_loss(net(scaled(seen(reflbt, at[rows]), *bands)), truth)

    return train(net, losses(), STEPS), bands


@torch.no_grad()
def predict(model, reflbt):
    """The expected rate."""
    net, bands = model
    means = torch.tensor(MEANS)[:, None, None, None]
    parts = [net(scaled(part, *bands)).softmax(1) for part in np.array_split(reflbt, 10)]
    return torch.cat([(chances * means).sum(1) for chances in parts]).numpy()


def rain_loss(found, truth):
    """Cross-entropy of scores (n, 15, 12, 24, 24)."""
    classes = torch.bucketize(truth, torch.tensor(EDGES))
    return functional.cross_entropy(found, classes.masked_fill(truth.isnan(), -100))
