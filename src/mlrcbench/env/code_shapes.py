"""Shapes of Python files: what is left of a file when its comments, its layout and its literals are not seen.

Two versions of a file with one shape differ in constants only. A child process parses the files, as for
`code_lines.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mlrcbench.env.code_lines import parse_sources

_BATCH_CHARS = 4_000_000
_BATCHES = 8  # of a child each, so that one hostile file costs at most the others of its batch


@dataclass(frozen=True, slots=True)
class CodeShape:
    """The shape of one file.

    Attributes:
        tree: Digest of its syntax tree, without docstrings.
        shape: Digest of its syntax tree with all literals alike.
        statements: Digests of its statements, each without the statements in it, with all literals alike.
    """

    tree: str
    shape: str
    statements: frozenset[str]


def code_shapes(sources: Iterable[str]) -> dict[str, CodeShape]:
    """The shape of each source that can be parsed; up to 32 million characters are parsed in all.

    A literal is a constant, a number with a sign, or a list, tuple, set or dict of literals.
    """
    shapes: dict[str, CodeShape] = {}
    for batch in _batches(sources):
        for source, entry in zip(batch, parse_sources(batch, "shapes"), strict=True):
            if entry is not None:
                tree, shape, statements = entry
                shapes[source] = CodeShape(tree, shape, frozenset(statements))
    return shapes


def _batches(sources: Iterable[str]) -> list[list[str]]:
    """The different sources, in lists of bounded length."""
    batches: list[list[str]] = [[]]
    chars = 0
    for source in dict.fromkeys(sources):
        if chars + len(source) > _BATCH_CHARS and batches[-1]:
            batches.append([])
            chars = 0
        batches[-1].append(source)
        chars += len(source)
    return batches[:_BATCHES]
