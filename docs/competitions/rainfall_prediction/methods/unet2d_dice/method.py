"""2-D U-Net, trained with a dice loss at every level of rain, and with frames interpolated in time.

After UNetTFI (Han et al. 2023): the middle half of the picture; six classes bounded by the score's
thresholds, whose chances from the top down are those of reaching a threshold; log-cosh of 1 - dice;
windows, windows one frame later, and random mixtures of the two (temporal frame interpolation); flips and
rotations. Without its learnt map of each region and year.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from dataset import AHEAD, BANDS, SEEN, TARGET, THRESHOLDS, ZOOM, ahead, seen, starts

WIDTHS = (16, 24, 32)
EDGE = 6  # satellite pixels left out on each side
STEPS, BATCH, RATE = 768, 8, 3e-3
RATES = np.array([0.0, 0.5, 2.5, 7.0, 12.0, 20.0], dtype=np.float32)  # written for each class


def fit(reflbt, rates):
    """Train by multi-level dice."""
    sample = reflbt[:, ::5].astype(np.float32)
    scale = sample.mean((0, 1, 3, 4)), sample.std((0, 1, 3, 4))
    net, at = UNet2d(len(RATES)), starts(rates[:, 1:])
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=2e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS)
    losses = []
    for step in range(STEPS):
        rows = torch.randint(len(at), (BATCH,)).numpy()
        x, truth = turned(*interpolated(reflbt, rates, at[rows]))
        loss = rain_loss(net(scaled(x, scale)), torch.from_numpy(truth))
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
    """The rate of the most likely class."""
    net, scale = model
    found = torch.cat([net(scaled(part, scale)).argmax(1) for part in np.array_split(reflbt, 10)])
    return RATES[found.numpy()]


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


def scaled(reflbt, scale):
    """Standardised bands of the middle half, times folded into channels: (n, 44, 12, 12)."""
    x = (reflbt[..., EDGE:-EDGE, EDGE:-EDGE] - scale[0][:, None, None]) / scale[1][:, None, None]
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
