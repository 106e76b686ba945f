"""Class means of features that nobody learns."""

import torch

from features import describe


class MetaLearner:
    """Learn nothing."""

    def meta_fit(self, dataset):
        """Return a learner."""
        return Learner()


class Learner:
    """Average the described support images of each class."""

    def fit(self, images, labels, ways, shots):
        """Return a predictor."""
        described = describe(images)
        return Predictor(torch.stack([described[labels == label].mean(0) for label in range(ways)]))

    def save(self, folder):
        """Nothing to write."""

    @classmethod
    def load(cls, folder):
        """Nothing to read."""
        return cls()


class Predictor:
    """The nearest class mean."""

    def __init__(self, centres):
        self.centres = centres

    def predict(self, images):
        """Class ids, (n,)."""
        return torch.cdist(describe(images), self.centres).argmin(1)
