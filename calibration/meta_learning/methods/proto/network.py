"""A small convolutional network for episodes."""

import torch
from torch import nn

from blocks import blocks

WIDTHS = (16, 32, 32, 32)


class Network(nn.Module):
    """Four blocks that map (n, 3, 16, 16) to (n, 32)."""

    def __init__(self):
        super().__init__()
        self.layers = blocks(WIDTHS)
        self.to(memory_format=torch.channels_last)

    def forward(self, images):
        """Embed uint8 images."""
        return self.layers(images.float() / 127.5 - 1).flatten(1)
