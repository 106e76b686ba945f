"""Class means of features that are not learnt."""

import torch

from features import describe


class MetaLearner:
    """Learn nothing from the published images."""

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
        """Write nothing."""

    @classmethod
    def load(cls, folder):
        """Read nothing."""
        return cls()


class Predictor:
    """Choose the nearest class mean."""

    def __init__(self, centres):
        self.centres = centres

    def predict(self, images):
        """Return the class ids, (n,)."""
        return torch.cdist(describe(images), self.centres).argmin(1)
