"""Baseline++ (Chen et al. 2019): joint training and a classifier for each task, both by cosines."""

import torch
from torch.nn import functional

from backbone import TEMPERATURE, Network, train

STEPS, RATE = 60, 0.05


class MetaLearner:
    """Train on all classes."""

    def meta_fit(self, dataset):
        """Return a learner with the trained network."""
        return Learner(train(dataset))


class Learner:
    """Fit a cosine classifier to the embedded support set."""

    def __init__(self, network):
        self.network = network

    def fit(self, images, labels, ways, shots):
        """Return a predictor."""
        support = functional.normalize(self.network.embed(images))
        head = torch.randn(ways, support.shape[1], requires_grad=True)
        optimizer = torch.optim.Adam([head], RATE)
        for _ in range(STEPS):
            loss = functional.cross_entropy(TEMPERATURE * support @ functional.normalize(head).T, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return Predictor(self.network, functional.normalize(head.detach()))

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
        return (functional.normalize(self.network.embed(images)) @ self.head.T).argmax(1)
