"""Scorer of the full tier: the mini tier's metric, on ResNet-18s for images of 32 x 32 pixels.

The conversion and the scorer use the network of this module; the starter has its own copy. It is the
ResNet-18 of He et al. 2016 with the usual stem for small images: one convolution of 3 x 3 pixels and no
pooling. Group normalisation (Wu and He 2018) replaces batch normalisation, so that a model consists of its
weights only: there are no running statistics that a method could forget to fix, or that hostile files could
fill with nonsense.

The outputs of the retrained models were stored when those models were made. The unlearned models are loaded
one by one, from half precision, and judged in float32; a GPU is used if there is one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from mlrcbench.aggregates import error_of_mean
from mlrcbench.artefacts import read_safetensors, safetensors_layout
from mlrcbench.competitions.machine_unlearning.scorer import Floats, confidence, forgetting_quality
from mlrcbench.errors import SubmissionError
from mlrcbench.score import Score

GROUPS = 32
BLOCKS = 2  # in each stage
MEAN, DEVIATION = 120.0, 64.0  # of pixels, about
CHUNK = 500  # images at once
_PARTS = ("w", "scale", "shift")

Model = Mapping[str, Tensor]
Images = tuple[Tensor, Tensor]


def device() -> str:
    """The name of torch's device: the GPU if there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def shapes(widths: tuple[int, ...], classes: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a model: convolutions `w`, their norms `scale` and `shift`, and a last layer."""
    layout: dict[str, tuple[int, ...]] = {}

    def layer(name: str, before: int, after: int, side: int) -> None:
        layout[f"{name}.w"] = (after, before, side, side)
        layout[f"{name}.scale"] = layout[f"{name}.shift"] = (after,)

    layer("stem", 3, widths[0], 3)
    before = widths[0]
    for (stage, width), block in itertools.product(enumerate(widths), range(BLOCKS)):
        layer(f"{stage}.{block}.first", before, width, 3)
        layer(f"{stage}.{block}.second", width, width, 3)
        if before != width:
            layer(f"{stage}.{block}.skip", before, width, 1)
        before = width
    return layout | {"head.w": (classes, before), "head.b": (classes,)}


def network(model: Model, x: Tensor) -> Tensor:
    """Logits of one model.

    Args:
        model: Tensors with the names and shapes of `shapes`.
        x: Images (images, 3, side, side), uint8.

    Returns:
        Logits (images, classes).
    """

    def layer(name: str, x: Tensor, stride: int = 1) -> Tensor:
        weight, scale, shift = (model[f"{name}.{part}"] for part in _PARTS)
        x = functional.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
        return functional.group_norm(x, math.gcd(GROUPS, len(scale)), scale, shift)

    x = functional.relu(layer("stem", (x.to(model["stem.w"].dtype) - MEAN) / DEVIATION))
    for name in sorted(name.removesuffix(".first.w") for name in model if name.endswith(".first.w")):
        widens = f"{name}.skip.w" in model
        y = functional.relu(layer(f"{name}.first", x, 2 if widens else 1))
        y = layer(f"{name}.second", y)
        x = functional.relu(y + (layer(f"{name}.skip", x, 2) if widens else x))
    return functional.linear(x.mean((2, 3)), model["head.w"], model["head.b"])


def answers_of(model: Model, images: Tensor) -> Tensor:
    """Logits (images, classes) in float32 on the CPU, of weights rounded to half precision."""
    place = device()
    rounded = {name: value.to(place, torch.float16).float() for name, value in model.items()}
    with torch.no_grad():
        parts = [
            network(rounded, images[start : start + CHUNK].to(place)).cpu()
            for start in range(0, len(images), CHUNK)
        ]
    return torch.cat(parts)


def share_right(logits: Tensor, labels: Tensor) -> float:
    """Accuracy of logits (images, classes)."""
    return float((logits.argmax(-1) == labels).double().mean())


def score(artefacts: Path, answers: Path) -> Score:
    """Judge the unlearned models, one file each.

    Args:
        artefacts: Holds `model-000.safetensors` and so on: stacks of one, float16.
        answers: `retrained.safetensors` with `forget_confidence` (N, images) and accuracies (N,) of the
            retrained models, `judge.safetensors` with the sets, `layout.safetensors`, a stack of one.

    Returns:
        Forgetting quality times both ratios of accuracy, as in the mini tier.

    Raises:
        SubmissionError: Files or tensors have wrong names, shapes or dtypes, or logits are not finite.
    """
    retrained = load_file(answers / "retrained.safetensors")
    count = len(retrained["forget_confidence"])
    expected = [f"model-{number:03d}.safetensors" for number in range(count)]
    names = sorted(path.name for path in artefacts.glob("model-*.safetensors"))
    if names != expected:
        missing, extra = sorted({*expected} - {*names}), sorted({*names} - {*expected})
        raise SubmissionError(
            f"write {expected[0]} to {expected[-1]}: missing {missing[:5]}, extra {extra[:5]}"
        )
    sets, layout = (
        load_file(answers / "judge.safetensors"),
        safetensors_layout(answers / "layout.safetensors"),
    )
    judged = [_judge(read_safetensors(artefacts / name, layout), sets, name) for name in expected]
    ours = np.concatenate([confidences for confidences, _ in judged])
    quality, epsilons = forgetting_quality(ours, retrained["forget_confidence"].numpy())
    rates = np.mean([accuracies for _, accuracies in judged], axis=0)
    ratios = [
        float(rate / retrained[f"{name}_accuracy"].mean())
        for name, rate in zip(("retain", "test"), rates, strict=True)
    ]
    details = {
        "forgetting_quality": quality,
        "retain_ratio": ratios[0],
        "test_ratio": ratios[1],
        "median_epsilon": float(np.median(epsilons)),
    }
    return Score(
        quality * ratios[0] * ratios[1], details=details, error=standard_error(epsilons, count, ratios)
    )


def standard_error(epsilons: Floats, count: int, ratios: list[float]) -> float | None:
    """The standard error of the score, over the draw of forget images.

    There is one set of models, so what the models themselves add is not in it; the ratios are of thousands of
    images, whose draw matters little.
    """
    from mlrcbench.competitions.machine_unlearning.scorer import points

    error = error_of_mean(points(epsilons, count))
    return None if error is None else error * ratios[0] * ratios[1]


def _judge(stack: Model, sets: Model, name: str) -> tuple[Floats, tuple[float, float]]:
    """Confidences (1, images) on the forget set, and accuracies on retain and test set."""
    model = {key: value[0] for key, value in stack.items()}
    logits = {part: answers_of(model, sets[f"{part}_x"]) for part in ("forget", "retain", "test")}
    for part, values in logits.items():
        if not bool(torch.isfinite(values).all()):
            raise SubmissionError(
                f"{name} gives NaN or infinite logits on the {part} set; keep its weights smaller"
            )
    retain, test = (share_right(logits[part], sets[f"{part}_y"]) for part in ("retain", "test"))
    return confidence(logits["forget"][None], sets["forget_y"]), (retain, test)
