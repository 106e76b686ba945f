"""Handmade features instead of the reference's network."""

from torch import nn

from features import describe


class Network(nn.Module):
    """A network without weights."""

    def describe(self, images):
        """Features, (n, 312)."""
        return describe(images)
