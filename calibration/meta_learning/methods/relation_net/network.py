"""Maps of images, and scores of pairs of maps."""

import torch
from torch import nn

from blocks import blocks

WIDTHS = (16, 32, 32)


class Network(nn.Module):
    """Maps of images, and scores of pairs of maps."""

    def __init__(self):
        super().__init__()
        width = WIDTHS[-1]
        self.layers = blocks(WIDTHS)
        self.relation = nn.Sequential(
            nn.Conv2d(2 * width, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(4 * width, 8),
            nn.ReLU(),
            nn.Linear(8, 1),
        )
        self.to(memory_format=torch.channels_last)

    def forward(self, images):
        """Maps of uint8 images, (n, 32, 2, 2)."""
        return self.layers(images.float() / 127.5 - 1)

    def relate(self, queries, classes):
        """Scores of all pairs, (queries, ways)."""
        left = queries[:, None].expand(-1, len(classes), -1, -1, -1)
        right = classes[None].expand(len(queries), -1, -1, -1, -1)
        scores = self.relation(torch.cat([left, right], 2).flatten(0, 1))
        return scores.reshape(len(queries), len(classes))
