"""A small ActionFormer (Zhang et al., ECCV 2022). You may change this file, like method.py.

A pyramid of transformer blocks with local attention processes the features at three rates. At each
*point* (a step of a level), two heads give the classes that occur there, and the distances to the start
and the end of the action. Times are in steps here; training.py turns them into seconds.
"""

import math

import torch
from torch import nn
from torch.nn import functional

STRIDES = (1, 2, 4)  # steps per point at each level
RANGES = ((0, 3), (3, 6), (6, math.inf))  # of each level: the larger distance to an end, in steps
CENTRE = 1.5  # a point learns an action if it is this near to the action's middle, in strides


class Block(nn.Module):
    """A pre-norm transformer layer whose attention reaches `window // 2` points to each side."""

    def __init__(self, width, heads=4, window=7):
        super().__init__()
        self.heads, self.window = heads, window
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x, mask):
        """Map (batch, points, width) to the same; `mask` (batch, points) marks the points that exist."""
        batch, points, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(batch, points, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        place = torch.arange(points)
        near = (place[:, None] - place).abs() <= self.window // 2
        # Points that do not exist see themselves, so that no row of the softmax is empty.
        seen = (near & mask[:, None, :]) | torch.eye(points, dtype=torch.bool)
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=seen[:, None])
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, points, width))
        return (x + self.mlp(self.norm2(x))) * mask[:, :, None]


class Conv(nn.Module):
    """A convolution over three points, layer norm and ReLU; maps (batch, points, channels)."""

    def __init__(self, inputs, width):
        super().__init__()
        self.conv, self.norm = nn.Conv1d(inputs, width, 3, padding=1), nn.LayerNorm(width)

    def forward(self, x, mask):
        x = self.conv(x.transpose(1, 2)).transpose(1, 2)
        return self.norm(x).relu() * mask[:, :, None]


class Head(nn.Module):
    """Two convolutions and a linear map, shared by all levels."""

    def __init__(self, width, outputs, bias=0.0):
        super().__init__()
        self.conv1, self.conv2, self.out = Conv(width, width), Conv(width, width), nn.Linear(width, outputs)
        nn.init.constant_(self.out.bias, bias)

    def forward(self, x, mask):
        return self.out(self.conv2(self.conv1(x, mask), mask))


class Detector(nn.Module):
    """Map features to classes and distances at each point of the pyramid."""

    def __init__(self, channels, classes, width=48, block=Block):
        super().__init__()
        self.embed1, self.embed2 = Conv(channels, width), Conv(width, width)
        self.blocks = nn.ModuleList(block(width) for _ in STRIDES)
        self.classify = Head(width, classes, bias=-3.0)  # because few points are in an action
        self.regress = Head(width, 2)

    def pyramid(self, x, mask):
        """The levels of the pyramid: features (batch, points, width) and a mask for each."""
        x = self.embed2(self.embed1(x, mask), mask)
        levels = []
        for stride, block in zip(STRIDES, self.blocks, strict=True):
            if stride > 1:
                x = functional.max_pool1d(x.transpose(1, 2), 3, 2, 1).transpose(1, 2)
                mask = mask[:, ::2]
            x = block(x, mask)
            levels.append((x, mask))
        return levels

    def forward(self, x, mask):
        """Logits (batch, points, classes) and distances (batch, points, 2) in steps, level after level."""
        levels = self.pyramid(x, mask)
        logits = [self.classify(x, mask) for x, mask in levels]
        distances = [
            functional.softplus(self.regress(x, mask)) * stride
            for stride, (x, mask) in zip(STRIDES, levels, strict=True)
        ]
        return torch.cat(logits, 1), torch.cat(distances, 1)


def points(steps):
    """Place (points,) in steps and stride (points,) of each point of a pyramid over `steps` steps."""
    places = [(torch.arange(steps // stride) + 0.5) * stride for stride in STRIDES]
    strides = [torch.full((steps // stride,), float(stride)) for stride in STRIDES]
    return torch.cat(places), torch.cat(strides)


def assign(segments, labels, steps, classes):
    """The target of each point.

    Args:
        segments: (batch, actions, 2), start and end in steps.
        labels: (batch, actions), -1 where a row has fewer actions.
        steps: Number of steps, a multiple of the largest stride.
        classes: Number of classes.

    Returns:
        Classes (batch, points, classes) in {0, 1}; distances (batch, points, 2) to the start and the
        end of the shortest action there; and whether there is an action, (batch, points).
    """
    place, stride = points(steps)
    low, high = (
        torch.tensor(
            [level[side] for level, s in zip(RANGES, STRIDES, strict=True) for _ in range(steps // s)]
        )
        for side in (0, 1)
    )
    start, end = segments[:, None, :, 0], segments[:, None, :, 1]
    left, right = place[:, None] - start, end - place[:, None]
    reach = torch.maximum(left, right)
    central = (place[:, None] - (start + end) / 2).abs() <= CENTRE * stride[:, None]
    assigned = central & (torch.minimum(left, right) > 0) & (labels[:, None] >= 0)
    assigned = assigned & (reach >= low[:, None]) & (reach < high[:, None])
    length = torch.where(assigned, (end - start).expand_as(assigned), torch.inf)
    shortest = length.argmin(2, keepdim=True)
    distances = torch.cat([left.gather(2, shortest), right.gather(2, shortest)], 2)
    onehot = functional.one_hot(labels.clamp(min=0), classes).float()
    return (assigned.float() @ onehot).clamp(max=1), distances, assigned.any(2)


def detection_loss(model, x, mask, segments, labels):
    """Focal loss (Lin et al. 2017) plus DIoU loss (Zheng et al. 2020), per point inside an action."""
    logits, distances = model(x, mask)
    classes, targets, positive = assign(segments, labels, x.shape[1], logits.shape[2])
    exists = torch.cat([mask[:, ::stride] for stride in STRIDES], 1)
    positive = positive & exists
    count = positive.sum().clamp(min=1)
    cross = functional.binary_cross_entropy_with_logits(logits, classes, reduction="none")
    sure = torch.exp(-cross)  # probability given to the right answer
    weight = 0.25 * classes + 0.75 * (1 - classes)
    focal = (weight * (1 - sure) ** 2 * cross)[exists].sum() / count
    ours, theirs = distances[positive], targets[positive]
    inner = torch.minimum(ours, theirs).sum(1)
    hull = torch.maximum(ours, theirs).sum(1)
    apart = ((ours[:, 1] - ours[:, 0]) - (theirs[:, 1] - theirs[:, 0])) / 2
    union = ours.sum(1) + theirs.sum(1) - inner
    diou = 1 - inner / union + (apart / hull) ** 2
    return focal + diou.sum() / count


def decode(logits, distances, mask, limit=100):
    """The best `limit` segments of each video, after soft-NMS.

    Returns:
        Starts, ends (in steps), labels and scores, each (batch, limit).
    """
    exists = torch.cat([mask[:, ::stride] for stride in STRIDES], 1)
    scores = logits.sigmoid() * exists[:, :, None]
    scores, places = scores.flatten(1).topk(limit, 1)
    classes = logits.shape[2]
    place = points(mask.shape[1])[0].expand(len(scores), -1).gather(1, places // classes)
    reach = distances.gather(1, (places // classes)[:, :, None].expand(-1, -1, 2))
    length = mask.sum(1, keepdim=True).float()
    start = (place - reach[:, :, 0]).clamp(min=0)
    end = torch.minimum(place + reach[:, :, 1], length)
    return start, end, places % classes, soft_nms(start, end, places % classes, scores)


def soft_nms(start, end, label, score, sigma=0.5):
    """Scores after Gaussian soft-NMS (Bodla et al. 2017) within each class; all are (batch, segments)."""
    inner = torch.minimum(end[:, :, None], end[:, None]) - torch.maximum(start[:, :, None], start[:, None])
    inner = inner.clamp(min=0)
    length = end - start
    tiou = inner / (length[:, :, None] + length[:, None] - inner).clamp(min=1e-6)
    decay = torch.exp(-(tiou**2) / sigma)
    decay[label[:, :, None] != label[:, None]] = 1.0
    rows, remaining, final = torch.arange(len(score)), score.clone(), torch.zeros_like(score)
    for _ in range(score.shape[1]):
        best = remaining.argmax(1)
        final[rows, best] = remaining[rows, best].clamp(min=0)
        remaining = remaining * decay[rows, best]
        remaining[rows, best] = -torch.inf
    return final
