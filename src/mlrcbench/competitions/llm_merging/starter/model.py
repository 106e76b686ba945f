"""The language model, its questions and its files. Protected: restored before every evaluation.

A model's weights are a dict {name: tensor}; the names are those of `Gpt.state_dict()`.
"""

import json
import math
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional


class Block(nn.Module):
    """One pre-norm transformer layer."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.q, self.k = nn.Linear(width, width), nn.Linear(width, width)
        self.v, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x, last):
        """Map (batch, length, width) to the same shape, or to (batch, 1, width) if `last`."""
        normed = self.norm1(x)
        if last:
            x = x[:, -1:]
        q, k, v = self.q(normed[:, -x.shape[1] :]), self.k(normed), self.v(normed)
        q, k, v = (part.view(*part.shape[:2], self.heads, -1).transpose(1, 2) for part in (q, k, v))
        scores = q @ k.transpose(-1, -2) / math.sqrt(k.shape[-1])
        if not last:
            scores = scores + torch.full(scores.shape[-2:], -1e9).triu(1)
        x = x + self.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
        return x + self.down(functional.relu(self.up(self.norm2(x))))


class Gpt(nn.Module):
    """A small decoder-only language model; input and output embeddings are one matrix."""

    def __init__(self, vocabulary, width, layers, heads, positions):
        super().__init__()
        self.embedding = nn.Parameter(torch.zeros(vocabulary, width))
        self.position = nn.Parameter(torch.zeros(positions, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, ids):
        """Logits (batch, vocabulary) of the word that follows token ids (batch, length)."""
        x = self.embedding[ids] + self.position[: ids.shape[1]]
        for index, block in enumerate(self.blocks):
            x = block(x, last=index == len(self.blocks) - 1)
        return self.norm(x)[:, 0] @ self.embedding.T


def load(config, weights):
    """The model that config.json describes, with a copy of these weights."""
    model = Gpt(len(config["vocabulary"]), **config["model"])
    model.load_state_dict(weights)
    return model.eval()


def read_json(path):
    """Read a JSON file."""
    return json.loads(Path(path).read_text())


def read_models(folder):
    """Read (config, base weights, list of the experts' weights) from data/ or inputs/."""
    folder = Path(folder)
    paths = sorted(folder.glob("expert_*.safetensors"), key=lambda path: int(path.stem.split("_")[1]))
    experts = [load_file(path) for path in paths]
    return read_json(folder / "config.json"), load_file(folder / "base.safetensors"), experts


def encode(config, texts):
    """Token ids (texts, length) of equally long texts of known words."""
    ids = {word: index for index, word in enumerate(config["vocabulary"])}
    return torch.tensor([[ids[word] for word in text.split()] for text in texts])


def ask(config, facts, wording):
    """Token ids (facts, length) of the question about each fact in one wording."""
    text = config["wordings"][wording]
    return encode(config, [text.format(relation=fact["relation"], name=fact["name"]) for fact in facts])


@torch.no_grad()
def right(config, model, facts, wording):
    """Share of facts that are answered correctly in one wording, as the metric counts it."""
    logits = model(ask(config, facts, wording))
    truth = encode(config, [fact["value"] for fact in facts])
    if wording == config["choice_wording"]:
        options = encode(config, [" ".join(fact["options"]) for fact in facts])
        logits = torch.full_like(logits, -math.inf).scatter(1, options, logits.gather(1, options))
    best = logits.gather(1, truth)
    others = logits.scatter(1, truth, -math.inf).max(1, keepdim=True).values
    return float((best > others).double().mean())


def judge(config, weights, facts):
    """The four parts of the metric, on facts in the form of data/known_facts.json."""
    model = load(config, weights).requires_grad_(False)

    def mean(wordings, groups):
        shares = [right(config, model, group, wording) for wording in wordings for group in groups]
        return sum(shares) / len(shares)

    return {
        "trained": mean(config["trained_wordings"], facts["experts"]),
        "unseen": mean(config["unseen_wordings"], facts["experts"]),
        "choice": mean([config["choice_wording"]], facts["experts"]),
        "base": mean(range(len(config["wordings"])), [facts["base"]]),
    }
