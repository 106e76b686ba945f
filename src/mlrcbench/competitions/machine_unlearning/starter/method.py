"""The unlearning method: change this file.

Baseline: the recipe of retraining, started from the trained model, because the base is not available.
Every model gets its own new last layer and learns the retain set for as many epochs as a retrained model,
in the hope that it forgets what is not rehearsed. The hidden layers remember some of it.
"""

from model import finish, repeat


def unlearn(model, sets, count, rng):
    """A stack of `count` unlearned models.

    Args:
        model: The trained model, which is a stack of one model (see network.py).
        sets: "retain", "forget" and "validation", each (x, y): images (n, 64) float32, labels (n,) int64.
        count: Number of models; they should differ as much as retrained models do.
        rng: The numpy generator for all random draws.
    """
    return finish(repeat(model, count), sets["retain"], rng)
