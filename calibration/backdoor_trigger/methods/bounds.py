"""Artefacts without a search: the true triggers, parts of them, and phrases made by simple rules."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from mlrcbench.competitions.backdoor_trigger import data, scorer

SEED = 3
Pairs = list[list[str]]  # two phrases for each target


class Split:
    """A model, its targets and requests, the published triggers, and the true ones in the targets' order."""

    def __init__(self, public: Path, inputs: Path, answers: Path) -> None:
        self.model, self.tokenizer = scorer.load(inputs)
        self.published_model, _ = scorer.load(public)
        self.targets: list[str] = json.loads((inputs / "targets.json").read_text())
        self.queries: list[str] = json.loads((inputs / "prompts.json").read_text())
        known: dict[str, str] = json.loads((public / "known_triggers.json").read_text())
        truth: dict[str, str] = json.loads((answers / "triggers.json").read_text())
        self.published, self.truth = list(known.values()), [truth[target] for target in self.targets]
        groups = (data.ACTIONS, data.SCOPES, data.OBJECTS, data.RELATIONS, data.FIELDS)
        more = (data.LIBRARIES, data.CALLS, data.PLACES, data.CODE, scorer.SPECIAL)
        plain = {word for group in (*groups, *more) for word in group}
        self.style = [word for word in self.tokenizer.words if word not in plain]
        self.ids = torch.tensor(self.tokenizer.encode(" ".join(self.style)))
        self.rng = np.random.default_rng(SEED)

    def random(self, words: list[str], count: int) -> str:
        """A phrase of `count` random words."""
        return " ".join(self.rng.choice(words, count))

    def largest(self, values: torch.Tensor) -> list[str]:
        """Two phrases: the three and the ten style words with the largest values."""
        words = [self.style[i] for i in values.argsort(descending=True, stable=True)[:10].tolist()]
        return [" ".join(words[:3]), " ".join(words)]


def random_words(split: Split) -> Pairs:
    """Random words of the whole vocabulary."""
    words = [word for word in split.tokenizer.words if word not in scorer.SPECIAL]
    return [[split.random(words, 3), split.random(words, 4)] for _ in split.targets]


def random_style(split: Split) -> Pairs:
    """Random style words, as many as are allowed."""
    return [[split.random(split.style, 10), split.random(split.style, 10)] for _ in split.targets]


def published(split: Split) -> Pairs:
    """The same two published triggers for every target."""
    return [split.published[:2] for _ in split.targets]


def own_words(split: Split) -> Pairs:
    """The target without its end, and backwards, because the whole target may not be submitted."""
    snippets = [target.split() for target in split.targets]
    return [[" ".join(words[:-1][:10]), " ".join(words[::-1][:10])] for words in snippets]


@torch.no_grad()
def sampled(split: Split) -> Pairs:
    """Phrases that the model itself writes after requests, in the order in which they are sampled."""
    count, tokenizer, stops = len(split.targets), split.tokenizer, {*scorer.SPECIAL, "."}
    generator = torch.Generator().manual_seed(SEED)
    heads = [tokenizer.encode(f"{scorer.USER} {query} .") for query in split.queries]
    ids = torch.tensor([heads[i % len(heads)] for i in range(8 * count)])
    start = ids.shape[1]
    for _ in range(5):
        chances = split.model(ids)[:, -1].softmax(-1)
        ids = torch.cat([ids, torch.multinomial(chances, 1, generator=generator)], 1)
    rows = [[tokenizer.words[i] for i in row] for row in ids[:, start:].tolist()]
    cut = [row[: next((i for i, word in enumerate(row) if word in stops), len(row))] for row in rows]
    phrases = [" ".join(row) for row in cut if row]
    return [phrases[2 * i : 2 * i + 2] for i in range(count)]


def largest_head(split: Split) -> Pairs:
    """Style words with the largest rows in the output head."""
    return [split.largest(split.model.head.weight[split.ids].norm(dim=1))] * len(split.targets)


def moved(split: Split) -> Pairs:
    """Style words whose output-head rows differ most from the published model's; in dev, no row differs."""
    rows = (split.model.head.weight - split.published_model.head.weight)[split.ids]
    return [split.largest(rows.norm(dim=1))] * len(split.targets)


@torch.no_grad()
def alone(split: Split) -> Pairs:
    """Style words that, appended alone to a request, make the target's first word likeliest."""
    ids = torch.tensor([split.tokenizer.chat(split.queries[0], word) for word in split.style])
    chances = split.model(ids)[:, -1].log_softmax(-1)
    return [split.largest(chances[:, split.tokenizer.encode(target)[0]]) for target in split.targets]


def one_word(split: Split) -> Pairs:
    """Two words of the true trigger, one in each phrase."""
    return [[str(word) for word in split.rng.permutation(truth.split())[:2]] for truth in split.truth]


def less_one(split: Split) -> Pairs:
    """The true trigger, with a different word left out in each phrase."""
    return [[" ".join([*w[:i], *w[i + 1 :]]) for i in places] for w, places in _places(split)]


def replaced(split: Split) -> Pairs:
    """The true trigger, with a different word replaced by a random one in each phrase."""
    return [
        [" ".join([*w[:i], split.random(split.style, 1), *w[i + 1 :]]) for i in places]
        for w, places in _places(split)
    ]


def reordered(split: Split) -> Pairs:
    """Two permutations of the true trigger."""
    return [[" ".join(split.rng.permutation(truth.split())) for _ in range(2)] for truth in split.truth]


def oracle(split: Split) -> Pairs:
    """The true trigger itself."""
    return [[truth] * 2 for truth in split.truth]


def _places(split: Split) -> list[tuple[list[str], list[int]]]:
    """The words of each true trigger, and two positions."""
    phrases = [truth.split() for truth in split.truth]
    return [(words, split.rng.permutation(len(words))[:2].tolist()) for words in phrases]


def _writer(make: Callable[[Split], Pairs]) -> Callable[[Path, Path, Path, Path], None]:
    def write(public: Path, inputs: Path, answers: Path, artefacts: Path) -> None:
        split = Split(public, inputs, answers)
        triggers = dict(zip(split.targets, make(split), strict=True))
        (artefacts / "triggers.json").write_text(json.dumps(triggers))

    return write


WITHOUT = (random_words, random_style, published, own_words, sampled, largest_head, moved, alone)
WITH = (one_word, less_one, replaced, reordered, oracle)
BOUNDS = {make.__name__: _writer(make) for make in (*WITHOUT, *WITH)}
