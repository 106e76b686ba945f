"""Iso-C (Marczak et al. 2025, arXiv 2502.04959): the summed change with all singular values equal."""

import torch

Weights = dict[str, torch.Tensor]
SCALE = 1.6


def merge(base: Weights, experts: list[Weights]) -> Weights:
    """Weights of the merged model."""
    merged = {}
    for name, start in base.items():
        changes = torch.stack([expert[name] - start for expert in experts])
        if start.dim() == 2 and name.startswith("blocks."):
            u, s, vh = torch.linalg.svd(changes.sum(0), full_matrices=False)
            merged[name] = start + SCALE * s.mean() * u @ vh
        else:
            merged[name] = start + changes.mean(0)
    return merged
