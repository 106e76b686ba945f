"""A base class for learners that consist of a network."""

import torch

from network import Network


class NetworkLearner:
    """The second stage without `fit`."""

    def __init__(self, network):
        self.network = network

    def save(self, folder):
        """Write the network."""
        torch.save(self.network.state_dict(), folder / "network.pt")

    @classmethod
    def load(cls, folder):
        """Read the network."""
        network = Network()
        network.load_state_dict(torch.load(folder / "network.pt"))
        return cls(network.eval())
