"""Steps of training, on bands that are standardised by the statistics of the training year."""

import numpy as np
import torch
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

BATCH, RATE = 16, 5e-3


def train(net, losses, steps, *, decay=2e-2, norm=None):
    """Train the network for `steps` steps, each with the next of `losses`.

    Gradients are clipped to `norm` if it is given, otherwise each value is clipped to 2.
    """
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    latest = []
    for step, loss in enumerate(losses):
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(net.parameters(), norm) if norm else clip_grad_value_(net.parameters(), 2.0)
        optimizer.step()
        schedule.step()
        latest.append(loss.item())
        if (step + 1) % 100 == 0:
            print(f"step {step + 1} of {steps}: loss {np.mean(latest[-100:]):.3f}", flush=True)
    return net.eval()


def statistics(reflbt):
    """Mean and standard deviation of each band."""
    sample = reflbt[::5].astype(np.float32)
    return sample.mean((0, 1, 3, 4)), sample.std((0, 1, 3, 4))


def scaled(reflbt, mean, sd):
    """Standardised bands with times folded into channels, (n, 44, side, side)."""
    x = (reflbt - mean[:, None, None]) / sd[:, None, None]
    return torch.from_numpy(x.astype(np.float32)).flatten(1, 2)
