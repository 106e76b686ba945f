"""Calibration: the arithmetic, the folder of methods, and a real one of the template."""

from __future__ import annotations

import dataclasses
import math
import statistics
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mlrcbench
from mlrcbench.aggregates import spearman
from mlrcbench.cli import main
from mlrcbench.errors import CardError, WorkspaceError
from mlrcbench.score import SPLITS
from mlrcbench.testing.calibration import (
    Measurement,
    draw_ladder,
    measure,
    paired_difference,
    read_measurements,
    read_methods,
    tables,
)
from mlrcbench.testing.calibration.comparison import between, values
from tools import between as cards

TEMPLATE = mlrcbench.get_competition("_template")
LOGS = sorted((Path(__file__).parents[2] / "calibration").glob("*/calibration.jsonl"))
BOUNDS = """
import numpy as np

def oracle(public, inputs, answers, artefacts):
    np.save(artefacts / "predictions.npy", np.load(answers / "y.npy"))

BOUNDS = {"oracle": oracle}
"""
LADDER = """
[reference]
label = "least squares"
published = 3

[zero]
label = "always zero"
kind = "ladder"
published = 1

[half]
label = "half of the line"
kind = "ladder"
published = 2

[oracle]
label = "the answers themselves"
kind = "bound"
"""
ZERO = "import numpy as np\n\n\ndef predict(train, x):\n    return np.zeros(len(x))\n"
HALF = (
    "import numpy as np\n\n\ndef predict(train, x):\n    return np.polyval(np.polyfit(*train.T, 1), x) / 2\n"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two methods and an oracle for the template."""
    root = tmp_path / "methods"
    for name, text in (("zero", ZERO), ("half", HALF)):
        (root / name).mkdir(parents=True)
        (root / name / "method.py").write_text(text)
    (root / "ladder.toml").write_text(LADDER)
    (root / "bounds.py").write_text(BOUNDS)
    return root


def test_a_calibration_measures_every_method_and_continues_where_it_stopped(
    folder: Path, tmp_path: Path
) -> None:
    """Each method's place on the scale is what its code deserves; nothing is measured twice."""
    methods = read_methods(TEMPLATE, folder)
    assert [one.name for one in methods] == ["baseline", "reference", "zero", "half", "oracle"]
    log, work = tmp_path / "out" / "calibration.jsonl", list[str]()
    measurements = measure(TEMPLATE, methods, instances=2, ladder_instances=1, log=log, on_work=work.append)
    assert len(measurements) == 2 * (4 + 4 + 3)
    first = [one for one in measurements if one.instance == 0 and one.repeat == 0]
    by = {(one.method, one.split): one.value for one in first}
    for split in ("dev", "test"):
        values = [by[name, split] for name in ("zero", "half", "reference", "oracle")]
        assert values == sorted(values, key=lambda value: -(value or 0.0))
        assert by["oracle", split] == 0.0
    for (method, split), value in by.items():
        runs = [one for one in measurements if (one.method, one.split, one.instance) == (method, split, 0)]
        assert {one.value for one in runs} == {value}
    assert read_measurements(log) == measurements
    assert len(work) == 11

    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join(lines[:-2]) + '{"method": "torn')
    work.clear()
    assert _values(measure(TEMPLATE, methods, instances=2, ladder_instances=1, log=log, on_work=work.append))
    assert work == ["instance 1: least squares, run 2"]
    assert _values(read_measurements(log)) == _values(measurements)


def test_a_changed_method_is_measured_again(folder: Path, tmp_path: Path) -> None:
    """The scores of its old code are dropped."""
    log = tmp_path / "calibration.jsonl"
    measure(TEMPLATE, read_methods(TEMPLATE, folder), instances=1, repeats=1, log=log)
    (folder / "zero" / "method.py").write_text(HALF)
    work: list[str] = []
    measurements = measure(
        TEMPLATE, read_methods(TEMPLATE, folder), instances=1, repeats=1, log=log, on_work=work.append
    )
    assert work == ["instance 0: always zero"]
    values = {one.method: one.value for one in measurements if one.split == "test"}
    assert values["zero"] == values["half"]
    assert len(read_measurements(log)) == len(measurements)


def test_the_command_prints_tables_and_draws_the_ladder(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The published order is next to the measured one."""
    command = ["calibrate", "_template", "--instances", "2", "--repeats", "1", "--quiet"]
    assert main([*command, "--methods", str(folder), "--out", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    assert "Spearman correlation with the published order: 1.00" in text
    assert "on 2 of 2 instances" in text
    assert text.count("half of the line") == 2
    assert "always zero" in (tmp_path / "out" / "ladder.svg").read_text()


def test_methods_are_compared_on_the_instances_that_they_share(folder: Path) -> None:
    """Smaller is better here: anchors do not profit from an easy instance on which only they were run."""
    methods = [one for one in read_methods(TEMPLATE, folder) if one.write is None]
    scores = {"baseline": (0.9, 0.1), "reference": (0.8, 0.0), "zero": (0.6,), "half": (0.7,)}
    measurements = [
        Measurement(name, number, split, 0, value)
        for name, row in scores.items()
        for number, value in enumerate(row)
        for split in SPLITS
    ]
    _, table = tables(measurements, methods, TEMPLATE.card).split("### By method, on instance 0\n\n")
    rows = [line.split(" | ") for line in table.splitlines()[2:6]]
    assert [(row[0], row[-1]) for row in rows] == [
        ("| baseline", "0.9 |"),
        ("| least squares", "0.8 |"),
        ("| half of the line", "0.7 |"),
        ("| always zero", "0.6 |"),
    ]
    assert table.count("Spearman correlation with the published order: -1.00") == 2


@pytest.mark.parametrize("log", LOGS, ids=lambda log: log.parent.name)
def test_cards_have_the_means_of_their_calibration(log: Path) -> None:
    """The means are over ten instances."""
    competition = mlrcbench.get_competition(log.parent.name.replace("_", "-"))
    measurements = read_measurements(log)
    for split in SPLITS:
        anchors = competition.card.tier("mini").anchors[split]
        for name, anchor in (("baseline", anchors.baseline), ("reference", anchors.target)):
            scores = values(measurements, name, split)
            assert len(scores) == 10
            assert anchor.value == pytest.approx(statistics.mean(scores), rel=5e-4)
            assert anchor.spread == pytest.approx(statistics.stdev(scores), rel=0.1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[zero]\nkind = 'ladder'\npublished = 1", "says nothing about half, oracle"),
        (LADDER + "[none]\nkind = 'cheat'", "no folder and no bound"),
        (LADDER.replace("published = 2", ""), "needs `published`"),
        (LADDER.replace('kind = "bound"', 'kind = "bond"'), "bound"),
        (LADDER.replace("published = 2", "publish = 2"), "published"),
        (
            LADDER.replace("published = 2", "published = 2\nover = ['oracle']"),
            "'oracle', which is not an overlay above it",
        ),
        ("[", "ladder.toml"),
    ],
)
def test_a_wrong_ladder_says_what_to_fix(folder: Path, text: str, message: str) -> None:
    """The error names what is wrong."""
    (folder / "ladder.toml").write_text(text)
    with pytest.raises(CardError, match=message):
        read_methods(TEMPLATE, folder)


def test_a_method_over_others_has_their_files(folder: Path) -> None:
    """The files come in the order of the list, and its own last; the reference is a method like any other."""
    (folder / "zero" / "extra.py").write_text("ZERO = 0\n")
    (folder / "half" / "extra.py").write_text("HALF = 1\n")
    (folder / "half" / "method.py").unlink()
    for over, method in (
        ("['zero', 'reference']", TEMPLATE.overlay("reference")["method.py"]),
        ("['zero']", ZERO),
    ):
        (folder / "ladder.toml").write_text(LADDER.replace("published = 2", f"published = 2\nover = {over}"))
        files = {one.name: one.files for one in read_methods(TEMPLATE, folder)}["half"]
        assert files == {"method.py": method, "extra.py": "HALF = 1\n"}


def test_an_overlay_may_not_touch_protected_files(folder: Path) -> None:
    """It would measure something that no agent can submit."""
    (folder / "zero" / "main.py").write_text("print()\n")
    with pytest.raises(WorkspaceError, match=r"main\.py of an overlay"):
        measure(TEMPLATE, read_methods(TEMPLATE, folder), instances=1, repeats=1)


def test_paired_difference_by_hand() -> None:
    """Errors 4, 3, 5 against 2, 2, 1, smaller is better: gaps 2, 1, 4."""
    measurements = [
        Measurement(method, instance, "dev", 0, value)
        for method, values in (("baseline", (4.0, 3.0, 5.0)), ("reference", (2.0, 2.0, 1.0)))
        for instance, value in enumerate(values)
    ]
    gap = paired_difference(measurements, TEMPLATE.card, "dev")
    assert (gap.wins, gap.count, gap.smallest) == (3, 3, 1.0)
    assert gap.mean == pytest.approx(7 / 3)
    assert gap.spread == pytest.approx(math.sqrt(7 / 3))
    assert gap.error == pytest.approx(math.sqrt(7 / 9))


def test_spearman_by_hand() -> None:
    """Ranks 0, 1, 2, 3 against 0, 2, 1, 3: 1 - 6 * 2 / (4 * 15) = 0.8; ties share their mean rank."""
    assert spearman([1, 2, 3, 4], [10, 30, 20, 40]) == pytest.approx(0.8)
    assert spearman([1, 2, 2, 3], [1, 2, 2, 3]) == pytest.approx(1.0)
    assert spearman([1, 2, 3], [1, 1, 2]) == pytest.approx(math.sqrt(3) / 2)


@given(st.lists(st.integers(-5, 5), min_size=2, max_size=8).filter(lambda xs: len(set(xs)) > 1))
def test_spearman_sees_order_only(numbers: list[int]) -> None:
    """A monotone change of scale changes nothing; turning it round changes the sign."""
    assert spearman(numbers, [math.exp(n) for n in numbers]) == pytest.approx(1.0)
    assert spearman(numbers, [-n for n in numbers]) == pytest.approx(-1.0)


def test_tables_tell_failures_and_noise(tmp_path: Path) -> None:
    """A method without a score is shown without one; noise of the same code is given."""
    methods = read_methods(TEMPLATE)
    base = Measurement("baseline", 0, "dev", 0, 1.0, cpu_seconds=1.5, peak_memory_bytes=64 << 20)
    measurements = [
        dataclasses.replace(base, method=method, split=split, repeat=repeat, value=value + 0.1 * repeat)
        for method, value in (("baseline", 1.0), ("reference", 0.5))
        for split in ("dev", "test")
        for repeat in (0, 1)
    ]
    failed = dataclasses.replace(methods[0], name="failed", label="one that fails", kind="cheat")
    measurements.append(dataclasses.replace(base, method="failed", value=None, reason="no file"))
    text = tables(measurements, [*methods, failed], TEMPLATE.card)
    assert "| one that fails | cheat |  | 0 | no score | no score |" in text
    assert "standard deviation of 0.0707" in text
    assert "| baseline | 1.5 | 1.5 to 1.5 | 64 |" in text
    first, second = tmp_path / "a.svg", tmp_path / "b.svg"
    for path in (first, second):
        draw_ladder(measurements, methods, TEMPLATE.card, path)
    assert first.read_bytes() == second.read_bytes()


def _values(measurements: list[Measurement]) -> list[tuple[object, ...]]:
    return [(one.method, one.instance, one.split, one.repeat, one.value) for one in measurements]


def test_what_items_do_not_explain_lies_between_instances() -> None:
    """The baseline's variance over instances, less its mean squared error; never negative or invented."""

    def measured(
        method: str, instance: int, value: float, error: float | None, repeat: int = 0
    ) -> Measurement:
        return Measurement(method, instance, "dev", repeat, value, error=error)

    spread = [measured("baseline", number, value, 1.0) for number, value in enumerate([1.0, 4.0, 7.0])]
    others = [measured("reference", 0, 9.0, 50.0), measured("baseline", 0, 99.0, 50.0, repeat=1)]
    assert between([*spread, *others], "dev") == pytest.approx(8**0.5)
    assert between(spread, "dev", [measured("baseline", 0, 5.0, 2.0)]) == pytest.approx(5**0.5)
    assert between(spread, "dev", [measured("baseline", 0, 5.0, 4.0)]) == 0.0
    assert between(spread, "test") is None
    assert between(spread[:1], "dev") is None
    assert between([dataclasses.replace(one, error=None) for one in spread], "dev") is None


def test_the_cards_have_what_the_calibrations_say() -> None:
    """If not, `python -m tools.between` writes it; every calibrated competition has it."""
    fresh = cards.fresh()
    assert [str(path) for path, text in fresh.items() if path.read_text("utf-8") != text] == []
    assert {path.parent.name for path in fresh} == {log.parent.name for log in LOGS}
    for path in fresh:
        anchors = mlrcbench.get_competition(path.parent.name.replace("_", "-")).card.tier("mini").anchors
        assert all(0.0 <= one.baseline.between <= 1.05 * one.baseline.spread for one in anchors.values())
