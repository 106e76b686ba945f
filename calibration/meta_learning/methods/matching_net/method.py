"""Matching network (Vinyals et al. 2016): a query gets the labels of the support set, weighted by cosine.

It has no full context embeddings, and uses the network and the episodes of the prototypical network.
"""

import torch
from torch.nn import functional

from episodic import meta_train
from learner import NetworkLearner
from network import Network

SHARPNESS = 10.0  # of the attention


def probabilities(queries, support, labels, ways):
    """Probabilities (n, ways) of the classes, from embeddings."""
    attention = (SHARPNESS * functional.normalize(queries) @ functional.normalize(support).T).softmax(1)
    return attention @ functional.one_hot(labels, ways).float()


class MetaLearner:
    """Meta-train on episodes."""

    def meta_fit(self, dataset):
        """Return a learner with the trained network."""
        network = Network()

        def loss_of(task):
            embedded = network(torch.cat([task.support_images, task.query_images]))
            support, queries = embedded.split([len(task.support_images), len(task.query_images)])
            chances = probabilities(queries, support, task.support_labels, task.ways)
            return functional.nll_loss((chances + 1e-6).log(), task.query_labels)

        return Learner(meta_train(network, dataset, loss_of))


class Learner(NetworkLearner):
    """Embed the support set."""

    @torch.no_grad()
    def fit(self, images, labels, ways, shots):
        """Return a predictor."""
        return Predictor(self.network, self.network(images), labels, ways)


class Predictor:
    """Answer queries by attention to the support set."""

    def __init__(self, network, support, labels, ways):
        self.network, self.task = network, (support, labels, ways)

    @torch.no_grad()
    def predict(self, images):
        """Return the class ids, (n,)."""
        return probabilities(self.network(images), *self.task).argmax(1)
