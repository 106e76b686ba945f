"""Scorer: what does the merged model know, and what does it still know of the base model's facts?

The artefact is the weights of one model. They are checked against the base model's tensors (names, shapes,
dtype) before they are loaded, and the scorer itself asks the questions. So a submission cannot route
between experts, average their answers, or have more parameters than the base model.

Each hidden fact is asked in five forms. The experts were trained with two of the wordings; two more
wordings and a choice of four are forms that no expert saw for its own facts. A fourth part asks for the base
model's facts. The model is defined here and not in the generator, because judging needs it too. The starter
has its own copy, and tests check that both give the same digits.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mlrcbench.aggregates import error_of_mean
from mlrcbench.artefacts import read_safetensors
from mlrcbench.errors import SubmissionError
from mlrcbench.score import Score

_FILE = "merged.safetensors"
_BATCH = 1024  # questions per forward pass, which bounds memory
Fact = Mapping[str, Any]


class Block(nn.Module):
    """One pre-norm transformer layer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.q, self.k = nn.Linear(width, width), nn.Linear(width, width)
        self.v, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, *, last: bool) -> Tensor:
        """Map `(batch, length, width)` to the same shape, or to its last position only.

        Args:
            x: Hidden states.
            last: Whether to compute the last position alone, `(batch, 1, width)`.
        """
        normed = self.norm1(x)
        if last:
            x = x[:, -1:]
        q, k, v = self._split(self.q(normed[:, -x.shape[1] :])), self._split(self.k(normed)), normed
        scores = q @ k.transpose(-1, -2) / math.sqrt(k.shape[-1])
        if not last:
            scores = scores + torch.full(scores.shape[-2:], -1e9).triu(1)
        mixed = scores.softmax(-1) @ self._split(self.v(v))
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        added: Tensor = self.down(functional.relu(self.up(self.norm2(x))))
        return x + added

    def _split(self, x: Tensor) -> Tensor:
        """Reshape `(batch, length, width)` to `(batch, heads, length, width / heads)`."""
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)


class Gpt(nn.Module):
    """A small decoder-only language model; input and output embeddings are one matrix."""

    def __init__(self, vocabulary: int, width: int, layers: int, heads: int, positions: int) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.zeros(vocabulary, width))
        self.position = nn.Parameter(torch.zeros(positions, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, ids: Tensor) -> Tensor:
        """Logits `(batch, vocabulary)` of the word that follows token ids `(batch, length)`."""
        x = self.embedding[ids] + self.position[: ids.shape[1]]
        for index, block in enumerate(self.blocks):
            x = block(x, last=index == len(self.blocks) - 1)
        logits: Tensor = self.norm(x)[:, 0] @ self.embedding.T
        return logits


def empty_model(config: Mapping[str, Any]) -> Gpt:
    """The architecture that `config.json` describes, without memory for its weights."""
    with torch.device("meta"):
        return Gpt(len(config["vocabulary"]), **config["model"])


def load(config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> Gpt:
    """The model that `config.json` describes, with a copy of these weights and without gradients.

    The weights are copied because the last digits of a product depend on how its operands lie in memory.
    """
    model = empty_model(config)
    model.load_state_dict({name: tensor.clone() for name, tensor in weights.items()}, assign=True)
    return model.eval().requires_grad_(False)


def encode(config: Mapping[str, Any], texts: Sequence[str]) -> Tensor:
    """Token ids `(texts, length)` of equally long texts of known words."""
    ids = {word: index for index, word in enumerate(config["vocabulary"])}
    return torch.tensor([[ids[word] for word in text.split()] for text in texts])


def ask(config: Mapping[str, Any], facts: Sequence[Fact], wording: int) -> Tensor:
    """Token ids `(facts, length)` of the question about each fact in one wording."""
    text = config["wordings"][wording]
    return encode(config, [text.format(relation=fact["relation"], name=fact["name"]) for fact in facts])


@torch.no_grad()
def logits(model: Gpt, questions: Tensor) -> Tensor:
    """Next-word logits `(questions, vocabulary)`.

    Raises:
        SubmissionError: Some logits are not finite.
    """
    values = torch.cat([model(batch) for batch in torch.split(questions, _BATCH)])
    if not bool(values.isfinite().all()):
        raise SubmissionError(
            f"the model in {_FILE} answers with NaN or infinity: its weights are too large for a float32 "
            "forward pass; check the merge for divisions by almost zero and for scales that explode"
        )
    return values


def right(config: Mapping[str, Any], model: Gpt, facts: Sequence[Fact], wording: int) -> float:
    """Share of facts that are answered correctly in one wording, in [0, 1].

    The answer is greedy: the one word of largest logit, among the fact's options if the wording
    is the choice, otherwise among the whole vocabulary. A tie for the first place counts as wrong.
    """
    scores = logits(model, ask(config, facts, wording))
    truth = encode(config, [fact["value"] for fact in facts])
    if wording == config["choice_wording"]:
        options = encode(config, [" ".join(fact["options"]) for fact in facts])
        scores = torch.full_like(scores, -math.inf).scatter(1, options, scores.gather(1, options))
    best = scores.gather(1, truth)
    others = scores.scatter(1, truth, -math.inf).max(1, keepdim=True).values
    return float((best > others).double().mean())


def judge(
    config: Mapping[str, Any], model: Gpt, experts: Sequence[Sequence[Fact]], base: Sequence[Fact]
) -> dict[str, float]:
    """The four parts of the metric, each in [0, 1].

    Args:
        config: The content of `config.json`.
        model: The merged model.
        experts: Facts of each expert.
        base: Facts of the base model.
    """

    def mean(wordings: Sequence[int], groups: Sequence[Sequence[Fact]]) -> float:
        shares = [right(config, model, facts, wording) for wording in wordings for facts in groups]
        return math.fsum(shares) / len(shares)

    return {
        "trained": mean(config["trained_wordings"], experts),
        "unseen": mean(config["unseen_wordings"], experts),
        "choice": mean([config["choice_wording"]], experts),
        "base": mean(range(len(config["wordings"])), [base]),
    }


def score(artefacts: Path, answers: Path) -> Score:
    """Judge the merged model of one split.

    Args:
        artefacts: Holds `merged.safetensors`.
        answers: Holds `answers.json`, `{"config": content of config.json, "experts": [[fact, ...],
            ...], "base": [fact, ...]}`.

    Returns:
        Value: the mean of the four parts, in [0, 1]; the parts are in the details.

    Raises:
        SubmissionError: The weights do not have the base model's architecture, or their answers
            are not finite.
    """
    torch.set_num_threads(1)
    truth = json.loads((answers / "answers.json").read_text(encoding="utf-8"))
    config = truth["config"]
    expected = {
        name: ("F32", tuple(tensor.shape)) for name, tensor in empty_model(config).state_dict().items()
    }
    model = load(config, read_safetensors(artefacts / _FILE, expected))
    parts = judge(config, model, truth["experts"], truth["base"])
    return Score(
        value=math.fsum(parts.values()) / len(parts),
        details=parts,
        error=standard_error(config, model, truth["experts"], truth["base"]),
    )


def standard_error(
    config: Mapping[str, Any], model: Gpt, experts: Sequence[Sequence[Fact]], base: Sequence[Fact]
) -> float | None:
    """The standard error of the mean of the four parts, over the draw of the names of each model.

    A name is what a model has learnt or not: its facts, asked in all wordings, are right together.
    """

    def right_by_name(facts: Sequence[Fact], weights: Mapping[int, float]) -> list[float]:
        """For each name, the weighted sum over wordings of the share of its facts that are right."""
        truth = encode(config, [fact["value"] for fact in facts])
        options = encode(config, [" ".join(fact["options"]) for fact in facts])
        total = torch.zeros(len(facts), dtype=torch.double)
        for wording, weight in weights.items():
            scores = logits(model, ask(config, facts, wording))
            if wording == config["choice_wording"]:
                scores = torch.full_like(scores, -math.inf).scatter(1, options, scores.gather(1, options))
            best = scores.gather(1, truth)[:, 0]
            total += weight * (best > scores.scatter(1, truth, -math.inf).amax(1))
        names = list(dict.fromkeys(fact["name"] for fact in facts))
        owner = torch.tensor([names.index(fact["name"]) for fact in facts])
        sums = torch.zeros(len(names), dtype=torch.double).index_add(0, owner, total)
        return (sums / torch.bincount(owner)).tolist()

    trained, unseen = config["trained_wordings"], config["unseen_wordings"]
    asked = dict.fromkeys(trained, 0.25 / len(trained)) | dict.fromkeys(unseen, 0.25 / len(unseen))
    asked[config["choice_wording"]] = 0.25
    wordings = range(len(config["wordings"]))
    groups = [right_by_name(facts, asked) for facts in experts]
    known = right_by_name(base, dict.fromkeys(wordings, 0.25 / len(wordings)))
    return error_of_mean(*groups, known, weights=[*(1 / len(experts) for _ in experts), 1.0])
