"""The method: change this file.

The method given here is a 3-D U-Net that turns the four given frames into the 32 to predict, trained
with the mean squared error of the rain rate. It sees the middle half of the picture and enlarges its
output twofold; the network must learn by itself that the radar covers a third of that half. On
a machine without a GPU, the network is smaller and sees fewer windows.
"""

from itertools import pairwise

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from dataset import AHEAD, BANDS, SEEN, SIDE, ahead, seen, starts

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
FILTERS, STRIDE = ((32, 64, 128, 256, 512), 8) if DEVICE.type == "cuda" else ((8, 16, 32), 64)
EDGE = SIDE // 4  # satellite pixels left out on each side
EPOCHS, BATCH, RATE = 4, 8, 1e-3


def fit(reflbt, rates):
    """Learn from the training year.

    Args:
        reflbt: Satellite frames, (1, frames, 11, side, side), standardised; memory-mapped.
        rates: Rain rates at the same times, (1, frames, side, side), mm/h; NaN if not measured; mapped.

    Returns:
        Anything that `predict` understands.
    """
    net = UNet3d().to(DEVICE)
    at = starts(rates, STRIDE)
    batches = -(-len(at) // BATCH)
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=2e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=EPOCHS * batches)
    for epoch in range(EPOCHS):
        losses = []
        for rows in torch.randperm(len(at)).chunk(batches):
            truth = torch.from_numpy(ahead(rates, at[rows.numpy()])).to(DEVICE)
            predicted = net(middle(seen(reflbt, at[rows.numpy()])))
            loss = functional.mse_loss(predicted[~truth.isnan()], truth[~truth.isnan()])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_value_(net.parameters(), 2.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        print(f"epoch {epoch + 1} of {EPOCHS}: mean squared error {np.mean(losses):.3f}", flush=True)
    return net.eval()


@torch.no_grad()
def predict(model, reflbt):
    """Predict the rain rates that follow.

    Args:
        model: What `fit` returned.
        reflbt: Satellite frames, (sequences, 4, 11, side, side), float32, standardised.

    Returns:
        Rain rates, (sequences, 32, side, side), mm/h, not negative.
    """
    parts = np.array_split(reflbt, -(-len(reflbt) // BATCH))
    return torch.cat([model(middle(part)).relu().cpu() for part in parts]).numpy()


def middle(reflbt):
    """Bands of the middle half, (n, 11, 4, side / 2, side / 2)."""
    x = np.ascontiguousarray(reflbt[..., EDGE:-EDGE, EDGE:-EDGE])
    return torch.from_numpy(x).to(DEVICE).transpose(1, 2)


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
        """Rain rates (n, 32, side, side) from standardised bands (n, 11, 4, side / 2, side / 2)."""
        skips = []
        for level, down in enumerate(self.down):
            x = down(functional.max_pool3d(x, 2, ceil_mode=True) if level else x)
            skips.append(x)
        for up, join, skip in reversed(list(zip(self.up, self.join, skips[:-1], strict=True))):
            time, height, width = skip.shape[2:]
            x = join(torch.cat([up(x)[:, :, :time, :height, :width], skip], 1))
        return functional.interpolate(self.head(x.flatten(1, 2)), size=(SIDE, SIDE), mode="bilinear")


def block(inputs, outputs):
    """A convolution with batch norm and ReLU."""
    return nn.Sequential(nn.Conv3d(inputs, outputs, 3, padding=1), nn.BatchNorm3d(outputs), nn.ReLU())
