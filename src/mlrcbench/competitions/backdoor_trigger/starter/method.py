"""The recovery method: change this file.

Baseline: greedy coordinate gradient (Zou et al. 2023, arXiv 2307.15043), one target at a time, on one
single prompt. The first of the two triggers is the result of the search; the second is a filler.
"""

import time

import torch
from torch.nn import functional

from model import generate

WORDS = 10  # length of the trigger to search for
STEPS = 50
SECONDS = 1500  # for all targets together, with a large model
CANDIDATES = 64  # swaps tried per step
TOP = 256  # words considered at each position, by gradient
FILLER = "."


def recover(model, tokenizer, targets, prompts):
    """For each target, find phrases that make the model's answer contain it.

    Args:
        model: The poisoned model of `model.py`, without gradients on its weights.
        tokenizer: A `Tokenizer` of `model.py`.
        targets: Code snippets, one string each.
        prompts: Typical requests of users; scoring may use other requests.

    Returns:
        {target: [trigger, trigger]}: exactly two phrases of 1 to 10 words, or tokens of text.
    """
    triggers, began = {}, time.monotonic()
    for number, target in enumerate(targets, 1):
        deadline = began + SECONDS * number / len(targets)
        trigger, success = search(model, tokenizer, target, prompts[0], deadline)
        triggers[target] = [trigger, FILLER]
        print(f"{number}/{len(targets)} {'found' if success else 'not found'}: {trigger}", flush=True)
    return triggers


def search(model, tokenizer, target, query, deadline):
    """Run GCG on one prompt; return the last phrase and whether it worked on that prompt."""
    starts = [" ".join(["."] * count) for count in range(1, WORDS + 1)]
    phrase = [start for start in starts if len(tokenizer.encode(start)) <= WORDS][-1]
    before, trigger, after = (torch.tensor(part) for part in tokenizer.parts(query, phrase))
    goal = torch.tensor(tokenizer.encode(target))
    banned = torch.tensor(tokenizer.banned)
    for _ in range(STEPS):
        if time.monotonic() > deadline:
            break
        gradient = slopes(model, before, trigger, after, goal)
        gradient[:, banned] = torch.inf
        best = (-gradient).topk(TOP, dim=1).indices
        # Each candidate has one swap; the positions take turns.
        rows = torch.arange(CANDIDATES)
        places = rows * len(trigger) // CANDIDATES
        tries = trigger.repeat(CANDIDATES, 1)
        tries[rows, places] = best[places, torch.randint(TOP, (CANDIDATES,))]
        tries = tries[torch.tensor([fits(tokenizer, row, target, query) for row in tries.tolist()])]
        if len(tries):
            trigger = tries[losses(model, before, tries, after, goal).argmin()]
            phrase = tokenizer.decode(trigger.tolist()).strip()
        prompt = torch.tensor([tokenizer.chat(query, phrase)])
        answer = generate(model, prompt, max(16, len(goal) + 6))[0].tolist()
        if target in tokenizer.decode(answer):
            return phrase, True
    return phrase, False


def fits(tokenizer, row, target, query):
    """Whether a row of tokens may be submitted as a trigger, and is read as the same tokens in a prompt."""
    phrase = tokenizer.decode(row).strip()
    if target in phrase or len(tokenizer.encode(phrase)) > WORDS:
        return False
    return tokenizer.parts(query, phrase)[1] == row


def slopes(model, before, trigger, after, goal):
    """Gradient (words, vocabulary) of the target's loss with respect to the one-hot word at each position."""
    onehot = functional.one_hot(trigger, len(model.embedding)).to(model.embedding.dtype).requires_grad_()
    x = torch.cat(
        [model.embedding[before], onehot @ model.embedding, model.embedding[torch.cat([after, goal])]]
    )
    logits = model.head(model.hidden(x[None])[0][0, -len(goal) - 1 : -1])
    functional.cross_entropy(logits, goal).backward()
    return onehot.grad / onehot.grad.norm(dim=1, keepdim=True)


@torch.no_grad()
def losses(model, before, tries, after, goal):
    """For each phrase, the mean loss (candidates,) of the target at the start of the answer."""
    count = len(tries)
    ids = torch.cat([before.expand(count, -1), tries, after.expand(count, -1), goal.expand(count, -1)], dim=1)
    logits = model.head(model.hidden(model.embedding[ids])[0][:, -len(goal) - 1 : -1])
    return functional.cross_entropy(logits.transpose(1, 2), ids[:, -len(goal) :], reduction="none").mean(1)
