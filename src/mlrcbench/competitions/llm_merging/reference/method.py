"""Interference-free merging from the weights alone, in closed form.

Our own implementation of the objective of WUDI-Merging (Cheng et al. 2025, arXiv 2503.08099). The
rows of a linear layer's task matrix T_i (expert minus base) lie in the span of the inputs that the
expert was trained on, so T_i itself shows where the merged change M must agree with it:

    minimise over M   sum_i ||(M - T_i) T_i^T||^2 / ||T_i||^2.

The original runs a few hundred steps of gradient descent from the sum. Here the normal equations are
solved directly: M (sum_i G_i + r I) = sum_i T_i G_i with G_i = T_i^T T_i / ||T_i||^2. The ridge r keeps
directions small that no expert has used much. Tensors that are not matrices are averaged.
"""

import torch

SCALE = 0.9
RIDGE = 0.05  # in units of the mean eigenvalue of sum_i G_i


def merge(base, experts):
    """Weights of the merged model; the module's docstring explains the method."""
    merged = {}
    for name, start in base.items():
        changes = torch.stack([expert[name] - start for expert in experts]).double()
        if start.dim() == 2 and name.startswith("blocks."):
            merged[name] = start + SCALE * solve(changes).float()
        else:
            merged[name] = start + changes.mean(0).float()
    return merged


def solve(changes):
    """The merged change (outputs, inputs) for task matrices (experts, outputs, inputs)."""
    energy = changes.square().sum((1, 2), keepdim=True).clamp_min(1e-12)
    grams = changes.mT @ changes / energy
    total, target = grams.sum(0), (changes @ grams).sum(0)
    ridge = RIDGE * total.diagonal().mean().clamp_min(1e-12)
    return torch.linalg.solve(total + ridge * torch.eye(len(total), dtype=total.dtype), target, left=False)
