"""2-D U-Net, cross-entropy over classes of rain rate, rainy windows drawn more often.

After RainAI (Pablos Sarabia et al. 2023): its 15 classes, its weights of windows, and the mean of the
classes' rates by their chances as forecast. It leaves windows of weight
below 0.1 out, since it has enough; here that would leave a third of 96 periods, and they are drawn rarely
instead. Without its maps of the land and its learnt enlargement.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from dataset import AHEAD, BANDS, SEEN, TARGET, ZOOM, ahead, seen, starts

WIDTHS = (16, 24, 32)
STEPS, BATCH, RATE = 768, 8, 3e-3
EDGES = (0.08, 0.16, 0.25, 0.4, 0.63, 1.0, 1.6, 2.5, 4.0, 6.3, 10.0, 16.0, 25.0, 40.0)  # of classes, mm/h
MEANS = (0.0, 0.12, 0.2, 0.32, 0.51, 0.81, 1.3, 2.0, 3.25, 5.15, 8.1, 13.0, 20.5, 32.5, 45.0)  # of each
DRY, WET = 0.02, 0.6  # mean of 1 - exp(-rate) of a window, its weight: lowest and highest


def fit(reflbt, rates):
    """Train by cross-entropy on windows drawn by how rainy they are."""
    sample = reflbt[:, ::5].astype(np.float32)
    scale = sample.mean((0, 1, 3, 4)), sample.std((0, 1, 3, 4))
    net, at = UNet2d(len(MEANS)), starts(rates)
    rainy = np.nanmean(1 - np.exp(-rates), axis=(2, 3))
    rainy = rainy[at[:, :1], at[:, 1:] + np.arange(SEEN + AHEAD)].mean(1)
    weights = torch.from_numpy(np.clip(rainy, DRY, WET))
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=2e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS)
    losses = []
    for step in range(STEPS):
        rows = torch.multinomial(weights, BATCH).numpy()
        truth = torch.from_numpy(ahead(rates, at[rows]))
        loss = rain_loss(net(scaled(seen(reflbt, at[rows]), scale)), truth)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_value_(net.parameters(), 2.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if (step + 1) % 96 == 0:
            print(f"step {step + 1} of {STEPS}: loss {np.mean(losses[-96:]):.3f}", flush=True)
    return net.eval(), scale


@torch.no_grad()
def predict(model, reflbt):
    """The expected rate."""
    net, scale = model
    means = torch.tensor(MEANS)[:, None, None, None]
    parts = [net(scaled(part, scale)).softmax(1) for part in np.array_split(reflbt, 10)]
    return torch.cat([(chances * means).sum(1) for chances in parts]).numpy()


def rain_loss(found, truth):
    """Cross-entropy of scores (n, 15, 12, 24, 24)."""
    classes = torch.bucketize(truth, torch.tensor(EDGES))
    return functional.cross_entropy(found, classes.masked_fill(truth.isnan(), -100))


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
