"""Relation network (Sung et al. 2018): how well a query matches a class is learnt as well.

Three blocks like those of the prototypical network make maps, and a small network scores pairs of maps.
Cross-entropy replaces the squared error, with which nothing is learnt in so few episodes.
"""

import torch
from torch.nn import functional

from episodic import meta_train
from learner import NetworkLearner
from network import Network

EPISODES = 3000


def class_maps(maps, labels, ways):
    """Mean map of each class."""
    return torch.stack([maps[labels == label].mean(0) for label in range(ways)])


class MetaLearner:
    """Meta-train on episodes, by cross-entropy of the scores."""

    def meta_fit(self, dataset):
        """Return a learner with the trained network."""
        network = Network()

        def loss_of(task):
            maps = network(torch.cat([task.support_images, task.query_images]))
            support, queries = maps.split([len(task.support_images), len(task.query_images)])
            scores = network.relate(queries, class_maps(support, task.support_labels, task.ways))
            return functional.cross_entropy(scores, task.query_labels)

        return Learner(meta_train(network, dataset, loss_of, EPISODES))


class Learner(NetworkLearner):
    """Map the support set."""

    @torch.no_grad()
    def fit(self, images, labels, ways, shots):
        """Return a predictor."""
        return Predictor(self.network, class_maps(self.network(images), labels, ways))


class Predictor:
    """Choose the class with the highest score."""

    def __init__(self, network, classes):
        self.network, self.classes = network, classes

    @torch.no_grad()
    def predict(self, images):
        """Return the class ids, (n,)."""
        return self.network.relate(self.network(images), self.classes).argmax(1)
