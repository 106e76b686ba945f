"""STAMP (Liu et al. 2018): attention over the session, and its last product, multiplied."""

import numpy as np
import torch
from shop import LISTED
from torch import nn
from torch.nn import functional

WIDTH, EPOCHS, BATCH, RATE, DROPOUT = 64, 6, 128, 4e-3, 0.3


def recommend(catalogue, train, asked, unlabeled):
    """The 100 products of each session's locale with the highest logits; see starter/method.py."""
    paths = [[*items, answer] for items, answer in zip(train.items, train.answer.tolist(), strict=True)]
    inputs, lengths = pad([path[:stop] for path in paths for stop in range(1, len(path))])
    answers = torch.tensor([one for path in paths for one in path[1:]])
    model = Model(catalogue.count)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    for epoch in range(EPOCHS):
        total, parts = 0.0, torch.randperm(len(answers)).split(BATCH)
        for part in parts:
            loss = functional.cross_entropy(model(inputs[part], lengths[part]), answers[part])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total += loss.item()
        print(f"epoch {epoch + 1}: loss {total / len(parts):.3f}", flush=True)
    model.eval()
    lists = np.zeros((len(asked), LISTED), dtype=np.int64)
    inputs, lengths = pad(asked.items)
    with torch.no_grad():
        logits = torch.cat(
            [model(inputs[p], lengths[p]) for p in torch.arange(len(asked)).split(500)]
        ).numpy()
    for i, (items, locale) in enumerate(zip(asked.items, asked.locale.tolist(), strict=True)):
        logits[i, items] = -np.inf
        sold = catalogue.sold[locale]
        lists[i] = sold[np.argsort(-logits[i, sold], kind="stable")[:LISTED]]
    return lists


def pad(paths):
    """Products plus one, (n, longest), zero behind the end; and lengths (n,)."""
    table = np.zeros((len(paths), max(map(len, paths))), dtype=np.int64)
    for i, path in enumerate(paths):
        table[i, : len(path)] = np.array(path) + 1
    return torch.from_numpy(table), torch.tensor([len(path) for path in paths])


class Model(nn.Module):
    """Long-term memory (attention, equations 7 and 8) times short-term memory (last product), trilinear."""

    def __init__(self, count):
        super().__init__()
        self.embedding = nn.Embedding(count + 1, WIDTH, padding_idx=0)
        nn.init.normal_(self.embedding.weight, std=0.1)
        self.each, self.last, self.mean = (nn.Linear(WIDTH, WIDTH, bias=n == 0) for n in range(3))
        self.weight = nn.Linear(WIDTH, 1, bias=False)
        self.long, self.short = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.drop = nn.Dropout(DROPOUT)

    def forward(self, inputs, lengths):
        """Logits (n, products) of the next product."""
        x = self.drop(self.embedding(inputs))
        last = x[torch.arange(len(inputs)), lengths - 1]
        mean = x.sum(1) / lengths[:, None]
        seen = (inputs > 0)[..., None]
        mixed = self.each(x) + self.last(last)[:, None] + self.mean(mean)[:, None]
        attention = self.weight(torch.sigmoid(mixed)) * seen
        long = torch.tanh(self.long((attention * x).sum(1) + mean))
        return 3 * (long * torch.tanh(self.short(last))) @ self.embedding.weight[1:].T
