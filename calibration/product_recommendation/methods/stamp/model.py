"""STAMP (Liu et al. 2018): attention over the session, multiplied by its last product."""

import torch
from torch import nn

WIDTH, DROPOUT = 64, 0.3


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
