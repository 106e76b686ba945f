"""The method: change this file.

The method given here is the "Baseline" of Chen et al. 2019 (arXiv 1904.04232). A small convolutional
network learns all published classes at once. For a task, the network stays unchanged, and a linear
classifier is fitted to its embeddings of the support images.
"""

import math

import torch
from torch import nn
from torch.nn import functional

STEPS, BATCH, RATE, DECAY = 3000, 96, 0.1, 5e-4
WIDTHS = (16, 32, 64, 96)
TASK_STEPS, TASK_RATE, TASK_DECAY = 100, 0.01, 1e-3


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
    """Scale uint8 images to [-1, 1]."""
    return images.float() / 127.5 - 1


def shift(images):
    """Move all images of a batch by the same random number of pixels, up to two."""
    height, width = images.shape[2:]
    row, column = torch.randint(0, 5, (2,)).tolist()
    padded = functional.pad(images, (2, 2, 2, 2), mode="reflect")
    return padded[:, :, row : row + height, column : column + width]


class MetaLearner:
    """First stage: learn to learn from the published domains."""

    def meta_fit(self, dataset):
        """Meta-train.

        Args:
            dataset: An `episodes.Dataset`: images, labels, domains, and `task`, which draws an episode.

        Returns:
            A learner.
        """
        network = Network()
        head = nn.Linear(WIDTHS[-1], int(dataset.labels.max()) + 1)
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
        return Learner(network.eval())


class Learner:
    """Second stage: learn one task from its support images."""

    def __init__(self, network):
        self.network = network

    def fit(self, images, labels, ways, shots):
        """Return a predictor for a task, from `images`, uint8 (ways * shots, 3, 16, 16), and `labels`."""
        support, head = self.network.embed(images), nn.Linear(WIDTHS[-1], ways)
        optimizer = torch.optim.Adam(head.parameters(), TASK_RATE, weight_decay=TASK_DECAY)
        for _ in range(TASK_STEPS):
            loss = functional.cross_entropy(head(support), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return Predictor(self.network, head)

    def save(self, folder):
        """Write everything that is needed later into a folder."""
        torch.save(self.network.state_dict(), folder / "network.pt")

    @classmethod
    def load(cls, folder):
        """Read the learner that was saved in a folder."""
        network = Network()
        network.load_state_dict(torch.load(folder / "network.pt"))
        return cls(network.eval())


class Predictor:
    """Third stage: label the queries of the task."""

    def __init__(self, network, head):
        self.network, self.head = network, head

    @torch.no_grad()
    def predict(self, images):
        """Return the class ids, (n,), of query images, uint8 (n, 3, 16, 16)."""
        return self.head(self.network.embed(images)).argmax(1)
