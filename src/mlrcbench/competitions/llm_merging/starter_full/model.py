"""The models, the questions and their files. Protected: restored before every evaluation.

A model's weights are a mapping {name: tensor}; a `Checkpoint` is such a mapping on disk.
"""

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

import torch
from safetensors import safe_open

READ_TOKENS, WRITTEN_TOKENS, ANSWER_TOKENS = 8192, 32768, 256
NUMBER = re.compile(r"-?\$?(?:\d[\d,]*(?:\.\d+)?|\.\d+)")


class Checkpoint(Mapping):
    """Weights in a folder's safetensors files. Each access reads a tensor from disk, as a new copy."""

    def __init__(self, folder):
        self.files = {}
        for path in sorted(Path(folder).glob("*.safetensors")):
            with safe_open(path, "pt") as file:
                self.files.update(dict.fromkeys(file.keys(), path))

    def __getitem__(self, name):
        with safe_open(self.files[name], "pt") as file:
            return file.get_tensor(name).clone()

    def __iter__(self):
        return iter(self.files)

    def __len__(self):
        return len(self.files)


def read_json(path):
    """Read a JSON file."""
    return json.loads(Path(path).read_text("utf-8"))


def read_models(folder):
    """Find (base weights, list of the experts' weights) that models.json of data/ or inputs/ names."""
    models = read_json(Path(folder) / "models.json")
    return Checkpoint(f"data/{models['base']}"), [Checkpoint(f"data/{path}") for path in models["experts"]]


def base_folder(data):
    """The folder with the configuration and the tokenizer of the base model."""
    return Path(data) / read_json(Path(data) / "models.json")["base"]


def load(data, weights):
    """A model with a copy of these weights, in the base model's dtype, on the GPU if there is one."""
    from transformers import LlamaConfig, LlamaForCausalLM  # takes seconds, and merging does not need it

    config = LlamaConfig.from_dict(read_json(base_folder(data) / "config.json"))
    torch.set_default_dtype(next(iter(Checkpoint(base_folder(data)).values())).dtype)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = LlamaForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    for name, tensor in model.state_dict().items():
        tensor.copy_(weights[name])
    return model.eval().requires_grad_(False)


class Judge:
    """Asks a model questions, as the metric does.

    Args:
        model: A model that `load` has returned.
        data: The folder data/, which has the tokenizer.
    """

    def __init__(self, model, data):
        from tokenizers import Tokenizer

        self.model = model
        self.tokenizer = Tokenizer.from_file(str(base_folder(data) / "tokenizer.json"))
        stops = model.config.eos_token_id
        self.first = model.config.bos_token_id
        self.stops = [stops] if isinstance(stops, int) else list(stops or [])

    def parts(self, asked):
        """Accuracy of each part of a file like data/known_questions.json."""
        return {part: self.accuracy(some, asked["normalised"]) for part, some in asked["parts"].items()}

    def accuracy(self, questions, normalised):
        """Share of questions that are answered correctly; all questions are of one kind."""
        if "context" in questions[0]:
            texts = self.write([question["context"] for question in questions])
            hits = [
                last_number(text) == Decimal(question["answer"]) for text, question in zip(texts, questions)
            ]
            return sum(hits) / len(hits)
        totals = iter(self.log_likelihoods([pair for question in questions for pair in question["choices"]]))
        hits = []
        for question in questions:
            lengths = [len(text.strip().encode()) if normalised else 1 for _, text in question["choices"]]
            values = [next(totals) / length for length in lengths]
            best = values.pop(question["answer"])
            hits.append(all(best > value for value in values))
        return sum(hits) / len(hits)

    @torch.inference_mode()
    def log_likelihoods(self, pairs):
        """Log-probability of each continuation after its context, summed over its tokens."""
        split = [self.split(context, continuation) for context, continuation in pairs]
        totals = [0.0] * len(pairs)
        for batch in batches([len(ids) for ids, _ in split], READ_TOKENS):
            sizes = [len(split[row][0]) - split[row][1] for row in batch]
            ids, mask = self.pad([split[row][0] for row in batch])
            places = (mask.cumsum(1) - 1).clamp_min(0)
            logits = self.model(
                input_ids=ids, attention_mask=mask, position_ids=places, logits_to_keep=max(sizes) + 1
            ).logits
            for place, (row, size) in enumerate(zip(batch, sizes)):
                log_probabilities = logits[place, -size - 1 : -1].float().log_softmax(-1)
                totals[row] = float(log_probabilities.gather(1, ids[place, -size:, None]).sum())
        return totals

    @torch.inference_mode()
    def write(self, prompts):
        """Continue each prompt greedily, until the model stops or begins the next question itself."""
        encoded = [self.encode(prompt) for prompt in prompts]
        answers = [""] * len(prompts)
        for batch in batches([len(ids) + ANSWER_TOKENS for ids in encoded], WRITTEN_TOKENS):
            ids, mask = self.pad([encoded[row] for row in batch])
            written = self.model.generate(
                input_ids=ids,
                attention_mask=mask,
                do_sample=False,
                max_new_tokens=ANSWER_TOKENS,
                eos_token_id=self.stops or None,
                pad_token_id=self.stops[0] if self.stops else 0,
            )
            for row, tokens in zip(batch, written[:, ids.shape[1] :].tolist()):
                text = self.tokenizer.decode(tokens, skip_special_tokens=True)
                answers[row] = text.partition("Question:")[0]
        return answers

    def encode(self, text):
        """Token ids, with exactly one token that marks the beginning of a text."""
        ids = self.tokenizer.encode(text).ids
        return ids if self.first is None or ids[:1] == [self.first] else [self.first, *ids]

    def split(self, context, continuation):
        """Token ids of context and continuation, and where the continuation begins.

        Spaces between the two belong to the continuation.
        """
        ids = self.encode(context + continuation)
        return ids, min(len(self.encode(context.rstrip())), len(ids) - 1)

    def pad(self, texts):
        """Ids and mask, (texts, longest), padded on the left."""
        longest = max(map(len, texts))
        ids = [[0] * (longest - len(text)) + text for text in texts]
        mask = [[0] * (longest - len(text)) + [1] * len(text) for text in texts]
        return torch.tensor(ids, device=self.model.device), torch.tensor(mask, device=self.model.device)


def batches(lengths, tokens):
    """Group rows into batches, longest first, so that rows times the longest length is at most `tokens`."""
    batch = []
    for row in sorted(range(len(lengths)), key=lambda row: (-lengths[row], row)):
        if batch and (len(batch) + 1) * lengths[batch[0]] > tokens:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def last_number(text):
    """The last number of a text, without dollar signs and commas; None if the text has no number."""
    numbers = NUMBER.findall(text)
    return Decimal(numbers[-1].replace("$", "").replace(",", "")) if numbers else None
