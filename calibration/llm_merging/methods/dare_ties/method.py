"""DARE-TIES (Yu et al. 2024, arXiv 2311.03099): drop changes at random, rescale, then elect signs.

This is the method of Zhang et al. in the competition's efficiency track.
"""

import torch

Weights = dict[str, torch.Tensor]
DROP, SCALE = 0.1, 1.2


def merge(base: Weights, experts: list[Weights]) -> Weights:
    """Weights of the merged model."""
    merged = {}
    for name, start in base.items():
        changes = torch.stack([expert[name] - start for expert in experts])
        changes = changes * (torch.rand_like(changes) >= DROP) / (1 - DROP)
        agree = (changes.sign() == changes.sum(0).sign()) & changes.ne(0)
        merged[name] = start + SCALE * (changes * agree).sum(0) / agree.sum(0).clamp_min(1)
    return merged
