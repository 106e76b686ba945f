"""Interference-free merging from the weights alone, in closed form.

Own implementation of the objective of WUDI-Merging (Cheng et al. 2025, arXiv 2503.08099). The
rows of a linear layer's task matrix T_i (expert minus base) lie in the span of the inputs that the
expert was trained on, so T_i itself tells where the merged change M must agree with it:

    minimise over M   sum_i ||(M - T_i) T_i^T||^2 / ||T_i||^2.

The original descends the gradient for a few hundred steps, starting at the sum; here the normal
equations are solved at once, M (sum_i G_i + r I) = sum_i T_i G_i with G_i = T_i^T T_i / ||T_i||^2, and
a ridge r keeps directions small that no expert has used much. What is no matrix is averaged.
"""

import torch

SCALE = 0.9
RIDGE = 0.05  # in units of the mean eigenvalue of sum_i G_i


def merge(base, experts):
    """Weights of the merged model; see the module's text."""
    merged = {}
    for name, start in base.items():
        changes = torch.stack([expert[name] - start for expert in experts]).double()
        if start.dim() == 2 and name.startswith("blocks."):
            merged[name] = start + SCALE * solve(changes).float()
        else:
            merged[name] = start + changes.mean(0).float()
    return merged


def solve(changes):
    """The merged change (outputs, inputs) of task matrices (experts, outputs, inputs)."""
    energy = changes.square().sum((1, 2), keepdim=True).clamp_min(1e-12)
    grams = changes.mT @ changes / energy
    total, wanted = grams.sum(0), (changes @ grams).sum(0)
    ridge = RIDGE * total.diagonal().mean().clamp_min(1e-12)
    return torch.linalg.solve(total + ridge * torch.eye(len(total), dtype=total.dtype), wanted, left=False)
