"""2-D U-Net, trained with a dice loss at every level of rain.

This follows UNetTFI (Han et al. 2023): the middle half of the picture; six classes bounded by the score's
thresholds, whose probabilities, summed from the top down, are those of reaching a threshold; log-cosh of
1 - dice. Its interpolation between neighbouring windows, its flips and its learnt map of each region and
year are missing.
"""

import numpy as np
import torch

from dataset import SEEN, THRESHOLDS
from network import UNet2d
from training import BATCH, scaled, statistics, train

EDGE = 4  # satellite pixels left out on each side
STEPS = 300
RATES = np.array([0.0, 0.5, 2.5, 7.0, 12.0, 20.0], dtype=np.float32)  # rate that is written for each class


def fit(reflbt, rates):
    """Train with the multi-level dice loss."""
    bands, net = statistics(reflbt), UNet2d(len(RATES))

    def losses():
        for _ in range(STEPS):
            rows = torch.randint(len(rates), (BATCH,)).numpy()
            x, truth = middle(reflbt[rows]), torch.from_numpy(rates[rows, SEEN:])
            yield rain_loss(net(scaled(x, *bands)), truth)

    return train(net, losses(), STEPS), bands


@torch.no_grad()
def predict(model, reflbt):
    """Predict the rate of the most likely class."""
    net, bands = model
    classes = torch.cat([net(scaled(middle(part), *bands)).argmax(1) for part in np.array_split(reflbt, 10)])
    return RATES[classes.numpy()]


def middle(x):
    """The middle half of pictures."""
    return x[..., EDGE:-EDGE, EDGE:-EDGE]


def rain_loss(scores, truth):
    """Log-cosh of 1 - dice; dice is computed over the batch and averaged over the thresholds."""
    known = ~truth.isnan()
    rain = torch.stack([truth[known] >= threshold for threshold in THRESHOLDS]).float()
    chance = scores.softmax(1).flip(1).cumsum(1).flip(1)[:, 1:].transpose(0, 1)[:, known]
    dice = (2 * (chance * rain).sum(1) + 1e-5) / (chance.sum(1) + rain.sum(1) + 1e-5)
    return (1 - dice.mean()).cosh().log()
