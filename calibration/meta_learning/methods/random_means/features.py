"""Embeddings of the prototypical network with random weights, the same in every process."""

import torch

from network import Network


@torch.no_grad()
def describe(images):
    """Embeddings, (n, 32)."""
    torch.manual_seed(0)
    return Network().eval()(images)
