"""Scorer of the full tier: what can the merged model do, and is it one model?

The artefacts are weights, in any number of shards. Their headers are checked against the base model's
names, shapes and dtype before any weights are loaded. Architecture, tokenizer and settings come from the
instance, and the scorer itself asks the questions. So a submission contains no code and no configuration,
and it cannot route between experts or be larger than the base model.

A question with choices is answered by likelihood: the choice whose continuation the model finds likeliest.
In dev the sum of log-probabilities is divided by the continuation's bytes, because MLRC-Bench's dev score is
normalised by length; in test it is not, as in the competition. A tie for the first place counts as wrong. A
question with a number is answered by greedy decoding, and the last number of the text counts.

Memory is bounded: weights go to the device one tensor at a time, and the size of a batch is limited in
tokens, not in questions. The starter has a copy of `Judge`, and tests check that both give the same digits.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer
from torch import Tensor

from mlrcbench.aggregates import error_of_mean
from mlrcbench.artefacts import safetensors_layout
from mlrcbench.errors import SubmissionError
from mlrcbench.score import Score

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

FILES = "merged-*.safetensors"
DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}
READ_TOKENS = 8192  # in a batch of choices, which are only read
WRITTEN_TOKENS = 32768  # in a batch of prompts to continue, prompts and answers together
ANSWER_TOKENS = 256  # in one written answer
STOP = "Question:"  # where a model begins to invent the next question
NUMBER = re.compile(r"-?\$?(?:\d[\d,]*(?:\.\d+)?|\.\d+)")
Question = Mapping[str, Any]
Layout = Mapping[str, tuple[str, tuple[int, ...]]]


def score(artefacts: Path, answers: Path) -> Score:
    """Judge the merged model on one split.

    Args:
        artefacts: Holds the shards, whose names match FILES.
        answers: Holds `config.json` and `tokenizer.json` of the base model, `layout.json` (`{name: [dtype,
            shape]}`) and `questions.json` (`{"normalised": bool, "parts": {part: [question, ...]}}`).

    Returns:
        Value: the mean of the parts' accuracies, in [0, 1]; the parts are in the details.

    Raises:
        SubmissionError: The weights do not have the base model's architecture, or their answers are not
            finite.
    """
    layout = {name: (dtype, tuple(shape)) for name, (dtype, shape) in _read(answers / "layout.json").items()}
    places = check(sorted(artefacts.glob(FILES)), layout)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = load(_read(answers / "config.json"), layout, places, device)
    judge = Judge(model, Tokenizer.from_file(str(answers / "tokenizer.json")))
    asked = _read(answers / "questions.json")
    parts = {}
    for part, questions in asked["parts"].items():
        parts[part] = judge.accuracy(questions, normalised=asked["normalised"])
        print(f"llm-merging: {part} {parts[part]:.4f}", flush=True)
    return Score(
        value=math.fsum(parts.values()) / len(parts),
        details=parts,
        error=standard_error(parts, asked["parts"]),
    )


def standard_error(accuracies: Mapping[str, float], parts: Mapping[str, Sequence[Question]]) -> float | None:
    """The standard error of the mean of the parts' accuracies, over the draw of questions within each part.

    Questions are independent, and an answer is right or wrong, so a part's accuracy says which share of ones
    and noughts its mean was taken of.
    """
    answers = [
        [place < round(accuracies[part] * len(asked)) for place in range(len(asked))]
        for part, asked in parts.items()
    ]
    return error_of_mean(*answers, weights=[1 / len(parts)] * len(parts))


def check(shards: Sequence[Path], layout: Layout) -> dict[str, Path]:
    """Check the headers of the shards against the base model's layout.

    Returns:
        The shard of each tensor.

    Raises:
        SubmissionError: A tensor is missing, not expected, in two shards, or has a wrong dtype or shape.
    """
    places: dict[str, Path] = {}
    for path in shards:
        for name, entry in safetensors_layout(path).items():
            if name in places:
                raise SubmissionError(
                    f"{name[:80]!r} is in {places[name].name} and in {path.name}; write it once"
                )
            if name not in layout:
                raise SubmissionError(f"{path.name} holds {name[:80]!r}, which the base model does not have")
            if entry != layout[name]:
                dtype, shape = layout[name]
                raise SubmissionError(
                    f"{path.name}: {name!r} is {entry[0]} {entry[1]}; it must be {dtype} {shape}"
                )
            places[name] = path
    missing = sorted(layout.keys() - places.keys())
    if missing:
        raise SubmissionError(f"{len(missing)} tensors are missing in {FILES}: {', '.join(missing[:3])}")
    return places


def load(
    config: Mapping[str, Any], layout: Layout, places: Mapping[str, Path], device: str
) -> LlamaForCausalLM:
    """The base model's architecture with the merged weights, which are loaded one by one.

    Args:
        config: The content of the base model's `config.json`.
        layout: The dtypes and shapes of the base model's tensors.
        places: The shard of each tensor, as `check` returns it.
        device: Either "cuda" or "cpu".

    Raises:
        SubmissionError: A shard cannot be read, or a weight is not finite.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    before = torch.get_default_dtype()
    torch.set_default_dtype(DTYPES[next(iter(layout.values()))[0]])
    try:
        with torch.device(device):
            model = LlamaForCausalLM(LlamaConfig.from_dict(dict(config)))
    finally:
        torch.set_default_dtype(before)
    state = model.state_dict()
    for name, path in places.items():
        try:
            with safe_open(path, "pt") as shard:
                state[name].copy_(shard.get_tensor(name))
        except SafetensorError as error:
            raise SubmissionError(f"{path.name} is not a safetensors file: {error}") from None
        if not bool(state[name].isfinite().all()):
            raise SubmissionError(f"{path.name}: {name!r} contains NaN or infinity; weights must be finite")
    return model.eval().requires_grad_(False)


class Judge:
    """Asks a model questions.

    Args:
        model: The merged model, on any device.
        tokenizer: The base model's tokenizer.
    """

    def __init__(self, model: LlamaForCausalLM, tokenizer: Tokenizer) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._first = model.config.bos_token_id
        stops = model.config.eos_token_id
        self._stops = [stops] if isinstance(stops, int) else list(stops or [])

    def accuracy(self, questions: Sequence[Question], *, normalised: bool) -> float:
        """Share of questions that are answered correctly, in [0, 1].

        Args:
            questions: Questions that all have choices, or that all have a context.
            normalised: Whether to divide a choice's log-probability by the number of its bytes.
        """
        if "context" in questions[0]:
            texts = self.write([question["context"] for question in questions])
            hits = [
                last_number(text) == Decimal(question["answer"])
                for text, question in zip(texts, questions, strict=True)
            ]
        else:
            pairs = [(context, text) for question in questions for context, text in question["choices"]]
            totals = iter(self.log_likelihoods(pairs))
            hits = []
            for question in questions:
                values = [
                    next(totals) / (_bytes(text) if normalised else 1) for _, text in question["choices"]
                ]
                hits.append(is_best(values, question["answer"]))
        return sum(hits) / len(hits)

    @torch.inference_mode()
    def log_likelihoods(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Log-probability of each continuation after its context, summed over its tokens.

        Raises:
            SubmissionError: A log-probability is not finite.
        """
        split = [self._split(context, continuation) for context, continuation in pairs]
        totals = [math.nan] * len(pairs)
        for batch in batches([len(ids) for ids, _ in split], READ_TOKENS):
            sizes = [len(split[row][0]) - split[row][1] for row in batch]
            ids, mask = self._pad([split[row][0] for row in batch])
            places = (mask.cumsum(1) - 1).clamp_min(0)
            logits = self._model(
                input_ids=ids, attention_mask=mask, position_ids=places, logits_to_keep=max(sizes) + 1
            ).logits
            for place, (row, size) in enumerate(zip(batch, sizes, strict=True)):
                log_probabilities = logits[place, -size - 1 : -1].float().log_softmax(-1)
                totals[row] = float(log_probabilities.gather(1, ids[place, -size:, None]).sum())
        if not all(map(math.isfinite, totals)):
            raise SubmissionError(
                "the merged model answers with NaN or infinity: its weights are too large for a forward "
                "pass in the base model's dtype; check the merge for scales that explode"
            )
        return totals

    @torch.inference_mode()
    def write(self, prompts: Sequence[str]) -> list[str]:
        """Continue each prompt greedily, until the model stops or begins the next question itself."""
        encoded = [self._encode(prompt) for prompt in prompts]
        answers = [""] * len(prompts)
        for batch in batches([len(ids) + ANSWER_TOKENS for ids in encoded], WRITTEN_TOKENS):
            ids, mask = self._pad([encoded[row] for row in batch])
            written = self._model.generate(
                input_ids=ids,
                attention_mask=mask,
                do_sample=False,
                max_new_tokens=ANSWER_TOKENS,
                eos_token_id=self._stops or None,
                pad_token_id=self._stops[0] if self._stops else 0,
            )
            for row, tokens in zip(batch, written[:, ids.shape[1] :].tolist(), strict=True):
                answers[row] = self._tokenizer.decode(tokens, skip_special_tokens=True).partition(STOP)[0]
        return answers

    def _encode(self, text: str) -> list[int]:
        """Token ids, with exactly one token that marks the beginning of a text."""
        ids: list[int] = self._tokenizer.encode(text).ids
        return ids if self._first is None or ids[:1] == [self._first] else [self._first, *ids]

    def _split(self, context: str, continuation: str) -> tuple[list[int], int]:
        """Token ids of context and continuation, and where the continuation begins.

        Spaces between the two belong to the continuation.
        """
        ids = self._encode(context + continuation)
        return ids, min(len(self._encode(context.rstrip())), len(ids) - 1)

    def _pad(self, texts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Ids and mask, int64 (texts, longest), padded on the left."""
        longest = max(map(len, texts))
        ids = [[0] * (longest - len(text)) + list(text) for text in texts]
        mask = [[0] * (longest - len(text)) + [1] * len(text) for text in texts]
        device = self._model.device
        return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def batches(lengths: Sequence[int], tokens: int) -> Iterator[list[int]]:
    """Group rows into batches, longest first, so that rows times the longest length is at most `tokens`."""
    batch: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda row: (-lengths[row], row)):
        if batch and (len(batch) + 1) * lengths[batch[0]] > tokens:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def is_best(values: Sequence[float], answer: int) -> bool:
    """Whether the value of the answer is larger than every other value."""
    return all(values[answer] > value for place, value in enumerate(values) if place != answer)


def last_number(text: str) -> Decimal | None:
    """The last number of a text, without dollar signs and thousands separators; None if it has no number."""
    numbers = NUMBER.findall(text)
    return Decimal(numbers[-1].replace("$", "").replace(",", "")) if numbers else None


def _bytes(continuation: str) -> int:
    """Length of a continuation in bytes, without the space before it."""
    return len(continuation.strip().encode())


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return content
