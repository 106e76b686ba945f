"""Verification: an honest bundle passes, and each way to break a rule fails the check of that rule."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mlrcbench.cli import main
from mlrcbench.errors import CardError
from mlrcbench.runs.bundles import AcceptancePolicy, Check, open_bundle, read_policy, verify
from tests.runs.bundles.conftest import Change, change_rows, forged

# Without what takes seconds; both are tested apart.
QUICK = AcceptancePolicy(rescore="off", replay="off")
_RECORD = "episodes/*/records/*/record.jsonl"
_WORKSPACE = "episodes/*/records/*/evaluations/*"


def failed(path: Path, policy: AcceptancePolicy = QUICK) -> dict[str, str]:
    """Name -> sentence of the checks that failed."""
    with open_bundle(path) as bundle:
        return {check.name: check.sentence for check in verify(bundle, policy) if check.passed is False}


def test_an_honest_bundle_passes_every_check(honest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All that is checked passes where the instance can be built, scores and replay included."""
    with open_bundle(honest) as bundle:
        checks = verify(bundle, AcceptancePolicy(card=True, rescore="required", replay="required"))
    assert [check for check in checks if not check.passed] == []
    assert {"complete", "result", "protected files", "rescore", "replay"} <= {check.name for check in checks}
    assert main(["verify", str(honest), "--quiet"]) == 0
    assert "0 failed, 0 could not be made" in capsys.readouterr().out


def _remove(pattern: str) -> Change:
    def remove(files: Path) -> None:
        for path in files.glob(pattern):
            path.unlink()

    return remove


def _edit(pattern: str, change: Callable[[str], str]) -> Change:
    def edit(files: Path) -> None:
        for path in files.glob(pattern):
            path.write_text(change(path.read_text()))

    return edit


def _result(**entries: object) -> Change:
    return _edit("episodes/*/result.json", lambda text: json.dumps({**json.loads(text), **entries}))


def _plan(**entries: object) -> Change:
    return _edit("run.json", lambda text: json.dumps({**json.loads(text), **entries}))


def _repeat_last(kind: str) -> Change:
    """Repeat the last row of a kind."""

    def change(text: str) -> str:
        lines = text.splitlines(keepends=True)
        last = [line for line in lines if f'"kind": "{kind}"' in line][-1]
        return "".join([*lines[:-1], last, lines[-1]])

    return _edit(_RECORD, change)


_UNCONFINED = {"tier": "none", "enforced": [], "missing": []}
_PARENT = {"record": "another", "step": 1}
_LARGE = {"steps": 10**6, "seconds": 10.0**6, "evaluations": 10**6}
_SMALL = {"steps": 1, "seconds": 100.0, "evaluations": 0}
BROKEN: dict[str, tuple[Change, str, str]] = {
    "no result": (_remove("episodes/*/result.json"), "complete", "have no result that can be read"),
    "a result of nobody": (_edit("episodes/*/result.json", lambda _: "[]"), "complete", "no result"),
    "more planned": (_plan(trials=3), "complete", "_template-reference-i0-t2"),
    "nothing planned": (_plan(trials=0), "complete", "no episode"),
    "not planned": (_plan(competitions=["llm-merging"]), "plan", "not in the plan"),
    "another agent": (_plan(agents=["x"]), "agent", "its plan has: x"),
    "no record": (_remove(_RECORD), "record", "cannot be read"),
    "no record named": (_result(record=None), "record", "no record that proves them"),
    "better result": (_result(test=None), "result", "'test' is not what the record shows"),
    "fewer steps": (_result(steps=1), "result", "'steps'"),
    "unfinished": (_edit(_RECORD, lambda text: text[: text.rindex("{")]), "ended", "no end"),
    "another trial": (change_rows("header", seed=7), "assignment", "another competition, instance"),
    "another instance": (change_rows("header", instance=7), "assignment", "another competition"),
    "full tier": (change_rows("header", tier="full"), "version", "no tier 'full'"),
    "unconfined": (
        change_rows("header", isolation=_UNCONFINED), "isolation", "'none'",
    ),
    "public": (change_rows("header", secret="public"), "secret", "'public'"),
    "snapshot": (change_rows("header", parent=_PARENT), "branch", "began from a snapshot"),
    "another version": (change_rows("header", competition_version=9), "version", "and there 9"),
    "unknown": (change_rows("header", competition="nothing"), "version", "unknown competition"),
    "large budget": (change_rows("header", budget=_LARGE), "budget", "larger than that of"),
    "budget not kept": (change_rows("header", budget=_SMALL), "budget", "more steps or evaluations"),
    "slow": (change_rows("step", seconds=10_000.0), "budget", "took longer"),
    "renumbered": (change_rows("step", step=1), "order", "not numbered from 1"),
    "by the host": (change_rows("evaluation", by="host"), "order", "host program"),
    "tested twice": (_repeat_last("evaluation"), "order", "more than once"),
    "continued": (change_rows("step", terminated=True), "order", "after its end"),
    "statement": (_edit(f"{_WORKSPACE}/workspace/statement.md", str.upper), "protected files", "statement"),
    "main program": (_edit(f"{_WORKSPACE}/workspace/main.py", str.upper), "protected files", "main.py"),
    "no starter": (_remove(f"{_WORKSPACE}/workspace/main.py"), "protected files", "main.py"),
    "no workspace": (_remove(f"{_WORKSPACE}/workspace/*"), "protected files", "not the files that"),
    "another state": (
        _edit("episodes/*/records/*/evaluations/002-test/workspace/method.py", lambda text: f"{text}#"),
        "final state", "not those of its best evaluation",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_rule_is_said_in_a_sentence(name: str, honest: Path, tmp_path: Path) -> None:
    """Its author can make the manifest fit, but not the content."""
    change, rule, sentence = BROKEN[name]
    assert sentence in failed(forged(honest, tmp_path, change))[rule]


def test_forged_scores_are_found_by_scoring_and_by_playing_again(honest: Path, tmp_path: Path) -> None:
    """A better score in record and result, and better artefacts from elsewhere, do not survive."""

    def better(score: dict[str, object]) -> dict[str, object]:
        return {**score, "value": 0.01, "improvement": 1.1}

    def both(files: Path) -> None:
        change_rows("evaluation", score=better)(files)
        _edit("episodes/*/result.json", lambda text: json.dumps(_improved(json.loads(text), better)))(files)

    path = forged(honest, tmp_path, both)
    assert failed(path) == {}
    again = failed(path, AcceptancePolicy(rescore="required", replay="required"))
    assert "001-dev, evaluations/002-test" in again["rescore"]
    assert again.keys() == {"rescore", "replay"}


def _improved(result: dict[str, object], better: Callable[..., object]) -> dict[str, object]:
    dev = result["dev"]
    assert isinstance(dev, list)
    return {**result, "test": better(result["test"]), "dev": [better(score) for score in dev]}


def test_artefacts_that_the_code_did_not_make_are_found_by_playing_again(
    honest: Path, tmp_path: Path
) -> None:
    """Scoring again believes artefacts; playing again makes them from the code."""

    def other_artefacts(files: Path) -> None:
        for path in files.glob(f"{_WORKSPACE}/artefacts/predictions.npy"):
            np.save(path, np.zeros(100))
        change_rows("evaluation", score=lambda score: {**score, "value": 1.0, "improvement": 0.1})(files)

    path = forged(honest, tmp_path, other_artefacts)
    again = failed(path, AcceptancePolicy(rescore="required", replay="required"))
    assert "the score was" in again["replay"] or "of the observation was" in again["replay"]


def test_scores_without_artefacts_are_not_believed(honest: Path, tmp_path: Path) -> None:
    """A bundle without the artefacts of a score has nothing that could be scored again."""
    path = forged(honest, tmp_path, _remove(f"{_WORKSPACE}/artefacts/*"))
    assert "no artefacts" in failed(path, AcceptancePolicy(replay="off"))["rescore"]


def test_what_has_no_bounds_is_not_played_again(honest: Path, tmp_path: Path) -> None:
    """A record that names a huge budget would let anyone use this machine for as long as they like."""
    path = forged(honest, tmp_path, change_rows("header", budget=_LARGE))
    with open_bundle(path) as bundle:
        checks = {check.name: check for check in verify(bundle)}
    assert checks["budget"].passed is False
    assert checks["rescore and replay"].passed is None
    assert "replay" not in checks


def test_what_cannot_be_checked_here_is_named(honest: Path, tmp_path: Path) -> None:
    """An instance that this machine cannot build leaves checks open, unless the policy requires them."""
    path = forged(honest, tmp_path, change_rows("header", instance_digest="0" * 64))
    with open_bundle(path) as bundle:
        checks = {check.name: check for check in verify(bundle)}
        assert checks["rescore"].passed is None
        assert "another secret" in checks["replay"].sentence
        strict = verify(bundle, AcceptancePolicy(rescore="required", replay="required"))
    assert {check.name for check in strict if check.passed is False} == {"rescore", "replay"}


def test_a_policy_says_what_a_board_accepts(honest: Path, tmp_path: Path) -> None:
    """Each entry of a policy is used, a policy's file is read strictly, and its path is given."""
    (tmp_path / "policy.toml").write_text(
        "competitions = ['llm-merging']\ntiers = ['full']\nisolation = ['container']\nsecrets = ['own']\n"
        "final = ['last']\ninstances = 2\ntrials = 2\nrescore = 'off'\nreplay = 'off'\n"
    )
    rules = {"competitions", "tier", "isolation", "secret", "final", "instances", "trials"}
    assert failed(honest, read_policy(tmp_path / "policy.toml")).keys() == rules
    checks = tmp_path / "checks.json"
    command = [
        "verify",
        str(honest),
        "--policy",
        str(tmp_path / "policy.toml"),
        "--json",
        str(checks),
        "--quiet",
    ]
    assert main(command) == 1
    rows = [Check(**row) for row in json.loads(checks.read_text())["checks"]]
    assert {row.name for row in rows if not row.passed} == rules
    for text in ("instances = '2'", "replay = 'maybe'", "unknown = 1", "tiers = 'mini'", "["):
        (tmp_path / "wrong.toml").write_text(text)
        with pytest.raises(CardError):
            read_policy(tmp_path / "wrong.toml")


def test_hostile_texts_reach_no_terminal(
    honest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever a bundle holds, the printed checks have no control characters and a line each."""
    hostile = "\x1b]0;owned\x07\n\u202eFAILED"
    path = forged(honest, tmp_path, change_rows("header", secret=hostile, competition=hostile, tier=hostile))
    assert main(["verify", str(path), "--quiet"]) == 1
    out = capsys.readouterr().out
    assert not {"\x1b", "\x07", "\u202e"} & set(out)
    assert "x1b]0;owned" in out
