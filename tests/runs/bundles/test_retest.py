"""Retests: memorised answers and lucky seeds are seen, honest methods keep their scores."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mlrcbench.aggregates import student_interval
from mlrcbench.catalog.registry import get_competition
from mlrcbench.cli import main
from mlrcbench.errors import RecordError
from mlrcbench.runs import run
from mlrcbench.runs.bundles import Bundle, Retest, open_bundle, retest, summarise_retests, write_bundle
from mlrcbench.score import SPLITS
from tests.runs.bundles.conftest import change_rows, forged

# Both are fixed, so that these tests see the same instances whenever they run.
RUN_SECRET = "the secret of a run in tests"
BOARD_SECRET = "the secret of a board in tests"
INSTANCES = 5

_AGENT = """
import json, sys
text = open({method!r}).read()
write = {{"action": "write_file", "path": "method.py", "text": text}}
for action, _ in zip([write, {{"action": "evaluate"}}, {{"action": "submit"}}], sys.stdin):
    print(json.dumps(action), flush=True)
"""
_LEARNED = """
import numpy as np

ANSWERS = {answers!r}


def predict(train, x):
    if float(x[0]) in ANSWERS:
        return np.array(ANSWERS[float(x[0])])
    return np.full(len(x), train[:, 1].mean())
"""
_LUCKY = """
import numpy as np


def predict(train, x):
    slope, offset = np.random.default_rng({seed}).normal(0.0, 2.0, 2)
    return slope * x + offset
"""


def _learned_answers() -> str:
    """A method that has memorised the answers of dev and test, and is otherwise the baseline."""
    instance = get_competition("_template").instance(0, secret=RUN_SECRET)
    answers = {
        float(np.load(instance.inputs(split) / "x.npy")[0]): np.load(
            instance.answers(split) / "y.npy"
        ).tolist()
        for split in SPLITS
    }
    return _LEARNED.format(answers=answers)


def _lucky_seed() -> str:
    """A method that guesses a line from a seed, with the seed whose line fits the instance best."""
    train = np.load(get_competition("_template").instance(0, secret=RUN_SECRET).public / "train.npy")

    def error(seed: int) -> float:
        slope, offset = np.random.default_rng(seed).normal(0.0, 2.0, 2)
        return float(np.mean((slope * train[:, 0] + offset - train[:, 1]) ** 2))

    return _LUCKY.format(seed=min(range(5_000), key=error))


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The bundles of three agents: "learned", "lucky" and "honest", which is the reference."""
    folder = tmp_path_factory.mktemp("retest")
    agents = {"honest": "reference"}
    for name, method in (("learned", _learned_answers()), ("lucky", _lucky_seed())):
        (folder / f"{name}.py").write_text(method)
        (folder / f"{name}_agent.py").write_text(_AGENT.format(method=str(folder / f"{name}.py")))
        agents[name] = f"external:{sys.executable} {folder}/{name}_agent.py"
    run(list(agents.values()), ["_template"], directory=folder / "run", jobs=2, secret=RUN_SECRET)
    return {
        name: write_bundle(folder / "run", folder / f"{name}.mlrc", agent=agent).path
        for name, agent in agents.items()
    }


def _retested(path: Path, instances: int = INSTANCES) -> Retest:
    with open_bundle(path) as bundle:
        (one,) = retest(bundle, instances=instances, secret=BOARD_SECRET)
    assert len(one.again) == instances
    return one


def test_memorised_answers_are_seen_at_once(bundles: dict[str, Path]) -> None:
    """The public score is perfect, and on fresh instances the method is the baseline."""
    one = _retested(bundles["learned"])
    assert one.public > 1.05
    assert one.mean is not None
    assert abs(one.mean.value) < 0.1
    assert (one.verdict, one.as_good, one.invalid) == ("overstated", 0, 0)


def test_a_lucky_seed_is_seen(bundles: dict[str, Path]) -> None:
    """The public score is good; its mean on ten fresh instances is far below, beyond chance."""
    one = _retested(bundles["lucky"], 10)
    assert one.public > 0.8
    assert one.mean is not None
    assert one.mean.value < 0.5
    assert one.verdict == "overstated"
    assert one.as_good <= 2


def test_an_honest_method_holds(
    bundles: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command says that it holds, with the intervals of public score, retest and their difference."""
    (secret := tmp_path / "secret").write_text(BOARD_SECRET)
    secret.chmod(0o600)
    command = ["retest", str(bundles["honest"]), "--instances", str(INSTANCES), "--quiet"]
    assert main([*command, "--secret-file", str(secret), "--json", str(tmp_path / "out.json")]) == 0
    assert "holds" in capsys.readouterr().out
    figures = json.loads((tmp_path / "out.json").read_text())
    (one,) = figures["episodes"]
    assert one["public"] == pytest.approx(1.0, abs=0.05)
    assert abs(one["difference"]["value"]) < 0.05
    assert one["difference"]["lower"] < one["difference"]["value"] < one["difference"]["upper"]
    assert (one["as_good"], one["verdict"]) == (INSTANCES, "holds")
    assert figures["mean"]["again"]["value"] == pytest.approx(one["mean"]["value"])
    assert BOARD_SECRET not in (tmp_path / "out.json").read_text()


@pytest.fixture
def honest_bundle(bundles: dict[str, Path]) -> Iterator[Bundle]:
    """The honest one, opened."""
    with open_bundle(bundles["honest"]) as bundle:
        yield bundle


def test_a_retest_needs_a_secret_and_instances(honest_bundle: Bundle) -> None:
    """The public secret and a single instance are refused."""
    with pytest.raises(RecordError, match="public one is known to all"):
        retest(honest_bundle, secret="public")
    with pytest.raises(RecordError, match="at least 2"):
        retest(honest_bundle, instances=1)


def test_what_cannot_be_retested_is_named(bundles: dict[str, Path], tmp_path: Path) -> None:
    """An episode without files, without a valid score, or of another version has a reason instead."""

    def no_files(files: Path) -> None:
        for path in files.glob("episodes/*/records/*/evaluations/002-test/workspace/*"):
            path.unlink()

    def invalid(files: Path) -> None:
        for path in files.glob("episodes/*/result.json"):
            path.write_text(json.dumps({**json.loads(path.read_text()), "test": None}))

    with open_bundle(forged(bundles["honest"], tmp_path, invalid)) as bundle:
        (one,) = retest(bundle, instances=2, secret=BOARD_SECRET)
    assert "no valid final score" in one.reason
    assert (one.public, one.again, one.verdict) == (0.0, (0.0, 0.0), "not retested")
    changes = {
        "are missing": no_files,
        "and there 9": change_rows("header", competition_version=9),
        "another competition": change_rows("header", competition="llm-merging"),
        "unknown competition|another competition": change_rows("header", competition="nothing"),
    }
    for number, (reason, change) in enumerate(changes.items()):
        (tmp_path / str(number)).mkdir()
        with open_bundle(forged(bundles["honest"], tmp_path / str(number), change)) as bundle:
            (one,) = retest(bundle, instances=2, secret=BOARD_SECRET)
        assert any(part in one.reason for part in reason.split("|"))
        assert (one.again, one.mean, one.verdict) == ((), None, "not retested")
        assert summarise_retests([one]) is None


def test_nobody_gains_by_an_episode_that_cannot_be_retested(bundles: dict[str, Path], tmp_path: Path) -> None:
    """It counts as the baseline if another episode of its competition can be retested."""

    def second_trial(files: Path) -> None:
        (first,) = (files / "episodes").iterdir()
        second = first.with_name(f"{first.name[:-1]}1")
        shutil.copytree(first, second)
        result = json.loads((second / "result.json").read_text())
        result["assignment"]["trial"] = 1
        (second / "result.json").write_text(json.dumps(result))
        for path in second.glob("records/*/evaluations/002-test/workspace/*"):
            path.unlink()

    with open_bundle(forged(bundles["honest"], tmp_path, second_trial)) as bundle:
        first, second = retest(bundle, instances=2, secret=BOARD_SECRET)
    assert (first.verdict, second.verdict) == ("holds", "not retested")
    assert (second.again, second.public) == ((0.0, 0.0), first.public)
    summary = summarise_retests([first, second])
    assert first.mean is not None
    assert summary is not None
    assert summary.again.value == pytest.approx(first.mean.value / 2)


def test_figures_of_a_retest_are_those_worked_out_by_hand() -> None:
    """Mean 0.5, spread 0.1, three instances: 0.5 +- 4.3027 * 0.1 / sqrt(3), and so for the difference."""
    one = Retest("a", "c", 0.8, (0.4, 0.5, 0.6))
    half = 4.3027 * 0.1 / 3**0.5
    assert one.mean is not None
    assert one.difference is not None
    assert (one.mean.value, one.mean.lower) == pytest.approx((0.5, 0.5 - half))
    assert (one.difference.value, one.difference.lower) == pytest.approx((0.3, 0.3 - half))
    publics = {0.3: "holds", 0.54: "holds", 0.56: "unclear", 0.79: "unclear", 0.8: "overstated"}
    for public, verdict in publics.items():
        assert Retest("a", "c", public, (0.4, 0.5, 0.6)).verdict == verdict
    assert Retest("a", "c", 0.54, (0.4, 0.5, 0.6)).as_good == 2
    summary = summarise_retests(
        [one, Retest("b", "c", 0.6, (0.4, 0.6, 0.5)), Retest("d", "e", 1.0, (1.0, 1.0))]
    )
    assert summary is not None
    assert summary.public.value == pytest.approx((0.7 + 1.0) / 2)
    assert summary.difference.value == pytest.approx(0.2 / 2)
    with pytest.raises(ValueError, match="two values"):
        student_interval([1.0])


@pytest.mark.parametrize(
    ("count", "quantile"), [(2, 12.7062), (6, 2.5706), (21, 2.0860), (31, 2.0423), (101, 1.984)]
)
def test_quantiles_of_students_distribution(count: int, quantile: float) -> None:
    """Up to 20 degrees of freedom from a table, then within 0.005; published values of the distribution."""
    values = [0.0] * (count - 1) + [1.0]
    interval = student_interval(values)
    error = float(np.std(values, ddof=1)) / count**0.5
    assert (interval.upper - interval.value) / error == pytest.approx(quantile, abs=0.005)
