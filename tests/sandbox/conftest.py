"""The sandboxes to test: every tier that works for this user on this machine."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlrcbench.sandbox import ExecResult, Limits, Policy, Sandbox, open_sandbox
from mlrcbench.sandbox.probe import probe_tier
from mlrcbench.sandbox.supervisor import disk

CONFINED = ("strong", "uid", "landlock")
LIMITS = Limits(seconds=30)
Run = Callable[..., ExecResult]


def open_or_skip(kind: str, policy: Policy) -> Sandbox:
    """A sandbox, or a skipped test where its tier does not work."""
    if kind in CONFINED and not probe_tier(kind).works:
        pytest.skip(f"{kind} does not work here")
    return open_sandbox(kind, policy)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user can pass through but not list."""
    path = Path(tempfile.mkdtemp(prefix="mlrcbench-test-", dir="/tmp"))
    path.chmod(0o711)
    yield path
    disk.empty(str(path), seconds=60)
    path.rmdir()


@pytest.fixture
def space(folder: Path) -> Path:
    """A workspace."""
    path = folder / "workspace"
    path.mkdir()
    return path


@pytest.fixture
def data(folder: Path) -> Path:
    """Data that may be read."""
    path = folder / "data"
    path.mkdir(mode=0o755)
    (path / "train.csv").write_text("1,2\n")
    return path


@pytest.fixture
def answers(folder: Path) -> Path:
    """A file that must not be read, in a folder that must not be listed."""
    path = folder / "private"
    path.mkdir(mode=0o700)
    (path / "answers.txt").write_text("the-answer\n")
    return path / "answers.txt"


@pytest.fixture(params=CONFINED)
def tier(request: pytest.FixtureRequest) -> str:
    """Each confined tier."""
    return str(request.param)


@pytest.fixture
def sandbox(tier: str, space: Path, data: Path) -> Iterator[Sandbox]:
    """A sandbox of each confined tier."""
    with open_or_skip(tier, Policy(space, (data,))) as opened:
        yield opened


@pytest.fixture(params=(*CONFINED, "process"))
def any_sandbox(request: pytest.FixtureRequest, space: Path, data: Path) -> Iterator[Sandbox]:
    """A sandbox of each tier, the unconfined one included."""
    with open_or_skip(str(request.param), Policy(space, (data,))) as opened:
        yield opened


@pytest.fixture
def run(sandbox: Sandbox) -> Run:
    """Run a command in each confined tier."""
    return lambda command, limits=LIMITS: sandbox.run(command, limits)


@pytest.fixture
def any_run(any_sandbox: Sandbox) -> Run:
    """Run a command in each tier."""
    return lambda command, limits=LIMITS: any_sandbox.run(command, limits)


def text(result: ExecResult) -> str:
    """The whole output."""
    assert not result.omitted
    return (result.head + result.tail).decode()


def running(mark: str) -> list[int]:
    """Process numbers on this machine whose command lines contain a mark."""
    pids = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                line = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if mark.encode() in line and int(folder.name) != os.getpid():
                pids.append(int(folder.name))
    return pids
