"""Small models and tables in the layout of llm-merging's full tier."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from pyarrow import parquet
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor

from mlrcbench.competitions.llm_merging import full

Weights = dict[str, Tensor]
START, END = "<|begin_of_text|>", "<|end_of_text|>"
MODULES = ("main", "model", "method")  # of the starter
SIZES = (4, 5, 2)  # questions of dev, test and the published ones
CONFIG: dict[str, Any] = {  # as Llama 3's, with smaller sizes
    "architectures": ["LlamaForCausalLM"],
    "bos_token_id": 0,
    "eos_token_id": 1,
    "hidden_act": "silu",
    "hidden_size": 32,
    "intermediate_size": 48,
    "max_position_embeddings": 2048,
    "model_type": "llama",
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-05,
    "rope_theta": 500000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "vocab_size": 320,
}


def tokenizer(words: int = 320, *, start: bool = True) -> Tokenizer:
    """Make a byte-pair encoding over bytes; with 258 words it has only the bytes.

    Args:
        words: Size of the vocabulary.
        start: Whether the tokenizer puts START before a text, as Llama 3's does.
    """
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=words,
        special_tokens=[START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    numbers = " ".join(map(str, range(200)))
    made.train_from_iterator(["Question: which number is it? Answer: the number is", numbers], trainer)
    if start:
        made.post_processor = processors.TemplateProcessing(
            single=f"{START} $A", special_tokens=[(START, made.token_to_id(START))]
        )
    return made


def weights(
    config: Mapping[str, Any] = CONFIG, seed: int = 0, dtype: torch.dtype = torch.bfloat16
) -> Weights:
    """Random weights with the names of a Llama."""
    wide, inner, words = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    narrow = wide // config["num_attention_heads"] * config["num_key_value_heads"]
    shapes = {
        "self_attn.q_proj": (wide, wide),
        "self_attn.k_proj": (narrow, wide),
        "self_attn.v_proj": (narrow, wide),
        "self_attn.o_proj": (wide, wide),
        "mlp.gate_proj": (inner, wide),
        "mlp.up_proj": (inner, wide),
        "mlp.down_proj": (wide, inner),
        "input_layernorm": (wide,),
        "post_attention_layernorm": (wide,),
    }
    names: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (words, wide)}
    for layer in range(config["num_hidden_layers"]):
        names |= {f"model.layers.{layer}.{name}.weight": shape for name, shape in shapes.items()}
    names |= {"model.norm.weight": (wide,), "lm_head.weight": (words, wide)}
    generator = torch.Generator().manual_seed(seed)
    return {
        name: (torch.randn(shape, generator=generator) * (0.2 if len(shape) > 1 else 1)).to(dtype)
        for name, shape in names.items()
    }


def write_model(folder: Path, seed: int) -> None:
    """Write a checkpoint in two shards with their index, in the form of the hub."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    tokenizer().save(str(folder / "tokenizer.json"))
    made = weights(seed=seed)
    names = list(made)
    places: dict[str, str] = {}
    for number, part in enumerate((names[:8], names[8:]), 1):
        file = f"model-{number:05d}-of-00002.safetensors"
        save_file({name: made[name] for name in part}, folder / file, metadata={"format": "pt"})
        places |= dict.fromkeys(part, file)
    (folder / full.INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))


def row(part: str, number: int) -> dict[str, Any]:
    """A row in the format of the part's data set."""
    question = f"Which number is it, {number}?"
    options = [f"the number {number}", "another number", "none", "all of them"]
    if part == "arc":
        texts = {"text": options, "label": ["A", "B", "C", "D"]}
        return {"id": f"x{number}", "question": question, "choices": texts, "answerKey": "ABCD"[number % 4]}
    if part == "hellaswag":
        first = f"A man counts {number} things."
        beginning = {"ctx_a": first, "ctx_b": "he", "ctx": f"{first} he", "activity_label": "Counting"}
        return {"ind": number, **beginning, "endings": options, "label": str(number % 4)}
    if part == "mmlu":
        return {"question": question, "subject": "sums", "choices": options, "answer": number % 4}
    if part == "truthfulqa":
        targets = {"choices": options, "labels": [1, 0, 0, 0]}
        return {"question": question, "mc1_targets": targets, "mc2_targets": targets}
    if part == "winogrande":
        sentence = f"The {number} cups did not fit into the box because _ was too small."
        return {
            "sentence": sentence,
            "option1": "the cup",
            "option2": "the box",
            "answer": str(1 + number % 2),
        }
    return {"question": question, "answer": f"It is <<{number}+1={number + 1}>>.\n#### 1,{number + 1:03d}"}


def write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write a parquet file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.Table.from_pylist(rows), path)


def file_of(pattern: str) -> str:
    """The name of a file on the hub."""
    return ("data/" if "/" not in pattern else "") + pattern.replace("*", "00000-of-00001")


def write_raw(folder: Path) -> Path:
    """Write all sources, each into its own folder."""
    for seed, name in enumerate(full.MODELS):
        write_model(folder / name, seed)
    for part, pattern in full.FILES.items():
        rows = [row(part, number) for number in range(sum(SIZES) + 1)]
        write_table(folder / part / file_of(pattern), [*rows, rows[0]])  # a question may be there twice
        write_table(folder / f"tiny-{part}" / file_of(pattern), rows[3 : 3 + SIZES[0]])
    examples = [row("gsm8k", number) for number in range(100, 106)]
    write_table(folder / "gsm8k" / file_of(full.GSM8K_TRAIN), examples)
    return folder


@contextmanager
def starter(
    folder: Path, public: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Any, Any]]:
    """The modules main and model of a workspace, which is the working directory.

    Args:
        folder: Folder of the competition.
        public: Folder that the workspace sees as data/.
        workspace: New folder for the workspace.
        monkeypatch: Fixture that restores the working directory and the import path.
    """
    shutil.copytree(folder / "starter", workspace)
    shutil.copytree(folder / "starter_full", workspace, dirs_exist_ok=True)
    (workspace / "data").symlink_to(public)
    (workspace / "artefacts").mkdir()
    monkeypatch.chdir(workspace)
    monkeypatch.syspath_prepend(str(workspace))
    before = {name: sys.modules.pop(name) for name in MODULES if name in sys.modules}
    try:
        import main  # type: ignore[import-not-found]
        import model  # type: ignore[import-not-found]

        yield main, model
    finally:
        for name in MODULES:
            sys.modules.pop(name, None)
        sys.modules.update(before)
