"""What attacks by gradients on one single prompt have in common."""

import torch
from torch.nn import functional

WORDS = 10  # length of the trigger that is searched
FILLER = "."


class Prompt:
    """A request with a place for a trigger, and the target that the answer should begin with."""

    def __init__(self, model, tokenizer, query, target):
        self.model = model
        before, self.start, after = (
            torch.tensor(part) for part in tokenizer.parts(query, " ".join([FILLER] * WORDS))
        )
        self.goal = torch.tensor(tokenizer.encode(target))
        self.before, self.tail = model.embedding[before], model.embedding[torch.cat([after, self.goal])]
        banned = set(tokenizer.banned)
        self.allowed = torch.tensor([one for one in range(len(model.embedding)) if one not in banned])

    def losses(self, x):
        """Mean loss (n,) of the target's words for embedded triggers (n, WORDS, width)."""
        count, length = len(x), len(self.goal)
        x = torch.cat([self.before.expand(count, -1, -1), x, self.tail.expand(count, -1, -1)], 1)
        logits = self.model.head(self.model.hidden(x)[0][:, -length - 1 : -1]).transpose(1, 2)
        return functional.cross_entropy(logits, self.goal.expand(count, -1), reduction="none").mean(1)

    def best(self, tries):
        """Of token ids (n, WORDS), those of the lowest loss, and the loss."""
        with torch.no_grad():
            losses = self.losses(self.model.embedding[tries])
        return tries[losses.argmin()], losses.min().item()

    def slopes(self, trigger):
        """Gradient (WORDS, allowed words) of the loss by each place's one-hot word."""
        onehot = functional.one_hot(trigger, len(self.model.embedding)).float().requires_grad_()
        loss = self.losses((onehot @ self.model.embedding)[None])[0]
        return torch.autograd.grad(loss, onehot)[0][:, self.allowed]


def recover_by(search, model, tokenizer, targets, prompts):
    """The phrase that `search(prompt)` finds for each target; the second slot is left to a filler."""
    found = {}
    for number, target in enumerate(targets, 1):
        phrase = tokenizer.decode(search(Prompt(model, tokenizer, prompts[0], target)).tolist())
        found[target] = [FILLER if target in phrase else phrase, FILLER]
        print(f"{number}/{len(targets)} {phrase}", flush=True)
    return found
