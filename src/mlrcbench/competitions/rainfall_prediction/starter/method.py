"""The method: change this file.

The method given here is a 3-D U-Net that turns the four given frames into the six to predict, trained
with the mean squared error of the rain rate, whose output is mapped by rank to the rates that were
measured. It sees the middle half of the picture and enlarges its
output twofold; the network must learn by itself that the radar covers a half of that half.
"""

from itertools import pairwise

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from dataset import AHEAD, BANDS, SEEN, mapped

FILTERS = (6, 12, 18)
EDGE = 4  # satellite pixels left out on each side
EPOCHS, BATCH, RATE = 2, 16, 5e-3
SAMPLE = 400  # sequences whose rates are the example for the mapping


def fit(reflbt, rates):
    """Learn from the training year.

    Args:
        reflbt: Satellite frames, (n, 4, 11, 16, 16), K or reflectance.
        rates: Rain rates, (n, 10, 16, 16), mm/h, NaN if not measured: those of the same four frames,
            then those of the six to predict.

    Returns:
        Anything that `predict` understands.
    """
    sample = reflbt[::5].astype(np.float32)
    mean, sd = sample.mean((0, 1, 3, 4)), sample.std((0, 1, 3, 4))
    net = UNet3d()
    steps = EPOCHS * (len(rates) // BATCH)
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=2e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    for epoch in range(EPOCHS):
        losses = []
        for rows in torch.randperm(len(rates))[: len(rates) // BATCH * BATCH].view(-1, BATCH).numpy():
            truth = torch.from_numpy(rates[rows, SEEN:])
            predicted = net(scaled(reflbt[rows], mean, sd))
            loss = functional.mse_loss(predicted[~truth.isnan()], truth[~truth.isnan()])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_value_(net.parameters(), 2.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        print(f"epoch {epoch + 1} of {EPOCHS}: mean squared error {np.mean(losses):.3f}", flush=True)
    model = net.eval(), mean, sd
    return model, (raw(model, reflbt[-SAMPLE:]), rates[-SAMPLE:, SEEN:])


def predict(model, reflbt):
    """Predict the rain rates that follow.

    Args:
        model: What `fit` returned.
        reflbt: Satellite frames, (sequences, 4, 11, 16, 16), float32.

    Returns:
        Rain rates, (sequences, 6, 16, 16), mm/h, not negative.
    """
    trained, sample = model
    return mapped(raw(trained, reflbt), *sample)


@torch.no_grad()
def raw(model, reflbt):
    """The network's output, (sequences, 6, 16, 16)."""
    net, mean, sd = model
    return torch.cat([net(scaled(part, mean, sd)) for part in np.array_split(reflbt, 20)]).numpy()


def scaled(reflbt, mean, sd):
    """Standardised bands of the middle half, (n, 11, 4, 8, 8)."""
    x = (reflbt[..., EDGE:-EDGE, EDGE:-EDGE] - mean[:, None, None]) / sd[:, None, None]
    return torch.from_numpy(x.astype(np.float32)).transpose(1, 2)


class UNet3d(nn.Module):
    """Encoder and decoder over time and space, with skips; at the end, times are folded into channels."""

    def __init__(self):
        super().__init__()
        self.down = nn.ModuleList(block(a, b) for a, b in zip([len(BANDS), *FILTERS], FILTERS, strict=False))
        pairs = list(pairwise(FILTERS))
        self.up = nn.ModuleList(nn.ConvTranspose3d(deep, flat, 2, 2) for flat, deep in pairs)
        self.join = nn.ModuleList(block(2 * flat, flat) for flat, _ in pairs)
        self.head = nn.Conv2d(SEEN * FILTERS[0], AHEAD, 1)

    def forward(self, x):
        """Rain rates (n, 6, 16, 16) from standardised bands (n, 11, 4, 8, 8)."""
        skips = []
        for level, down in enumerate(self.down):
            x = down(functional.max_pool3d(x, 2, ceil_mode=True) if level else x)
            skips.append(x)
        for up, join, skip in reversed(list(zip(self.up, self.join, skips[:-1], strict=True))):
            x = join(torch.cat([up(x)[:, :, : skip.shape[2]], skip], 1))
        return functional.interpolate(self.head(x.flatten(1, 2)), scale_factor=2, mode="bilinear")


def block(inputs, outputs):
    """A convolution with batch norm and ReLU."""
    return nn.Sequential(nn.Conv3d(inputs, outputs, 3, padding=1), nn.BatchNorm3d(outputs), nn.ReLU())
