"""Selective synaptic dampening, then retraining's recipe."""

from forgetting import forget
from model import finish


def unlearn(model, sets, count, rng):
    """A stack of `count` models."""
    return finish(forget(model, sets, count, rng), sets["retain"], rng)
