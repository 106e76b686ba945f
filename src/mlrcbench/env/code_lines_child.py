"""The other side of `code_lines.py`: a bare interpreter that parses an agent's files.

A file of a few kilobytes can make Python's parser take gigabytes and minutes, so it is given neither in
the process of the library. This module is run as a script and imports the standard library only.
"""

from __future__ import annotations

import ast
import json
import resource
import sys

_MEMORY_BYTES = 1 << 30
_CPU_SECONDS = 20


def main() -> None:
    """Read a JSON list of sources; write a line with two counts, or null, for each."""
    for limit, value in (
        (resource.RLIMIT_AS, _MEMORY_BYTES),
        (resource.RLIMIT_CPU, _CPU_SECONDS),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(limit)[1]
        bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (bound, bound))
    for source in json.load(sys.stdin):
        print(json.dumps(_counts(source)), flush=True)


def _counts(source: str) -> tuple[int, int] | None:
    """Statements without docstrings, and with them; None if the source cannot be parsed."""
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except (SyntaxError, ValueError, RecursionError, MemoryError, SystemError):
        return None
    statements = sum(isinstance(node, ast.stmt) for node in nodes)
    return statements - sum(_has_docstring(node) for node in nodes), statements


def _has_docstring(node: ast.AST) -> bool:
    if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return False
    return ast.get_docstring(node, clean=False) is not None


if __name__ == "__main__":
    main()
