"""TIM-GD (Boudiaf et al. 2020): joint training, then class means that the queries improve.

The classifier of a task starts from the class means. Gradient descent fits it to the labels of the support
set, and makes it certain about each query but undecided about all queries together (equation 3).
"""

import torch
from torch import nn
from torch.nn import functional

from joint import train
from learner import NetworkLearner

STEPS, RATE, TEMPERATURE = 100, 1e-3, 15.0
LABELS, DOUBT = 0.1, 0.1  # weights of cross-entropy and conditional entropy


class MetaLearner:
    """Train on all classes."""

    def meta_fit(self, dataset):
        """Return a learner with the trained network."""
        return Learner(train(dataset, nn.Linear))


class Learner(NetworkLearner):
    """Embed the support set."""

    def fit(self, images, labels, ways, shots):
        """Return a predictor."""
        return Predictor(self.network, functional.normalize(self.network.embed(images)), labels, ways)


class Predictor:
    """Move the class means with the help of the queries."""

    def __init__(self, network, support, labels, ways):
        self.network, self.support, self.labels = network, support, labels
        self.means = torch.stack([support[labels == label].mean(0) for label in range(ways)])

    def predict(self, images):
        """Return the class ids, (n,)."""
        queries = functional.normalize(self.network.embed(images))
        weights = self.means.clone().requires_grad_()
        optimizer = torch.optim.Adam([weights], RATE)
        for _ in range(STEPS):
            guess = logits(queries, weights).softmax(1)
            share = guess.mean(0)
            loss = LABELS * functional.cross_entropy(logits(self.support, weights), self.labels)
            loss = loss + (share * share.log()).sum() - DOUBT * (guess * (guess + 1e-9).log()).sum(1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return logits(queries, weights).argmax(1)


def logits(embedded, weights):
    """Scaled negative squared distances, (n, ways)."""
    return -TEMPERATURE / 2 * torch.cdist(embedded, weights).square()
