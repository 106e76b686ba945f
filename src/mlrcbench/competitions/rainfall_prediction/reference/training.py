"""Training of the network, its chances, and the cut-offs that turn them into rates."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from dataset import TARGET, THRESHOLDS, ZOOM, ahead, seen, starts
from network import Advect

EPOCHS, STRIDE, BATCH, RATE = 2, 1, 8, 4e-3
SHARE = 0.3  # of the radar pixels in each step's loss
TUNING = 16  # periods held out to choose cut-offs
WEIGHTS = torch.tensor([1.0, 1.5, 3.0, 4.0, 5.0])  # of rain against no rain, for each threshold
RATES = np.array([0.0, 0.5, 2.5, 7.0, 12.0, 20.0], dtype=np.float32)  # written for each class


def train(reflbt, rates, mean, sd):
    """A network from all but the last periods, and the cut-offs that are best on those."""
    net, at = Advect(), starts(rates[:-TUNING], STRIDE)
    steps = EPOCHS * (len(at) // BATCH)
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    for epoch in range(EPOCHS):
        losses = []
        for rows in torch.randperm(len(at))[: len(at) // BATCH * BATCH].view(-1, BATCH).numpy():
            x, truth = scaled(seen(reflbt, at[rows]), mean, sd), torch.from_numpy(ahead(rates, at[rows]))
            pixels = torch.randperm(truth[0, 0].numel())[: int(SHARE * truth[0, 0].numel())]
            truth = truth.flatten(2)[:, :, pixels]
            loss = rain_loss(net(x, pixels), truth)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        print(f"epoch {epoch + 1} of {EPOCHS}: loss {np.mean(losses):.4f}", flush=True)
    net.eval()
    at = starts(rates[-TUNING:], 4)
    chances = probabilities(net, scaled(seen(reflbt[-TUNING:], at), mean, sd))
    cuts = best_cuts(chances, ahead(rates[-TUNING:], at))
    print("cut-offs " + " ".join(f"{cut:.2f}" for cut in cuts), flush=True)
    return net, cuts


def forecast(net, cuts, x):
    """The rate of the highest threshold whose chance, and those below, are above the cut-offs."""
    above = np.logical_and.accumulate(probabilities(net, x) >= cuts[:, None, None, None], axis=1)
    return RATES[above.sum(1)]


def scaled(reflbt, mean, sd):
    """Standardised bands (n, 4, 11, 24, 24)."""
    return torch.from_numpy(((reflbt - mean[:, None, None]) / sd[:, None, None]).astype(np.float32))


def rain_loss(logits, truth):
    """Weighted cross-entropy of logits (n, 5, 12, pixels); rates (n, 12, pixels) may be NaN."""
    known = ~truth.isnan()
    rain = torch.stack([truth >= threshold for threshold in THRESHOLDS], 1).float()
    loss = functional.binary_cross_entropy_with_logits(
        logits, rain, pos_weight=WEIGHTS[:, None, None], reduction="none"
    )
    return (loss * known[:, None]).sum() / known.sum()


@torch.no_grad()
def probabilities(net, x):
    """Chance (n, 5, 12, 24, 24) that each threshold is reached."""
    side = TARGET * ZOOM
    pixels = torch.arange(side * side)
    return torch.cat(
        [net(part, pixels).sigmoid().unflatten(-1, (side, side)) for part in x.split(16)]
    ).numpy()


def best_cuts(chances, truth):
    """For each threshold the cut-off of highest CSI."""
    known, cuts = ~np.isnan(truth), []
    grid = np.linspace(0.02, 0.98, 97)
    for number, threshold in enumerate(THRESHOLDS):
        chance, rain = chances[:, number][known], truth[known] >= threshold
        total = np.histogram(chance, [*grid, 2.0])[0][::-1].cumsum()[::-1]
        hits = np.histogram(chance[rain], [*grid, 2.0])[0][::-1].cumsum()[::-1]
        cuts.append(grid[np.argmax(hits / (rain.sum() + total - hits))])
    return np.array(cuts, dtype=np.float32)
