"""Predict the outputs of retrained models, and match them: see matching.py."""

from matching import unlearn_by_matching


def unlearn(model, sets, count, rng):
    """A stack of `count` unlearned models."""
    return unlearn_by_matching(model, sets, count, rng)
