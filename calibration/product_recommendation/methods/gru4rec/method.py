"""GRU4Rec (Hidasi et al. 2016): a recurrent network over the session's products, with a full softmax."""

import numpy as np
import torch
from torch.nn import functional

from model import Model
from shop import LISTED

EPOCHS, BATCH, RATE = 6, 128, 4e-3


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
    """Product numbers plus one, (n, longest), with zeros after the end; and lengths (n,)."""
    table = np.zeros((len(paths), max(map(len, paths))), dtype=np.int64)
    for i, path in enumerate(paths):
        table[i, : len(path)] = np.array(path) + 1
    return torch.from_numpy(table), torch.tensor([len(path) for path in paths])
