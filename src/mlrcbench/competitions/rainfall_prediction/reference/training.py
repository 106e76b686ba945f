"""Training of the network, its probabilities, and the cut-offs that turn them into rates."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from dataset import SEEN, TARGET, THRESHOLDS, ZOOM
from network import Advect, motion

EPOCHS, BATCH, RATE, WARM = 7, 16, 1e-2, 0.1
SHARE = 0.15  # of the radar pixels that are used in the loss of each step
TUNING = 300  # sequences that are held out to choose cut-offs
WEIGHTS = torch.tensor([1.0, 1.5, 3.0, 4.0, 5.0])  # of rain relative to no rain, for each threshold
RATES = np.array([0.0, 0.5, 2.5, 7.0, 12.0, 20.0], dtype=np.float32)  # rate that is written for each class


def train(x, rates):
    """Train a network on all but the last sequences, and choose the cut-offs that are best on those.

    Args:
        x: Standardised bands, (n, 4, 11, 16, 16).
        rates: Rain rates, (n, 10, 16, 16).
    """
    net = Advect()
    learn(net, x[:-TUNING], rates[:-TUNING], EPOCHS)
    cuts = best_cuts(probabilities(net, x[-TUNING:]), rates[-TUNING:, SEEN:])
    print("cut-offs " + " ".join(f"{cut:.2f}" for cut in cuts), flush=True)
    return net, cuts


def learn(net, x, rates, epochs):
    """Train a network on sequences; the arguments are those of `train`."""
    truth = torch.from_numpy(rates[:, SEEN:]).flatten(2)
    speed = torch.cat([motion(part) for part in x.split(100)])
    net.train()
    steps = epochs * (len(x) // BATCH)
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, RATE, total_steps=steps, pct_start=WARM, div_factor=5
    )
    for epoch in range(epochs):
        losses = []
        for rows in torch.randperm(len(x))[: len(x) // BATCH * BATCH].view(-1, BATCH):
            pixels = torch.randperm(truth.shape[-1])[: int(SHARE * truth.shape[-1])]
            loss = rain_loss(net(x[rows], speed[rows], pixels), truth[rows][:, :, pixels])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        print(f"epoch {epoch + 1} of {epochs}: loss {np.mean(losses):.4f}", flush=True)
    net.eval()


def forecast(net, cuts, x):
    """The rate of the highest threshold such that it, and all lower ones, exceed their cut-offs."""
    above = np.logical_and.accumulate(probabilities(net, x) >= cuts[:, None, None, None], axis=1)
    return RATES[above.sum(1)]


def scaled(reflbt, mean, sd):
    """Standardised bands (n, 4, 11, 16, 16)."""
    return torch.from_numpy(((reflbt - mean[:, None, None]) / sd[:, None, None]).astype(np.float32))


def rain_loss(logits, truth):
    """Weighted cross-entropy of logits (n, 5, 6, pixels); the rates `truth` (n, 6, pixels) may be NaN."""
    known = ~truth.isnan()
    rain = torch.stack([truth >= threshold for threshold in THRESHOLDS], 1).float()
    loss = functional.binary_cross_entropy_with_logits(
        logits, rain, pos_weight=WEIGHTS[:, None, None], reduction="none"
    )
    return (loss * known[:, None]).sum() / known.sum()


@torch.no_grad()
def probabilities(net, x):
    """Probabilities (n, 5, 6, 16, 16) that each threshold is reached."""
    side = TARGET * ZOOM
    pixels = torch.arange(side * side)
    return torch.cat(
        [net(part, motion(part), pixels).sigmoid().unflatten(-1, (side, side)) for part in x.split(32)]
    ).numpy()


def best_cuts(chances, truth):
    """For each threshold, the cut-off with the highest CSI, averaged over neighbouring cut-offs."""
    known, cuts = ~np.isnan(truth), []
    grid = np.linspace(0.02, 0.98, 97)
    for number, threshold in enumerate(THRESHOLDS):
        chance, rain = chances[:, number][known], truth[known] >= threshold
        total = np.histogram(chance, [*grid, 2.0])[0][::-1].cumsum()[::-1]
        hits = np.histogram(chance[rain], [*grid, 2.0])[0][::-1].cumsum()[::-1]
        csi = np.convolve(hits / (rain.sum() + total - hits), np.ones(9) / 9, "same")  # less noise
        cuts.append(grid[np.argmax(csi)])
    return np.array(cuts, dtype=np.float32)
