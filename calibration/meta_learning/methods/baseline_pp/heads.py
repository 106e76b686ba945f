"""Classifiers of embeddings, and a predictor that uses one."""

import torch
from torch import nn
from torch.nn import functional

TEMPERATURE = 16.0  # of the cosine classifier


class Cosine(nn.Module):
    """A classifier that compares angles."""

    def __init__(self, features, classes):
        super().__init__()
        self.weight = nn.Parameter(0.05 * torch.randn(classes, features))

    def forward(self, embedded):
        """Scaled cosines, (n, classes)."""
        return TEMPERATURE * functional.normalize(embedded) @ functional.normalize(self.weight).T


def fitted(head, embedded, labels, *, steps, rate, decay=0.0):
    """Fit the head by some steps of Adam on a support set."""
    optimizer = torch.optim.Adam(head.parameters(), rate, weight_decay=decay)
    for _ in range(steps):
        loss = functional.cross_entropy(head(embedded), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return head


class Predictor:
    """Third stage: the class that the head scores highest."""

    def __init__(self, network, head):
        self.network, self.head = network, head

    @torch.no_grad()
    def predict(self, images):
        """Return the class ids, (n,)."""
        return self.head(self.network.embed(images)).argmax(1)
