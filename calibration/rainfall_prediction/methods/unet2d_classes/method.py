"""2-D U-Net with cross-entropy over classes of rain rate; rainy sequences are drawn more often.

This follows RainAI (Pablos Sarabia et al. 2023): its 15 classes, its weights of sequences, and the expected
rate of the classes as forecast. RainAI leaves out sequences with a weight below 0.1, since it has enough.
Here that would leave too few, so such sequences are drawn rarely instead. RainAI's maps of the land and its
learnt enlargement are missing.
"""

import numpy as np
import torch
from torch.nn import functional

from dataset import SEEN, mapped
from network import UNet2d
from training import BATCH, scaled, statistics, train

STEPS, SAMPLE = 300, 400
EDGES = (0.08, 0.16, 0.25, 0.4, 0.63, 1.0, 1.6, 2.5, 4.0, 6.3, 10.0, 16.0, 25.0, 40.0)  # of classes, mm/h
MEANS = (0.0, 0.12, 0.2, 0.32, 0.51, 0.81, 1.3, 2.0, 3.25, 5.15, 8.1, 13.0, 20.5, 32.5, 45.0)  # of each class
DRY, WET = 0.02, 0.6  # lowest and highest weight of a sequence, which is its mean of 1 - exp(-rate)


def fit(reflbt, rates):
    """Train with cross-entropy on sequences that are drawn by how rainy they are."""
    bands, net = statistics(reflbt), UNet2d(len(MEANS))
    rainy = np.nanmean(1 - np.exp(-rates), axis=(1, 2, 3))
    weights = torch.from_numpy(np.clip(rainy, DRY, WET))

    def losses():
        for _ in range(STEPS):
            rows = torch.multinomial(weights, BATCH).numpy()
            yield rain_loss(net(scaled(reflbt[rows], *bands)), torch.from_numpy(rates[rows, SEEN:]))

    model = train(net, losses(), STEPS), bands
    return model, (raw(model, reflbt[-SAMPLE:]), rates[-SAMPLE:, SEEN:])


def predict(model, reflbt):
    """Predict the expected rate, mapped by rank to measured rates."""
    trained, sample = model
    return mapped(raw(trained, reflbt), *sample)


@torch.no_grad()
def raw(model, reflbt):
    """The expected rate, (n, 6, 16, 16)."""
    net, bands = model
    means = torch.tensor(MEANS)[:, None, None, None]
    parts = [net(scaled(part, *bands)).softmax(1) for part in np.array_split(reflbt, 10)]
    return torch.cat([(chances * means).sum(1) for chances in parts]).numpy()


def rain_loss(scores, truth):
    """Cross-entropy of scores (n, 15, 6, 16, 16)."""
    classes = torch.bucketize(truth, torch.tensor(EDGES))
    return functional.cross_entropy(scores, classes.masked_fill(truth.isnan(), -100))
