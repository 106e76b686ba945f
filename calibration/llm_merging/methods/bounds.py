"""Bounds: models that need no method, or that need the answers.

`joint_training` is the ceiling: the base model trained on all hidden facts at once, in the two wordings of
the experts' training, and with the same rehearsal as an expert.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mlrcbench.competitions.llm_merging import data, scorer

Weights = dict[str, Tensor]
Writer = Callable[[Path, Path, Path, Path], None]


def _models(inputs: Path) -> tuple[Weights, list[Weights]]:
    """Load the base model and the experts."""
    experts = [load_file(path) for path in sorted(inputs.glob("expert_*.safetensors"))]
    return load_file(inputs / "base.safetensors"), experts


def _save(weights: Weights, artefacts: Path) -> None:
    save_file(
        {name: tensor.contiguous() for name, tensor in weights.items()}, artefacts / "merged.safetensors"
    )


def write_base(_public: Path, inputs: Path, _answers: Path, artefacts: Path) -> None:
    """Write the base model unchanged."""
    _save(_models(inputs)[0], artefacts)


def write_best_expert(_public: Path, inputs: Path, answers: Path, artefacts: Path) -> None:
    """Write the expert with the best score, which is known only in hindsight."""
    facts = json.loads((answers / "answers.json").read_text())
    config = facts["config"]

    def value(weights: Weights) -> float:
        model = scorer.load(config, weights)
        return sum(scorer.judge(config, model, facts["experts"], facts["base"]).values())

    _save(max(_models(inputs)[1], key=value), artefacts)


def write_largest_change(_public: Path, inputs: Path, _answers: Path, artefacts: Path) -> None:
    """Write a model with each parameter from the expert that changed it most."""
    base, experts = _models(inputs)
    merged = {}
    for name, start in base.items():
        changes = torch.stack([expert[name] - start for expert in experts])
        merged[name] = start + changes.gather(0, changes.abs().argmax(0, keepdim=True))[0]
    _save(merged, artefacts)


def write_joint_training(_public: Path, inputs: Path, answers: Path, artefacts: Path) -> None:
    """Write the base model fine-tuned on the hidden facts of all experts: the ceiling."""
    facts = json.loads((answers / "answers.json").read_text())
    config = facts["config"]
    base, _ = _models(inputs)
    hidden = [fact for group in facts["experts"] for fact in group]
    with _more_steps():
        (weights,) = data.train_experts(config, base, [hidden], facts["base"], np.random.default_rng(0))
    _save(weights, artefacts)


@contextmanager
def _more_steps() -> Iterator[None]:
    """Use three times an expert's steps inside, since there is four times as much to learn."""
    before = data.EXPERT_STEPS
    data.EXPERT_STEPS = 3 * before
    try:
        yield
    finally:
        data.EXPERT_STEPS = before


BOUNDS: dict[str, Writer] = {
    "base_model": write_base,
    "best_expert": write_best_expert,
    "largest_change": write_largest_change,
    "joint_training": write_joint_training,
}
