"""GBDA (Guo et al. 2021): gradients for a distribution over phrases, through Gumbel-softmax samples."""

import torch
from torch.nn import functional

from attack import WORDS, recover_by

STEPS, SAMPLES, RATE = 100, 8, 0.3
DRAWS = 64  # phrases drawn from the final distribution; the best one is used


def recover(model, tokenizer, targets, prompts):
    """One phrase for each target; starter/method.py describes arguments and result."""
    return recover_by(search, model, tokenizer, targets, prompts)


def search(prompt):
    """Token ids of the best phrase drawn from the distribution."""
    table = prompt.model.embedding[prompt.allowed]
    logits = torch.zeros(WORDS, len(table), requires_grad=True)
    optimizer = torch.optim.Adam([logits], RATE)
    for _ in range(STEPS):
        soft = functional.gumbel_softmax(logits.expand(SAMPLES, -1, -1))
        optimizer.zero_grad()
        prompt.losses(soft @ table).mean().backward()
        optimizer.step()
    draws = torch.distributions.Categorical(logits=logits.detach()).sample((DRAWS,))
    return prompt.best(prompt.allowed[draws])[0]
