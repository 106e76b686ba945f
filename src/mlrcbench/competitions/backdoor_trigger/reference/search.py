"""Greedy coordinate gradient (Zou et al. 2023) for a phrase that works on several requests."""

import torch
from torch.nn import functional

from model import ASSISTANT, END, USER

CANDIDATES, TOP = 96, 64  # swaps per step, words per position
STEPS = 40


class Search:
    """Greedy coordinate gradient over several requests, whose keys and values are computed once."""

    def __init__(self, model, tokenizer, queries):
        self.model, self.tokenizer, self.queries = model, tokenizer, queries
        heads = torch.tensor([tokenizer.encode(f"{USER} {query} .") for query in queries])
        with torch.no_grad():
            _, self.past = model.hidden(model.embedding[heads])
        self.after = torch.tensor(tokenizer.encode(f". {ASSISTANT}"))
        self.banned = torch.tensor(tokenizer.encode(f"{USER} {ASSISTANT} {END} ."))

    def run(self, target, start):
        """Search from `start`, and return the phrase of lowest loss."""
        goal = torch.tensor(self.tokenizer.encode(target))
        trigger = torch.tensor(self.tokenizer.encode(start))
        best, lowest = trigger, torch.inf
        for _ in range(STEPS):
            slopes = self.slopes(trigger, goal)
            slopes[:, self.banned] = torch.inf
            options = (-slopes).topk(TOP, dim=1).indices
            rows, places = torch.arange(CANDIDATES), torch.randint(len(trigger), (CANDIDATES,))
            tries = trigger.repeat(CANDIDATES, 1)
            tries[rows, places] = options[places, torch.randint(TOP, (CANDIDATES,))]
            losses = self.losses(tries, goal)
            trigger = tries[losses.argmin()]
            if losses.min() < lowest:
                best, lowest = trigger, losses.min()
            if lowest < 0.1:
                break
        return self.tokenizer.decode(best.tolist())

    def forward(self, x, count, goal):
        """Loss (phrases, requests, words) of each word of the goal; `x` is (phrases, length, width)."""
        requests = len(self.queries)
        past = [(self.spread(k, count), self.spread(v, count)) for k, v in self.past]
        tail = self.model.embedding[torch.cat([self.after, goal])].expand(count, -1, -1)
        x = torch.cat([x, tail], 1).repeat_interleave(requests, 0)
        states = self.model.hidden(x, past)[0][:, -len(goal) - 1 : -1]
        logits = self.model.head(states).transpose(1, 2)
        labels = goal.expand(len(x), -1)
        return functional.cross_entropy(logits, labels, reduction="none").view(count, requests, -1)

    def spread(self, values, count):
        """Repeat the requests' keys or values for each phrase."""
        return values.repeat(count, 1, 1, 1)

    def slopes(self, trigger, goal):
        """Gradient (words, vocabulary) with respect to the one-hot word at each position.

        A soft maximum over the goal's words gives the hardest word the largest weight.
        """
        onehot = functional.one_hot(trigger, len(self.model.embedding)).float().requires_grad_()
        losses = self.forward((onehot @ self.model.embedding)[None], 1, goal)
        losses.logsumexp(-1).mean().backward()
        return onehot.grad

    @torch.no_grad()
    def losses(self, tries, goal):
        """Mean loss of each phrase."""
        return self.forward(self.model.embedding[tries], len(tries), goal).mean((1, 2))
