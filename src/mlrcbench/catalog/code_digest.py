"""Digests of the code that is run: Python without comments and docstrings, other files unchanged.

A name in the cache of instances, and a line of a calibration, depend on the code that made them. A comment,
a docstring, an annotation's quotes or a line break does not change what is run, so none of them changes
a digest; renaming a variable does.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Mapping
from pathlib import Path


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
