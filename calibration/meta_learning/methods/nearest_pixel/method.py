"""The nearest support image in pixels; nothing is learnt."""

import torch


class MetaLearner:
    """Learn nothing from the published images."""

    def meta_fit(self, dataset):
        """Return a learner."""
        return Learner()


class Learner:
    """Keep the support images."""

    def fit(self, images, labels, ways, shots):
        """Return a predictor."""
        return Predictor(images.flatten(1).float(), labels)

    def save(self, folder):
        """Write nothing."""

    @classmethod
    def load(cls, folder):
        """Read nothing."""
        return cls()


class Predictor:
    """Copy the label of the nearest image."""

    def __init__(self, images, labels):
        self.images, self.labels = images, labels

    def predict(self, images):
        """Return the class ids, (n,)."""
        return self.labels[torch.cdist(images.flatten(1).float(), self.images).argmin(1)]
