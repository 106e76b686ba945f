"""The unlearning method: change this file.

Baseline: retraining's recipe, begun at the trained model, as the base of retraining is not to be had.
Every model gets a last layer of its own and learns the retain set for as many epochs as a retrained
one, in the hope that what is not rehearsed is forgotten. The hidden layers remember some of it.
"""

from model import finish, repeat


def unlearn(model, sets, count, rng):
    """A stack of `count` unlearned models.

    Args:
        model: The trained model, a stack of one (see network.py).
        sets: "retain", "forget" and "validation", each (x, y): images (n, 64) float32, labels (n,) int64.
        count: How many models; they should differ as retrained models would.
        rng: The numpy generator from which to draw everything random.
    """
    return finish(repeat(model, count), sets["retain"], rng)
