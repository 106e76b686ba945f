"""Training: one network learns all published classes at once, on images with varied colours."""

import math

import torch
from torch import nn
from torch.nn import functional

from network import WIDTHS, Network, scale

STEPS, BATCH, RATE, DECAY = 4000, 96, 0.1, 5e-4
TEMPERATURE = 16.0  # of the cosine classifier


def vary(images):
    """Permute and perhaps invert the colours of each image; move a batch by up to two pixels."""
    order = torch.rand(len(images), 3).argsort(1)[:, :, None, None].expand_as(images)
    images = images.gather(1, order) * (2 * torch.randint(0, 2, (len(images), 1, 1, 1)) - 1)
    height, width = images.shape[2:]
    row, column = torch.randint(0, 5, (2,)).tolist()
    padded = functional.pad(images, (2, 2, 2, 2), mode="reflect")
    return padded[:, :, row : row + height, column : column + width]


def train(dataset):
    """Train a network with one cosine classifier of all classes."""
    network, classes = Network(), int(dataset.labels.max()) + 1
    head = nn.Parameter(0.05 * torch.randn(classes, WIDTHS[-1]))
    optimizer = torch.optim.SGD(
        [*network.parameters(), head], RATE, momentum=0.9, nesterov=True, weight_decay=DECAY
    )
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / 20) * (1 + math.cos(math.pi * step / STEPS)) / 2
        rows = torch.randint(len(dataset.labels), (BATCH,))
        embedded = functional.normalize(network(vary(scale(dataset.images[rows]))))
        logits = TEMPERATURE * embedded @ functional.normalize(head).T
        loss = functional.cross_entropy(logits, dataset.labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if (step + 1) % 100 == 0:
            print(f"step {step + 1}: loss {loss.item():.3f}", flush=True)
    return network.eval()
