"""A content model, which knows products only by their attributes: two towers with a full softmax.

A product is the sum of the vectors of its words. A session is a linear map of its last product and of the
mean of its products. What is learnt about one product holds for all similar products, including new ones.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

WIDTH, STEPS, BATCH, RATE = 48, 120, 256, 0.02
COLUMNS = ("title", "brand", "color", "size", "material", "desc")


def bags(catalogue):
    """For each locale the words of its products (words, starts, TF-IDF weights), and the number of words.

    Each column and each locale has its own words; brands are the same everywhere.
    """
    number, bag = {}, {}
    for locale, sold in catalogue.sold.items():
        texts = []
        for one in sold.tolist():
            row = catalogue.row[locale][one]
            words = [f"{c} {w}" for c in COLUMNS for w in catalogue.table[c][row].split()]
            words = dict.fromkeys(w if w.startswith("brand") else f"{locale} {w}" for w in words)
            texts.append([number.setdefault(word, len(number)) for word in words])
        words, lengths = np.concatenate(texts), np.array([len(text) for text in texts])
        starts = np.cumsum(lengths) - lengths
        weights = np.log(len(sold) / np.bincount(words)[words])
        weights /= np.repeat(np.sqrt(np.add.reduceat(weights**2, starts)), lengths)
        bag[locale] = tuple(map(torch.from_numpy, (words, starts, weights.astype("f4"))))
    return bag, len(number)


def likeness(bag):
    """Cosines (sold, sold) of the texts of a locale's products."""
    numbers, starts, weights = bag
    rows = torch.repeat_interleave(
        torch.arange(len(starts)), torch.diff(starts, append=torch.tensor([len(numbers)]))
    )
    used, columns = numbers.unique(return_inverse=True)
    table = torch.zeros(len(starts), len(used))
    table[rows, columns] = weights
    return table @ table.T


def weighted_sum(table, bag):
    """For each text, the weighted sum of the rows of its words."""
    numbers, starts, weights = bag
    return functional.embedding_bag(numbers, table, starts, mode="sum", per_sample_weights=weights)


class Tower(nn.Module):
    """Scores of all products of a locale for sessions."""

    def __init__(self, words):
        super().__init__()
        self.seen, self.next = nn.Embedding(words, WIDTH), nn.Embedding(words, WIDTH)
        with torch.no_grad():
            self.seen.weight.mul_(0.5)
            self.next.weight.copy_(self.seen.weight)
        self.last, self.mean = nn.Linear(WIDTH, WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)
        with torch.no_grad():
            self.last.weight.copy_(torch.eye(WIDTH))
            self.mean.weight.copy_(torch.eye(WIDTH))

    def forward(self, bag, last, mean):
        """Logits (n, sold); `last` (n,) are places, `mean` (n, sold) weights, among the products sold."""
        seen, after = weighted_sum(self.seen.weight, bag), weighted_sum(self.next.weight, bag)
        return (self.last(seen[last]) + self.mean(mean @ seen)) @ after.T


def fit(bag_of, words, examples):
    """Train on `examples[locale]`: (last, mean, answer) of sessions."""
    model = Tower(words)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    locales = list(examples)
    shares = torch.tensor([float(len(examples[locale][2])) for locale in locales])
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / 10, 1.3 * (STEPS - step) / STEPS)
        locale = locales[int(torch.multinomial(shares, 1))]
        last, mean, answer = examples[locale]
        part = torch.randint(len(answer), (BATCH,))
        logits = model(bag_of[locale], last[part], mean[part])
        loss = functional.cross_entropy(logits, answer[part])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    print(f"  content model: loss {loss.item():.3f} after {STEPS} steps", flush=True)
    return model
