"""The package as a whole: light to import, layered, complete, and documented."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import mlrcbench
from mlrcbench.sandbox import KINDS

PACKAGE = Path(mlrcbench.__file__).parent
# Each module imports only from lines above its own, or from those before it in its line.
LAYERS = (
    ("errors", "registration"),
    ("__init__",),
    ("score", "artefacts", "budget", "table", "progress", "llm", "card_table", "files", "sources"),
    ("card", "actions", "tools", "observation"),
    ("metrics", "aggregates", "paper", "spaces"),
    ("sandbox", "scratch", "store", "tree", "checkout", "workspace", "reward"),
    ("child", "competition", "jobs"),
    ("evaluation", "registry", "record", "snapshot", "saved"),
    ("branching", "preparation", "readiness", "wording", "episode", "env", "session", "vector"),
    ("agents", "verify"),
    ("calibration",),
    ("testing", "runs", "judge", "report", "exports"),
    ("integrations",),
    ("cli_run", "cli_judge", "cli_export", "cli", "__main__"),
)
ORDER = {name: position for position, name in enumerate(name for layer in LAYERS for name in layer)}


def _module(path: Path) -> str:
    """The name in LAYERS that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imports(path: Path) -> set[str]:
    """Modules of this package that a file imports when it is run, not merely for types."""
    tree = ast.parse(path.read_text("utf-8"))
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree):
        names: list[str] = []
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
            if node.module == "mlrcbench":
                names = [f"mlrcbench.{alias.name}" for alias in node.names]
        for name in names:
            if name.partition(".")[0] == "mlrcbench":
                module = [*name.split("."), "__init__"][1]
                known = (PACKAGE / module).exists() or (PACKAGE / f"{module}.py").exists()
                found.add(module if known else "__init__")
    return found


def _files() -> list[Path]:
    return [path for path in PACKAGE.rglob("*.py") if "competitions" not in path.relative_to(PACKAGE).parts]


def test_modules_import_only_from_above() -> None:
    """No upward edge and no cycle."""
    assert {_module(path) for path in _files()} == set(ORDER)
    upward = [
        f"{path.relative_to(PACKAGE)} imports {name}"
        for path in _files()
        for name in _imports(path)
        if name != _module(path) and ORDER[name] >= ORDER[_module(path)]
    ]
    assert upward == []


def test_competitions_import_the_contract_only() -> None:
    """Errors, scores, artefacts, raw data, and files of their own folder; nobody imports them by name."""
    for path in (PACKAGE / "competitions").glob("*/*.py"):
        assert _imports(path) <= {"errors", "score", "artefacts", "sources", "competitions"}, path
        for line in path.read_text("utf-8").splitlines():
            if "mlrcbench.competitions" in line:
                assert f"mlrcbench.competitions.{path.parent.name}" in line
    for path in _files():
        assert "competitions" not in _imports(path), path


@pytest.mark.parametrize("code", ["import mlrcbench", "import mlrcbench; mlrcbench.make('_template')"])
def test_importing_and_making_is_light_and_silent(code: str) -> None:
    """Neither torch nor datasets nor pandas; nothing printed."""
    check = f"{code}; import sys; print({{'torch', 'datasets', 'pandas'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("set()\n", "")


def test_gymnasium_finds_it_without_an_import() -> None:
    """By the module's name before the id."""
    code = "import gymnasium; gymnasium.make('mlrcbench:mlrcbench/Template-v0', sandbox='process').close()"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_exists_and_is_documented() -> None:
    """`__all__` is what can be imported."""
    for name in mlrcbench.__all__:
        value = getattr(mlrcbench, name)
        assert name in dir(mlrcbench)
        assert name == "Action" or value.__doc__
        assert not (PACKAGE / f"{name}.py").exists(), "a module of that name would take its place"
    with pytest.raises(AttributeError, match="no 'nothing'"):
        _ = mlrcbench.nothing


def test_every_sandbox_kind_is_named_in_the_docs() -> None:
    """So that nobody has to read code to choose one."""
    text = (PACKAGE.parents[1] / "docs" / "isolation.md").read_text("utf-8")
    for kind in KINDS:
        assert f"`{kind}`" in text


def test_files_and_functions_stay_short() -> None:
    """Files under 400 lines, functions under 50."""
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text("utf-8")
        assert len(text.splitlines()) <= 400, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                length = (node.end_lineno or 0) - body[0].lineno + 1 if body else 0
                assert length <= 50, f"{path}: {node.name}"
