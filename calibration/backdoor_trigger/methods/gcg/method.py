"""GCG (Zou et al. 2023): as many tries as AutoPrompt has, spread over all positions.

This is the baseline's search, but with all its steps; the baseline stops as soon as its phrase works on its
request.
"""

import torch

from attack import WORDS, recover_by

STEPS, CANDIDATES, TOP = 50, 64, 64


def recover(model, tokenizer, targets, prompts):
    """One phrase for each target; starter/method.py describes arguments and result."""
    return recover_by(search, model, tokenizer, targets, prompts)


def search(prompt):
    """Token ids of the best phrase that was evaluated."""
    trigger, best, lowest = prompt.start, prompt.start, torch.inf
    rows = torch.arange(CANDIDATES)
    places = rows * WORDS // CANDIDATES
    for _ in range(STEPS):
        words = (-prompt.slopes(trigger)).topk(TOP, dim=1).indices
        tries = trigger.repeat(CANDIDATES, 1)
        tries[rows, places] = prompt.allowed[words[places, torch.randint(TOP, (CANDIDATES,))]]
        trigger, loss = prompt.best(tries)
        if loss < lowest:
            best, lowest = trigger, loss
    return best
