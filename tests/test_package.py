"""The package as a whole: light to import, layered, complete, and documented."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import mlrcbench
from mlrcbench.sandbox import KINDS
from tools.imports import (
    COMPETITIONS_MAY_IMPORT,
    ORDER,
    Arrow,
    arrows,
    chapter_of,
    circles,
    package_files,
    upward,
)

PACKAGE = Path(mlrcbench.__file__).parent
CHAPTERS = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
# Imports against the order of chapters, inside functions or for types only, each with its reason.
ALLOWED: dict[Arrow, str] = {}


def _arrows() -> set[Arrow]:
    return set().union(*(arrows(path) for path in package_files()))


def test_chapters_import_only_from_earlier_chapters() -> None:
    """No import is against the order: not at the top, not for types, not inside a function."""
    assert {chapter_of(path.relative_to(PACKAGE).as_posix()) for path in package_files()} == set(ORDER)
    assert [arrow for arrow in upward(_arrows()) if arrow not in ALLOWED] == []


def test_no_modules_import_each_other() -> None:
    """Imports form no circle of any length."""
    assert circles(_arrows()) == []


def test_the_order_sees_every_kind_of_import(tmp_path: Path) -> None:
    """Imports for types and inside functions count, relative ones are resolved, and a circle is reported."""
    loop_arrows = arrows(PACKAGE / "sandbox" / "supervisor" / "loop.py")
    assert Arrow("sandbox/supervisor/loop.py", "sandbox.supervisor.kernel") in loop_arrows
    up = {Arrow("storage/record.py", "env.episode", "read"), Arrow("env/episode.py", "storage.record")}
    assert upward(up) == [Arrow("storage/record.py", "env.episode", "read")]
    assert circles(up) == [["env.episode", "storage.record"]]


def test_the_top_of_the_package_is_small() -> None:
    """It has at most 18 entries, of which 14 are chapters; each says what it holds and where to start."""
    entries = {path.name for path in PACKAGE.iterdir()} - {"__pycache__"}
    entries -= {"__init__.py", "__main__.py", "__version__.py", "py.typed"}
    assert len(entries) <= 18, sorted(entries)
    assert len(CHAPTERS) == 14, sorted(CHAPTERS)
    for chapter in CHAPTERS - {"competitions"}:
        docstring = ast.get_docstring(ast.parse((PACKAGE / chapter / "__init__.py").read_text("utf-8"))) or ""
        for part in ("- Holds:", "- May import:", "- Start reading "):
            assert part in docstring, f"{chapter} does not say: {part}"


def test_no_name_is_used_twice() -> None:
    """No two modules or classes have the same name, except the two halves of an attack."""
    modules: dict[str, list[Path]] = {}
    classes: dict[str, list[Path]] = {}
    for path in package_files():
        name = path.parent.name if path.stem == "__init__" else path.stem
        if "inside" not in path.parts:
            modules.setdefault(name, []).append(path)
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                classes.setdefault(node.name, []).append(path)
    assert {name: paths for name, paths in modules.items() if len(paths) > 1} == {}
    assert {name: paths for name, paths in classes.items() if len(paths) > 1} == {}


def test_competitions_import_the_contract_only() -> None:
    """They use errors, scores, artefacts, raw data and their own folder; nothing imports them by name."""
    for path in (PACKAGE / "competitions").glob("*/*.py"):
        for arrow in arrows(path):
            if arrow.target.startswith("competitions"):
                assert arrow.target.split(".")[:2] == ["competitions", path.parent.name], arrow
            else:
                assert arrow.target.split(".")[0] in COMPETITIONS_MAY_IMPORT, arrow
    assert [arrow for arrow in _arrows() if arrow.target.startswith("competitions")] == []


@pytest.mark.parametrize("code", ["import mlrcbench", "import mlrcbench; mlrcbench.make('_template')"])
def test_importing_and_making_is_light_and_silent(code: str) -> None:
    """It imports neither torch nor datasets nor pandas, and prints nothing."""
    check = f"{code}; import sys; print({{'torch', 'datasets', 'pandas'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("set()\n", "")


def test_gymnasium_finds_it_without_an_import() -> None:
    """The module's name before the id is enough."""
    code = "import gymnasium; gymnasium.make('mlrcbench:mlrcbench/Template-v0', sandbox='process').close()"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_exists_and_is_documented() -> None:
    """Every name in `__all__` can be imported."""
    for name in mlrcbench.__all__:
        value = getattr(mlrcbench, name)
        assert name in dir(mlrcbench)
        assert name == "Action" or value.__doc__
        assert not (PACKAGE / f"{name}.py").exists(), "a module of that name would take its place"
    with pytest.raises(AttributeError, match="no 'nothing'"):
        _ = mlrcbench.nothing


def test_every_sandbox_kind_is_named_in_the_docs() -> None:
    """Users can choose a kind without reading code."""
    text = (PACKAGE.parents[1] / "docs" / "isolation.md").read_text("utf-8")
    for kind in KINDS:
        assert f"`{kind}`" in text


def test_files_classes_and_functions_stay_short() -> None:
    """Files have at most 400 lines; without docstrings, classes at most 250, and functions at most 50."""
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text("utf-8")
        assert len(text.splitlines()) <= 400, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef):
                length = (node.end_lineno or 0) - node.lineno + 1 - _docstring_lines(node)
                assert length <= 250, f"{path}: {node.name}"
            if isinstance(node, ast.FunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                length = (node.end_lineno or 0) - body[0].lineno + 1 if body else 0
                assert length <= 50, f"{path}: {node.name}"


def _docstring_lines(node: ast.AST) -> int:
    """Lines of all docstrings in a class and its methods."""
    return sum(
        (inner.body[0].end_lineno or 0) - inner.body[0].lineno + 1
        for inner in ast.walk(node)
        if isinstance(inner, ast.ClassDef | ast.FunctionDef) and ast.get_docstring(inner) is not None
    )


def test_the_tests_of_a_file_stay_in_one_process(request: pytest.FixtureRequest) -> None:
    """Tests are grouped by file; see `conftest.py`. Watchers of processes and files rely on it."""
    if request.config.getoption("loadgroup", False):
        assert request.node.nodeid.endswith("@test_package.py")
    else:
        pytest.skip("one process runs all tests, or they are not grouped")
