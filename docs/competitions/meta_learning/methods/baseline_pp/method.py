"""Baseline++ (Chen et al. 2019): joint training and a classifier for each task, both by cosines."""

import torch
from torch.nn import functional

from backbone import WIDTHS, Cosine, Network, train

STEPS, RATE = 60, 2.5e-3


class MetaLearner:
    """Train on all classes."""

    def meta_fit(self, dataset):
        """Return a learner with the trained network."""
        return Learner(train(dataset, Cosine))


class Learner:
    """Fit a cosine classifier to the embedded support set."""

    def __init__(self, network):
        self.network = network

    def fit(self, images, labels, ways, shots):
        """Return a predictor."""
        support, head = self.network.embed(images), Cosine(WIDTHS[-1], ways)
        optimizer = torch.optim.Adam(head.parameters(), RATE)
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
    """The class of the largest cosine."""

    def __init__(self, network, head):
        self.network, self.head = network, head

    @torch.no_grad()
    def predict(self, images):
        """Class ids, (n,)."""
        return self.head(self.network.embed(images)).argmax(1)
