"""The baseline's net and its training, with a linear or a cosine classifier of the published classes."""

import math

import torch
from torch import nn
from torch.nn import functional

STEPS, BATCH, RATE, DECAY = 3000, 96, 0.1, 5e-4
TEMPERATURE = 16.0  # of the cosine classifier
WIDTHS = (16, 32, 64, 96)


class Network(nn.Module):
    """Four blocks of convolution, normalisation and rectifier; their mean is the embedding, (n, 96)."""

    def __init__(self):
        super().__init__()
        layers, before = [], 3
        for number, width in enumerate(WIDTHS):
            layers += [nn.Conv2d(before, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            layers += [nn.MaxPool2d(2)] if number < 3 else []
            before = width
        self.layers = nn.Sequential(*layers)
        self.to(memory_format=torch.channels_last)  # (on a CPU, training takes two thirds of the time)

    def forward(self, images):
        """Embed float images in [-1, 1], (n, 3, height, width)."""
        return self.layers(images).mean((2, 3))

    @torch.no_grad()
    def embed(self, images):
        """Embed uint8 images."""
        return self(scale(images))


def scale(images):
    """Uint8 to [-1, 1]."""
    return images.float() / 127.5 - 1


def shift(images):
    """The same random move of up to two pixels for a batch."""
    height, width = images.shape[2:]
    row, column = torch.randint(0, 5, (2,)).tolist()
    padded = functional.pad(images, (2, 2, 2, 2), mode="reflect")
    return padded[:, :, row : row + height, column : column + width]


class Cosine(nn.Module):
    """A classifier by angles."""

    def __init__(self, features, classes):
        super().__init__()
        self.weight = nn.Parameter(0.05 * torch.randn(classes, features))

    def forward(self, embedded):
        """Scaled cosines, (n, classes)."""
        return TEMPERATURE * functional.normalize(embedded) @ functional.normalize(self.weight).T


def train(dataset, classifier):
    """A network, trained on all classes with a head `classifier(features, classes)`."""
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
