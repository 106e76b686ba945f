"""First-order MAML (Finn et al. 2017): a starting point from which a few steps learn a task.

Ways vary, so the head of a task starts at zero and only the body is meta-learnt. The network is that of the
prototypical network; in training mode, batch statistics are always those of the current images.
"""

import copy

import torch
from torch import nn
from torch.nn import functional

from learner import NetworkLearner
from network import WIDTHS, Network

WAYS, SHOTS, QUERIES = 5, 5, 5
EPISODES, RATE = 1400, 2e-3
INNER_STEPS, INNER_RATE, TEST_STEPS = 4, 0.1, 6


def adapt(network, images, labels, ways, steps):
    """Copy the network, add a linear head, and take some gradient steps on a support set."""
    model = nn.Sequential(copy.deepcopy(network), nn.Linear(WIDTHS[-1], ways)).train()
    nn.init.zeros_(model[1].weight)
    nn.init.zeros_(model[1].bias)
    optimizer = torch.optim.SGD(model.parameters(), INNER_RATE)
    for _ in range(steps):
        optimizer.zero_grad()
        functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
    return model


class MetaLearner:
    """Move the starting point by the gradients that queries give after adaptation."""

    def meta_fit(self, dataset):
        """Return a learner with the starting point."""
        network, generator = Network(), torch.Generator().manual_seed(0)
        optimizer = torch.optim.Adam(network.parameters(), RATE)
        for _ in range(EPISODES):
            task = dataset.task(generator, WAYS, SHOTS, QUERIES)
            model = adapt(network, task.support_images, task.support_labels, WAYS, INNER_STEPS)
            model.zero_grad()
            loss = functional.cross_entropy(model(task.query_images), task.query_labels)
            loss.backward()
            for weight, adapted in zip(network.parameters(), model[0].parameters(), strict=True):
                weight.grad = adapted.grad
            optimizer.step()
        print(f"first-order MAML: loss {loss.item():.3f}", flush=True)
        return Learner(network)


class Learner(NetworkLearner):
    """Adapt the network to the support set."""

    def fit(self, images, labels, ways, shots):
        """Return a predictor."""
        return Predictor(adapt(self.network, images, labels, ways, TEST_STEPS))


class Predictor:
    """The adapted network."""

    def __init__(self, model):
        self.model = model

    @torch.no_grad()
    def predict(self, images):
        """Return the class ids, (n,)."""
        return self.model(images).argmax(1)
