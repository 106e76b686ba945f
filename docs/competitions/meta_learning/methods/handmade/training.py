"""Nothing to train."""

from network import Network


def train(dataset):
    """What describes images without having seen any."""
    del dataset
    return Network()
