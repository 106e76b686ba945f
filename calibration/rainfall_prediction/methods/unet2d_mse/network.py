"""A 2-D U-Net with the central part cropped and enlarged."""

import torch
from torch import nn
from torch.nn import functional

from dataset import AHEAD, BANDS, SEEN, TARGET, ZOOM

WIDTHS = (12, 16, 24)


class UNet2d(nn.Module):
    """U-Net over space whose central part is enlarged to the radar's resolution."""

    def __init__(self, levels):
        super().__init__()
        self.levels = levels
        self.down = nn.ModuleList(block(a, b) for a, b in zip([SEEN * len(BANDS), *WIDTHS], WIDTHS))
        self.join = nn.ModuleList(block(a + b, a) for a, b in zip(WIDTHS, WIDTHS[1:]))
        self.head = nn.Sequential(nn.Conv2d(WIDTHS[0], 32, 1), nn.ReLU(), nn.Conv2d(32, levels * AHEAD, 1))

    def forward(self, x):
        """Outputs (n, levels, 6, 16, 16)."""
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
