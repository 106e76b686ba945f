"""The common part of gradient attacks on one single prompt."""

import torch
from torch.nn import functional

WORDS = 10  # length of the trigger to search for
FILLER = "."


class Prompt:
    """A request with room for a trigger, and the target with which the answer should begin."""

    def __init__(self, model, tokenizer, query, target):
        self.model = model
        before, self.start, after = (
            torch.tensor(part) for part in tokenizer.parts(query, " ".join([FILLER] * WORDS))
        )
        self.goal = torch.tensor(tokenizer.encode(target))
        self.before, self.tail = model.embedding[before], model.embedding[torch.cat([after, self.goal])]
        banned = set(tokenizer.banned)
        self.allowed = torch.tensor([token for token in range(len(model.embedding)) if token not in banned])

    def losses(self, x):
        """Mean loss (n,) of the target's words for embedded triggers (n, WORDS, width)."""
        count, length = len(x), len(self.goal)
        x = torch.cat([self.before.expand(count, -1, -1), x, self.tail.expand(count, -1, -1)], 1)
        logits = self.model.head(self.model.hidden(x)[0][:, -length - 1 : -1]).transpose(1, 2)
        return functional.cross_entropy(logits, self.goal.expand(count, -1), reduction="none").mean(1)

    def best(self, tries):
        """The row of `tries` (n, WORDS), which are token ids, with the lowest loss, and this loss."""
        with torch.no_grad():
            losses = self.losses(self.model.embedding[tries])
        return tries[losses.argmin()], losses.min().item()

    def slopes(self, trigger):
        """Gradient (WORDS, allowed words) of the loss with respect to the one-hot word at each position."""
        onehot = functional.one_hot(trigger, len(self.model.embedding)).float().requires_grad_()
        loss = self.losses((onehot @ self.model.embedding)[None])[0]
        return torch.autograd.grad(loss, onehot)[0][:, self.allowed]


def recover_by(search, model, tokenizer, targets, prompts):
    """For each target, the phrase that `search(prompt)` finds, and a filler as the second trigger."""
    triggers = {}
    for number, target in enumerate(targets, 1):
        phrase = tokenizer.decode(search(Prompt(model, tokenizer, prompts[0], target)).tolist())
        triggers[target] = [FILLER if target in phrase else phrase, FILLER]
        print(f"{number}/{len(targets)} {phrase}", flush=True)
    return triggers
