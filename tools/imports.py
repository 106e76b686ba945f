"""Imports between the chapters of the package: the order that they must follow, and those in the code.

`ORDER` lists the chapters, the lowest first. A module imports only from its own chapter and from those
before it, also for types and inside functions.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "src" / "mlrcbench"

# "face" is the package's `__init__.py`, which offers the public names.
ORDER = (
    "__version__",
    "errors",
    "text",
    "aggregates",
    "score",
    "artefacts",
    "llm",
    "sandbox",
    "storage",
    "sources",
    "catalog",
    "protocol",
    "env",
    "agents",
    "runs",
    "face",
    "testing",
    "integrations",
    "cli",
    "__main__",
)
# What a competition may import from the library, besides the files of its folder.
COMPETITIONS_MAY_IMPORT = frozenset({"aggregates", "errors", "score", "artefacts", "sources"})


@dataclass(frozen=True, order=True)
class Arrow:
    """One import of a module of the package by another.

    Attributes:
        source: File of the module that imports, relative to the package.
        target: Dotted name of the imported module, without "mlrcbench."; "face" for the package itself.
        inside: Name of the function that holds the import; empty at the top of the module.
    """

    source: str
    target: str
    inside: str = ""


def chapter_of(file: str) -> str:
    """The chapter that a file of the package belongs to."""
    first = file.split("/", maxsplit=1)[0].removesuffix(".py")
    return "face" if first == "__init__" else first


def package_files() -> list[Path]:
    """All Python files of the package, except those of competitions."""
    return [path for path in sorted(PACKAGE.rglob("*.py")) if "competitions" not in path.parts]


def arrows(path: Path) -> set[Arrow]:
    """The imports of the package's modules in a file: at the top, for types, and inside functions."""
    file = path.relative_to(PACKAGE).as_posix()
    return {
        Arrow(file, target, function)
        for node, function in _imports(ast.parse(path.read_text("utf-8")), "")
        for target in _targets(node, path)
    }


def _imports(node: ast.AST, function: str) -> Iterator[tuple[ast.Import | ast.ImportFrom, str]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, function
        inner = child.name if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) else function
        yield from _imports(child, inner)


def _targets(node: ast.Import | ast.ImportFrom, path: Path) -> Iterator[str]:
    """The modules that an import names; a name from a module counts as that module."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    else:
        folder = path.relative_to(PACKAGE.parent).parent.parts
        base = ".".join(folder[: len(folder) + 1 - node.level]) if node.level else ""
        module = ".".join(filter(None, (base, node.module)))
        names = [f"{module}.{alias.name}" for alias in node.names]
    for name in names:
        parts = name.split(".")
        if parts[0] == "mlrcbench":
            yield _module(parts[1:])


def _module(parts: list[str]) -> str:
    """The longest prefix of a dotted name that is a module."""
    for length in range(len(parts), 0, -1):
        path = PACKAGE.joinpath(*parts[:length])
        if path.with_suffix(".py").is_file() or (path / "__init__.py").is_file():
            return ".".join(parts[:length])
    return "face"


def upward(imports: set[Arrow]) -> list[Arrow]:
    """Arrows from a chapter to a later one."""
    position = {chapter: number for number, chapter in enumerate(ORDER)}
    return sorted(
        arrow
        for arrow in imports
        if position[chapter_of(arrow.target.replace(".", "/"))] > position[chapter_of(arrow.source)]
    )


def circles(imports: set[Arrow]) -> list[list[str]]:
    """Groups of modules that import each other in a loop: strongly connected components."""
    graph: dict[str, set[str]] = {}
    for arrow in imports:
        source = arrow.source.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        source = "face" if source == "__init__" else source
        graph.setdefault(source, set()).add(arrow.target)
        graph.setdefault(arrow.target, set())
    return [sorted(group) for group in _components(graph) if len(group) > 1]


def _components(graph: dict[str, set[str]]) -> list[set[str]]:
    """Strongly connected components: groups of nodes that reach each other; for small graphs only."""
    reach = {node: _reachable(graph, node) for node in graph}
    groups: list[set[str]] = []
    for node in graph:
        if not any(node in group for group in groups):
            groups.append({other for other in reach[node] | {node} if node in reach[other] or other == node})
    return groups


def _reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    reached: set[str] = set()
    pending = [start]
    while pending:
        for target in graph[pending.pop()] - reached:
            reached.add(target)
            pending.append(target)
    return reached
