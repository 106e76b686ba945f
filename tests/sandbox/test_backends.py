"""The optional backends: bubblewrap and containers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlrcbench.errors import SandboxError
from mlrcbench.sandbox import Limits, Policy, Sandbox, bubblewrap, container, open_sandbox
from tests.sandbox.conftest import LIMITS, running, text


@pytest.fixture
def bubble(space: Path, data: Path) -> Iterator[Sandbox]:
    """A bubblewrap sandbox."""
    if reason := bubblewrap.unavailable():
        pytest.skip(reason)
    with open_sandbox("bubblewrap", Policy(space, (data,))) as sandbox:
        yield sandbox


def test_bubblewrap_confines(bubble: Sandbox, answers: Path, data: Path, space: Path) -> None:
    """Hidden files do not exist, data is read-only, the workspace writable, the library absent."""
    assert (
        text(bubble.run(f"cat {data}/train.csv; echo x > file; ls {answers} 2>&1 | wc -l", LIMITS))
        == "1,2\n1\n"
    )
    assert (space / "file").read_text() == "x\n"
    assert bubble.run(f"cat {answers}", LIMITS).exit_status != 0
    assert bubble.run(f"echo x > {data}/train.csv", LIMITS).exit_status != 0
    assert bubble.run("python3 -c 'import mlrcbench'", LIMITS).exit_status != 0
    assert bubble.run(f"kill -0 {os.getpid()}", LIMITS).exit_status != 0
    assert bubble.run("cat < /dev/tcp/127.0.0.1/1", LIMITS).exit_status != 0


def test_bubblewrap_leaves_nothing(bubble: Sandbox) -> None:
    """Daemons end with the command, and a timeout ends everything."""
    result = bubble.run("setsid sleep 4321.77 & echo said", LIMITS)
    assert text(result) == "said\n"
    assert bubble.run("sleep 60", Limits(seconds=0.5)).ending == "timeout"
    assert running("4321.77") == []


def test_bubblewrap_refuses_root(space: Path) -> None:
    """Bubblewrap is not used as root, because it would not change the user."""
    if os.geteuid():
        pytest.skip("only for root")
    with pytest.raises(SandboxError, match="root"):
        open_sandbox("bubblewrap", Policy(space))


@pytest.mark.parametrize("engine", ["/usr/bin/podman", "/usr/bin/docker"])
def test_container_arguments(engine: str) -> None:
    """The command line closes everything but what the policy names."""
    policy = Policy(Path("/w"), (Path("/d"),))
    limits = Limits(seconds=5, memory_bytes=1 << 30, processes=7, file_bytes=99)
    arguments = container.run_arguments(
        engine,
        "image",
        name="n",
        command="echo 'a b'",
        workspace="/w",
        readable=["/d"],
        policy=policy,
        limits=limits,
    )
    line = " ".join(arguments)
    for part in (
        "--network none", "--cap-drop ALL", "--read-only", "--security-opt no-new-privileges",
        f"--memory {1 << 30}", "--volume /w:/w:rw", "--volume /d:/d:ro", "--workdir /w",
        "--pids-limit 7", "fsize=99:99", "--name n",
    ):  # fmt: skip
        assert part in line
    assert arguments[-5:] == ["bash", "--norc", "--noprofile", "-c", "echo 'a b'"]
    assert "gpu" not in line


def test_container_opens_on_request() -> None:
    """Network and GPU appear only when asked for."""
    policy = Policy(Path("/w"), network=True, gpu=True)
    arguments = container.run_arguments(
        "/usr/bin/docker",
        "i",
        name="n",
        command="",
        workspace="/w",
        readable=[],
        policy=policy,
        limits=LIMITS,
    )
    line = " ".join(arguments)
    assert "--network bridge" in line
    assert "--gpus all" in line


def test_container_needs_an_image(space: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an image, the error says how to name one."""
    monkeypatch.delenv(container.IMAGE_VARIABLE, raising=False)
    with pytest.raises(SandboxError, match=container.IMAGE_VARIABLE):
        open_sandbox("container", Policy(space))


def test_container_client_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine's client gets the variables that it needs of the host's environment, and no key."""
    monkeypatch.setenv("SECRET_API_KEY", "x")
    made = container.ContainerSandbox.__new__(container.ContainerSandbox)
    assert "SECRET_API_KEY" not in made._env(LIMITS, "/tmp")
    assert "PATH" in made._env(LIMITS, "/tmp")


def test_container_runs(space: Path, data: Path) -> None:
    """Where an engine and an image are available, a container confines and ends with its command."""
    if reason := container.unavailable():
        pytest.skip(reason)
    with open_sandbox("container", Policy(space, (data,))) as sandbox:
        result = sandbox.run(f"cat {data}/train.csv; echo x > file; echo x > {data}/new; exit 3", LIMITS)
        assert (result.exit_status, result.head[:4]) == (3, b"1,2\n")
        assert (space / "file").exists()
        assert os.listdir(data) == ["train.csv"]
        assert sandbox.run("sleep 4321.99", Limits(seconds=2)).ending == "timeout"
    assert running("4321.99") == []
