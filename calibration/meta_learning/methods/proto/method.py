"""Prototypical network (Snell et al. 2017): a query gets the class of the nearest mean of embedded images."""

import torch
from torch.nn import functional

from episodic import meta_train
from learner import NetworkLearner
from network import Network


def prototypes(embedded, labels, ways):
    """Mean embedding of each class, (ways, features)."""
    return torch.stack([embedded[labels == label].mean(0) for label in range(ways)])


class MetaLearner:
    """Meta-train on episodes."""

    def meta_fit(self, dataset):
        """Return a learner with the trained network."""
        network = Network()

        def loss_of(task):
            embedded = network(torch.cat([task.support_images, task.query_images]))
            support, queries = embedded.split([len(task.support_images), len(task.query_images)])
            centres = prototypes(support, task.support_labels, task.ways)
            return functional.cross_entropy(-torch.cdist(queries, centres).square(), task.query_labels)

        return Learner(meta_train(network, dataset, loss_of))


class Learner(NetworkLearner):
    """Average the embedded support images of each class."""

    @torch.no_grad()
    def fit(self, images, labels, ways, shots):
        """Return a predictor."""
        return Predictor(self.network, prototypes(self.network(images), labels, ways))


class Predictor:
    """Choose the nearest class mean."""

    def __init__(self, network, centres):
        self.network, self.centres = network, centres

    @torch.no_grad()
    def predict(self, images):
        """Return the class ids, (n,)."""
        return torch.cdist(self.network(images), self.centres).argmin(1)
