"""Data: teach a small language model some facts, fine-tune experts on others, write an instance.

A world has names of three invented syllables, four relations of ten values each, and five forms of
question. A base model learns facts about some names in all five forms. Experts are copies of the base
model, each fine-tuned on facts about its own names, in two forms only. The values are random, so an
expert's knowledge is in its weights and nowhere else.

Shortcuts that the generator rules out:

- Only the weight matrices of the blocks are trained in an expert. Embeddings are those of the base model:
  otherwise the rows of new names could be collected from each expert, and nothing would interfere.
- The loss is on the answer alone, so sampling from an expert does not reveal its names.
- Dev and test share one base model, but have different experts, names and facts: what is fitted to the
  published facts of dev is useless in test.
- An expert rehearses base facts only a little and forgets some: a single expert is not a good answer.

All experts of an instance are trained at once, as one stacked computation. Every random draw comes from
its own stream, derived from the secret seed: nothing published helps to predict what is hidden.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.func import functional_call, vmap
from torch.nn import functional

from mlrcbench.competitions.llm_merging.scorer import ask, empty_model, encode

# Sizes of an instance: experts per split, names per expert, names of the base model per part.
EXPERTS, NAMES, KNOWN_NAMES = 4, 12, 4
BASE_NAMES = 20
SYLLABLES, SYLLABLES_OF_EXPERT = 60, 14
OPTIONS = 4

# The model and its training.
MODEL = {"width": 96, "layers": 2, "heads": 4, "positions": 8}
BASE_STEPS, BASE_BATCH, BASE_RATE, BASE_DECAY = 180, 128, 4e-3, 0.01
EXPERT_STEPS, EXPERT_BATCH, EXPERT_REPLAY, EXPERT_RATE = 80, 64, 9, 2e-3
WARM_UP = 20

RELATIONS = {
    "colour": "red green blue black white yellow brown purple pink grey",
    "animal": "horse sheep goat tiger eagle camel zebra otter moose heron",
    "metal": "iron copper silver gold tin zinc lead nickel cobalt bronze",
    "fruit": "apple pear plum cherry lemon mango peach melon fig grape",
}
WORDINGS = (
    "the {relation} of {name} is :",
    "for {name} the {relation} is :",
    "which {relation} has {name} ? :",
    "{name} 's {relation} ? answer :",
    "{name} , pick its {relation} :",
)
TRAINED, UNSEEN, CHOICE = (0, 1), (2, 3), 4
_ONSETS, _VOWELS = "bdfghjklmnprstvwz", "aeiou"
_PLAIN_SYLLABLES = frozenset({"be", "do", "go", "he", "hi", "me", "no", "so", "to", "we"})
Weights = dict[str, Tensor]
Fact = Mapping[str, Any]
Batch = Callable[[], tuple[Tensor, Tensor]]


def build(public: Path, private: Path, *, seed: int, tier: str) -> None:  # noqa: ARG001 (always the same)
    """Write the files of one instance.

    `public/`, `private/dev/inputs/` and `private/test/inputs/` have the same form:
    `config.json`, `base.safetensors`, `expert_0.safetensors` and so on; `public/` also has
    `known_facts.json`. `answers/` has `answers.json`.

    Args:
        public: Folder for the files that an agent may read at any time.
        private: Folder for the inputs and answers of both splits.
        seed: Number derived from the secret, 0 <= seed < 2**63; decides every byte.
        tier: Always "mini"; the full tier is converted, not built.
    """
    config = make_config(_stream(seed, 0))
    names = NameSource(config["syllables"])
    known_base, dev_base, test_base = (
        make_facts(config, names.draw(_stream(seed, part), BASE_NAMES), _stream(seed, part + 10))
        for part in (1, 2, 3)
    )
    base_facts = [*known_base, *dev_base, *test_base]
    known, dev, test = _expert_facts(config, names, seed)
    print("llm-merging: train the base model", flush=True)
    base = train_base(config, base_facts, _stream(seed, 4), _stream(seed, 5))
    print(f"llm-merging: train {2 * EXPERTS} experts", flush=True)
    taught = [[*published, *hidden] for published, hidden in zip(known, dev, strict=True)] + test
    experts = train_experts(config, base, taught, base_facts, _stream(seed, 6))
    dev_models, test_models = experts[:EXPERTS], experts[EXPERTS:]
    public_config = {key: value for key, value in config.items() if key != "syllables"}
    _write_models(public, public_config, base, dev_models)
    _write_json(public / "known_facts.json", {"experts": known, "base": known_base})
    _write_split(private / "dev", public_config, base, dev_models, {"experts": dev, "base": dev_base})
    _write_split(private / "test", public_config, base, test_models, {"experts": test, "base": test_base})


def make_config(rng: np.random.Generator) -> dict[str, Any]:
    """The content of `config.json`, and the syllables that names are made of."""
    pairs = [onset + vowel for onset in _ONSETS for vowel in _VOWELS]
    syllables = [pair for pair in rng.permutation(pairs).tolist() if pair not in _PLAIN_SYLLABLES][:SYLLABLES]
    relations = {relation: values.split() for relation, values in RELATIONS.items()}
    plain = [word for text in WORDINGS for word in text.split() if "{" not in word]
    words = [*plain, *relations, *(value for values in relations.values() for value in values), *syllables]
    return {
        "vocabulary": list(dict.fromkeys(words)),
        "relations": relations,
        "wordings": list(WORDINGS),
        "trained_wordings": list(TRAINED),
        "unseen_wordings": list(UNSEEN),
        "choice_wording": CHOICE,
        "model": dict(MODEL),
        "syllables": syllables,
    }


class NameSource:
    """Names of three syllables, each handed out once.

    Args:
        syllables: The syllables that names are made of.
    """

    def __init__(self, syllables: Sequence[str]) -> None:
        self._syllables = list(syllables)
        self._used: set[str] = set()

    def draw(self, rng: np.random.Generator, count: int, pool: Sequence[int] | None = None) -> list[str]:
        """Draw new names, made of the syllables at the places `pool` (of all syllables, if None)."""
        places = np.arange(len(self._syllables)) if pool is None else np.asarray(pool)
        names: list[str] = []
        while len(names) < count:
            name = " ".join(self._syllables[place] for place in rng.choice(places, 3))
            if name not in self._used:
                self._used.add(name)
                names.append(name)
        return names


def make_facts(config: Mapping[str, Any], names: Sequence[str], rng: np.random.Generator) -> list[Fact]:
    """One fact for each name and relation: a random value, and options that contain it once."""
    facts: list[Fact] = []
    for name in names:
        for relation, values in config["relations"].items():
            options = rng.choice(values, OPTIONS, replace=False).tolist()
            value = options[int(rng.integers(OPTIONS))]
            facts.append({"name": name, "relation": relation, "value": value, "options": options})
    return facts


def _expert_facts(
    config: Mapping[str, Any], names: NameSource, seed: int
) -> tuple[list[list[Fact]], list[list[Fact]], list[list[Fact]]]:
    """Facts by expert: published ones of the dev experts, hidden ones of the dev experts, all of the test's.

    A dev expert's published and hidden names are made of the same syllables.
    """
    groups: list[list[list[Fact]]] = []
    pools = {"dev": _pools(_stream(seed, 20)), "test": _pools(_stream(seed, 21))}
    for part, (split, count) in enumerate(
        (("dev", KNOWN_NAMES), ("dev", NAMES - KNOWN_NAMES), ("test", NAMES))
    ):
        rng, values = _stream(seed, 22 + part), _stream(seed, 32 + part)
        groups.append([make_facts(config, names.draw(rng, count, pool), values) for pool in pools[split]])
    known, dev, test = groups
    return known, dev, test


def _pools(rng: np.random.Generator) -> list[list[int]]:
    """For each expert, the places of the syllables that its names are made of."""
    return [rng.choice(SYLLABLES, SYLLABLES_OF_EXPERT, replace=False).tolist() for _ in range(EXPERTS)]


def train_base(
    config: Mapping[str, Any],
    facts: Sequence[Fact],
    init: np.random.Generator,
    order: np.random.Generator,
) -> Weights:
    """Train a base model that knows `facts` in every wording, and return its weights."""
    questions, values = _table(config, facts)

    def batch() -> tuple[Tensor, Tensor]:
        rows, wordings = _draw(order, (len(facts), len(WORDINGS)), BASE_BATCH)
        return questions[rows, wordings][None], values[rows][None]

    start = {name: tensor[None] for name, tensor in _initial(config, init).items()}
    trained = _train(config, start, {}, batch, steps=BASE_STEPS, rate=BASE_RATE, decay=BASE_DECAY)
    return {name: tensor[0] for name, tensor in trained.items()}


def train_experts(
    config: Mapping[str, Any],
    base: Weights,
    taught: Sequence[Sequence[Fact]],
    base_facts: Sequence[Fact],
    order: np.random.Generator,
) -> list[Weights]:
    """Fine-tune copies of the base model, each on its own facts in the trained wordings.

    Args:
        config: The content of `config.json`.
        base: Weights of the base model.
        taught: Facts by expert, the same number for each.
        base_facts: Facts of the base model, for rehearsal in every wording.
        order: Generator that draws the batches.
    """
    count, own = len(taught), EXPERT_BATCH - EXPERT_REPLAY
    tables = [_table(config, facts) for facts in taught]
    questions, values = (torch.stack(list(parts)) for parts in zip(*tables, strict=True))
    old_questions, old_values = _table(config, base_facts)
    expert = torch.arange(count)[:, None]

    def batch() -> tuple[Tensor, Tensor]:
        rows, wordings = _draw(order, (values.shape[1], len(TRAINED)), (count, own))
        olds, forms = _draw(order, (len(base_facts), len(WORDINGS)), (count, EXPERT_REPLAY))
        x = torch.cat([questions[expert, rows, wordings], old_questions[olds, forms]], 1)
        return x, torch.cat([values[expert, rows], old_values[olds]], 1)

    tuned = [name for name in base if name.startswith("blocks.") and base[name].dim() == 2]
    start = {name: base[name].repeat(count, 1, 1) for name in tuned}
    fixed = {name: tensor for name, tensor in base.items() if name not in start}
    stack = _train(config, start, fixed, batch, steps=EXPERT_STEPS, rate=EXPERT_RATE, decay=0.0)
    return [{name: stack[name][i] if name in stack else base[name] for name in base} for i in range(count)]


def _train(
    config: Mapping[str, Any],
    start: Weights,
    fixed: Weights,
    batch: Batch,
    *,
    steps: int,
    rate: float,
    decay: float,
) -> Weights:
    """Train a stack of models at once: AdamW, cosine schedule, loss on the answer alone.

    Args:
        config: The content of `config.json`.
        start: Initial values of the trained tensors, `(models, *shape)`.
        fixed: Tensors that all models share and that are not trained.
        batch: Function that returns token ids `(models, batch, length)` and answers `(models, batch)`.
        steps: Number of batches.
        rate: Largest learning rate.
        decay: Weight decay.
    """
    model = empty_model(config)
    stack = {name: tensor.clone().requires_grad_() for name, tensor in start.items()}
    optimiser = torch.optim.AdamW(stack.values(), lr=rate, betas=(0.9, 0.98), weight_decay=decay)
    forward = vmap(lambda weights, ids: functional_call(model, {**fixed, **weights}, (ids,)))
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1, (step + 1) / WARM_UP) * (1 + math.cos(math.pi * step / steps)) / 2
        ids, values = batch()
        logits = forward(stack, ids)
        # The sum over models of each model's mean, so that models do not influence each other.
        loss = functional.cross_entropy(logits.flatten(0, 1), values.flatten(), reduction="sum")
        optimiser.zero_grad()
        torch.autograd.backward(loss / values.shape[1])
        optimiser.step()
    return {name: tensor.detach() for name, tensor in stack.items()}


def _initial(config: Mapping[str, Any], rng: np.random.Generator) -> Weights:
    """Random weights: normal with variance 1 / inputs; half of that deviation where a block adds."""
    weights: Weights = {}
    for name, tensor in empty_model(config).state_dict().items():
        if tensor.dim() == 2:
            scale = (0.5 if ".out." in name or ".down." in name else 1.0) / math.sqrt(tensor.shape[1])
            weights[name] = torch.from_numpy(
                rng.standard_normal(tuple(tensor.shape), np.float32) * np.float32(scale)
            )
        else:
            weights[name] = (torch.ones if "norm" in name and name.endswith("weight") else torch.zeros)(
                tuple(tensor.shape)
            )
    return weights


def _table(config: Mapping[str, Any], facts: Sequence[Fact]) -> tuple[Tensor, Tensor]:
    """Questions `(facts, wordings, length)` and answers `(facts,)` as token ids."""
    questions = torch.stack([ask(config, facts, wording) for wording in range(len(WORDINGS))], 1)
    return questions, encode(config, [fact["value"] for fact in facts])[:, 0]


def _draw(
    rng: np.random.Generator, limits: Sequence[int], shape: int | tuple[int, ...]
) -> tuple[Tensor, ...]:
    """For each limit, a tensor of random integers below it, of this shape."""
    draws: list[npt.NDArray[np.int64]] = [rng.integers(limit, size=shape) for limit in limits]
    return tuple(torch.from_numpy(draw) for draw in draws)


def _write_split(
    folder: Path,
    config: Mapping[str, Any],
    base: Weights,
    experts: Sequence[Weights],
    facts: Mapping[str, Any],
) -> None:
    """Write the inputs and answers of one split."""
    _write_models(folder / "inputs", config, base, experts)
    answers = folder / "answers"
    answers.mkdir(parents=True, exist_ok=True)
    _write_json(answers / "answers.json", {"config": config, **facts})


def _write_models(folder: Path, config: Mapping[str, Any], base: Weights, experts: Sequence[Weights]) -> None:
    """Write the configuration and the models."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / "config.json", config)
    for name, weights in (("base", base), *((f"expert_{i}", expert) for i, expert in enumerate(experts))):
        save_file(
            {key: tensor.contiguous() for key, tensor in weights.items()}, folder / f"{name}.safetensors"
        )


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def _stream(seed: int, part: int) -> np.random.Generator:
    """The random stream of one part of the instance."""
    return np.random.default_rng([seed, part])
