"""The other side of `code_lines.py` and `code_shapes.py`: a bare interpreter that parses an agent's files.

A file of a few kilobytes can make Python's parser take gigabytes and minutes, so it is given neither in
the process of the library. This module is run as a script, with the name of what to find out as its
argument, and imports the standard library only.
"""

from __future__ import annotations

import ast
import copy
import hashlib
import json
import resource
import sys
from typing import Any

_MEMORY_BYTES = 1 << 30
_CPU_SECONDS = 20
_MAX_STATEMENTS = 20_000
_DIGEST_CHARS = 12
_BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")


def main() -> None:
    """Read a JSON list of sources; write a line for each, which is null if it cannot be parsed."""
    for limit, value in (
        (resource.RLIMIT_AS, _MEMORY_BYTES),
        (resource.RLIMIT_CPU, _CPU_SECONDS),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(limit)[1]
        bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (bound, bound))
    find = {"lines": _counts, "shapes": _shapes}[sys.argv[1]]
    for source in json.load(sys.stdin):
        try:
            line = json.dumps(find(ast.parse(source)))
        except (SyntaxError, ValueError, RecursionError, MemoryError, SystemError):
            line = "null"
        print(line, flush=True)


def _counts(tree: ast.Module) -> tuple[int, int]:
    """Statements without docstrings, and with them."""
    nodes = list(ast.walk(tree))
    statements = sum(isinstance(node, ast.stmt) for node in nodes)
    return statements - sum(_has_docstring(node) for node in nodes), statements


def _has_docstring(node: ast.AST) -> bool:
    if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return False
    return ast.get_docstring(node, clean=False) is not None


def _shapes(tree: ast.Module) -> tuple[str, str, list[str]]:
    """Digests of the tree, of the tree with all literals alike, and of each statement of the latter."""
    for node in ast.walk(tree):
        if _has_docstring(node):
            del node.body[0]  # type: ignore[attr-defined]
    whole = _digest(tree)
    alike = _LiteralsAlike().visit(tree)
    statements = {_digest(_head(node)) for node in ast.walk(alike) if isinstance(node, ast.stmt)}
    if len(statements) > _MAX_STATEMENTS:
        raise ValueError("it has too many statements")
    return whole, _digest(alike), sorted(statements)


def _head(node: ast.stmt) -> ast.AST:
    """A statement without the statements in it."""
    head = copy.copy(node)
    for name in _BLOCKS:
        if hasattr(head, name):
            setattr(head, name, [])
    return head


def _digest(node: ast.AST) -> str:
    return hashlib.sha256(ast.dump(node).encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST_CHARS]


class _LiteralsAlike(ast.NodeTransformer):
    """Puts the same literal in the place of each one, of signed numbers, and of displays of literals."""

    def visit(self, node: ast.AST) -> Any:
        """The node that takes the place of a node, after those within it have been replaced."""
        node = self.generic_visit(node)
        parts: list[Any] | None = None
        if isinstance(node, ast.Constant):
            parts = []
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
            parts = [node.operand]
        elif isinstance(node, ast.List | ast.Tuple | ast.Set):
            parts = node.elts
        elif isinstance(node, ast.Dict):
            parts = [*node.keys, *node.values]
        literal = parts is not None and all(isinstance(part, ast.Constant) for part in parts)
        return ast.Constant(value=0) if literal else node


if __name__ == "__main__":
    main()
