"""2-D U-Net, trained with a dice loss at every level of rain, and with frames interpolated in time.

After UNetTFI (Han et al. 2023): the middle half of the picture; six classes bounded by the score's
thresholds, whose chances from the top down are those of reaching a threshold; log-cosh of 1 - dice;
windows, windows one frame later, and random mixtures of the two (temporal frame interpolation); flips and
rotations. Without its learnt map of each region and year.
"""

import numpy as np
import torch

from dataset import THRESHOLDS, ahead, seen, starts
from network import UNet2d
from training import BATCH, scaled, statistics, train

EDGE = 6  # satellite pixels left out on each side
STEPS = 768
RATES = np.array([0.0, 0.5, 2.5, 7.0, 12.0, 20.0], dtype=np.float32)  # written for each class


def fit(reflbt, rates):
    """Train by multi-level dice."""
    bands, at, net = statistics(reflbt), starts(rates[:, 1:]), UNet2d(len(RATES))

    def losses():
        for _ in range(STEPS):
            rows = torch.randint(len(at), (BATCH,)).numpy()
            x, truth = turned(*interpolated(reflbt, rates, at[rows]))
            yield rain_loss(net(scaled(middle(x), *bands)), torch.from_numpy(truth))

    return train(net, losses(), STEPS), bands


@torch.no_grad()
def predict(model, reflbt):
    """The rate of the most likely class."""
    net, bands = model
    found = torch.cat([net(scaled(middle(part), *bands)).argmax(1) for part in np.array_split(reflbt, 10)])
    return RATES[found.numpy()]


def middle(x):
    """The middle half of pictures."""
    return x[..., EDGE:-EDGE, EDGE:-EDGE]


def interpolated(reflbt, rates, at):
    """Frames and rain of windows: a third as they are, a third one frame later, a third in between."""
    later = at + np.array([0, 1])
    kind, share = torch.randint(3, (len(at),)).numpy(), torch.rand(1).numpy()
    mix = np.choose(kind, [0.0, 1.0, share]).astype(np.float32)[:, None, None, None]
    rain = (1 - mix) * ahead(rates, at) + mix * ahead(rates, later)
    mix = mix[..., None]
    return (1 - mix) * seen(reflbt, at) + mix * seen(reflbt, later), rain


def turned(x, truth):
    """Half of the pictures with their rain, flipped or rotated in one of five ways."""
    half, way = len(x) // 2, int(torch.randint(5, (1,)))
    for part in (x, truth):
        if way < 2:
            part[:half] = np.flip(part[:half], -1 - way).copy()
        else:
            part[:half] = np.rot90(part[:half], way - 1, (-2, -1)).copy()
    return x, truth


def rain_loss(found, truth):
    """Log-cosh of 1 - dice, which is taken over the batch and meaned over the thresholds."""
    known = ~truth.isnan()
    rain = torch.stack([truth[known] >= threshold for threshold in THRESHOLDS]).float()
    chance = found.softmax(1).flip(1).cumsum(1).flip(1)[:, 1:].transpose(0, 1)[:, known]
    dice = (2 * (chance * rain).sum(1) + 1e-5) / (chance.sum(1) + rain.sum(1) + 1e-5)
    return (1 - dice.mean()).cosh().log()
