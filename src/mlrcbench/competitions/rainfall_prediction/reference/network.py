"""The network: features of the satellite picture, moved along the wind."""

import torch
from torch import nn
from torch.nn import functional

from dataset import AHEAD, BANDS, LEADS, SEEN, TARGET, THRESHOLDS, ZOOM

WIDTH, STATIC = 20, 6  # channels of the features; of the learnt map of the land
MOTION = [BANDS.index(name) for name in ("IR_108", "WV_073", "WV_062", "IR_087")]


class Advect(nn.Module):
    """Features of the satellite picture, moved to each lead time and read at the radar's pixels."""

    def __init__(self):
        super().__init__()
        layers, inputs = [], 2 * len(BANDS)
        for size in (1, 3, 1):
            layers += [nn.Conv2d(inputs, WIDTH, size, padding="same"), nn.BatchNorm2d(WIDTH), nn.ReLU()]
            inputs = WIDTH
        self.encoder = nn.Sequential(*layers)
        side = TARGET * ZOOM
        self.land = nn.Parameter(0.1 * torch.randn(STATIC, side * side))
        self.lead = nn.Parameter(0.1 * torch.randn(AHEAD, 2 * WIDTH))
        self.steer = nn.Parameter(torch.eye(2))
        self.shift = nn.Parameter(torch.zeros(2))
        self.first = nn.Linear(WIDTH + STATIC, 2 * WIDTH)
        self.second = nn.Linear(2 * WIDTH, WIDTH)
        self.head = nn.Linear(WIDTH, len(THRESHOLDS))
        nn.init.constant_(self.head.bias, -3.0)

    def forward(self, x, speed, pixels):
        """Logits (n, 5, 6, pixels) from standardised bands (n, 4, 11, side, side) and motion (n, 2)."""
        speed, side = speed @ self.steer, x.shape[-1]
        features = self.encoder(torch.cat([x[:, -1], x[:, -1] - x[:, 0]], 1))
        axis = ((torch.arange(TARGET * ZOOM) + 0.5) / ZOOM - TARGET / 2) * 2 / side
        places = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1).flatten(0, 1)[pixels]
        leads = torch.tensor(LEADS, dtype=torch.float32)
        back = (speed[:, None] * leads[:, None] + self.shift) * 2 / side
        grid = places - back[:, :, None]
        here = functional.grid_sample(features, grid, padding_mode="border", align_corners=False)
        here = here.permute(0, 2, 3, 1)
        land = self.land[:, pixels].T.expand(*here.shape[:3], -1)
        hidden = functional.relu(self.first(torch.cat([here, land], -1)) + self.lead[:, None])
        return self.head(functional.relu(self.second(hidden))).permute(0, 3, 1, 2)


@torch.no_grad()
def motion(x):
    """Mean motion (n, 2) in pixels per frame, from least squares on brightness gradients."""
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
