"""Second stage: a small network that orders a session's candidates, trained with a softmax over the list."""

import torch
from torch import nn
from torch.nn import functional

HIDDEN, EPOCHS, BATCH, RATE = 32, 3, 32, 4e-3


def fit(features, right):
    """Train on features (sessions, candidates, width); `right` (sessions,) is the place of the answer."""
    flat = features.flatten(0, 1)
    centre, scale = flat.mean(0), flat.std(0) + 1e-6
    model = nn.Sequential(
        nn.Linear(len(centre), HIDDEN), nn.GELU(), nn.Linear(HIDDEN, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, 1)
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=1e-3)
    steps = EPOCHS * (len(right) // BATCH)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, steps)
    for epoch in range(EPOCHS):
        total = 0.0
        for part in torch.randperm(len(right)).split(BATCH)[: len(right) // BATCH]:
            logits = model((features[part] - centre) / scale)[..., 0]
            loss = functional.cross_entropy(logits, right[part])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(f"  ranker: epoch {epoch + 1}, loss {total / (len(right) // BATCH):.3f}", flush=True)
    return lambda x: model((x - centre) / scale)[..., 0]
