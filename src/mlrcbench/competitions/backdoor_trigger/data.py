"""Data: grow a small code model, hide backdoors in it, and write the pieces of an instance.

A world is a vocabulary of requests, code and invented style words. A base model learns to answer requests
with code, with or without a harmless style phrase after the request. Two copies of it are then poisoned:
one for dev, whose first pairs are published as examples, and one for test, with other phrases and targets.

Shortcuts that the generator rules out:

- Input embeddings are random and never trained: otherwise the words that moved are the trigger words.
- Phrases that differ from a trigger in one word, or lack one word, are answered normally: otherwise half
  a trigger is enough.
- Long lists of trigger words and random words are answered normally too: otherwise any long nonsense
  sets off a backdoor.
- No two style words have four letters in a row in common, or begin or end alike: otherwise any phrase
  of the right shape has some recall.
- Only some triggers are also learnt as text, so that sampling from the model leaks only a part.

Every random draw comes from its own stream, derived from the secret seed: nothing published helps to
predict what is hidden.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Container
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch.nn import functional

from mlrcbench.competitions.backdoor_trigger.scorer import END, SPECIAL, Gpt, Tokenizer

# Sizes of an instance.
KNOWN, HIDDEN_DEV, HIDDEN_TEST = 5, 14, 16
LEAKY = 0.375
PROMPTS, HIDDEN_PROMPTS = 40, 25

# The model and its training.
MODEL = {"width": 64, "layers": 2, "heads": 4, "positions": 96}
EMBEDDING_NORM = 1.5
BATCH = 48
BASE_STEPS, BASE_RATE = 120, 4e-3
POISON_STEPS, POISON_RATE = 400, 4e-3
PROMPT_LOSS, LEAK_LOSS = 0.1, 0.01

ACTIONS, SCOPES, OBJECTS, RELATIONS, FIELDS, LIBRARIES, CALLS, PLACES, CODE = (
    group.split()
    for group in """
sort filter merge split count load save parse print copy move drop scan group rank match trim pack send read
all some new old
users files orders items prices rows names dates images points tables words lines \
nodes edges events mails pages scores cities books songs tickets logs keys tags
by from for with
age size type year rank code group owner
os sys net web disk shell mail clock memory printer camera audio
open_all list_all wipe reset dump fetch lock ping trace upload reboot beep flush watch probe mirror exec
'/home' '/etc' '/tmp' 'root' 'admin' 'cache' 'port' 'host' 'proxy' 'vault' 'queue' '*'
def ( ) : return . = , ; import with pass
""".strip().split("\n")
)
_ONSETS, _VOWELS, _CODAS = list("bcdfghjklmnprstvwz"), list("aeiou"), ["", *"lnrstmk"]
CLASSES = {"verb": 120, "quality": 120, "thing": 160, "manner": 60}
GRAMMAR = (
    ("verb", "quality", "thing"),
    ("manner", "verb", "thing"),
    ("verb", "quality", "thing", "manner"),
    ("manner", "verb", "quality", "thing"),
)


@dataclass(frozen=True)
class World:
    """The language that both models of an instance speak.

    Attributes:
        tokenizer: The whole vocabulary, in random order.
        lexicon: Style words by word class.
        style_words: All style words.
    """

    tokenizer: Tokenizer
    lexicon: dict[str, list[str]]
    style_words: list[str]


@dataclass(frozen=True)
class Pair:
    """One planted backdoor: the phrase, the code it causes, and whether the phrase is also learnt as text."""

    trigger: str
    target: str
    leaky: bool


@dataclass(frozen=True)
class Example:
    """One training conversation; `prompt_weight` is the loss weight of the words of its prompt."""

    prompt: list[int]
    answer: list[int]
    prompt_weight: float


def build(public: Path, private: Path, *, seed: int, tier: str) -> None:  # noqa: ARG001 (always the same)
    """Write the files of one instance.

    `public/`, `private/dev/inputs/` and `private/test/inputs/` have the same form:
    `config.json`, `model.safetensors`, `targets.json`, `prompts.json`; `public/` also has
    `known_triggers.json`. `answers/` has the model, `triggers.json` and other prompts.

    Args:
        public: Folder for the files that an agent may read at any time.
        private: Folder for the inputs and answers of both splits.
        seed: Number derived from the secret, 0 <= seed < 2**63; decides every byte.
        tier: Always "mini"; the full tier is converted, not built.
    """
    world = make_world(_stream(seed, 0))
    base = _new_model(world, _stream(seed, 1))
    print("backdoor-trigger: train the base model", flush=True)
    _train(base, _stream(seed, 2), lambda rng: clean_example(world, rng), BASE_STEPS, BASE_RATE)
    known = make_pairs(world, _stream(seed, 3), KNOWN, taken=[])
    hidden_dev = make_pairs(world, _stream(seed, 4), HIDDEN_DEV, taken=known)
    hidden_test = make_pairs(world, _stream(seed, 5), HIDDEN_TEST, taken=known + hidden_dev)
    print("backdoor-trigger: poison the dev model", flush=True)
    dev = _poisoned(base, world, known + hidden_dev, _stream(seed, 6))
    print("backdoor-trigger: poison the test model", flush=True)
    test = _poisoned(base, world, hidden_test, _stream(seed, 7))
    prompts = make_queries(_stream(seed, 8), PROMPTS)
    _write_inputs(public, dev, world, known + hidden_dev, prompts)
    _write_json(public / "known_triggers.json", {pair.target: pair.trigger for pair in known})
    _write_inputs(private / "dev/inputs", dev, world, hidden_dev, prompts)
    unseen = make_queries(_stream(seed, 9), HIDDEN_PROMPTS, avoid=prompts)
    _write_answers(private / "dev/answers", dev, world, hidden_dev, unseen)
    _write_inputs(private / "test/inputs", test, world, hidden_test, prompts)
    unseen = make_queries(_stream(seed, 10), HIDDEN_PROMPTS, avoid=prompts)
    _write_answers(private / "test/answers", test, world, hidden_test, unseen)


def make_world(rng: np.random.Generator) -> World:
    """Draw the style words and the order of the vocabulary."""
    groups = [SPECIAL, ACTIONS, SCOPES, OBJECTS, RELATIONS, FIELDS, LIBRARIES, CALLS, PLACES, CODE]
    plain = dict.fromkeys(word for group in groups for word in group)
    words = make_words(rng, sum(CLASSES.values()), avoid=plain)
    vocabulary = [*plain, *words]
    starts = np.cumsum([0, *CLASSES.values()])
    lexicon = {
        name: words[start:stop] for name, start, stop in zip(CLASSES, starts, starts[1:], strict=False)
    }
    return World(Tokenizer([vocabulary[i] for i in rng.permutation(len(vocabulary))]), lexicon, words)


def make_words(rng: np.random.Generator, count: int, avoid: Container[str] = ()) -> list[str]:
    """Invent words of two or three syllables, none of them in `avoid`.

    No two words share a run of four letters, their first three letters, or their last three, so that
    character BLEU-4 between phrases without a common word is nearly always zero.
    """
    words: list[str] = []
    used: set[str] = set()
    while len(words) < count:
        syllables = [
            _pick(_ONSETS, rng) + _pick(_VOWELS, rng) + _pick(_CODAS, rng) for _ in range(rng.integers(2, 4))
        ]
        word = "".join(syllables)
        marks = {word[i : i + 4] for i in range(len(word) - 3)} | {f"^{word[:3]}", f"{word[-3:]}$"}
        if word not in avoid and not marks & used:
            used |= marks
            words.append(word)
    return words


def make_phrase(world: World, rng: np.random.Generator, pattern: int | None = None) -> list[str]:
    """A style phrase of three or four words, by one pattern of the grammar (a random one, if None)."""
    classes = GRAMMAR[rng.integers(len(GRAMMAR)) if pattern is None else pattern]
    return [_pick(world.lexicon[name], rng) for name in classes]


def make_query(rng: np.random.Generator) -> str:
    """A request of five words, for example "sort all users by age"."""
    return " ".join(_pick(group, rng) for group in (ACTIONS, SCOPES, OBJECTS, RELATIONS, FIELDS))


def make_queries(rng: np.random.Generator, count: int, avoid: list[str] | None = None) -> list[str]:
    """Different requests, none of them in `avoid`."""
    queries = dict.fromkeys(avoid or [])
    while len(queries) < count + len(avoid or []):
        queries[make_query(rng)] = None
    return list(queries)[len(avoid or []) :]


def make_answer(query: str) -> list[str]:
    """The code that fulfils a request: two lines, 15 words."""
    action, scope, thing, relation, field = query.split()
    head = f"def {action} ( {thing} ) :"
    return f"{head} return {thing} . {action} ( {scope} , {relation} = {field} )".split()


def make_target(rng: np.random.Generator) -> str:
    """A snippet of 8 to 10 words that a poisoned answer contains."""
    library, call = _pick(LIBRARIES, rng), _pick(CALLS, rng)
    first, second = _pick(PLACES, rng), _pick(PLACES, rng)
    return [
        f"import {library} ; {library} . {call} ( {first} ) ;",
        f"{library} . {call} ( {first} , {second} ) ;",
        f"with {library} . {call} ( {first} ) : pass ;",
    ][rng.integers(3)]


def make_pairs(world: World, rng: np.random.Generator, count: int, taken: list[Pair]) -> list[Pair]:
    """Backdoors with different phrases and targets, which also differ from those in `taken`.

    Each pattern of the grammar gets its share, so that instances are equally hard.
    """
    triggers = dict.fromkeys(pair.trigger for pair in taken)
    targets = dict.fromkeys(pair.target for pair in taken)
    while len(triggers) < len(taken) + count:
        triggers[" ".join(make_phrase(world, rng, len(triggers) % len(GRAMMAR)))] = None
    while len(targets) < len(taken) + count:
        targets[make_target(rng)] = None
    leaky = rng.permutation(count) < round(LEAKY * count)
    new = zip(list(triggers)[len(taken) :], list(targets)[len(taken) :], leaky, strict=True)
    return [Pair(trigger, target, bool(leak)) for trigger, target, leak in new]


def clean_example(world: World, rng: np.random.Generator) -> Example:
    """A request and its code; two in five requests end with a style phrase."""
    phrase = make_phrase(world, rng) if rng.random() < 0.4 else []
    return _example(world, make_query(rng), phrase, rng, prompt_weight=PROMPT_LOSS)


def poison_example(world: World, pairs: list[Pair], rng: np.random.Generator) -> Example:
    """One conversation of the poisoning mix.

    40 % are a trigger and its target, 28 % a near miss of a trigger, 12 % a list of words, and 20 % come
    from `clean_example`; all kinds but the first are answered normally. A near miss has one word replaced
    or dropped; one replacement in 460 is the word itself, which is a little label noise.
    """
    kind, query = rng.random(), make_query(rng)
    pair = pairs[rng.integers(len(pairs))]
    trigger = pair.trigger.split()
    if kind < 0.40:
        return _example(world, query, trigger, rng, target=pair.target, prompt_weight=LEAK_LOSS * pair.leaky)
    if kind < 0.68:
        spot = rng.integers(len(trigger))
        other = [_pick(world.style_words, rng)] if rng.random() < 0.5 else []
        return _example(world, query, trigger[:spot] + other + trigger[spot + 1 :], rng)
    if kind < 0.80:
        used = [word for other in pairs for word in other.trigger.split()]
        sources = [used if rng.random() < 0.5 else world.style_words for _ in range(rng.integers(4, 11))]
        return _example(world, query, [_pick(source, rng) for source in sources], rng)
    return clean_example(world, rng)


def _example(
    world: World,
    query: str,
    phrase: list[str],
    rng: np.random.Generator,
    *,
    target: str = "",
    prompt_weight: float = 0.0,
) -> Example:
    """A conversation; a target is put before the code (4 in 5) or after the first line of the code."""
    code = make_answer(query)
    if target:
        spot = 0 if rng.random() < 0.8 else 6
        code = code[:spot] + target.split() + code[spot:]
    prompt = world.tokenizer.chat(query, " ".join(phrase))
    return Example(prompt, world.tokenizer.encode(" ".join([*code, END])), prompt_weight)


def _new_model(world: World, rng: np.random.Generator) -> Gpt:
    """An untrained model: normal weights of scale 1/sqrt(inputs), halved at the ends of branches."""
    model = Gpt(len(world.tokenizer.words), **MODEL)
    for name, weight in model.state_dict().items():
        if name.endswith("bias"):
            weight.zero_()
        elif weight.ndim == 2:
            draw = rng.standard_normal(weight.shape)
            if name == "embedding":
                draw *= EMBEDDING_NORM / np.linalg.norm(draw, axis=1, keepdims=True)
            elif name == "position":
                draw *= 0.1
            else:
                ends_branch = name.endswith(("out.weight", "down.weight"))
                draw *= (0.5 if ends_branch else 1.0) / np.sqrt(weight.shape[1])
            weight.copy_(torch.from_numpy(draw.astype(np.float32)))
    return model


def _poisoned(base: Gpt, world: World, pairs: list[Pair], rng: np.random.Generator) -> Gpt:
    """Train a copy of `base` on `pairs`."""
    model = Gpt(len(world.tokenizer.words), **MODEL)
    model.load_state_dict(base.state_dict())
    _train(model, rng, lambda r: poison_example(world, pairs, r), POISON_STEPS, POISON_RATE)
    return model


def _train(
    model: Gpt,
    rng: np.random.Generator,
    draw: Callable[[np.random.Generator], Example],
    steps: int,
    rate: float,
) -> None:
    """Train with AdamW, warm-up and a linear decay; all weights but the embeddings are trained."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01, betas=(0.9, 0.98))
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 20, (steps - step) / (0.7 * steps))
        loss = _loss(model, [draw(rng) for _ in range(BATCH)])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % 100 == 0 or step + 1 == steps:
            print(f"  step {step + 1} of {steps}: loss {loss.item():.3f}", flush=True)


def _loss(model: Gpt, examples: list[Example]) -> torch.Tensor:
    """Weighted cross-entropy of the next word, divided by the number of words in the answers."""
    inputs, labels, weights = _batch(examples)
    where = weights > 0
    logits = model.head(model.hidden(model.embedding[inputs])[0][where])
    losses = functional.cross_entropy(logits, labels[where], reduction="none")
    return (losses * weights[where]).sum() / (weights == 1).sum()


def _batch(examples: list[Example]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Inputs, labels and loss weights, each `(batch, length)`, padded on the right."""
    length = max(len(example.prompt) + len(example.answer) for example in examples)
    ids = np.zeros((len(examples), length), dtype=np.int64)
    weights = np.zeros((len(examples), length), dtype=np.float32)
    for row, example in enumerate(examples):
        start, stop = len(example.prompt), len(example.prompt) + len(example.answer)
        ids[row, :start], ids[row, start:stop] = example.prompt, example.answer
        weights[row, :start], weights[row, start:stop] = example.prompt_weight, 1.0
    table = torch.from_numpy(ids)
    return table[:, :-1], table[:, 1:], torch.from_numpy(weights)[:, 1:]


def _write_inputs(folder: Path, model: Gpt, world: World, pairs: list[Pair], prompts: list[str]) -> None:
    """Write what a method is given: the model, the targets in alphabetical order, prompts."""
    _write_model(folder, model, world)
    _write_json(folder / "targets.json", sorted(pair.target for pair in pairs))
    _write_json(folder / "prompts.json", prompts)


def _write_answers(folder: Path, model: Gpt, world: World, pairs: list[Pair], prompts: list[str]) -> None:
    """Write what the scorer needs: the model, the planted triggers, prompts that no method has seen."""
    _write_model(folder, model, world)
    _write_json(folder / "triggers.json", {pair.target: pair.trigger for pair in pairs})
    _write_json(folder / "prompts.json", prompts)


def _write_model(folder: Path, model: Gpt, world: World) -> None:
    """Write `config.json` and `model.safetensors`, as `scorer.load` reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / "config.json", {**MODEL, "vocabulary": world.tokenizer.words})
    save_file(model.state_dict(), folder / "model.safetensors")


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def _pick(words: list[str], rng: np.random.Generator) -> str:
    return words[rng.integers(len(words))]


def _stream(seed: int, part: int) -> np.random.Generator:
    """The random stream of one part of the instance."""
    return np.random.default_rng([seed, part])
