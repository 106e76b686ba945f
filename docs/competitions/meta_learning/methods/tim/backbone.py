"""A convolution net that learns all published classes at once, with a linear classifier."""

import math

import torch
from torch import nn
from torch.nn import functional

STEPS, BATCH, RATE, DECAY = 330, 96, 0.1, 5e-4
WIDTHS = (16, 32, 64, 96)


class Network(nn.Module):
    """Four blocks; their last mean is the embedding, (n, 96)."""

    def __init__(self):
        super().__init__()
        layers, before = [], 3
        for number, width in enumerate(WIDTHS):
            layers += [nn.Conv2d(before, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            layers += [nn.MaxPool2d(2)] if number < 3 else []
            before = width
        self.layers = nn.Sequential(*layers)

    def forward(self, images):
        """Embed float images in [-1, 1]."""
        return self.layers(images).mean((2, 3))

    @torch.no_grad()
    def embed(self, images):
        """Embed uint8 images."""
        return self(images.float() / 127.5 - 1)


def shift(images):
    """The same random move of up to two pixels for a batch."""
    row, column = torch.randint(0, 5, (2,)).tolist()
    return functional.pad(images, (2, 2, 2, 2), mode="reflect")[:, :, row : row + 16, column : column + 16]


def train(dataset):
    """A network, trained on all classes by cross-entropy."""
    network = Network()
    head = nn.Linear(WIDTHS[-1], int(dataset.labels.max()) + 1)
    optimizer = torch.optim.SGD(
        [*network.parameters(), *head.parameters()], RATE, momentum=0.9, nesterov=True, weight_decay=DECAY
    )
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / 20) * (1 + math.cos(math.pi * step / STEPS)) / 2
        rows = torch.randint(len(dataset.labels), (BATCH,))
        logits = head(network(shift(dataset.images[rows].float() / 127.5 - 1)))
        loss = functional.cross_entropy(logits, dataset.labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"joint training: loss {loss.item():.3f}", flush=True)
    return network.eval()
