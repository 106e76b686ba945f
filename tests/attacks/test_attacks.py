"""The attackers gain nothing under any safe sandbox that this machine has, and do gain without one."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest

from mlrcbench.errors import RegistryError
from mlrcbench.jobs import Jobs
from mlrcbench.sandbox import isolation_report
from mlrcbench.testing import RESIDUALS, Verdict, attacks, format_verdicts, run_attacks

SAFE = ("strong", "uid", "landlock")


@functools.cache
def available() -> tuple[str, ...]:
    """Safe sandboxes that work here, the strongest first."""
    report = isolation_report()
    return tuple(kind for kind in SAFE if _works(report[kind]))


@pytest.fixture(scope="module", autouse=True)
def _attacked_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Secret and instances that no other test uses: whoever watches them must see attackers only.

    For the same reason the tests of this file must run one after the other, in one worker.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLRCBENCH_HOME", str(tmp_path_factory.mktemp("attacks") / "home"))
        yield


def _works(entry: object) -> bool:
    assert isinstance(entry, dict)
    return bool(entry["works"])


def gained(verdicts: list[Verdict]) -> list[str]:
    """What gained and is not known of the tier, in words."""
    return [f"{one.attack.name}: {one.evidence}" for one in verdicts if one.gained and not one.residual]


def test_names_are_unique_and_every_attack_says_what_it_is_after() -> None:
    """So that one can be asked for, and a table be read."""
    names = [attack.name for attack in attacks()]
    assert len(set(names)) == len(names)
    assert all(attack.gain and attack.group for attack in attacks())
    assert not {attack.group for attack in attacks()} & set(names)


def test_residuals_are_of_attacks_that_exist_and_strong_has_none() -> None:
    """A residual that no attack shows would hide nothing, and mislead."""
    names = {attack.name for attack in attacks()}
    for table in RESIDUALS.values():
        assert set(table) <= names
    assert RESIDUALS["strong"] == {}


def test_an_unknown_attack_is_an_error() -> None:
    """With the nearest name."""
    with pytest.raises(RegistryError, match="symlink-to-answers"):
        run_attacks("_template", sandbox="process", only=["symlink-to-answer"])


@pytest.mark.slow
@pytest.mark.parametrize("kind", SAFE)
def test_nothing_is_gained_on_the_template(kind: str) -> None:
    """All attacks, under each safe sandbox; an honest episode beside them is unaffected."""
    if kind not in available():
        pytest.skip(f"{kind} does not work here")
    verdicts = run_attacks("_template", sandbox=kind)
    assert {verdict.tier for verdict in verdicts} == {kind}
    assert {verdict.attack for verdict in verdicts} >= set(attacks())
    assert gained(verdicts) == [], format_verdicts(verdicts)


@pytest.mark.slow
def test_without_a_sandbox_the_attackers_do_gain() -> None:
    """The attacks work: where nothing holds them, they are found to gain."""
    wanted = {
        "path",
        "symlink",
        "hardlink",
        "rename",
        "proc-root",
        "proc-fd",
        "proc-environ",
        "proc-mem",
        "sysv-shared-memory",
        "posix-shared-memory",
        "tcp",
        "udp",
        "abstract-socket",
        "path-socket",
        "neighbour",
        "path-evaluated",
        "neighbour-evaluated",
        "library-by-path",
        "library-by-import",
        "send-tcp",
        "send-udp",
        "tamper-write",
        "destroy",
        "leave-files",
        "smuggle-files",
        "smuggle-dev-shm",
        "smuggle-file-times",
        "copy-of-answers",
        "planted-modules",
        "method-as-link",
    }
    for _ in range(3):  # an attacker may try again
        verdicts = run_attacks("_template", sandbox="process", only=sorted(wanted))
        assert not any(verdict.residual for verdict in verdicts)
        wanted -= {verdict.attack.name for verdict in verdicts if verdict.gained}
        if not wanted:
            break
    assert not wanted


@pytest.mark.slow
def test_jobs_that_were_not_ended_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The attacks by jobs work: where an evaluation does not end them, they gain."""
    monkeypatch.setattr(Jobs, "end", lambda _self, _by: "")
    wanted = ["job-after-evaluation", "job-writes-while-evaluated"]
    verdicts = run_attacks("_template", sandbox="process", only=wanted)
    assert all(verdict.gained for verdict in verdicts), format_verdicts(verdicts)


def test_a_public_secret_lets_the_instance_be_built_anew() -> None:
    """The attacker that guesses seeds works; against a secret of one's own it does not."""
    for secret, expected in (("public", True), ("a secret of our own", False)):
        (verdict,) = run_attacks("_template", sandbox="process", secret=secret, only=["regenerate"])
        assert verdict.gained is expected, verdict
