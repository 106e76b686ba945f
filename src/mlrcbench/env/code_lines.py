"""Logical lines of Python code, counted as the paper does and as this library does.

An agent wrote the code, so a child process with limits of its own parses it; see `code_lines_child.py`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from mlrcbench.env import code_lines_child

_MAX_PARSED_CHARS = 200_000
_SECONDS = 120.0  # of wall time; the child limits its CPU time itself


def count_lines(sources: Sequence[str], method: str) -> tuple[int, int]:
    """Logical lines of the files that an agent touched, and of its method.

    The paper counts `ast.stmt` nodes of one file, docstrings included; here every file that the agent
    touched counts, and documentation is free. For a file that cannot be parsed, non-blank lines are
    counted; for a file that is too long to parse, line ends and semicolons.

    Args:
        sources: The texts of all files.
        method: The text of the one file that the paper counts.

    Returns:
        Statements in `sources`, docstrings not counted; statements in `method`, docstrings counted.
    """
    texts = [*sources, method]
    counts = [_count_of(*pair) for pair in zip(texts, parse_sources(texts, "lines"), strict=True)]
    return sum(plain for plain, _ in counts[:-1]), counts[-1][1]


def _count_of(source: str, parsed: list[int] | None) -> tuple[int, int]:
    if parsed is not None:
        return parsed[0], parsed[1]
    if len(source) > _MAX_PARSED_CHARS:
        count = source.count("\n") + source.count(";")
    else:
        count = sum(1 for line in source.splitlines() if line.strip())
    return count, count


def parse_sources(sources: Sequence[str], what: Literal["lines", "shapes"]) -> list[Any]:
    """What the child process finds out about each source, as JSON types; None for those it did not parse.

    Args:
        sources: Texts of Python files; those with more than 200,000 characters are not parsed.
        what: See `code_lines_child.py`.
    """
    request = json.dumps([source if len(source) <= _MAX_PARSED_CHARS else "\0" for source in sources])
    child = subprocess.Popen(
        [sys.executable, "-I", "-S", str(Path(code_lines_child.__file__)), what],
        cwd="/",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with child:
        try:
            answer, _ = child.communicate(request.encode("ascii"), _SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            answer, _ = child.communicate()
    lines = answer.splitlines(keepends=True)
    parsed = [json.loads(line) for line in lines if line.endswith(b"\n")]
    return [*parsed, *[None] * (len(sources) - len(parsed))]
