"""What each scorer tells of its own noise, against slower computations and against fresh items."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mlrcbench
from mlrcbench.aggregates import error_of_mean, jackknife
from mlrcbench.catalog.code_digest import running_code, without_errors
from mlrcbench.catalog.competition import Competition
from mlrcbench.competitions._template import scorer as template
from mlrcbench.competitions.backdoor_trigger import scorer as backdoor
from mlrcbench.competitions.llm_merging import scorer as merging
from mlrcbench.competitions.llm_merging import scorer_full as merging_full
from mlrcbench.competitions.machine_unlearning import scorer as unlearning
from mlrcbench.competitions.meta_learning import scorer as meta
from mlrcbench.competitions.product_recommendation import scorer as products
from mlrcbench.competitions.rainfall_prediction import scorer as rainfall
from mlrcbench.competitions.temporal_action_localization import scorer as temporal

Array = np.ndarray[Any, Any]
IDS = ["_template", "_played", *(entry.id for entry in mlrcbench.list_competitions())]


@pytest.mark.parametrize("identifier", IDS)
def test_every_scorer_tells_an_error_that_no_value_depends_on(identifier: str) -> None:
    """Its scorers pass one to `Score`, and the digest of what values depend on leaves it out."""
    competition: Competition = mlrcbench.get_competition(identifier)
    for path in sorted(competition.folder.glob("scorer*.py")):
        source = path.read_text("utf-8")
        shared = "return combine(" in source and path.name == "scorer_full.py"  # which tells the error
        assert shared or running_code(without_errors(source)) != running_code(source), path


def test_the_template_knows_what_fresh_points_do(tmp_path: Path) -> None:
    """Through files: its errors are as large as the spread of the scores of 300 fresh sets of points."""
    rng = np.random.default_rng(0)
    values, errors = [], []
    for _ in range(300):
        x = rng.uniform(-1.0, 1.0, 100)
        np.save(tmp_path / "y.npy", 2.0 * x + 0.1 * rng.normal(size=100))
        np.save(tmp_path / "predictions.npy", np.zeros(100))
        score = template.score(tmp_path, tmp_path)
        values.append(score.value or 0.0)
        errors.append(score.error or 0.0)
    assert np.mean(errors) == pytest.approx(np.std(values, ddof=1), rel=0.1)


def test_a_huge_prediction_has_no_error(tmp_path: Path) -> None:
    """Where squares of squares leave the range of floats, the value stays valid and has no standard error."""
    np.save(tmp_path / "y.npy", np.zeros(100))
    np.save(tmp_path / "predictions.npy", np.r_[1e100, np.zeros(99)])
    score = template.score(tmp_path, tmp_path)
    assert score.value == pytest.approx(1e99)
    assert score.error is None or np.isfinite(score.error)


def test_meta_learning_draws_tasks_within_domains() -> None:
    """As in simulated sets of tasks whose domains stay the same and differ much."""
    rng = np.random.default_rng(0)
    domains = np.repeat(np.arange(4), 10)
    values = 0.2 * domains + rng.normal(0.0, 0.1 * (1 + domains), (1000, 40))
    errors = [meta.standard_error(row, domains) or 0.0 for row in values]
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(values.mean(1).std(), rel=0.07)


def test_the_plain_means() -> None:
    """Over sessions, and over worlds."""
    assert products.standard_error(np.array([0.0, 1.0, 0.5])) == pytest.approx(0.5 / 3**0.5)
    assert unlearning.standard_error([0.1, 0.2, 0.3, 0.4]) == pytest.approx(
        error_of_mean([0.1, 0.2, 0.3, 0.4])
    )


def test_backdoor_trigger_draws_targets() -> None:
    """Each target has one value: half of its recall and half of its rate."""
    truth = {"a": "red sun", "b": "blue moon", "c": "old tree"}
    triggers = {"a": ["red sun", "x"], "b": ["y", "z"], "c": ["w", "v"]}
    rates = {"a": [0.0, 0.5], "b": [0.0, 1.0], "c": [0.0, 0.0]}
    score = backdoor.combine(truth, triggers, rates)
    assert score.value == pytest.approx(np.mean([75.0, 50.0, 0.0]))
    assert score.error == pytest.approx(error_of_mean([75.0, 50.0, 0.0]))


def test_rainfall_leaves_sequences_out() -> None:
    """Each in turn, with the counts as the metric takes them, also where nothing was measured."""
    rng = np.random.default_rng(0)
    truth = rng.gamma(0.3, 8.0, (37, 3, 4, 4)).astype(np.float32)
    predicted = (truth * rng.lognormal(0.0, 1.0, truth.shape)).astype(np.float32)
    truth[rng.random(truth.shape) < 0.1] = np.nan
    others = [np.delete(np.arange(37), place) for place in range(37)]
    left_out = [np.mean(rainfall.csi(rainfall.contingency(truth[row], predicted[row]))) for row in others]
    assert rainfall.standard_error(truth, predicted) == pytest.approx(jackknife(left_out))
    assert rainfall.standard_error(truth, np.zeros_like(predicted)) == 0.0


def test_temporal_leaves_groups_of_videos_out() -> None:
    """Forty groups, with the metric itself on what is left; three videos too many are never left out."""
    rng = np.random.default_rng(0)

    def draw(count: int) -> Array:
        start = rng.uniform(0, 10, count)
        columns = (
            rng.integers(0, 83, count),
            rng.integers(0, 3, count),
            start,
            start + rng.uniform(1, 6, count),
        )
        return np.stack([*columns, rng.random(count)], axis=1)

    def mean(rows: Array, truth: Array) -> float:
        ours, theirs = temporal.Segments.from_rows(rows), temporal.Segments.from_rows(truth)  # type: ignore[arg-type]
        return float(temporal.mean_average_precisions(ours, theirs, 83).mean())

    rows, truth = draw(900), draw(200)
    group = np.r_[np.arange(80) % 40, -1, -1, -1]
    left_out = [
        mean(*(table[group[table[:, 0].astype(int)] != out] for table in (rows, truth))) for out in range(40)
    ]
    ours, theirs = (temporal.Segments.from_rows(table) for table in (rows, truth))  # type: ignore[arg-type]
    error = temporal.standard_error(ours, theirs, 83)
    assert error == pytest.approx(jackknife(left_out))
    assert error is not None
    assert error > 0.0
    assert temporal.standard_error(ours, theirs, 79) is None


def test_llm_merging_draws_names() -> None:
    """The weighted shares of each name's facts, group by group; one name alone tells nothing."""
    words = ["one", "two", "six", "?", "!", ".", "red", "blue"]
    config = {
        "vocabulary": words,
        "wordings": ["{name} ?", "{name} !", "{name} ."],
        "trained_wordings": [0],
        "unseen_wordings": [1],
        "choice_wording": 2,
    }
    # Which names are answered by "red" in which wording; all others get no logit at all.
    red = {("one", "?"), ("one", "!"), ("one", "."), ("two", "?"), ("six", ".")}

    class Pretended(torch.nn.Module):
        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            logits = torch.zeros(len(ids), len(words))
            for row, (name, mark) in enumerate(ids.tolist()):
                logits[row, words.index("red")] = float((words[name], words[mark]) in red)
            return logits

    def facts(*names: str) -> list[dict[str, Any]]:
        return [
            {"name": name, "relation": "", "value": value, "options": ["red", "blue"]}
            for name in names
            for value in ("red", "blue")
        ]

    model: Any = Pretended()
    error = merging.standard_error(
        config, model, [facts("one", "two"), facts("two", "six")], facts("one", "six")
    )
    # Half of each name's facts can be right. Weights: a quarter for each part, a third of it in "base".
    one, two, six = 0.5 * 0.75, 0.5 * 0.25, 0.5 * 0.25
    base = [0.5 * 0.25, 0.5 * 0.25 / 3]
    assert error == pytest.approx(error_of_mean([one, two], [two, six], base, weights=[0.5, 0.5, 1.0]))
    assert merging.standard_error(config, model, [facts("one")], facts("one", "six")) is None


def test_llm_merging_in_full_draws_questions() -> None:
    """A share of right answers says of which ones and noughts it is the mean."""
    parts: dict[str, list[dict[str, Any]]] = {"a": [{}] * 4, "b": [{}] * 5}
    error = merging_full.standard_error({"a": 0.5, "b": 0.2}, parts)
    assert error == pytest.approx(error_of_mean([1, 1, 0, 0], [1, 0, 0, 0, 0], weights=[0.5, 0.5]))
