"""Meta-Baseline (Chen et al. 2021): joint training, then episodes with cosine distances to class means."""

import torch
from torch.nn import functional

from backbone import Network, train

EPISODES, RATE, TEMPERATURE = 60, 0.002, 10.0


class MetaLearner:
    """Train on all classes, then on episodes."""

    def meta_fit(self, dataset):
        """Return a learner with the trained network."""
        network, generator = train(dataset), torch.Generator().manual_seed(0)
        optimizer = torch.optim.SGD(network.parameters(), RATE, momentum=0.9)
        for _ in range(EPISODES):
            task = dataset.task(generator, ways=10, shots=5, queries=4)
            embedded = network(torch.cat([task.support_images, task.query_images]).float() / 127.5 - 1)
            support, queries = embedded.split([50, 40])
            logits = TEMPERATURE * cosines(queries, support, task.support_labels, task.ways)
            loss = functional.cross_entropy(logits, task.query_labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
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


def cosines(queries, support, labels, ways):
    """Of queries and class means, (n, ways)."""
    centres = torch.stack([support[labels == label].mean(0) for label in range(ways)])
    return functional.normalize(queries) @ functional.normalize(centres).T


class Predictor:
    """The class mean of largest cosine."""

    def __init__(self, network, support, labels, ways):
        self.network, self.task = network, (support, labels, ways)

    def predict(self, images):
        """Class ids, (n,)."""
        return cosines(self.network.embed(images), *self.task).argmax(1)
