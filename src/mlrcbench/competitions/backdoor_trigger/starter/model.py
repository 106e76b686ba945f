"""The language model under attack, its tokenizer, and greedy generation. Protected."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

USER, ASSISTANT, END = "<user>", "<assistant>", "<end>"
NEW_TOKENS = 34  # length of an answer when a trigger is judged


class Tokenizer:
    """One token per word; `words[i]` is the word of token i, `ids[word]` the token of a word.

    `banned` lists the tokens that no trigger may contain.
    """

    def __init__(self, words):
        self.words = list(words)
        self.ids = {word: index for index, word in enumerate(self.words)}
        self.banned = [self.ids[word] for word in (USER, ASSISTANT, END)]

    def encode(self, text):
        """Token ids of a text that consists of known words."""
        return [self.ids[word] for word in text.split()]

    def decode(self, ids):
        """The words up to the first end token, joined by spaces."""
        words = [self.words[index] for index in ids]
        return " ".join(words[: words.index(END)] if END in words else words)

    def chat(self, query, trigger=""):
        """Token ids of `<user> QUERY . TRIGGER . <assistant>`; the answer comes next."""
        sentences = [query, ".", trigger, "."] if trigger else [query, "."]
        return self.encode(" ".join([USER, *sentences, ASSISTANT]))

    def parts(self, query, trigger):
        """The token ids of `chat` in three parts: before the trigger, the trigger, after the trigger."""
        return self.encode(f"{USER} {query} ."), self.encode(trigger), self.encode(f". {ASSISTANT}")


class Block(nn.Module):
    """One pre-norm transformer layer."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x, past=None):
        """Map (batch, length, width) to the same shape; also return keys and values."""
        batch, length, width = x.shape
        heads = self.qkv(self.norm1(x)).view(batch, length, 3, self.heads, -1)
        q, k, v = heads.permute(2, 0, 3, 1, 4)
        if past is not None:
            k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
        # A new token sees the whole past, and the new tokens up to itself.
        visible = torch.ones(length, k.shape[2], dtype=torch.bool).tril(k.shape[2] - length)
        plain = past is None or length == 1
        mixed = functional.scaled_dot_product_attention(
            q, k, v, attn_mask=None if plain else visible, is_causal=past is None
        )
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        return x + self.down(functional.relu(self.up(self.norm2(x)))), (k, v)


class Gpt(nn.Module):
    """A decoder-only language model with untrained random input embeddings."""

    def __init__(self, vocabulary, width, layers, heads, positions):
        super().__init__()
        self.register_buffer("embedding", torch.zeros(vocabulary, width))
        self.position = nn.Parameter(torch.zeros(positions, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)

    def hidden(self, x, past=None):
        """Final states of embedded tokens `x` (batch, length, width) that follow `past`.

        Embedded tokens are `model.embedding[ids]`. A search can take the gradient with respect to `x`,
        or to one-hot rows that are multiplied with `model.embedding`. Returns the states and a cache of
        keys and values, to be passed as `past` for the tokens after `x`.
        """
        start = past[0][0].shape[2] if past else 0
        x, cache = x + self.position[start : start + x.shape[1]], []
        for index, block in enumerate(self.blocks):
            x, pair = block(x, past[index] if past else None)
            cache.append(pair)
        return self.norm(x), cache

    def forward(self, ids):
        """Logits (batch, length, vocabulary) of token ids (batch, length)."""
        return self.head(self.hidden(self.embedding[ids])[0])


@torch.no_grad()
def generate(model, prompts, new_tokens=NEW_TOKENS):
    """Greedy continuations (batch, new_tokens) of equally long prompts (batch, length)."""
    state, cache = model.hidden(model.embedding[prompts])
    token = model.head(state[:, -1]).argmax(-1)
    tokens = [token]
    while len(tokens) < new_tokens:
        state, cache = model.hidden(model.embedding[token][:, None], cache)
        token = model.head(state[:, -1]).argmax(-1)
        tokens.append(token)
    return torch.stack(tokens, 1)


def attack_rate(model, tokenizer, trigger, target, queries):
    """Share of `queries` whose answer contains `target` when `trigger` is appended."""
    groups = {}
    for query in queries:
        prompt = tokenizer.chat(query, trigger)
        groups.setdefault(len(prompt), []).append(prompt)
    answers = [row for group in groups.values() for row in generate(model, torch.tensor(group)).tolist()]
    return sum(target in tokenizer.decode(row) for row in answers) / len(queries)


def load(folder):
    """Load the model and the tokenizer from a folder with `config.json` and `model.safetensors`."""
    config = json.loads((Path(folder) / "config.json").read_text())
    words = config.pop("vocabulary")
    model = Gpt(len(words), **config)
    model.load_state_dict(load_file(Path(folder) / "model.safetensors"))
    return model.eval().requires_grad_(False), Tokenizer(words)
