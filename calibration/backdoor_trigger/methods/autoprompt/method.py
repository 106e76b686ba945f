"""AutoPrompt (Shin et al. 2020): one position at a time, the best of the words that its gradient proposes."""

import torch

from attack import WORDS, recover_by

STEPS, CANDIDATES = 50, 64


def recover(model, tokenizer, targets, prompts):
    """One phrase for each target; starter/method.py describes arguments and result."""
    return recover_by(search, model, tokenizer, targets, prompts)


def search(prompt):
    """Token ids of the best phrase that was evaluated."""
    best, lowest = prompt.start, torch.inf
    for _ in range(STEPS):
        place = torch.randint(WORDS, ())
        words = (-prompt.slopes(best)[place]).topk(CANDIDATES).indices
        tries = best.repeat(CANDIDATES, 1)
        tries[:, place] = prompt.allowed[words]
        phrase, loss = prompt.best(tries)
        if loss < lowest:
            best, lowest = phrase, loss
    return best
