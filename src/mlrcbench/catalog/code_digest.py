"""Digests of the code that is run: Python without comments and docstrings, other files unchanged.

A name in the cache of instances, and a line of a calibration, depend on the code that made them. A comment,
a docstring, an annotation's quotes or a line break does not change what is run, so none of them changes
a digest; renaming a variable does.

A scorer's standard error changes neither an instance nor a value, so that the digest of a scorer leaves it
out: its function `standard_error`, what it imports from `mlrcbench.aggregates`, and the argument `error` of a
`Score`. The estimate can be improved without measuring everything again.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Mapping
from pathlib import Path

STANDARD_ERROR = "standard_error"  # name of the function that a scorer may have
STATISTICS = "mlrcbench.aggregates"


def code_digest(files: Mapping[str, str]) -> str:
    """SHA-256 over the names and the running code of some files, as hex.

    Args:
        files: Name -> text; names that end in `.py` are Python.
    """
    digest = hashlib.sha256()
    for name, text in sorted(files.items()):
        content = running_code(text) if name.endswith(".py") else text
        digest.update(f"{name}\0{len(content)}\0{content}".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def file_digest(path: Path) -> str:
    """The digest of one Python file, whatever it is called."""
    return code_digest({"module.py": path.read_text("utf-8")})


def scorer_digest(path: Path) -> str:
    """The digest of a scorer's file, without its standard error."""
    return code_digest({"module.py": without_errors(path.read_text("utf-8"))})


def without_errors(source: str) -> str:
    """A scorer's code without its standard error, which must be used nowhere but as the error of a `Score`.

    If it is used elsewhere, a value may depend on it, and the code is returned unchanged.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return source
    helpers = {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module == STATISTICS
        for alias in node.names
    }
    _WithoutErrors().visit(tree)
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return source if used & {STANDARD_ERROR, *helpers} else ast.unparse(tree)


class _WithoutErrors(ast.NodeTransformer):
    """Removes a scorer's standard error: its definition, its imports, and its place in a `Score`."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef | None:
        self.generic_visit(node)
        return None if node.name == STANDARD_ERROR and node.col_offset == 0 else node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.ImportFrom | None:
        names = [alias for alias in node.names if (alias.asname or alias.name) != STANDARD_ERROR]
        node.names = [] if node.module == STATISTICS else names
        return node if node.names else None

    def visit_Call(self, node: ast.Call) -> ast.Call:
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id == "Score":
            node.keywords = [keyword for keyword in node.keywords if keyword.arg != "error"]
        return node


def running_code(source: str) -> str:
    """A module's code in a standard form; code that does not parse is returned unchanged."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return source
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and (
            ast.get_docstring(node, clean=False) is not None
        ):
            del node.body[0]
    return ast.unparse(tree)
