"""Which sandbox is used: one that proves itself, or none."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlrcbench.errors import RegistryError, SandboxError
from mlrcbench.sandbox import (
    KINDS,
    Policy,
    choice,
    environment,
    isolation_report,
    open_sandbox,
    probe,
)
from mlrcbench.sandbox.isolation import describe
from mlrcbench.sandbox.supervised import SupervisedSandbox
from mlrcbench.sandbox.supervisor import kernel, landlock
from tests.sandbox.conftest import CONFINED, LIMITS, text


@pytest.fixture
def fresh() -> Iterator[None]:
    """Run probes again, in this test and after it."""
    probe.probe_tier.cache_clear()
    yield
    probe.probe_tier.cache_clear()


def test_auto_is_the_strongest(space: Path) -> None:
    """The first tier that works is used."""
    best = next(tier for tier in CONFINED if probe.probe_tier(tier).works)
    with open_sandbox("auto", Policy(space)) as sandbox:
        assert sandbox.isolation.tier == best
        assert text(sandbox.run("echo hi", LIMITS)) == "hi\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="as an ordinary user it is the default's floor")
def test_root_gets_landlock_alone_only_when_asked(monkeypatch: pytest.MonkeyPatch, space: Path) -> None:
    """Landlock alone would let commands change the mode of every file of root."""
    landlock_result = probe.probe_tier("landlock")
    results = {"landlock": landlock_result}
    monkeypatch.setattr(probe, "probe_tier", lambda tier: results.get(tier, probe.ProbeResult(False, "off")))
    with pytest.raises(SandboxError, match="ask for sandbox='landlock'"):
        open_sandbox("auto", Policy(space))
    if landlock_result.works:
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
    """A tier in which a probe can do what it must not is not used, and nothing falls back to "process"."""
    monkeypatch.setattr(probe, "_ATTEMPT", f"print({json.dumps([leak])!r})")
    assert not any(probe.probe_tier(tier).works for tier in CONFINED)
    with pytest.raises(SandboxError, match="sandbox='process'") as caught:
        open_sandbox("auto", Policy(space))
    assert leak in str(caught.value)
    with pytest.raises(SandboxError, match="strong"):
        open_sandbox("strong", Policy(space))


def test_a_tier_that_cannot_start(fresh: None, monkeypatch: pytest.MonkeyPatch, space: Path) -> None:
    """A refusal of the kernel is given as the reason, and the next tier is tried."""

    def connect(request: dict[str, object]) -> None:
        raise SandboxError(f"refused: {request['tier']}")

    monkeypatch.setattr("mlrcbench.sandbox.fork_client.connect", connect)
    with pytest.raises(SandboxError, match=r"refused: strong[^$]*refused: landlock") as caught:
        open_sandbox("auto", Policy(space))
    assert "sysctl" in str(caught.value)


def test_probe_really_attempts(space: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without confinement, the same probe succeeds in what it attempts."""
    monkeypatch.setattr(probe, "_tolerated", lambda _tier: set())
    worked = set(probe._attempt("process"))
    assert {
        "read",
        "signal",
        "environ",
        "socket_with_path",
        "abstract",
        "tcp",
        "processes",
        "library",
    } <= worked


def test_folders_out_of_reach(space: Path, folder: Path) -> None:
    """A workspace that another user could not reach makes "auto" skip tier uid."""
    folder.chmod(0o700)
    assert "chmod" in choice._unreachable("uid", Policy(space))
    assert not choice._unreachable("landlock", Policy(space))


def test_report() -> None:
    """Each kind is listed with what it enforces and what it does not."""
    report = isolation_report()
    assert set(report) == set(KINDS) - {"auto"}
    for entry in report.values():
        assert isinstance(entry, dict)
        assert entry["works"] or entry["reason"]
        assert entry["missing"]
    json.dumps(report)


def test_isolation_follows_the_policy(space: Path) -> None:
    """The isolation says what a policy opens."""
    closed, opened = describe("strong"), describe("strong", Policy(space, network=True, gpu=True))
    assert any(line.startswith("network: none") for line in closed.enforced)
    assert not any(line.startswith("network") for line in opened.enforced)
    assert any(line.startswith("GPU") for line in opened.missing)
    assert describe("process").tier == "none"


def test_older_kernels_say_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rights that an older Landlock does not know are reported as missing."""
    monkeypatch.setattr(landlock, "abi", lambda: 1)
    assert sum("Landlock before" in line for line in describe("landlock").missing) == 2
    assert sum("Landlock before" in line for line in describe("uid").missing) == 0
    monkeypatch.setattr(landlock, "abi", lambda: 6)
    assert not any("Landlock before" in line for line in describe("landlock").missing)


def test_a_rejected_rule_raises(tmp_path: Path) -> None:
    """A rule for a path that does not exist, or that the kernel does not take, is an error."""
    if not landlock.abi():
        pytest.skip("no Landlock here")
    ruleset = landlock.Ruleset(restrict_tcp=True)
    try:
        with pytest.raises(FileNotFoundError):
            ruleset.allow(str(tmp_path / "missing"), landlock.READ)
        with pytest.raises(OSError, match="landlock_add_rule"):
            ruleset.allow(str(tmp_path), 0)
    finally:
        os.close(ruleset.descriptor)


def test_no_landlock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Landlock, making a ruleset raises an error that says what would help."""
    monkeypatch.setattr(landlock, "abi", lambda: 0)
    with pytest.raises(OSError, match=r"5\.13"):
        landlock.Ruleset(restrict_tcp=True)


def test_a_vanished_path_refuses_the_sandbox(space: Path, data: Path) -> None:
    """A command does not run without a path of the policy that is gone: it fails."""
    tier = next(tier for tier in CONFINED if probe.probe_tier(tier).works)
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
    """Of the host's environment only the choice of a GPU is passed on, if GPUs may be used."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    plain = environment(tmp_path, 2)
    assert plain["OMP_NUM_THREADS"] == "2"
    assert "CUDA_VISIBLE_DEVICES" not in plain
    assert environment(tmp_path, 2, gpu=True)["CUDA_VISIBLE_DEVICES"] == "3"
    assert "AWS_SECRET_ACCESS_KEY" not in environment(tmp_path, 2, gpu=True)
