"""Artefacts that need no method: constants, and a second set of retrained models."""

# ruff: noqa: ARG001 (writers have one signature)

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from mlrcbench.competitions.machine_unlearning import data
from mlrcbench.competitions.machine_unlearning.scorer import Stack

_FILE = "models.safetensors"


def write_copies(public: Path, inputs: Path, answers: Path, artefacts: Path) -> None:
    """The original model, as often as asked for."""
    original = load_file(inputs / "model.safetensors")
    _write(artefacts, {name: value.expand(data.MODELS, *value.shape[1:]) for name, value in original.items()})


def write_zeros(public: Path, inputs: Path, answers: Path, artefacts: Path) -> None:
    """Models that answer every image alike."""
    original = load_file(inputs / "model.safetensors")
    _write(artefacts, {name: torch.zeros(data.MODELS, *value.shape[1:]) for name, value in original.items()})


def write_random_models(public: Path, inputs: Path, answers: Path, artefacts: Path) -> None:
    """Freshly initialised models, not trained at all."""
    _write(artefacts, data.initial(data.MODELS, np.random.default_rng(0)))


def write_retrained(public: Path, inputs: Path, answers: Path, artefacts: Path) -> None:
    """Retrained models from other random streams than the scorer's: what perfect unlearning gets."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    sets = load_file(answers / "judge.safetensors")
    retain = (sets["retain_x"], sets["retain_y"])
    base = load_file(answers / "base.safetensors")
    _write(artefacts, data.finish(base, retain, data.MODELS, np.random.default_rng(0)))
    torch.set_num_threads(before)


def _write(artefacts: Path, stack: Stack) -> None:
    save_file({name: value.contiguous() for name, value in stack.items()}, artefacts / _FILE)


BOUNDS = {
    "copies": write_copies,
    "zeros": write_zeros,
    "random_models": write_random_models,
    "retrained": write_retrained,
}
