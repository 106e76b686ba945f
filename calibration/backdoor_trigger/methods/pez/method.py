"""PEZ (Wen et al. 2023): gradients at the nearest words of a phrase move its embeddings."""

import torch
from torch.nn import functional

from attack import WORDS, recover_by

STEPS, RATE, DECAY = 250, 0.1, 0.1


def recover(model, tokenizer, targets, prompts):
    """One phrase for each target; starter/method.py describes arguments and result."""
    return recover_by(search, model, tokenizer, targets, prompts)


def search(prompt):
    """Token ids of the best phrase that was evaluated."""
    table = prompt.model.embedding[prompt.allowed]
    soft = table[torch.randint(len(table), (WORDS,))].clone().requires_grad_()
    optimizer = torch.optim.AdamW([soft], RATE, weight_decay=DECAY)
    best, lowest = None, torch.inf
    for _ in range(STEPS):
        nearest = (functional.normalize(soft.detach()) @ functional.normalize(table).T).argmax(1)
        hard = table[nearest].requires_grad_()
        loss = prompt.losses(hard[None])[0]
        soft.grad = torch.autograd.grad(loss, hard)[0]
        optimizer.step()
        if loss < lowest:
            best, lowest = nearest, loss.item()
    return prompt.allowed[best]
