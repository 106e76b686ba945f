"""The method: yours to change.

As it stands: a 3-D U-Net that turns the four frames given into the twelve to be predicted, trained
with the mean squared error of the rain rate. It sees the middle half of the picture and enlarges its
output twofold; that the radar covers a third of that half, the network must learn by itself.
"""

from itertools import pairwise

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from dataset import AHEAD, BANDS, SEEN, ahead, seen, starts

FILTERS = (8, 16, 32)
EDGE = 6  # satellite pixels left out on each side
EPOCHS, STRIDE, BATCH, RATE = 8, 2, 8, 3e-3


def fit(reflbt, rates):
    """Learn from the training year.

    Args:
        reflbt: Satellite frames, (periods, frames, 11, 24, 24), K or reflectance.
        rates: Rain rates at the same times, (periods, frames, 24, 24), mm/h; NaN: not measured.

    Returns:
        Anything that `predict` understands.
    """
    sample = reflbt[:, ::10].astype(np.float32)
    mean, sd = sample.mean((0, 1, 3, 4)), sample.std((0, 1, 3, 4))
    net = UNet3d()
    at = starts(rates, STRIDE)
    steps = EPOCHS * (len(at) // BATCH)
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=2e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    for epoch in range(EPOCHS):
        losses = []
        for rows in torch.randperm(len(at))[: len(at) // BATCH * BATCH].view(-1, BATCH).numpy():
            truth = torch.from_numpy(ahead(rates, at[rows]))
            found = net(scaled(seen(reflbt, at[rows]), mean, sd))
            loss = functional.mse_loss(found[~truth.isnan()], truth[~truth.isnan()])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_value_(net.parameters(), 2.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        print(f"epoch {epoch + 1} of {EPOCHS}: mean squared error {np.mean(losses):.3f}", flush=True)
    return net.eval(), mean, sd


@torch.no_grad()
def predict(model, reflbt):
    """Rain rates that follow.

    Args:
        model: What `fit` returned.
        reflbt: Satellite frames, (sequences, 4, 11, 24, 24), float32.

    Returns:
        Rain rates, (sequences, 12, 24, 24), mm/h, not negative.
    """
    net, mean, sd = model
    return torch.cat([net(scaled(part, mean, sd)) for part in np.array_split(reflbt, 10)]).relu().numpy()


def scaled(reflbt, mean, sd):
    """Standardised bands of the middle half, (n, 11, 4, 12, 12)."""
    x = (reflbt[..., EDGE:-EDGE, EDGE:-EDGE] - mean[:, None, None]) / sd[:, None, None]
    return torch.from_numpy(x.astype(np.float32)).transpose(1, 2)


class UNet3d(nn.Module):
    """Encoder and decoder over time and space, with skips; times are folded into channels at the end."""

    def __init__(self):
        super().__init__()
        self.down = nn.ModuleList(block(a, b) for a, b in zip([len(BANDS), *FILTERS], FILTERS, strict=False))
        pairs = list(pairwise(FILTERS))
        self.up = nn.ModuleList(nn.ConvTranspose3d(deep, flat, 2, 2) for flat, deep in pairs)
        self.join = nn.ModuleList(block(2 * flat, flat) for flat, _ in pairs)
        self.head = nn.Conv2d(SEEN * FILTERS[0], AHEAD, 1)

    def forward(self, x):
        """Rain rates (n, 12, 24, 24) from standardised bands (n, 11, 4, 12, 12)."""
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
