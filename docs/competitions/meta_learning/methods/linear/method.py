"""Baseline of Chen et al. 2019: joint training, then a linear classifier is fitted to each task."""

import torch
from torch import nn
from torch.nn import functional

from backbone import WIDTHS, Network, train

STEPS, RATE, DECAY = 100, 0.01, 1e-3


class MetaLearner:
    """Train on all classes."""

    def meta_fit(self, dataset):
        """Return a learner with the trained network."""
        return Learner(train(dataset))


class Learner:
    """Fit a linear classifier to the embedded support set."""

    def __init__(self, network):
        self.network = network

    def fit(self, images, labels, ways, shots):
        """Return a predictor."""
        support, head = self.network.embed(images), nn.Linear(WIDTHS[-1], ways)
        optimizer = torch.optim.Adam(head.parameters(), RATE, weight_decay=DECAY)
        for _ in range(STEPS):
            loss = functional.cross_entropy(head(support), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return Predictor(self.network, head)

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
    """The linear classifier."""

    def __init__(self, network, head):
        self.network, self.head = network, head

    @torch.no_grad()
    def predict(self, images):
        """Class ids, (n,)."""
        return self.head(self.network.embed(images)).argmax(1)
