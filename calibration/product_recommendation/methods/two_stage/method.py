"""Two stages without content: candidates by co-visitation counts, ordered by a ranker that sees counts only.

The sixth team of the KDD Cup did this with boosted trees: a model trained on held-out steps reorders the
rules' list. Here the lessons are sessions of train and unlabeled sessions whose last product is hidden; what
they add to the counts themselves is removed.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from pairs import DECAY, DISTANCE, counts
from shop import LISTED

LATER = 3.0  # weight of unlabeled sessions' counts when candidates are chosen
LESSONS, EPOCHS, BATCH, RATE = 5000, 3, 32, 4e-3


def recommend(catalogue, train, asked, unlabeled):
    """The 100 best products of each session by the ranker; see starter/method.py."""
    known = list(zip(train.items, train.answer.tolist(), train.locale, [0] * len(train), strict=True))
    later = [
        (items[:-1], items[-1], where, 1)
        for items, where in zip(unlabeled.items, unlabeled.locale, strict=True)
    ]
    tables = [near([[*a, b] for a, b, _, _ in group], catalogue.count) for group in (known, later)]
    lessons = [one for one in later + known if one[0] and one[1] not in one[0]][:LESSONS]
    examples = [features(catalogue.sold[one[2]], tables, one) for one in lessons]
    x = torch.from_numpy(np.stack([table for table, _ in examples]))
    right = torch.tensor(
        [np.append(np.flatnonzero(p == one[1]), -1)[0] for (_, p), one in zip(examples, lessons, strict=True)]
    )
    x, right = x[right >= 0], right[right >= 0]
    print(f"{len(right)} lessons have their answer among candidates", flush=True)
    centre, scale = x.mean((0, 1)), x.std((0, 1)) + 1e-6
    model = nn.Sequential(nn.Linear(x.shape[-1], 32), nn.GELU(), nn.Linear(32, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    for epoch in range(EPOCHS):
        for part in torch.randperm(len(x)).split(BATCH):
            loss = functional.cross_entropy(model((x[part] - centre) / scale)[..., 0], right[part])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch + 1}: loss {loss.item():.3f}", flush=True)
    questions = [(items, -1, where, 1) for items, where in zip(asked.items, asked.locale, strict=True)]
    lists = np.zeros((len(asked), LISTED), dtype=np.int64)
    with torch.no_grad():
        for i, question in enumerate(questions):
            table, products = features(catalogue.sold[question[2]], tables, question)
            scores = model((torch.from_numpy(table) - centre) / scale)[:, 0]
            lists[i] = products[scores.argsort(descending=True, stable=True).numpy()]
    return lists


def features(sold, tables, session):
    """The 100 candidates with the largest counts: features (100, width) and products (100,)."""
    items, answer, _, group = session
    latest = np.array(items[::-1])
    weight = DECAY ** np.arange(len(latest), dtype=np.float32)
    sums = np.stack([weight @ table[latest][:, sold] for table in tables])
    steps = np.stack([table[latest[0], sold] for table in tables])
    if answer >= 0:
        place = np.searchsorted(sold, answer)
        for product, added in zip(latest, DISTANCE, strict=False):
            sums[group, place] -= added * weight[latest == product].sum()
            steps[group, place] -= added * (product == latest[0])
    seen = np.stack([table.diagonal()[sold] for table in tables])
    mixed = sums[0] + LATER * sums[1] + 1e-4 * seen.sum(0)
    mixed[np.isin(sold, latest)] = -1.0
    best = np.argsort(-mixed, kind="stable")[:LISTED]
    flat = np.stack([np.log(np.maximum(one, 0) + 0.1) for one in (*sums, *steps, *seen)])[:, best]
    shape = np.stack(
        [np.log(np.arange(1, LISTED + 1)), np.full(LISTED, np.log(len(items))), np.full(LISTED, group)]
    )
    return np.concatenate([flat, shape]).T.astype("f4"), sold[best]


def near(paths, size):
    """Weighted counts (size, size) of pairs of products; the diagonal counts single products."""
    table = counts(paths, size)
    table[np.arange(size), np.arange(size)] = np.bincount(np.concatenate(paths), minlength=size)
    return table
