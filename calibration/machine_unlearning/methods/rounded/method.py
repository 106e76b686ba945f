"""The reference, with weights rounded to a coarse grid."""

from matching import unlearn_by_matching

STEPS_PER_UNIT = 32


def unlearn(model, sets, count, rng):
    """A stack of `count` rounded models."""
    stack = unlearn_by_matching(model, sets, count, rng)
    return {name: (value * STEPS_PER_UNIT).round() / STEPS_PER_UNIT for name, value in stack.items()}
