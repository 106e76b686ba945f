"""Blocks of the networks that learn from episodes."""

from torch import nn


def blocks(widths):
    """Convolution, normalisation, rectifier and pooling for each width, for images with three channels."""
    layers, before = [], 3
    for width in widths:
        layers += [nn.Conv2d(before, width, 3, padding=1)]
        layers += [nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)]
        before = width
    return nn.Sequential(*layers)
