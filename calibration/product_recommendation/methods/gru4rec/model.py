"""The recurrent network."""

import torch
from torch import nn

WIDTH, DROPOUT = 64, 0.3


class Model(nn.Module):
    """Embedding, one GRU layer, and logits from the same embedding."""

    def __init__(self, count):
        super().__init__()
        self.embedding = nn.Embedding(count + 1, WIDTH, padding_idx=0)
        nn.init.normal_(self.embedding.weight, std=0.1)
        self.gru = nn.GRU(WIDTH, WIDTH, batch_first=True)
        self.drop = nn.Dropout(DROPOUT)

    def forward(self, inputs, lengths):
        """Logits (n, products) of the next product."""
        states, _ = self.gru(self.drop(self.embedding(inputs)))
        last = states[torch.arange(len(inputs)), lengths - 1]
        return self.drop(last) @ self.embedding.weight[1:].T
