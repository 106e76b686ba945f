"""TSV-Merge (Gargiulo et al. 2025, arXiv 2412.00081): each change's main directions, decorrelated."""

import torch

Weights = dict[str, torch.Tensor]
SCALE = 1.2


def merge(base: Weights, experts: list[Weights]) -> Weights:
    """Weights of the merged model."""
    merged = {}
    for name, start in base.items():
        changes = torch.stack([expert[name] - start for expert in experts])
        if start.dim() == 2 and name.startswith("blocks."):
            merged[name] = start + SCALE * recompose(changes)
        else:
            merged[name] = start + changes.mean(0)
    return merged


def recompose(changes: torch.Tensor) -> torch.Tensor:
    """The merged change (outputs, inputs): an equal share of rank for each expert."""
    u, s, vh = torch.linalg.svd(changes, full_matrices=False)
    rank = s.shape[1] // len(changes)
    left = whiten(torch.cat(list(u[:, :, :rank]), 1))
    right = whiten(torch.cat(list(vh[:, :rank]), 0))
    return (left * s[:, :rank].flatten()) @ right


def whiten(vectors: torch.Tensor) -> torch.Tensor:
    """The nearest matrix with orthonormal rows or columns."""
    u, _, vh = torch.linalg.svd(vectors, full_matrices=False)
    return u @ vh
