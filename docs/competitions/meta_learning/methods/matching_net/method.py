"""Matching network (Vinyals et al. 2016): a query gets the labels of the support set, weighted by cosine.

Without full context embeddings; on the baseline's convolution net and episodes.
"""

import torch
from torch import nn
from torch.nn import functional

EPISODES, RATE = 600, 2e-3
WAYS, SHOTS, QUERIES = 5, 5, 5
WIDTHS = (16, 32, 32, 32)
SHARPNESS = 10.0  # of the attention


class Network(nn.Module):
    """The baseline's convolution net."""

    def __init__(self):
        super().__init__()
        layers, before = [], 3
        for width in WIDTHS:
            layers += [nn.Conv2d(before, width, 3, padding=1)]
            layers += [nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)]
            before = width
        self.layers = nn.Sequential(*layers)

    def forward(self, images):
        """Embed uint8 images: unit vectors, (n, 32)."""
        return functional.normalize(self.layers(images.float() / 127.5 - 1).flatten(1))


def probabilities(queries, support, labels, ways):
    """Of the classes, (n, ways)."""
    attention = (SHARPNESS * queries @ support.T).softmax(1)
    return attention @ functional.one_hot(labels, ways).float()


class MetaLearner:
    """Meta-train on episodes."""

    def meta_fit(self, dataset):
        """Return a learner with the trained network."""
        network, generator = Network(), torch.Generator().manual_seed(0)
        optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
        for _ in range(EPISODES):
            task = dataset.task(generator, WAYS, SHOTS, QUERIES)
            embedded = network(torch.cat([task.support_images, task.query_images]))
            support, queries = embedded.split([len(task.support_images), len(task.query_images)])
            found = probabilities(queries, support, task.support_labels, WAYS)
            loss = functional.nll_loss((found + 1e-6).log(), task.query_labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"matching network: loss {loss.item():.3f}", flush=True)
        return Learner(network.eval())


class Learner:
    """Embed the support set."""

    def __init__(self, network):
        self.network = network

    @torch.no_grad()
    def fit(self, images, labels, ways, shots):
        """Return a predictor."""
        return Predictor(self.network, self.network(images), labels, ways)

    def save(self, folder):
        """Write the network."""
        torch.save(self.network.state_dict(), folder / "network.pt")

    @classmethod
    def load(cls, folder):
        """Read the network."""
        network = Network()
        network.load_state_dict(torch.load(folder / "network.pt"))
        return cls(network.eval())


class Predictor:
    """Attend to the support set."""

    def __init__(self, network, support, labels, ways):
        self.network, self.task = network, (support, labels, ways)

    @torch.no_grad()
    def predict(self, images):
        """Class ids, (n,)."""
        return probabilities(self.network(images), *self.task).argmax(1)
