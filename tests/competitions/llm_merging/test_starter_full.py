"""llm-merging's full tier, the starter: it reads, merges, writes and judges as the scorer expects."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import mlrcbench
from mlrcbench.competitions.llm_merging import full, scorer_full
from tests.competitions.llm_merging import llama

FOLDER = mlrcbench.get_competition("llm-merging").folder


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, Any]]:
    """The modules of the shipped starter, with two small models."""
    public = tmp_path / "public"
    for seed, name in enumerate(full.MODELS):
        llama.write_model(public / "models" / name, seed)
    models = {"base": f"models/{full.MODELS[0]}", "experts": [f"models/{name}" for name in full.MODELS]}
    (public / "models.json").write_text(json.dumps(models))
    with llama.starter(FOLDER, public, tmp_path / "workspace", monkeypatch) as modules:
        yield modules


class Lazy(Mapping[str, Tensor]):
    """A merge that is computed name by name, in float32; it lists the names that were accessed."""

    def __init__(self, base: Mapping[str, Tensor], expert: Mapping[str, Tensor]) -> None:
        self.base, self.expert = base, expert
        self.asked: list[str] = []

    def __getitem__(self, name: str) -> Tensor:
        """The tensor at three quarters of the way from base to expert."""
        self.asked.append(name)
        start = self.base[name].float()
        return start + 0.75 * (self.expert[name].float() - start)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self.base)

    def __len__(self) -> int:
        """The number of tensors."""
        return len(self.base)


def test_checkpoints_are_read_by_the_tensor(opened: tuple[Any, Any]) -> None:
    """A tensor is read from the shard that has it; changes in memory do not change the disk."""
    _, model = opened
    base, experts = model.read_models("data")
    expected = llama.weights(seed=1)
    assert set(base) == set(experts[1]) == set(expected)
    assert len(experts) == 2
    for name, tensor in expected.items():
        assert torch.equal(experts[1][name], tensor)
        assert torch.equal(base[name], experts[0][name])
    experts[1]["model.norm.weight"].zero_()
    assert torch.equal(experts[1]["model.norm.weight"], expected["model.norm.weight"])


def test_a_lazy_merge_is_written_file_by_file(
    opened: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each tensor is accessed once, cast to the base model's dtype, and passes the scorer's checks."""
    main, model = opened
    monkeypatch.setattr(main, "SHARD_BYTES", 24_000)
    base, experts = model.read_models("data")
    merged = Lazy(base, experts[1])
    main.write(merged, base, "artefacts")
    assert merged.asked == list(base)
    paths = sorted(Path("artefacts").iterdir())
    assert len(paths) > 3
    assert all(path.stat().st_size < 24_000 + 2_000 for path in paths)
    layout = {name: ("BF16", tuple(tensor.shape)) for name, tensor in llama.weights().items()}
    assert set(scorer_full.check(paths, layout)) == set(layout)
    written = model.Checkpoint("artefacts")
    assert all(torch.equal(written[name], merged[name].bfloat16()) for name in base)


@pytest.mark.parametrize("change", [{"extra": torch.zeros(1)}, {"lm_head.weight": None}])
def test_other_names_are_refused(
    opened: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    """A merge with wrong names ends the program before anything is written."""
    main, model = opened
    merged = {**model.read_models("data")[0], **change}
    name = next(iter(change))
    if change[name] is None:
        del merged[name]
    monkeypatch.setattr(main, "merge", lambda *_: merged)
    with pytest.raises(SystemExit, match=f"these differ: {name}"):
        main.run("data")


def test_the_same_digits(opened: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The judges of starter and scorer give the same likelihoods, texts and shares for one model."""
    _, model = opened
    for name in ("READ_TOKENS", "WRITTEN_TOKENS", "ANSWER_TOKENS", "NUMBER"):
        assert getattr(model, name) == getattr(scorer_full, name)
    loaded = model.load("data", model.Checkpoint("data/models/refueled"))
    assert loaded.dtype == torch.bfloat16
    theirs, ours = model.Judge(loaded, "data"), scorer_full.Judge(loaded, llama.tokenizer())
    pairs = [("Which number " * n, f" is it, {n}?" * (1 + n % 3)) for n in range(1, 9)]
    assert theirs.log_likelihoods(pairs) == ours.log_likelihoods(pairs)
    prompts = ["Question: which number is it?", "Answer:", "12"]
    monkeypatch.setattr(model, "ANSWER_TOKENS", 12)
    monkeypatch.setattr(scorer_full, "ANSWER_TOKENS", 12)
    texts = ours.write(prompts)
    assert texts == theirs.write(prompts)
    assert any(texts)
    for number in range(12):
        question = full.PROMPTS["arc"](llama.row("arc", number))
        for normalised in (True, False):
            assert theirs.accuracy([question], normalised) == ours.accuracy([question], normalised=normalised)
    for text in ("so $1,250.", "-.5 or 3", "none"):
        assert model.last_number(text) == scorer_full.last_number(text)
