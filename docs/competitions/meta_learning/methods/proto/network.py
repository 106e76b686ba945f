"""A small convolution net for episodes."""

import torch
from torch import nn

WIDTHS = (16, 32, 32, 32)


class Network(nn.Module):
    """Four blocks of convolution, normalisation, rectifier and pooling: (n, 3, 16, 16) to (n, 32)."""

    def __init__(self):
        super().__init__()
        layers, before = [], 3
        for width in WIDTHS:
            layers += [nn.Conv2d(before, width, 3, padding=1)]
            layers += [nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)]
            before = width
        self.layers = nn.Sequential(*layers)
        self.to(memory_format=torch.channels_last)

    def forward(self, images):
        """Embed uint8 images."""
        return self.layers(images.float() / 127.5 - 1).flatten(1)
