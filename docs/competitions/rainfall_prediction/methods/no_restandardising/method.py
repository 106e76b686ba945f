"""The reference, with bands standardised by the training year's mean and deviation in every year."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from dataset import AHEAD, BANDS, SEEN, TARGET, THRESHOLDS, ZOOM, ahead, seen, starts

WIDTH, STATIC = 24, 6  # channels of the features, and of the learnt map of the land
EPOCHS, STRIDE, BATCH, RATE = 2, 1, 8, 4e-3
SHARE = 0.3  # of the radar pixels in each step's loss
TUNING = 16  # periods held out to choose cut-offs
WEIGHTS = torch.tensor([1.0, 1.5, 3.0, 4.0, 5.0])  # of rain against no rain, for each threshold
RATES = np.array([0.0, 0.5, 2.5, 7.0, 12.0, 20.0], dtype=np.float32)  # written for each class
MOTION = [BANDS.index(name) for name in ("IR_108", "WV_073", "WV_062", "IR_087")]


def fit(reflbt, rates):
    """Train on all but the last periods, then choose the cut-offs on those."""
    sample = reflbt[:, ::5].astype(np.float32)
    mean, sd = sample.mean((0, 1, 3, 4)), sample.std((0, 1, 3, 4))
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
    return net, cuts, mean, sd


def predict(model, reflbt):
    """The rate of the highest threshold whose chance, and those below, are above the cut-offs."""
    net, cuts, mean, sd = model
    x = scaled(reflbt, mean, sd)
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


def motion(x):
    """Mean motion (n, 2) in pixels per frame, by least squares on brightness gradients."""
    x = functional.avg_pool2d(x[:, :, MOTION].flatten(1, 2), 3, 1).unflatten(1, (SEEN, len(MOTION)))
    speed = torch.zeros(len(x), 2)
    for _ in range(3):
        first, second = moved(x[:, 0], 1.5 * speed), moved(x[:, -1], -1.5 * speed)
        middle, change = (first + second) / 2, ((second - first) / 3)[..., 2:-2, 2:-2]
        dx = ((middle[..., 2:] - middle[..., :-2]) / 2)[..., 2:-2, 1:-1]
        dy = ((middle[..., 2:, :] - middle[..., :-2, :]) / 2)[..., 1:-1, 2:-2]
        slopes = torch.stack([dx, dy], -1).flatten(1, -2)
        square = slopes.transpose(1, 2) @ slopes + 1e-3 * torch.eye(2)
        step = -torch.linalg.solve(square, slopes.transpose(1, 2) @ change.flatten(1)[:, :, None])
        speed = (speed + step[..., 0]).clamp(-1.5, 1.5)
    return speed


def moved(x, by):
    """Pictures (n, channels, side, side), moved by (n, 2) pixels."""
    side = x.shape[-1]
    grid = functional.affine_grid(torch.eye(2, 3).expand(len(x), 2, 3), x.shape, align_corners=False)
    return functional.grid_sample(
        x, grid - by[:, None, None] * 2 / side, padding_mode="border", align_corners=False
    )


class Advect(nn.Module):
    """Features of the satellite picture, moved to each lead time and read at the radar's pixels."""

    def __init__(self):
        super().__init__()
        layers, inputs = [], (SEEN + 1) * len(BANDS)
        for _ in range(3):
            layers += [nn.Conv2d(inputs, WIDTH, 3, padding=1), nn.BatchNorm2d(WIDTH), nn.ReLU()]
            inputs = WIDTH
        self.encoder = nn.Sequential(*layers)
        side = TARGET * ZOOM
        self.land = nn.Parameter(0.1 * torch.randn(STATIC, side * side))
        self.lead = nn.Parameter(0.1 * torch.randn(AHEAD, WIDTH))
        self.reader = nn.Sequential(
            nn.Linear(WIDTH + STATIC, 2 * WIDTH), nn.ReLU(), nn.Linear(2 * WIDTH, WIDTH)
        )
        self.head = nn.Linear(WIDTH, len(THRESHOLDS))
        nn.init.constant_(self.head.bias, -3.0)

    def forward(self, x, pixels):
        """Logits (n, 5, 12, pixels) from standardised bands (n, 4, 11, side, side)."""
        speed, side = motion(x), x.shape[-1]
        features = self.encoder(torch.cat([x.flatten(1, 2), x[:, -1] - x[:, 0]], 1))
        axis = ((torch.arange(TARGET * ZOOM) + 0.5) / ZOOM - TARGET / 2) * 2 / side
        places = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1).flatten(0, 1)[pixels]
        leads = torch.arange(1, AHEAD + 1)
        back = speed[:, None] * leads[:, None] * 2 / side
        grid = places - back[:, :, None]
        here = functional.grid_sample(features, grid, padding_mode="border", align_corners=False)
        here = here.permute(0, 2, 3, 1)
        land = self.land[:, pixels].T.expand(*here.shape[:3], -1)
        hidden = self.reader(torch.cat([here, land], -1)) + self.lead[:, None]
        return self.head(functional.relu(hidden)).permute(0, 3, 1, 2)
