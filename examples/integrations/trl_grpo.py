"""GRPO on episodes, on a CPU and offline: the trainer calls the tools, asks for rewards, and learns.

The model is real but tiny and random, so its output is scripted: half of the rollouts write the
reference solution, half leave the starter as it is. TRL does everything else: it makes the tools'
schemas, parses the calls, carries them out, asks for the rewards, and takes gradient steps. To train
a real model, use it and its tokenizer in place of `Scripted` and the tokenizer here.
"""

import json
import math
import tempfile
from importlib.resources import files

import torch
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM
from trl import GRPOConfig, GRPOTrainer

import mlrcbench
from mlrcbench.integrations.trl import environment, rows

COMPETITION = "_template"
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
METHOD = mlrcbench.get_competition(COMPETITION).overlay("reference")["method.py"]
FIRST = [("write_file", {"path": "method.py", "text": METHOD}), ("run", {"command": "python main.py"})]
REST = [("evaluate", {}), ("submit", {})]


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer, learnt from the tools' descriptions, with Qwen3's form of tool calls."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1500,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator([json.dumps(mlrcbench.tool_specs())], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token=SPECIAL[2], pad_token=SPECIAL[0])
    tokenizer.chat_template = (files("trl") / "chat_templates" / "qwen3.jinja").read_text("utf-8")
    return tokenizer


class Scripted(Qwen3ForCausalLM):
    """A model whose answers come from a script, by the number of tool results in the prompt."""

    speech: PreTrainedTokenizerFast

    def generate(self, input_ids: torch.Tensor, **_: object) -> torch.Tensor:
        """The prompts, each with the next message appended."""
        answers = [self._next(index, self.speech.decode(row)) for index, row in enumerate(input_ids)]
        tokens = [self.speech.encode(text + SPECIAL[2], add_special_tokens=False) for text in answers]
        longest = max(map(len, tokens))
        padded = [row + [self.speech.pad_token_id] * (longest - len(row)) for row in tokens]
        return torch.cat([input_ids, torch.tensor(padded)], dim=1)

    def _next(self, index: int, prompt: str) -> str:
        calls = [FIRST[index % 2], *REST]
        results = prompt.count("<tool_response>")
        if results >= len(calls):
            return "Done."
        name, arguments = calls[results]
        return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


tokenizer = make_tokenizer()
torch.manual_seed(0)
model = Scripted(
    Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        max_position_embeddings=32_768,
    )
)
model.speech = tokenizer
with tempfile.TemporaryDirectory() as folder:
    trainer = GRPOTrainer(
        model=model,
        processing_class=tokenizer,
        environment_factory=environment(COMPETITION),
        train_dataset=Dataset.from_list(rows(range(2))),
        args=GRPOConfig(
            output_dir=folder,
            max_steps=2,
            per_device_train_batch_size=4,
            num_generations=4,
            max_completion_length=4096,
            learning_rate=0.01,
            logging_steps=1,
            use_cpu=True,
            bf16=False,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
        ),
    )
    before = [weight.detach().clone() for weight in model.parameters()]
    trainer.train()
steps = [entry for entry in trainer.state.log_history if "loss" in entry]
for entry in steps:
    assert entry["tools/call_frequency"] == 3
    assert entry["tools/failure_frequency"] == 0
    assert math.isfinite(entry["loss"])
    assert entry["grad_norm"] > 0
    print(f"reward {entry['reward']:.3f} ± {entry['reward_std']:.3f}, loss {entry['loss']:.2e}")
assert any(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
