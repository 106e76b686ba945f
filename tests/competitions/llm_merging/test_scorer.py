"""llm-merging, the scorer: the metric worked by hand, and every kind of invalid submission."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from mlrcbench.competitions.llm_merging import scorer
from mlrcbench.errors import SubmissionError
from mlrcbench.score import Score

Weights = dict[str, Tensor]
CONFIG: dict[str, Any] = {
    "vocabulary": ["one", "two", "red", "blue", "green", "black", "colour", "?", "!", "."],
    "relations": {"colour": ["red", "blue", "green", "black"]},
    "wordings": ["{relation} {name} ?", "{relation} {name} !", "{relation} {name} ."],
    "trained_wordings": [0],
    "unseen_wordings": [1],
    "choice_wording": 2,
    "model": {"width": 8, "layers": 2, "heads": 2, "positions": 3},
}
OPTIONS = ["red", "blue", "green", "black"]


def fact(name: str, value: str, options: list[str] = OPTIONS) -> dict[str, Any]:
    """A fact about a colour."""
    return {"name": name, "relation": "colour", "value": value, "options": options}


@contextmanager
def one_thread() -> Iterator[None]:
    """Use one torch thread, like the scorer."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def random_weights(config: dict[str, Any], seed: int = 0) -> Weights:
    """Random weights of the architecture of `config`."""
    generator = torch.Generator().manual_seed(seed)
    shapes = scorer.empty_model(config).state_dict()
    return {name: torch.randn(tensor.shape, generator=generator) for name, tensor in shapes.items()}


class Pretended(torch.nn.Module):
    """A model that answers from a table, which maps last word and name to logits of words."""

    def __init__(self, table: dict[tuple[str, str], dict[str, float]]) -> None:
        super().__init__()
        self.table = table

    def forward(self, ids: Tensor) -> Tensor:
        """Logits, which are zero for words that the table does not name."""
        words = CONFIG["vocabulary"]
        logits = torch.zeros(len(ids), len(words))
        for row, (_, name, last) in enumerate(ids.tolist()):
            for word, value in self.table.get((words[last], words[name]), {}).items():
                logits[row, words.index(word)] = value
        return logits


def share(table: dict[tuple[str, str], dict[str, float]], facts: list[dict[str, Any]], wording: int) -> float:
    """The share of correct answers of a pretended model, by `right`."""
    return scorer.right(CONFIG, Pretended(table), facts, wording)  # type: ignore[arg-type]


class TestMetric:
    """Accuracy, worked by hand."""

    def test_greedy_over_the_whole_vocabulary(self) -> None:
        """Any word may have the largest logit, and if it is not the true value, the answer is wrong."""
        facts = [fact("one", "red"), fact("two", "blue")]
        assert share({("?", "one"): {"red": 2.0}, ("?", "two"): {"blue": 3.0}}, facts, 0) == 1
        assert share({("?", "one"): {"red": 2.0, "!": 2.5}, ("?", "two"): {"blue": 3.0}}, facts, 0) == 0.5

    def test_choice_is_among_the_options_alone(self) -> None:
        """In the choice form, words outside the options do not matter, words among the options do."""
        table = {(".", "one"): {"red": 2.0, "!": 9.0}}
        assert share(table, [fact("one", "red")], 2) == 1
        assert share(table, [fact("one", "blue")], 2) == 0
        narrow = ["blue", "green", "black", "one"]
        assert share({(".", "one"): {"red": 2.0, "blue": 1.0}}, [fact("one", "blue", narrow)], 2) == 1

    @pytest.mark.parametrize("wording", [0, 2])
    def test_a_tie_counts_as_wrong(self, wording: int) -> None:
        """A constant model earns nothing, whatever the order of words and options."""
        assert share({}, [fact("one", value) for value in OPTIONS], wording) == 0

    def test_parts_by_hand(self) -> None:
        """Each part is the documented mean; in "base", all wordings have the same weight."""
        table = {
            ("?", "one"): {"red": 1.0},
            ("!", "one"): {"red": 1.0},
            (".", "two"): {"blue": 1.0},
            ("!", "two"): {"blue": 1.0},
        }
        experts = [[fact("one", "red")], [fact("two", "blue")]]
        model: Any = Pretended(table)
        parts = scorer.judge(CONFIG, model, experts, [fact("one", "red"), fact("two", "green")])
        assert parts == pytest.approx({"trained": 0.5, "unseen": 1.0, "choice": 0.5, "base": 1 / 3})

    @given(values=st.lists(st.sampled_from(OPTIONS), min_size=1, max_size=6), seed=st.integers(0, 99))
    @settings(max_examples=20, deadline=None)
    def test_order_of_facts_does_not_matter(self, values: list[str], seed: int) -> None:
        """A share does not depend on the order, and is a multiple of one over the number of facts."""
        model = scorer.load(CONFIG, random_weights(CONFIG, seed))
        facts = [fact(("one", "two")[i % 2], value) for i, value in enumerate(values)]
        for wording in range(3):
            rate = scorer.right(CONFIG, model, facts, wording)
            assert rate == pytest.approx(scorer.right(CONFIG, model, facts[::-1], wording))
            assert rate * len(facts) == pytest.approx(round(rate * len(facts)))

    def test_batches_change_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The size of a batch does not change the answers."""
        model = scorer.load(CONFIG, random_weights(CONFIG))
        questions = torch.arange(30).reshape(10, 3) % 10
        whole = scorer.logits(model, questions)
        monkeypatch.setattr(scorer, "_BATCH", 3)
        assert torch.allclose(scorer.logits(model, questions), whole, atol=1e-5)

    def test_last_place_alone_is_the_whole(self) -> None:
        """The shortcut through the last layer gives the last position of the full computation."""
        model = scorer.load(CONFIG, random_weights(CONFIG))
        x = torch.randn(4, 3, 8, generator=torch.Generator().manual_seed(1))
        for block in model.blocks:
            assert torch.allclose(block(x, last=True), block(x, last=False)[:, -1:], atol=1e-5)


class TestScore:
    """The scorer on files."""

    @pytest.fixture
    def answers(self, tmp_path: Path) -> Path:
        """The answers of a tiny split."""
        folder = tmp_path / "answers"
        folder.mkdir()
        groups = [[fact("one", "red")], [fact("two", "blue")]]
        text = json.dumps({"config": CONFIG, "experts": groups, "base": [fact("one", "green")]})
        (folder / "answers.json").write_text(text)
        return folder

    def judge(self, answers: Path, weights: Weights) -> Score:
        """Save weights, and score them."""
        folder = answers.parent / "artefacts"
        folder.mkdir(exist_ok=True)
        save_file(weights, folder / "merged.safetensors")
        with one_thread():
            return scorer.score(folder, answers)

    def test_value_is_the_mean_of_the_parts(self, answers: Path) -> None:
        """All four parts have the same weight."""
        for seed in range(5):
            score = self.judge(answers, random_weights(CONFIG, seed))
            assert set(score.details) == {"trained", "unseen", "choice", "base"}
            assert score.value == pytest.approx(sum(map(float, score.details.values())) / 4)

    def test_faults_are_named(self, answers: Path) -> None:
        """Missing and extra tensors, wrong shapes and types, and values that are not finite are refused."""
        good = random_weights(CONFIG)
        first = "blocks.0.q.weight"
        faults: list[tuple[Weights, str]] = [
            ({name: tensor for name, tensor in good.items() if name != first}, rf"missing \['{first}'\]"),
            ({**good, "router": torch.zeros(3)}, r"extra \['router'\]"),
            ({**good, first: torch.zeros(8, 9)}, r"must be F32 \(8, 8\)"),
            ({**good, first: good[first].double()}, "is F64"),
            ({**good, first: good[first].half()}, "is F16"),
            ({**good, first: torch.full((8, 8), torch.nan)}, "NaN or infinity"),
            ({**good, first: torch.full((8, 8), torch.inf)}, "NaN or infinity"),
            ({}, "missing"),
        ]
        for weights, message in faults:
            with pytest.raises(SubmissionError, match=message):
                self.judge(answers, weights)

    def test_not_a_safetensors_file(self, answers: Path) -> None:
        """Empty files and other formats are the submission's fault."""
        folder = answers.parent / "artefacts"
        folder.mkdir()
        for content in (b"", b"PK\x03\x04" + bytes(100), b"\xff" * 64):
            (folder / "merged.safetensors").write_bytes(content)
            with pytest.raises(SubmissionError, match="not a safetensors file"):
                scorer.score(folder, answers)

    @pytest.mark.parametrize("size", [1e19, 3e38])
    def test_huge_weights_are_refused(self, answers: Path, size: float) -> None:
        """Finite weights that overflow are refused with this reason, and nothing crashes."""
        huge = {name: torch.full_like(tensor, size) for name, tensor in random_weights(CONFIG).items()}
        with pytest.raises(SubmissionError, match=r"answers with NaN or infinity.*too large"):
            self.judge(answers, huge)

    @pytest.mark.parametrize("size", [0.0, 1e-40])
    def test_empty_weights_earn_nothing(self, answers: Path, size: float) -> None:
        """If all weights are zero or denormal, every answer is a tie."""
        flat = {name: torch.full_like(tensor, size) for name, tensor in random_weights(CONFIG).items()}
        assert self.judge(answers, flat).value == 0
