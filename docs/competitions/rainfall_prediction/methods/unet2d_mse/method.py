"""2-D U-Net with the central part cropped and enlarged, trained with the mean squared error.

After WeatherFusionNet (Pihrt et al. 2022) without its two side networks.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from dataset import AHEAD, BANDS, SEEN, TARGET, ZOOM, ahead, seen, starts

WIDTHS = (16, 24, 32)
EPOCHS, STRIDE, BATCH, RATE = 8, 2, 8, 3e-3


def fit(reflbt, rates):
    """Train by mean squared error."""
    sample = reflbt[:, ::5].astype(np.float32)
    scale = sample.mean((0, 1, 3, 4)), sample.std((0, 1, 3, 4))
    net, at = UNet2d(1), starts(rates, STRIDE)
    steps = EPOCHS * (len(at) // BATCH)
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    for epoch in range(EPOCHS):
        losses = []
        for rows in torch.randperm(len(at))[: len(at) // BATCH * BATCH].view(-1, BATCH).numpy():
            truth = torch.from_numpy(ahead(rates, at[rows]))
            loss = rain_loss(net(scaled(seen(reflbt, at[rows]), scale)), truth)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        print(f"epoch {epoch + 1} of {EPOCHS}: loss {np.mean(losses):.3f}", flush=True)
    return net.eval(), scale


@torch.no_grad()
def predict(model, reflbt):
    """The network's rates."""
    net, scale = model
    found = torch.cat([net(scaled(part, scale)) for part in np.array_split(reflbt, 10)])
    return found[:, 0].relu().numpy()


def rain_loss(found, truth):
    """Mean squared error of rates (n, 1, 12, 24, 24) where something was measured."""
    known = ~truth.isnan()
    return functional.mse_loss(found[:, 0][known], truth[known])


def scaled(reflbt, scale):
    """Standardised bands, times folded into channels: (n, 44, side, side)."""
    x = (reflbt - scale[0][:, None, None]) / scale[1][:, None, None]
    return torch.from_numpy(x.astype(np.float32)).flatten(1, 2)


class UNet2d(nn.Module):
    """U-Net over space; its central part is enlarged to the radar's resolution."""

    def __init__(self, levels):
        super().__init__()
        self.levels = levels
        self.down = nn.ModuleList(block(a, b) for a, b in zip([SEEN * len(BANDS), *WIDTHS], WIDTHS))
        self.join = nn.ModuleList(block(a + b, a) for a, b in zip(WIDTHS, WIDTHS[1:]))
        self.head = nn.Sequential(nn.Conv2d(WIDTHS[0], 32, 1), nn.ReLU(), nn.Conv2d(32, levels * AHEAD, 1))

    def forward(self, x):
        """Outputs (n, levels, 12, 24, 24)."""
        skips = []
        for level, down in enumerate(self.down):
            x = down(functional.max_pool2d(x, 2) if level else x)
            skips.append(x)
        for join, skip in reversed(list(zip(self.join, skips))):
            x = join(torch.cat([functional.interpolate(x, scale_factor=2, mode="bilinear"), skip], 1))
        edge = (x.shape[-1] - TARGET) // 2 - 1
        x = functional.interpolate(x[..., edge:-edge, edge:-edge], scale_factor=ZOOM, mode="bilinear")
        return self.head(x[..., ZOOM:-ZOOM, ZOOM:-ZOOM]).unflatten(1, (self.levels, AHEAD))


def block(inputs, outputs):
    """Two convolutions with batch norm and ReLU."""
    layers = []
    for size in (inputs, outputs):
        layers += [nn.Conv2d(size, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers)
