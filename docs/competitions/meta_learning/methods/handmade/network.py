"""Features made by hand in the place of the reference's network."""

from torch import nn

from features import describe


class Network(nn.Module):
    """No weights."""

    def describe(self, images):
        """Features, (n, 312)."""
        return describe(images)
