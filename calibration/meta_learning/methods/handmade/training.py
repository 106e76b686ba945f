"""No training."""

from network import Network


def train(dataset):
    """Return a network that has not been trained."""
    del dataset
    return Network()
