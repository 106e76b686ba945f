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
    """Write copies of the original models."""
    originals = load_file(inputs / "model.safetensors")
    _write(
        artefacts,
        {name: value.expand(len(value), data.MODELS, *value.shape[2:]) for name, value in originals.items()},
    )


def write_zeros(public: Path, inputs: Path, answers: Path, artefacts: Path) -> None:
    """Write models that answer every image in the same way."""
    retrained = load_file(answers / "retrained.safetensors")
    _write(artefacts, {name: torch.zeros_like(value) for name, value in retrained.items()})


def write_random_models(public: Path, inputs: Path, answers: Path, artefacts: Path) -> None:
    """Write newly initialised models without any training."""
    rng = np.random.default_rng(0)
    worlds = len(load_file(inputs / "model.safetensors")["w0"])
    stacks = [data.initial(data.MODELS, rng) for _ in range(worlds)]
    _write(artefacts, {name: torch.stack([stack[name] for stack in stacks]) for name in stacks[0]})


def write_retrained(public: Path, inputs: Path, answers: Path, artefacts: Path) -> None:
    """Write retrained models from other random streams than the scorer's: what perfect unlearning scores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    sets, bases = load_file(answers / "judge.safetensors"), load_file(answers / "base.safetensors")
    stacks = []
    for number in range(len(bases["w0"])):
        retain = (sets["retain_x"][number], sets["retain_y"][number])
        base = {name: value[number] for name, value in bases.items()}
        stacks.append(data.finish(base, retain, data.MODELS, np.random.default_rng([0, number])))
    _write(artefacts, {name: torch.stack([stack[name] for stack in stacks]) for name in stacks[0]})
    torch.set_num_threads(before)


def _write(artefacts: Path, stack: Stack) -> None:
    save_file({name: value.contiguous() for name, value in stack.items()}, artefacts / _FILE)


BOUNDS = {
    "copies": write_copies,
    "zeros": write_zeros,
    "random_models": write_random_models,
    "retrained": write_retrained,
}
