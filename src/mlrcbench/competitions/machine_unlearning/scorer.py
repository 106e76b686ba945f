"""Scorer: can attackers tell the unlearned models from models that never saw the forget set?

The metric is that of the NeurIPS 2023 Machine Unlearning Challenge, checked against the code
that its organisers published with their report (google-deepmind/unlearning_evaluation, metric.py).
For one forget image, the logit-scaled confidences of N unlearned and N retrained models are two
samples. Attacks try to separate them: every single threshold, and every interval about as wide as
the narrower sample. An attack with error rates a and b shows that

    epsilon >= max(log(1 - delta - a) - log b, log(1 - delta - b) - log a)      (Kairouz et al. 2015)

The image earns 1, 1/2, 1/4, ... by the bin of width 0.5 that holds its largest epsilon.
The forgetting quality is the mean over the forget set; the score multiplies it by the ratios of
retain and test accuracy. The published code has ceil(log(N - 1)) / 0.5 bins: 14 for the challenge's
N = 512 (the report speaks of 13), 10 for ours. Beyond the last bin an image earns nothing.

All constants stand below. Rates are multiples of 1/N, so epsilon is looked up in a table of
(N + 1)^2 entries; the confidences are bounded by the clamp, hence so are the grids of thresholds.
Hostile weights can at most make logits that are not finite, which is an invalid submission.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from mlrcbench.artefacts import read_safetensors, safetensors_layout
from mlrcbench.errors import SubmissionError
from mlrcbench.score import Score

DELTA = 1e-5
EPSILON_CAP = 50.0
THRESHOLDS_PER_UNIT = 100
INTERVAL_BUFFER = 2.0
PEAKY_RATIO = 0.01
BIN_WIDTH = 0.5
TINY = 1e-45

Floats = npt.NDArray[np.float64]
Stack = Mapping[str, Tensor]
_FILE = "models.safetensors"


def forward(stack: Stack, x: Tensor) -> Tensor:
    """Logits of all models of a stack.

    Args:
        stack: `w0` (models, in, out), `b0` (models, 1, out), `w1`, and so on; ReLU between layers.
        x: (images, in), or (models, images, in).

    Returns:
        (models, images, classes).
    """
    layers = len(stack) // 2
    x = x.expand(len(stack["w0"]), -1, -1)
    for layer in range(layers):
        x = torch.baddbmm(stack[f"b{layer}"], x, stack[f"w{layer}"])
        if layer < layers - 1:
            x = functional.relu(x)
    return x


def confidence(logits: Tensor, labels: Tensor) -> Floats:
    """Logit-scaled confidence log p(label) - log(1 - p(label)), (models, images), clamped at log 1e-45.

    Args:
        logits: (models, images, classes), finite.
        labels: (images,) int64.
    """
    probabilities = logits.double().softmax(-1)
    index = labels.expand(len(logits), -1)[..., None]
    right = probabilities.gather(-1, index)[..., 0]
    wrong = probabilities.scatter(-1, index, 0.0).sum(-1)
    found: Floats = (torch.log(right + TINY) - torch.log(wrong + TINY)).numpy()
    return found


def epsilon_table(count: int) -> Floats:
    """Epsilon of an attack by its numbers of false positives (rows) and false negatives (columns).

    Both zero is infinity. Exactly one zero is taken as too few samples and ignored, as are attacks
    that are wrong throughout: -1.
    """
    rate = np.arange(count + 1) / count
    a, b = rate[:, None], rate[None, :]
    with np.errstate(divide="ignore", invalid="ignore"):
        table = np.fmax(np.log(1 - DELTA - a) - np.log(b), np.log(1 - DELTA - b) - np.log(a))
    table = np.where(np.isnan(table), -1.0, np.clip(table, 0.0, None))
    table[0, :] = table[:, 0] = -1.0
    table[0, 0] = np.inf
    return table


def epsilon(unlearned: Floats, retrained: Floats, table: Floats) -> float:
    """The largest epsilon that an attack on one image shows, in [0, EPSILON_CAP].

    Args:
        unlearned: (N,) confidences of the unlearned models.
        retrained: (N,) confidences of the retrained models.
        table: `epsilon_table(N)`.
    """
    pair = (np.sort(retrained), np.sort(unlearned))
    upper, lower = pair if np.median(retrained) > np.median(unlearned) else pair[::-1]
    spans = sorted([float(np.ptp(upper)), float(np.ptp(lower))])
    if spans[1] == 0 or spans[0] / spans[1] < PEAKY_RATIO:
        return EPSILON_CAP
    narrow, wide = (lower, upper) if np.ptp(upper) >= np.ptp(lower) else (upper, lower)
    best = max(_single(upper, lower, table), _interval(narrow, wide, table))
    return min(best, EPSILON_CAP) if best >= 0 else EPSILON_CAP


def points(epsilons: Floats, count: int) -> Floats:
    """What each image earns: 2^-k in bin k, nothing beyond the last bin.

    Args:
        epsilons: (images,).
        count: N, models on each side.
    """
    bins = int(math.ceil(math.log(count - 1)) / BIN_WIDTH)
    place = np.floor(epsilons / BIN_WIDTH)
    return np.where(place < bins, 0.5**place, 0.0)


def forgetting_quality(unlearned: Floats, retrained: Floats) -> tuple[float, Floats]:
    """Mean points over the forget set, and the epsilons (images,).

    Args:
        unlearned: (N, images) confidences.
        retrained: (N, images) confidences.
    """
    count = len(unlearned)
    table = epsilon_table(count)
    epsilons = np.array([epsilon(*columns, table) for columns in zip(unlearned.T, retrained.T, strict=True)])
    return float(points(epsilons, count).mean()), epsilons


def score(artefacts: Path, answers: Path) -> Score:
    """Judge `models.safetensors` against the retrained models.

    Args:
        artefacts: Holds `models.safetensors`: a stack of N models.
        answers: `retrained.safetensors`, a stack of N models, and `judge.safetensors`, the sets.

    Returns:
        Forgetting quality times both ratios of accuracy, with its parts and the median epsilon.

    Raises:
        SubmissionError: The tensors are not those asked for, or the models' answers are not finite.
    """
    path = answers / "retrained.safetensors"
    unlearned = read_safetensors(artefacts / _FILE, safetensors_layout(path))
    with torch.no_grad():
        ours = _judge(unlearned, answers / "judge.safetensors", check=True)
        theirs = _judge(load_file(path), answers / "judge.safetensors", check=False)
    quality, epsilons = forgetting_quality(ours[0], theirs[0])
    retain, test = ours[1] / theirs[1], ours[2] / theirs[2]
    details = {
        "forgetting_quality": quality,
        "retain_ratio": retain,
        "test_ratio": test,
        "median_epsilon": float(np.median(epsilons)),
    }
    return Score(quality * retain * test, details=details)


def _judge(stack: Stack, path: Path, *, check: bool) -> tuple[Floats, float, float]:
    """Confidences on the forget set, accuracy on the retain set and on the test set."""
    sets = load_file(path)
    logits = {name: forward(stack, sets[f"{name}_x"]) for name in ("forget", "retain", "test")}
    for name, values in logits.items():
        broken = (~torch.isfinite(values)).any(-1).any(-1).nonzero()
        if check and len(broken):
            raise SubmissionError(
                f"model {int(broken[0])} of {_FILE} (and {len(broken) - 1} others) gives NaN or infinite "
                f"logits on the {name} set; keep weights small enough for float32"
            )
    retain, test = (
        (logits[n].argmax(-1) == sets[f"{n}_y"]).double().mean().item() for n in ("retain", "test")
    )
    return confidence(logits["forget"], sets["forget_y"]), retain, test


def _single(upper: Floats, lower: Floats, table: Floats) -> float:
    """Best epsilon of "at least t is the sample of larger median", over the grid of t; inputs sorted."""
    low, high = min(upper[0], lower[0]), max(upper[-1], lower[-1])
    grid = np.linspace(low, high, math.ceil((high - low) * THRESHOLDS_PER_UNIT))
    false_positives = len(lower) - np.searchsorted(lower, grid, "left")
    false_negatives = np.searchsorted(upper, grid, "left")
    return float(table[false_positives, false_negatives].max())


def _interval(narrow: Floats, wide: Floats, table: Floats) -> float:
    """Best epsilon of "in [l, r] is the narrower sample", over the grid of (l, r); inputs sorted."""
    count = math.ceil(2 * INTERVAL_BUFFER * THRESHOLDS_PER_UNIT)
    offsets = np.linspace(-INTERVAL_BUFFER, INTERVAL_BUFFER, count)
    right = narrow[-1] + offsets
    left = right[:, None] - (narrow[-1] - narrow[0]) + offsets
    inside = [
        np.maximum(
            np.searchsorted(sample, right, "right")[:, None] - np.searchsorted(sample, left, "left"), 0
        )
        for sample in (narrow, wide)
    ]
    return float(table[inside[1], len(narrow) - inside[0]].max())
