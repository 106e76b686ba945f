"""TIES-Merging (Yadav et al. 2023, arXiv 2306.01708): trim, elect signs, average the changes that agree."""

import torch

Weights = dict[str, torch.Tensor]
KEEP, SCALE = 0.9, 1.2


def merge(base: Weights, experts: list[Weights]) -> Weights:
    """Weights of the merged model."""
    names = list(base)
    changes = torch.stack([torch.cat([(e[n] - base[n]).flatten() for n in names]) for e in experts])
    smallest = round((1 - KEEP) * int(changes.ne(0).sum(1).max()))
    ranked = changes.abs().sort(1).values
    zeros = int(changes.eq(0).sum(1).min())
    changes = changes * (changes.abs() >= ranked[:, zeros + smallest, None])
    merged = SCALE * agreeing_mean(changes)
    parts = merged.split([base[n].numel() for n in names])
    return {n: base[n] + part.view_as(base[n]) for n, part in zip(names, parts, strict=True)}


def agreeing_mean(changes: torch.Tensor) -> torch.Tensor:
    """Mean (parameters,) over those experts whose change has the sign of the sum."""
    agree = (changes.sign() == changes.sum(0).sign()) & changes.ne(0)
    return (changes * agree).sum(0) / agree.sum(0).clamp_min(1)
