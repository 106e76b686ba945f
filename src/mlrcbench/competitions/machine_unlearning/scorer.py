"""Scorer: can attackers tell the unlearned models from models that never saw the forget set?

The metric follows the NeurIPS 2023 Machine Unlearning Challenge. For one forget image, the logit-scaled
confidences of N unlearned and N retrained models are two samples, and attacks try to separate them. An
attack with error rates a and b shows that

    epsilon >= max(log(1 - a) - log b, log(1 - b) - log a)      (Kairouz et al. 2015)

The image earns 2^-(epsilon / 0.5) for its largest epsilon. The forgetting quality is the mean over the
forget set; a world's score multiplies it by the ratios of accuracy on the retain set and on hidden test
images, each at most 1; and the score is the mean over the worlds of a split.

The challenge's published form (google-deepmind/unlearning_evaluation, metric.py) ignores attacks with
exactly one rate of zero and has its thresholds on a grid. Samples with ties in the tails therefore escape
all of its attacks, and earn more than truly retrained models. Here every rate is smoothed to
(k + 1) / (N + 2), no attack is ignored, and every value of either sample is a threshold. The published form
is reported as a detail, for the first world, and it is the score of the full tier.

Hostile weights: the clamp bounds the confidences, and therefore the published form's grids of thresholds.
The worst that they can do is to produce logits that are not finite, which makes the submission invalid.
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

from mlrcbench.aggregates import error_of_mean
from mlrcbench.artefacts import read_safetensors, safetensors_layout
from mlrcbench.errors import SubmissionError
from mlrcbench.score import Score

SMOOTHING = 1.0
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
        x: Images (images, in), or (models, images, in).

    Returns:
        Logits (models, images, classes).
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
        logits: Finite logits (models, images, classes).
        labels: True labels (images,), int64.
    """
    probabilities = logits.double().softmax(-1)
    index = labels.expand(len(logits), -1)[..., None]
    right = probabilities.gather(-1, index)[..., 0]
    wrong = probabilities.scatter(-1, index, 0.0).sum(-1)
    log_odds: Floats = (torch.log(right + TINY) - torch.log(wrong + TINY)).numpy()
    return log_odds


def attack_epsilons(unlearned: Floats, retrained: Floats) -> Floats:
    """The largest epsilon of all attacks on each image, with smoothed rates.

    An attack compares a statistic with a threshold. The statistics are the confidence and its distance from
    the retrained models' median; thresholds are all values of either sample, in both directions.

    Args:
        unlearned: Confidences (N, images) of the unlearned models.
        retrained: Confidences (N, images) of the retrained models.

    Returns:
        Epsilons (images,), from 0 to log(N + 1).
    """
    median = np.median(retrained, 0)
    pairs = ((unlearned, retrained), (np.abs(unlearned - median), np.abs(retrained - median)))
    largest: Floats = np.max([_thresholds(*pair) for pair in pairs], 0)
    return largest


def smoothed_quality(unlearned: Floats, retrained: Floats) -> tuple[float, Floats]:
    """Mean of 2^-(epsilon / 0.5) over the forget set, and the epsilons (images,).

    Args:
        unlearned: Confidences (N, images) of the unlearned models.
        retrained: Confidences (N, images) of the retrained models.
    """
    epsilons = attack_epsilons(unlearned, retrained)
    return float((0.5 ** (epsilons / BIN_WIDTH)).mean()), epsilons


def epsilon_table(count: int) -> Floats:
    """The published epsilon of an attack, by its false positives (rows) and false negatives (columns).

    If both numbers are zero, epsilon is infinite. Attacks with exactly one zero count as based on too few
    samples, and are ignored; so are attacks that are always wrong. Ignored attacks have the entry -1.
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
    """The published form's largest epsilon of all attacks on one image, in [0, EPSILON_CAP].

    Args:
        unlearned: Confidences (N,) of the unlearned models.
        retrained: Confidences (N,) of the retrained models.
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
    """Points that each image earns in the published form: 2^-k in bin k, nothing beyond the last bin.

    Args:
        epsilons: Largest epsilon of each image, (images,).
        count: Number N of models on each side.
    """
    bins = int(math.ceil(math.log(count - 1)) / BIN_WIDTH)
    place = np.floor(epsilons / BIN_WIDTH)
    return np.where(place < bins, 0.5**place, 0.0)


def forgetting_quality(unlearned: Floats, retrained: Floats) -> tuple[float, Floats]:
    """The published form: mean points over the forget set, and the epsilons (images,).

    Args:
        unlearned: Confidences (N, images) of the unlearned models.
        retrained: Confidences (N, images) of the retrained models.
    """
    count = len(unlearned)
    table = epsilon_table(count)
    epsilons = np.array([epsilon(*columns, table) for columns in zip(unlearned.T, retrained.T, strict=True)])
    return float(points(epsilons, count).mean()), epsilons


def score(artefacts: Path, answers: Path) -> Score:
    """Judge `models.safetensors` against the retrained models, world by world.

    Args:
        artefacts: Holds `models.safetensors`: a stack of N models for each world, (worlds, N, ...).
        answers: Holds `retrained.safetensors` of the same form, and `judge.safetensors`, the sets.

    Returns:
        The mean over worlds of forgetting quality times both ratios of accuracy, with its parts, the mean
        epsilon, and the published form of the first world.

    Raises:
        SubmissionError: The tensors have wrong names, shapes or dtypes, or the models' logits are not finite.
    """
    path = answers / "retrained.safetensors"
    unlearned = read_safetensors(artefacts / _FILE, safetensors_layout(path))
    retrained, sets = load_file(path), load_file(answers / "judge.safetensors")
    worlds = [
        _judge_world(_world(unlearned, number), _world(retrained, number), _world(sets, number), number)
        for number in range(len(retrained["w0"]))
    ]
    details = {name: float(np.mean([world[name] for world in worlds])) for name in worlds[0]}
    details["published_first_world"] = details.pop("published") * len(worlds)
    return Score(
        details.pop("score"), details=details, error=standard_error([world["score"] for world in worlds])
    )


def standard_error(scores: list[float]) -> float | None:
    """The standard error of the mean over worlds.

    Each world has its own people, images and models, so a world is the unit that is independent; its
    images share their models, and their own spread would be too small. With four worlds the error is itself
    uncertain by about 40 %.
    """
    return error_of_mean(scores)


def _world(tensors: Stack, number: int) -> dict[str, Tensor]:
    """The tensors of one world."""
    return {name: value[number] for name, value in tensors.items()}


def _judge_world(unlearned: Stack, retrained: Stack, sets: Stack, number: int) -> dict[str, float]:
    """The score of one world, and its parts."""
    with torch.no_grad():
        ours = _judge(unlearned, sets, f" of world {number}")
        theirs = _judge(retrained, sets, None)
    quality, epsilons = smoothed_quality(ours[0], theirs[0])
    retain, test = ours[1] / theirs[1], ours[2] / theirs[2]
    published = forgetting_quality(ours[0], theirs[0])[0] * retain * test if number == 0 else 0.0
    return {
        "score": quality * min(retain, 1.0) * min(test, 1.0),
        "forgetting_quality": quality,
        "retain_ratio": retain,
        "test_ratio": test,
        "mean_epsilon": float(epsilons.mean()),
        "published": published,
    }


def _judge(stack: Stack, sets: Stack, place: str | None) -> tuple[Floats, float, float]:
    """Confidences on the forget set, accuracy on the retain set and on the test set.

    `place` is part of the error message for logits that are not finite; without it, they are not checked.
    """
    logits = {name: forward(stack, sets[f"{name}_x"]) for name in ("forget", "retain", "test")}
    for name, values in logits.items():
        broken = (~torch.isfinite(values)).any(-1).any(-1).nonzero()
        if place is not None and len(broken):
            raise SubmissionError(
                f"model {int(broken[0])}{place} in {_FILE} (and {len(broken) - 1} others) gives NaN or "
                f"infinite logits on the {name} set; keep weights small enough for float32"
            )
    retain, test = (
        (logits[n].argmax(-1) == sets[f"{n}_y"]).double().mean().item() for n in ("retain", "test")
    )
    return confidence(logits["forget"], sets["forget_y"]), retain, test


def _thresholds(unlearned: Floats, retrained: Floats) -> Floats:
    """The largest epsilon (images,) of the attacks "above t is one of them", over all t and both ways."""
    values = np.concatenate([unlearned, retrained])
    below = [_smooth((sample <= values[:, None]).sum(1), len(sample)) for sample in (unlearned, retrained)]
    ratios = [np.abs(np.log(ours) - np.log(theirs)) for ours, theirs in (below, [1 - rate for rate in below])]
    largest: Floats = np.max(ratios, (0, 1))
    return largest


def _smooth(hits: npt.NDArray[np.int64], count: int) -> Floats:
    """Rates of `hits` among `count`, never 0 or 1."""
    rates: Floats = (hits + SMOOTHING) / (count + 2 * SMOOTHING)  # type: ignore[assignment] # a wider stub
    return rates


def _single(upper: Floats, lower: Floats, table: Floats) -> float:
    """Largest epsilon of the attacks "at least t is the sample of larger median"; inputs are sorted."""
    low, high = min(upper[0], lower[0]), max(upper[-1], lower[-1])
    grid = np.linspace(low, high, math.ceil((high - low) * THRESHOLDS_PER_UNIT))
    false_positives = len(lower) - np.searchsorted(lower, grid, "left")
    false_negatives = np.searchsorted(upper, grid, "left")
    return float(table[false_positives, false_negatives].max())


def _interval(narrow: Floats, wide: Floats, table: Floats) -> float:
    """Largest epsilon of the attacks "inside [l, r] is the narrower sample"; inputs are sorted."""
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
