"""Arithmetic over scores. The only module that knows which direction is better."""

from __future__ import annotations

import ast
import threading
from collections.abc import Iterable

from mlrcbench.card import Anchors, Direction, Metric

_MAX_PARSED_CHARS = 200_000
# CPython 3.11 counts the depth of a syntax tree for all threads together, and raises a SystemError
# when two build one at once.
_PARSING = threading.Lock()


def improvement(value: float, anchors: Anchors) -> float:
    """Relative improvement to human: how much of the gap between the anchors is closed.

    `(value - baseline) / (target - baseline)`, so 0 is the baseline and 1 the top human entry,
    unbounded both ways; the same formula holds for either direction. Source: MLRC-Bench
    (arXiv 2504.09702), section 3, there in percent.

    Args:
        value: In the metric's unit.
        anchors: In the same unit.
    """
    baseline = anchors.baseline.value
    return (value - baseline) / (anchors.target.value - baseline)


def largest_improvement(metric: Metric, anchors: Anchors) -> float:
    """The relative improvement of a perfect score."""
    return improvement(metric.upper if metric.direction == "maximize" else metric.lower, anchors)


def better(left: float, right: float, direction: Direction) -> bool:
    """Whether `left` is strictly better than `right`."""
    return left > right if direction == "maximize" else left < right


def logical_lines(sources: Iterable[str]) -> int:
    """Logical lines of Python code: statements, docstrings not counted.

    The paper counts `ast.stmt` nodes of one file, docstrings included; here every file that
    the agent touched counts, and documentation is free. A file that does not parse counts its
    non-blank lines; one too long to parse counts its line ends and semicolons.
    """
    return sum(_statements(source, docstrings=False) for source in sources)


def logical_lines_single(source: str) -> int:
    """The paper's count for one file: every `ast.stmt` node, docstrings counted."""
    return _statements(source, docstrings=True)


def _statements(source: str, *, docstrings: bool) -> int:
    if len(source) > _MAX_PARSED_CHARS:
        return source.count("\n") + source.count(";")
    try:
        with _PARSING:
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError, SystemError):
        return sum(1 for line in source.splitlines() if line.strip())
    nodes = list(ast.walk(tree))
    count = sum(isinstance(node, ast.stmt) for node in nodes)
    return count if docstrings else count - sum(_has_docstring(node) for node in nodes)


def _has_docstring(node: ast.AST) -> bool:
    if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return False
    return ast.get_docstring(node, clean=False) is not None
