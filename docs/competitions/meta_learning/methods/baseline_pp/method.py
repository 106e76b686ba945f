"""Baseline++ (Chen et al. 2019): joint training, then a cosine classifier is fitted to each task."""

import torch
from torch.nn import functional

from backbone import Network, train

STEPS, RATE, TEMPERATURE = 60, 0.05, 16.0


class MetaLearner:
    """Train on all classes."""

    def meta_fit(self, dataset):
        """Return a learner with the trained network."""
        return Learner(train(dataset))


class Learner:
    """Embed the support set."""

    def __init__(self, network):
        self.network = network

    def fit(self, images, labels, ways, shots):
        """Return a predictor."""
        return Predictor(self.network, self.network.embed(images), labels, ways)

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
    """A cosine classifier, started from random weights."""

    def __init__(self, network, support, labels, ways):
        self.network = network
        support = functional.normalize(support)
        self.head = torch.nn.Parameter(torch.randn(ways, support.shape[1]))
        optimizer = torch.optim.Adam([self.head], RATE)
        for _ in range(STEPS):
            logits = TEMPERATURE * support @ functional.normalize(self.head).T
            loss = functional.cross_entropy(logits, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    @torch.no_grad()
    def predict(self, images):
        """Class ids, (n,)."""
        queries = functional.normalize(self.network.embed(images))
        return (queries @ functional.normalize(self.head).T).argmax(1)
