"""The merging method: change this file.

Baseline: the average of all experts, parameter by parameter (Wortsman et al. 2022,
arXiv 2203.05482).
"""

import torch


def merge(base, experts):
    """Merge several models into one.

    Args:
        base: Weights of the base model, {name: float32 tensor}.
        experts: Weights of each expert, a list of such dicts.

    `model.load(config, weights)` makes a model that answers questions, with `config` from data/config.json.

    Returns:
        Weights of the merged model, with the names, shapes and dtype of `base`, all finite.
    """
    return {name: torch.stack([expert[name] for expert in experts]).mean(0) for name in base}
