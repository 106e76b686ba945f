"""Process metrics: an episode worked out by hand, one definition after the other, and hostile records."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

import mlrcbench
from mlrcbench import EditFile, Evaluate, Run, Submit, WriteFile
from mlrcbench.env.code_shapes import code_shapes
from mlrcbench.runs.process_metrics import mean_metrics, process_metrics
from mlrcbench.storage.record import Record, read_record

FLAT = "import numpy as np\n\n\ndef predict(train, x):\n    return np.full(len(x), 0.0)\n"
LINE = (
    "import numpy as np\n\n\ndef predict(train, x):\n"
    "    slope, offset = np.polyfit(train[:, 0], train[:, 1], 1)\n    return slope * x + offset\n"
)
STEPS = [
    WriteFile("method.py", "def predict(train, x:\n"),  # cannot be parsed: not yet a change
    Evaluate(),  # 2: invalid
    WriteFile("method.py", FLAT),  # 3: changes the algorithm
    Evaluate(),  # 4: the first valid one
    EditFile("./method.py", "0.0", "-0.25"),  # 5: changes a constant
    Run("echo '# a comment' >> method.py"),  # a comment changes nothing
    Evaluate(),  # 7
    EditFile("method.py", "a passage that does not occur", ""),  # an error changes nothing
    WriteFile("method.py", LINE),  # 9: changes the algorithm
    Evaluate(),  # 10: the best
    WriteFile("notes.md", "Least squares works."),  # no code
    Run("sed -i 's/slope \\* x/slope * x * 2/' method.py"),
    Evaluate(),  # 13: worse; what the command changed is seen here, and is the algorithm
    Submit(),
]


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """The record of an episode that takes `STEPS`."""
    budget = {"steps": 20, "evaluations": 8, "seconds": 600}
    records = tmp_path_factory.mktemp("records")
    with mlrcbench.make("_template", sandbox="process", records=records, budget=budget) as env:
        env.reset(seed=0)
        for action in STEPS:
            env.step(action)
        assert env.record is not None
        return read_record(env.record)


def test_each_metric_has_the_value_that_a_person_works_out(record: Record) -> None:
    """The comments of `STEPS` give every number below."""
    metrics = dataclasses.asdict(process_metrics(record))
    assert record.footer is not None
    assert record.footer.seconds is not None
    assert metrics == {
        "first_valid_step": 4,
        "first_valid_seconds": pytest.approx(sum(row.seconds for row in record.steps[:4]), abs=0.001),
        "algorithm_changes": 3,
        "constant_changes": 1,
        "algorithm_share": 3 / 4,
        "approaches": 2,  # the flat line, twice; least squares, twice, with half of all statements in common
        "evaluations": 5,
        "invalid_share": pytest.approx(1 / 5),
        "regressions": 1,
        "unused_steps": pytest.approx(1 - 14 / 20),
        "unused_seconds": pytest.approx(1 - record.footer.seconds / 600),
        "unused_evaluations": pytest.approx(1 - 5 / 8),
    }


def test_what_did_not_happen_has_no_number(record: Record) -> None:
    """An episode that was broken off at once has no first evaluation, no shares and no end."""
    empty = dataclasses.replace(record, steps=(), evaluations=(), footer=None)
    metrics = process_metrics(empty)
    assert metrics.first_valid_step is metrics.first_valid_seconds is metrics.unused_seconds is None
    assert metrics.algorithm_share is metrics.invalid_share is None
    assert (metrics.approaches, metrics.regressions, metrics.unused_steps) == (0, 0, 1.0)
    means = mean_metrics([metrics, process_metrics(record)])
    assert (means["first_valid_step"], means["evaluations"]) == (4, 2.5)
    assert mean_metrics([])["evaluations"] is None


def test_literals_are_constants_and_everything_else_is_the_algorithm() -> None:
    """Numbers with a sign, texts, and displays of them are literals; docstrings and layout are nothing."""
    same = {"a = f(1)": "a = f(-2.5)", "a = [1, 2]": "a = (3, {4: 'x'}, None)", "a='relu'": "a = 'gelu'"}
    other = {
        "a = f(1)": "a = g(1)",
        "a = x * 2": "a = x ** 2",
        "a = [x]": "a = [x, x]",
        "a = 1": "a = 1; b = 1",
    }
    shapes = code_shapes([*same, *same.values(), *other, *other.values(), "def f(): '''D'''", "def f(): ''"])
    for one, two in same.items():
        assert shapes[one].shape == shapes[two].shape
        assert shapes[one].tree != shapes[two].tree
    for one, two in other.items():
        assert shapes[one].shape != shapes[two].shape
    assert shapes["def f(): '''D'''"].tree == shapes["def f(): ''"].tree


def test_equal_bests_are_no_regressions(record: Record) -> None:
    """As in an episode, the later one of two equal scores is the best."""
    best = max(record.evaluations[:5], key=lambda row: row.score.improvement or -9.0)
    rows = [dataclasses.replace(best, after_step=number) for number in (4, 7)]
    assert process_metrics(dataclasses.replace(record, evaluations=tuple(rows))).regressions == 0


def test_a_hostile_record_is_read_in_bounded_time(record: Record, tmp_path: Path) -> None:
    """Broken actions, code that costs gigabytes to parse, an unknown competition: all give numbers."""
    bombs = ["(" * 100_000, "-" * 100_000 + "1", "import a" + ".a" * 60_000, "\ud800", "a;" * 99_000]
    actions: list[Any] = [
        None, [], {"action": "write_file"}, {"characters": 3}, "}" * 1000,
        *({"action": "write_file", "path": f"{i}.py", "text": bomb} for i, bomb in enumerate(bombs)),
        {"action": "write_file", "path": "../../x.py", "text": "a = 1"},
        {"action": "edit_file", "path": "x.py", "old": "", "new": "a"},
    ]  # fmt: skip
    header, *_ = (record.directory / "record.jsonl").read_text().splitlines()
    data = {**json.loads(header), "competition": "unknown-here"}
    steps = [
        {"kind": "step", "step": number, "action": action, "body": "", "reward": 0.0}
        for number, action in enumerate(actions, 1)
    ]
    (tmp_path / "record.jsonl").write_text("".join(json.dumps(row) + "\n" for row in (data, *steps)))
    metrics = process_metrics(read_record(tmp_path))
    assert metrics.evaluations == metrics.approaches == 0
    assert metrics.algorithm_changes <= len(bombs) + 1
