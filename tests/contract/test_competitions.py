"""The promises of every competition, checked on all that are registered, the template included."""

from __future__ import annotations

import ast
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mlrcbench
from mlrcbench.agents import play
from mlrcbench.agents.named import make_agent
from mlrcbench.catalog.card import Anchor, Anchors
from mlrcbench.catalog.competition import ENTRIES, FULL_ENTRIES, FULL_EXTRAS, ORACLE, Competition
from mlrcbench.catalog.ladder import FILE as LADDER
from mlrcbench.catalog.scale import better, improvement
from mlrcbench.sandbox import isolation_report
from mlrcbench.storage.trees import hash_tree, walk
from mlrcbench.testing import REDUCED, format_verdicts, run_attacks
from mlrcbench.testing.calibration.claims import FILE as CLAIMS

COMPETITIONS = [mlrcbench.get_competition(card.id) for card in mlrcbench.list_competitions(hidden=True)]
SECRET = "contract"
# The slowest build takes 38 CPU seconds where the competitions were calibrated, and 80 on slower machines.
BUILD_CPU_SECONDS = 240
TEMPLATES = ("_template", "_played")
QUICK = (*TEMPLATES, "product-recommendation")  # to evaluate by the baseline
HEAVY = ("backdoor-trigger", "meta-learning")  # an evaluation takes minutes
HEAVY_EPISODES = {
    ("baseline", "meta-learning"),
    *(
        ("reference", name)
        for name in (
            *HEAVY,
            "black-box-optimization",
            "product-recommendation",
            "temporal-action-localization",
        )
    ),
}
REPORT = isolation_report()
WEAKER = [kind for kind in ("strong", "uid", "landlock") if REPORT[kind]["works"]][1:]


def of_each(*, long: Callable[[str], bool] = lambda _: False) -> pytest.MarkDecorator:
    """Run a test for each competition; those for which `long` holds only in long sessions."""
    return pytest.mark.parametrize(
        "competition",
        [
            pytest.param(entry, id=entry.id, marks=[pytest.mark.long] if long(entry.id) else [])
            for entry in COMPETITIONS
        ],
    )


def episodes() -> list[Any]:
    """Baseline and reference in the default sandbox; in weaker ones what is quick."""
    plays = [(entry, overlay, "auto") for entry in COMPETITIONS for overlay in ("baseline", "reference")]
    for kind in WEAKER:
        plays += [(entry, "baseline", kind) for entry in COMPETITIONS if entry.id in QUICK]
        plays += [(entry, "reference", kind) for entry in COMPETITIONS if entry.id in TEMPLATES]
    return [
        pytest.param(
            entry,
            overlay,
            kind,
            id=f"{entry.id}-{overlay}-{kind}",
            marks=[pytest.mark.long] if (overlay, entry.id) in HEAVY_EPISODES else [],
        )
        for entry, overlay, kind in plays
    ]


@of_each()
def test_the_folder_has_the_eight_entries(competition: Competition) -> None:
    """It has those, ladder and claims if calibrated, an oracle if played, and those of a full tier."""
    names = {path.name for path in competition.folder.iterdir()} - {"__pycache__"}
    full = "full" in competition.card.tiers
    optional = {LADDER, CLAIMS, ORACLE, *(FULL_EXTRAS if full else ())}
    assert names - optional == {*ENTRIES, *(FULL_ENTRIES if full else ())}
    assert (competition.folder / "__init__.py").read_text() == ""


@of_each()
def test_the_card_makes_sense(competition: Competition) -> None:
    """The target is better than the baseline on both splits, within the metric's bounds."""
    card = competition.card
    assert competition.id == card.id
    for tier in card.tiers.values():
        for anchors in tier.anchors.values():
            values = (anchors.baseline.value, anchors.target.value)
            assert better(values[1], values[0], card.metric.direction)
            assert all(card.metric.lower <= value <= card.metric.upper for value in values)
            assert improvement(values[1], anchors) == 1.0
            assert anchors.baseline.source
            assert anchors.target.source
    assert (competition.starter / card.method_file).is_file()
    assert card.method_file in card.editable


@of_each()
def test_the_statement_tells_what_a_researcher_needs(competition: Competition) -> None:
    """It describes the data, the metric and the artefacts."""
    for tier in competition.card.tiers:
        text = competition.statement_of(tier)
        assert text.startswith("# ")
        for heading in ("Data", "Metric"):
            assert f"## {heading}" in text
        for file in competition.card.artefacts_of(tier):
            assert file.pattern in text


@of_each()
def test_overlays_change_editable_files_only(competition: Competition) -> None:
    """An overlay may also add files; the reference is not empty."""
    starter = {entry.path for entry in walk(competition.starter) if entry.is_file}
    for name in ("baseline", "reference"):
        changed = {path for path in competition.overlay(name) if path in starter}
        assert changed <= set(competition.card.editable)
    assert competition.overlay("reference")


@of_each()
def test_the_starter_does_not_import_the_library(competition: Competition) -> None:
    """Agents cannot read mlrcbench."""
    for root in (competition.starter, competition.folder / "reference"):
        for path in root.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and node.module:
                    modules = [node.module]
                assert not any(module.startswith("mlrcbench") for module in modules), path


@of_each()
def test_an_instance_has_its_parts(competition: Competition) -> None:
    """It has public files, and inputs and answers of both splits; dev and test differ."""
    instance = competition.instance(0, secret=SECRET)
    assert any(instance.public.iterdir())
    for split in ("dev", "test"):
        assert any(instance.inputs(split).iterdir())
        assert any(instance.answers(split).iterdir())
    assert hash_tree(instance.answers("dev")) != hash_tree(instance.answers("test"))
    assert hash_tree(instance.inputs("dev")) != hash_tree(instance.inputs("test"))


@of_each()
def test_no_answer_is_public(competition: Competition) -> None:
    """Each split has an answer file that agent code cannot read, byte for byte, anywhere."""
    instance = competition.instance(0, secret=SECRET)
    readable = {
        path.read_bytes()
        for root in (instance.public, instance.inputs("dev"), instance.inputs("test"), competition.starter)
        for path in root.rglob("*")
        if path.is_file()
    }
    for split in ("dev", "test"):
        hidden = [
            path
            for path in instance.answers(split).rglob("*")
            if path.is_file() and path.read_bytes() not in readable
        ]
        assert hidden


@pytest.mark.slow
@of_each()
def test_building_is_deterministic_and_bounded(competition: Competition, tmp_path: Path) -> None:
    """Two builds, each in its own process and home, give the same bytes; time and memory are bounded."""
    code = (
        "import sys, mlrcbench; "
        "print(mlrcbench.get_competition(sys.argv[1]).instance(0, secret=sys.argv[2]).root)"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", code, competition.id, SECRET],
        env={**os.environ, "MLRCBENCH_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    here, there = competition.instance(0, secret=SECRET), Path(done.stdout.strip())
    for part in ("public", "private"):
        assert hash_tree(there / part) == hash_tree(here.root / part)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < BUILD_CPU_SECONDS
    assert after.ru_maxrss < 2 << 20  # 2 GB


def slack(anchor: Anchor, anchors: Anchors) -> float:
    """How far one instance may be from an anchor, as a share of the gap: three spreads, and at least 0.4."""
    return max(0.4, 3 * anchor.spread / abs(anchors.target.value - anchors.baseline.value))


@pytest.mark.slow
@pytest.mark.parametrize(("competition", "overlay", "sandbox"), episodes())
def test_scripted_episodes_give_what_the_card_says(
    competition: Competition, overlay: str, sandbox: str, tmp_path: Path
) -> None:
    """Baseline and reference score near their anchors; scoring and replaying the records agrees."""
    with mlrcbench.make(competition, secret=SECRET, records=tmp_path, sandbox=sandbox) as env:
        last = play(env, make_agent(overlay, competition), seed=0)
        gain = last.info["test_score"]["improvement"]
        assert gain is not None, last.info["test_score"]
        anchors = competition.card.tier("mini").anchors["test"]
        if overlay == "baseline":
            assert abs(gain) < slack(anchors.baseline, anchors)
        else:
            assert gain > 1 - slack(anchors.target, anchors)
        assert env.record is not None
        assert all(entry.matches for entry in mlrcbench.rescore(env.record, secret=SECRET))
        if overlay == "reference" and competition.id in QUICK:
            again = mlrcbench.replay(env.record, secret=SECRET, records=tmp_path)
            assert again.difference is None  # observations, rewards, scores, letter by letter


@pytest.mark.slow
@of_each(long=HEAVY.__contains__)
def test_the_quick_experiment_prints_something_useful(competition: Competition, tmp_path: Path) -> None:
    """`python main.py` works on the public data alone."""
    with mlrcbench.make(competition, secret=SECRET, records=tmp_path) as env:
        env.reset(seed=0)
        observation, *_ = env.step(mlrcbench.Run("python main.py"))
        assert "[exit status 0]" in observation["text"]
        assert len(observation["text"].splitlines()) > 2


@pytest.mark.slow
@of_each(long=lambda name: name not in TEMPLATES)
def test_attackers_gain_nothing(
    competition: Competition, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attackers whose success may depend on the competition run in the default sandbox."""
    # The attackers watch this folder, so nothing else may write to it; its path is short for a socket.
    monkeypatch.setenv("MLRCBENCH_HOME", str(tmp_path_factory.mktemp("attacks") / "home"))
    verdicts = run_attacks(competition, only=REDUCED)
    gained = [verdict for verdict in verdicts if verdict.gained and not verdict.residual]
    assert gained == [], format_verdicts(verdicts)
