"""Fixtures for all tests: a separate home, and the template."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

import mlrcbench
from mlrcbench.catalog.registry import get_competition
from mlrcbench.storage.trees import TreeLimits
from mlrcbench.storage.workspace import Workspace

# The core is tested in the sandbox that users get by default: the strongest that works on this machine.
SANDBOX = "auto"

settings.register_profile(
    "shared machine",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("shared machine")

# Their tests share nothing but instances, which several processes may build at once.
APART = ("contract/", "test_docs.py", "test_examples.py")


@pytest.hookimpl(tryfirst=True)  # the plugin that distributes them reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep a file's tests in one process, and begin with the files that may take minutes.

    Attackers without a sandbox touch what the next tests of their file watch, and many files build what
    all their tests use.
    """
    places = {item.path: item.path.relative_to(Path(__file__).parent).as_posix() for item in items}
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path not in slow, not places[item.path].startswith(APART)))
    for item in items:
        if not places[item.path].startswith(APART):
            item.add_marker(pytest.mark.xdist_group(places[item.path]))


@pytest.fixture(scope="session", autouse=True)
def _interruptible() -> None:
    """Programs that tests start can be interrupted, even if the tests run in a shell's background."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[Path]:
    """A test run has its own folder for instances, records and the secret, shared by all workers."""
    root = tmp_path_factory.getbasetemp()
    path = (root if worker_id == "master" else root.parent) / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLRCBENCH_HOME", str(path))
        yield path


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without instances or downloads."""
    monkeypatch.setenv("MLRCBENCH_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def env(tmp_path: Path) -> Iterator[mlrcbench.ResearchEnv]:
    """The template's environment, after a reset."""
    with mlrcbench.make("_template", sandbox=SANDBOX, records=tmp_path / "records") as new_env:
        new_env.reset(seed=0)
        yield new_env


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A small workspace: two protected files, one editable, one view."""
    starter, view = tmp_path / "starter", tmp_path / "view"
    for folder in (starter / "lib", view):
        folder.mkdir(parents=True)
    (starter / "main.py").write_text("print('main')\n")
    (starter / "method.py").write_text("a = 1\nb = 2\na = 3\n")
    (starter / "lib" / "tools.py").write_text("TOOLS = 1\n")
    (view / "table.csv").write_text("x,y\n1,2\n")
    new_workspace = Workspace(
        tmp_path / "workspace",
        starter=(starter,),
        statement="# A statement\n",
        editable=("method.py",),
        views={"data": view},
        limits=TreeLimits(entries=500, total_bytes=10_000_000),
    )
    new_workspace.create()
    return new_workspace


def body(env: mlrcbench.ResearchEnv, action: Any) -> str:
    """Take one step; returns the text of its observation."""
    observation, *_ = env.step(action)
    text: str = observation["text"]
    return text


def copy_of_template(tmp_path: Path, name: str = "_template") -> Path:
    """A copy of a template's folder, for a test to change."""
    path = tmp_path / name
    shutil.copytree(get_competition(name).folder, path, ignore=shutil.ignore_patterns("__pycache__"))
    return path
