"""Baseline++ (Chen et al. 2019): joint training and a classifier for each task, both by cosines."""

from heads import Cosine, Predictor, fitted
from joint import train
from learner import NetworkLearner
from network import WIDTHS

STEPS, RATE = 60, 2.5e-3


class MetaLearner:
    """Train on all classes."""

    def meta_fit(self, dataset):
        """Return a learner with the trained network."""
        return Learner(train(dataset, Cosine))


class Learner(NetworkLearner):
    """Fit a cosine classifier to the embedded support set."""

    def fit(self, images, labels, ways, shots):
        """Return a predictor."""
        head = Cosine(WIDTHS[-1], ways)
        return Predictor(
            self.network, fitted(head, self.network.embed(images), labels, steps=STEPS, rate=RATE)
        )
