"""SimpleShot (Wang et al. 2019): joint training, centred unit embeddings, nearest class mean."""

import torch
from torch.nn import functional

from backbone import Network, train


class MetaLearner:
    """Train on all classes; remember the mean embedding."""

    def meta_fit(self, dataset):
        """Return a learner with the trained network."""
        network = train(dataset)
        network.mean.copy_(network.embed(dataset.images).mean(0))
        return Learner(network)


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
    """The nearest class mean."""

    def __init__(self, network, support, labels, ways):
        self.network = network
        support = functional.normalize(support - network.mean)
        self.centres = torch.stack([support[labels == label].mean(0) for label in range(ways)])

    def predict(self, images):
        """Class ids, (n,)."""
        queries = functional.normalize(self.network.embed(images) - self.network.mean)
        return torch.cdist(queries, self.centres).argmin(1)
