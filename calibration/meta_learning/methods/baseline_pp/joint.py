"""Training of the baseline, with a linear or a cosine classifier of the published classes."""

import math

import torch
from torch.nn import functional

from network import WIDTHS, Network, scale

STEPS, BATCH, RATE, DECAY = 3000, 96, 0.1, 5e-4


def shift(images):
    """Move all images of a batch by the same random number of pixels, up to two."""
    height, width = images.shape[2:]
    row, column = torch.randint(0, 5, (2,)).tolist()
    padded = functional.pad(images, (2, 2, 2, 2), mode="reflect")
    return padded[:, :, row : row + height, column : column + width]


def train(dataset, classifier):
    """Train a network on all classes, with a head `classifier(features, classes)`."""
    network = Network()
    head = classifier(WIDTHS[-1], int(dataset.labels.max()) + 1)
    optimizer = torch.optim.SGD(
        [*network.parameters(), *head.parameters()], RATE, momentum=0.9, nesterov=True, weight_decay=DECAY
    )
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / 20) * (1 + math.cos(math.pi * step / STEPS)) / 2
        rows = torch.randint(len(dataset.labels), (BATCH,))
        logits, labels = head(network(shift(scale(dataset.images[rows])))), dataset.labels[rows]
        loss = functional.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if (step + 1) % 100 == 0:
            right = (logits.argmax(1) == labels).double().mean()
            print(f"step {step + 1}: loss {loss.item():.3f}, right {right:.3f}", flush=True)
    return network.eval()
