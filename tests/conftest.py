"""What all tests share: a home of their own, and the template as a fixture."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

import mlrcbench
from mlrcbench.files import TreeLimits
from mlrcbench.registry import get_competition
from mlrcbench.workspace import Workspace

# The core is tested on what users get by default: the strongest sandbox that works here.
SANDBOX = "auto"

settings.register_profile(
    "shared machine",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("shared machine")


@pytest.fixture(scope="session", autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[Path]:
    """Instances, records and the secret of a test run lie in a folder of its own, one for all workers."""
    root = tmp_path_factory.getbasetemp()
    path = (root if worker_id == "master" else root.parent) / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLRCBENCH_HOME", str(path))
        yield path


@pytest.fixture
def env(tmp_path: Path) -> Iterator[mlrcbench.ResearchEnv]:
    """The template's environment, reset."""
    with mlrcbench.make("_template", sandbox=SANDBOX, records=tmp_path / "records") as made:
        made.reset(seed=0)
        yield made


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
    made = Workspace(
        tmp_path / "workspace",
        starter=(starter,),
        statement="# A statement\n",
        editable=("method.py",),
        views={"data": view},
        limits=TreeLimits(entries=500, total_bytes=10_000_000),
    )
    made.create()
    return made


def body(env: mlrcbench.ResearchEnv, action: Any) -> str:
    """The observation's text of one step."""
    observation, *_ = env.step(action)
    text: str = observation["text"]
    return text


def copy_of_template(tmp_path: Path) -> Path:
    """A copy of the template's folder, to be changed."""
    path = tmp_path / "_template"
    shutil.copytree(get_competition("_template").folder, path, ignore=shutil.ignore_patterns("__pycache__"))
    return path
