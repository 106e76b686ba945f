"""The attackers gain nothing under any safe sandbox that this machine has, and do gain without one."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator

import pytest

from mlrcbench.env.jobs import Jobs
from mlrcbench.errors import RegistryError
from mlrcbench.sandbox import isolation_report
from mlrcbench.testing import RESIDUALS, Verdict, attacks, format_verdicts, run_attacks
from mlrcbench.testing.attacks.known_gaps import UNCOUNTED

SAFE = ("strong", "uid", "landlock")


@functools.cache
def available() -> tuple[str, ...]:
    """Safe sandboxes that work here, the strongest first."""
    report = isolation_report()
    return tuple(kind for kind in SAFE if _works(report[kind]))


@pytest.fixture(scope="module", autouse=True)
def _attacked_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A secret and instances that no other test uses: their watchers must see only attackers.

    For the same reason the tests of this file must run one after the other, in one worker.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLRCBENCH_HOME", str(tmp_path_factory.mktemp("attacks") / "home"))
        yield


def _works(entry: object) -> bool:
    assert isinstance(entry, dict)
    return bool(entry["works"])


def gained(verdicts: list[Verdict]) -> list[str]:
    """The attacks that gained although their tier is not known to allow it."""
    return [f"{one.attack.name}: {one.evidence}" for one in verdicts if one.gained and not one.residual]


def test_names_are_unique_and_every_attack_says_its_aim() -> None:
    """A user can ask for one by name, and read a table of them."""
    names = [attack.name for attack in attacks()]
    assert len(set(names)) == len(names)
    assert all(attack.gain and attack.group for attack in attacks())
    assert not {attack.group for attack in attacks()} & set(names)


def test_residuals_are_of_attacks_that_exist_and_strong_has_few() -> None:
    """A residual that no attack shows would hide nothing, and mislead."""
    names = {attack.name for attack in attacks()}
    for table in RESIDUALS.values():
        assert set(table) <= names
    assert set(RESIDUALS["strong"]) == {"file-locks", "record-locks", "files-in-flight"}
    assert set(UNCOUNTED) <= names


def test_an_unknown_attack_is_an_error() -> None:
    """The error has the nearest name."""
    with pytest.raises(RegistryError, match="symlink-to-answers"):
        run_attacks("_template", sandbox="process", only=["symlink-to-answer"])


def kinds() -> list[object]:
    """All sandboxes for an ordinary user; for root the one that is taken by default."""
    rare = [kind for kind in SAFE if os.geteuid() == 0 and kind not in available()[:1]]
    return [pytest.param(kind, marks=[pytest.mark.long] if kind in rare else []) for kind in SAFE]


@pytest.mark.slow
@pytest.mark.parametrize("kind", kinds())
def test_nothing_is_gained_on_the_template(kind: str) -> None:
    """All attacks fail under each safe sandbox; an honest episode in the same process is unaffected."""
    if kind not in available():
        pytest.skip(f"{kind} does not work here")
    verdicts = run_attacks("_template", sandbox=kind)
    assert {verdict.tier for verdict in verdicts} == {kind}
    assert {verdict.attack for verdict in verdicts} >= set(attacks())
    assert gained(verdicts) == [], format_verdicts(verdicts)


@pytest.mark.slow
def test_without_a_sandbox_the_attackers_do_gain() -> None:
    """The attacks work: where nothing stops them, they are seen to gain."""
    missing = {
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
        "copy-of-answers",
        "planted-modules",
        "method-as-link",
        "send-path-datagram",
        "priority-of-the-user",
        "pages-nowait",
        "file-watches",
        "lock-table",
        "file-locks",
        "asynchronous-requests",
    }
    for _ in range(3):  # an attacker may try again
        verdicts = run_attacks("_template", sandbox="process", only=sorted(missing))
        assert not any(verdict.residual for verdict in verdicts)
        missing -= {verdict.attack.name for verdict in verdicts if verdict.gained or not verdict.ran}
        if not missing:
            break
    assert not missing


@pytest.mark.slow
def test_jobs_that_were_not_ended_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The attacks by jobs work: where an evaluation does not end them, they gain."""
    monkeypatch.setattr(Jobs, "end", lambda _self, _by: "")
    names = ["job-after-evaluation", "job-writes-while-evaluated"]
    verdicts = run_attacks("_template", sandbox="process", only=names)
    assert all(verdict.gained for verdict in verdicts), format_verdicts(verdicts)


def test_with_a_public_secret_the_instance_can_be_built_again() -> None:
    """The attacker that guesses seeds succeeds; against another secret it does not."""
    for secret, expected in (("public", True), ("a secret of our own", False)):
        (verdict,) = run_attacks("_template", sandbox="process", secret=secret, only=["regenerate"])
        assert verdict.gained is expected, verdict
