"""The reference, whose recipe runs three times: the mean confidences are those of all runs."""

import torch

from matching import SLOPE, corrected, log_odds, match
from model import finish, forward, repeat

RUNS = 3


def unlearn(model, sets, count, rng):
    """A stack of `count` models."""
    x, y = sets["forget"]
    stacks = [finish(repeat(model, count), sets["retain"], rng) for _ in range(RUNS)]
    with torch.no_grad():
        runs = torch.stack([log_odds(forward(stack, x), y) for stack in stacks])
    shift = SLOPE * (runs.mean((0, 1)) - runs[0].mean(0))
    return match(stacks[0], sets, corrected(runs[0]) + shift, rng)
