"""The network, and how it describes images."""

import torch
from torch import nn
from torch.nn import functional

WIDTHS, GRIDS = (16, 32, 64, 96), (4, 4, 2, 1)  # of each block: channels; cells per side of its description


class Network(nn.Module):
    """Four blocks; the mean of the last one is the embedding, (n, 96)."""

    def __init__(self):
        super().__init__()
        blocks, before = [], 3
        for number, width in enumerate(WIDTHS):
            layers = [nn.Conv2d(before, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            blocks.append(nn.Sequential(*layers, *([nn.MaxPool2d(2)] if number < 3 else [])))
            before = width
        self.blocks = nn.ModuleList(blocks)
        self.to(memory_format=torch.channels_last)  # (on a CPU, training takes two thirds of the time)

    def activations(self, images):
        """The activations of each block, from float images in [-1, 1]."""
        outputs = []
        for block in self.blocks:
            images = block(images)
            outputs.append(images)
        return outputs

    def forward(self, images):
        """Embed float images in [-1, 1]."""
        return self.activations(images)[-1].mean((2, 3))

    @torch.no_grad()
    def describe(self, images):
        """Square roots of all blocks' activations, pooled to grids, with unit length for each block."""
        parts = []
        for output, grid in zip(self.activations(scale(images)), GRIDS, strict=True):
            pooled = functional.adaptive_avg_pool2d(output, grid).flatten(1)
            parts.append(functional.normalize(pooled.sqrt()))
        return torch.cat(parts, 1)


def scale(images):
    """Scale uint8 images to [-1, 1]."""
    return images.float() / 127.5 - 1
