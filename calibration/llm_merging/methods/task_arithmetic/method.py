"""Task arithmetic (Ilharco et al. 2023, arXiv 2212.04089): the scaled sum of all changes."""

import torch

Weights = dict[str, torch.Tensor]
SCALE = 0.45


def merge(base: Weights, experts: list[Weights]) -> Weights:
    """Weights of the merged model."""
    return {
        name: start + SCALE * sum(expert[name] - start for expert in experts) for name, start in base.items()
    }
