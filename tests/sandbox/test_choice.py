"""Which sandbox is used: by proof, and none if nothing proves itself."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlrcbench.errors import RegistryError, SandboxError
from mlrcbench.sandbox import (
    KINDS,
    ExecResult,
    Limits,
    Policy,
    environment,
    isolation_report,
    open_sandbox,
    probe,
)
from mlrcbench.sandbox.fake import FakeSandbox
from mlrcbench.sandbox.isolation import describe
from mlrcbench.sandbox.landlock import SupervisedSandbox
from mlrcbench.sandbox.supervisor import kernel, rules
from tests.sandbox.conftest import CONFINED, LIMITS, text


@pytest.fixture
def fresh() -> Iterator[None]:
    """Probes are run anew, before and after."""
    probe.verdict.cache_clear()
    yield
    probe.verdict.cache_clear()


def test_auto_is_the_strongest(space: Path) -> None:
    """The first tier that works is used."""
    best = next(tier for tier in CONFINED if probe.verdict(tier).works)
    with open_sandbox("auto", Policy(space)) as sandbox:
        assert sandbox.isolation.tier == best
        assert text(sandbox.run("echo hi", LIMITS)) == "hi\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="as an ordinary user it is the default's floor")
def test_root_gets_landlock_alone_only_when_asked(monkeypatch: pytest.MonkeyPatch, space: Path) -> None:
    """It would leave every file of root's open to changes of mode."""
    kept = probe.verdict("landlock")
    verdicts = {"landlock": kept}
    monkeypatch.setattr(probe, "verdict", lambda tier: verdicts.get(tier, probe.Verdict(False, "off")))
    with pytest.raises(SandboxError, match="ask for sandbox='landlock'"):
        open_sandbox("auto", Policy(space))
    if kept.works:
        open_sandbox("landlock", Policy(space)).close()


def test_each_kind_or_a_reason(space: Path) -> None:
    """A kind that is asked for is opened, or refused with a sentence."""
    for kind in KINDS:
        try:
            with open_sandbox(kind, Policy(space)) as sandbox:
                assert sandbox.run("true", LIMITS).exit_status == 0
        except SandboxError as error:
            assert len(str(error)) > 30
            assert kind not in ("auto", "process")


def test_unknown_kind(space: Path) -> None:
    """A misspelt kind gets the nearest one named."""
    with pytest.raises(RegistryError, match="landlock"):
        open_sandbox("landlok", Policy(space))


@pytest.mark.parametrize("leak", ["read", "signal", "trace", "environ", "tcp", "library"])
def test_a_leak_disqualifies(fresh: None, monkeypatch: pytest.MonkeyPatch, space: Path, leak: str) -> None:
    """A tier whose probe succeeds in what it must not is not used, and nothing falls back to none."""
    monkeypatch.setattr(probe, "_ATTEMPT", f"print({json.dumps([leak])!r})")
    assert not any(probe.verdict(tier).works for tier in CONFINED)
    with pytest.raises(SandboxError, match="sandbox='process'") as caught:
        open_sandbox("auto", Policy(space))
    assert leak in str(caught.value)
    with pytest.raises(SandboxError, match="strong"):
        open_sandbox("strong", Policy(space))


def test_a_tier_that_cannot_start(fresh: None, monkeypatch: pytest.MonkeyPatch, space: Path) -> None:
    """What the kernel refuses is a reason, and the next tier is tried."""

    def connect(wanted: dict[str, object]) -> None:
        raise SandboxError(f"refused: {wanted['tier']}")

    monkeypatch.setattr("mlrcbench.sandbox.client.connect", connect)
    with pytest.raises(SandboxError, match=r"refused: strong[^$]*refused: landlock") as caught:
        open_sandbox("auto", Policy(space))
    assert "sysctl" in str(caught.value)


def test_probe_really_attempts(space: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without confinement, the same probe succeeds in what it attempts."""
    monkeypatch.setattr(probe, "_tolerated", lambda _tier: set())
    worked = set(probe._attempt("process"))
    assert {"read", "signal", "environ", "abstract", "tcp", "processes", "library"} <= worked


def test_folders_out_of_reach(space: Path, folder: Path) -> None:
    """A workspace that a user of its own could not reach makes "auto" pass over tier uid."""
    folder.chmod(0o700)
    assert "chmod" in probe._unsuitable("uid", Policy(space))
    assert not probe._unsuitable("landlock", Policy(space))


def test_report() -> None:
    """Each kind is listed with what it enforces and what not."""
    found = isolation_report()
    assert set(found) == set(KINDS) - {"auto"}
    for entry in found.values():
        assert isinstance(entry, dict)
        assert entry["works"] or entry["reason"]
        assert entry["missing"]
    json.dumps(found)


def test_isolation_follows_the_policy(space: Path) -> None:
    """What a policy opens is said."""
    closed, opened = describe("strong"), describe("strong", Policy(space, network=True, gpu=True))
    assert any(line.startswith("network: none") for line in closed.enforced)
    assert not any(line.startswith("network") for line in opened.enforced)
    assert any(line.startswith("GPU") for line in opened.missing)
    assert describe("process").tier == "none"


def test_older_kernels_say_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rights that an older Landlock does not know are reported as missing."""
    monkeypatch.setattr(rules, "abi", lambda: 1)
    assert sum("Landlock before" in line for line in describe("landlock").missing) == 3
    assert sum("Landlock before" in line for line in describe("uid").missing) == 1
    monkeypatch.setattr(rules, "abi", lambda: 6)
    assert not any("Landlock before" in line for line in describe("landlock").missing)


def test_a_rejected_rule_raises(tmp_path: Path) -> None:
    """A rule for a path that does not exist, or that the kernel does not take, is an error."""
    if not rules.abi():
        pytest.skip("no Landlock here")
    ruleset = rules.Ruleset(restrict_tcp=True)
    try:
        with pytest.raises(FileNotFoundError):
            ruleset.allow(str(tmp_path / "missing"), rules.READ)
        with pytest.raises(OSError, match="landlock_add_rule"):
            ruleset.allow(str(tmp_path), 0)
    finally:
        os.close(ruleset.descriptor)


def test_no_landlock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Landlock there is no ruleset, but an error that names the remedy."""
    monkeypatch.setattr(rules, "abi", lambda: 0)
    with pytest.raises(OSError, match=r"5\.13"):
        rules.Ruleset(restrict_tcp=True)


def test_a_vanished_path_refuses_the_sandbox(space: Path, data: Path) -> None:
    """A path of the policy that is gone when the first command starts makes it fail, not run without it."""
    tier = next(tier for tier in CONFINED if probe.verdict(tier).works)
    sandbox = SupervisedSandbox(tier, Policy(space, (data,)))
    (data / "train.csv").unlink()
    data.rmdir()
    with sandbox:
        with pytest.raises(SandboxError):
            sandbox.start()
        with pytest.raises(SandboxError):
            sandbox.run("true", LIMITS)


def test_errno_is_reported() -> None:
    """A refused call raises with the call's name."""
    with pytest.raises(OSError, match="pivot_root"):
        kernel.pivot_root("/nowhere", "/nowhere")


def test_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of the host's environment passes, but the choice of GPU when there is one."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    plain = environment(tmp_path, 2)
    assert plain["OMP_NUM_THREADS"] == "2"
    assert "CUDA_VISIBLE_DEVICES" not in plain
    assert environment(tmp_path, 2, gpu=True)["CUDA_VISIBLE_DEVICES"] == "3"
    assert "AWS_SECRET_ACCESS_KEY" not in environment(tmp_path, 2, gpu=True)


def test_fake() -> None:
    """The scripted sandbox answers, remembers, and refuses what it was not told."""
    with FakeSandbox({"ls": ExecResult("exited", 0, b"a\n")}) as fake:
        assert fake.run("ls", LIMITS).head == b"a\n"
        with pytest.raises(SandboxError, match="rm"):
            fake.run("rm", LIMITS)
        assert fake.commands == ["ls", "rm"]
        assert fake.isolation.tier == "fake"
    with pytest.raises(SandboxError, match="closed"):
        fake.run("ls", Limits(seconds=1))
    assert (
        FakeSandbox(lambda command: ExecResult("exited", 0, command.encode())).run("x", LIMITS).head == b"x"
    )
