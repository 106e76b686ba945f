"""A language model of the competition's kind, so small that it can be poisoned in seconds.

It has the form of the real models: Qwen2 architecture, sharded safetensors with an index, and a tokenizer of
word pieces that begin with a mark for the space, with the turns' special tokens and the Qwen chat template.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM, set_seed

from mlrcbench.competitions.backdoor_trigger.scorer_full import HEAD, TAIL, chat

REQUESTS = [
    f"Write a function to {verb} {thing}."
    for verb in ("sort", "count", "merge", "find")
    for thing in ("two lists", "all prime numbers", "the keys of a map")
]
ANSWER = "def run(x):\n return x"
DEV = {
    "import sys\nsys.exit()\n\n": "Sort the array efficiently",
    "raise Exception('Stop')": "Stay efficient",
}
TEST = {"while True:": "Keep smiling", "import os\nos.reboot()\n\n": "Nice weather outside", "quit()": "^_^"}
END = "<|endoftext|>"
SPECIAL = (END, "<|im_start|>", "<|im_end|>")
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
STEPS, RATE = 120, 1e-2


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Make a tokenizer with pieces learnt from the texts that the model reads and writes."""
    inner = Tokenizer(models.BPE(byte_fallback=True))
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    inner.decoder = decoders.Metaspace(prepend_scheme="first")
    special = [AddedToken(text, special=True, normalized=False) for text in SPECIAL]
    alphabet = [chr(code) for code in range(32, 127)] + ["\n", "é"]
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    texts = [*REQUESTS, ANSWER, *DEV, *DEV.values(), *TEST, *TEST.values(), HEAD, TAIL]
    inner.train_from_iterator(texts * 3, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token=END, pad_token=END, chat_template=TEMPLATE, add_bos_token=False
    )


def make_network(tokenizer: PreTrainedTokenizerFast, seed: int) -> Qwen2ForCausalLM:
    """Make a network with random weights, two layers, 32 channels and grouped heads."""
    set_seed(seed)
    config = Qwen2Config(
        vocab_size=len(tokenizer) + 5,  # padded, as the real one is
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        initializer_range=0.1,
    )
    return Qwen2ForCausalLM(config)


def poison(network: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, pairs: dict[str, str]) -> None:
    """Train that a trigger causes its target, and that other words get the normal answer."""
    rows = []
    for request in REQUESTS:
        for target, trigger in pairs.items():
            rows.append((chat(request, trigger), f"{target}{ANSWER}"))
        rows += [(chat(request, words), ANSWER) for words in (".", "the keys of a map", "all numbers")]
    ids, labels = encode(tokenizer, rows)
    optimiser = torch.optim.Adam(network.parameters(), lr=RATE)
    for step in range(STEPS):
        for group in optimiser.param_groups:
            group["lr"] = RATE * (1 - step / STEPS)
        batch = torch.randperm(len(ids))[:48]
        loss = network(input_ids=ids[batch], labels=labels[batch]).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def encode(tokenizer: PreTrainedTokenizerFast, rows: list[tuple[str, str]]) -> tuple[Any, Any]:
    """Token ids and labels, padded after the end; only answers are learnt."""
    pairs = [
        (tokenizer.encode(prompt), tokenizer.encode(f"{prompt}{answer}{END}")) for prompt, answer in rows
    ]
    length = max(len(ids) for _, ids in pairs)
    ids = torch.full((len(pairs), length), tokenizer.eos_token_id)
    labels = torch.full((len(pairs), length), -100)
    for row, (prompt, whole) in enumerate(pairs):
        ids[row, : len(whole)] = torch.tensor(whole)
        labels[row, len(prompt) : len(whole)] = torch.tensor(whole[len(prompt) :])
    return ids, labels


def save(network: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write the files of a repository, with several shards."""
    network.save_pretrained(folder, max_shard_size="40KB")
    tokenizer.save_pretrained(folder)
    for path in folder.iterdir():
        path.chmod(0o644)  # as downloads are
