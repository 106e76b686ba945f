"""Logical lines of code: documentation is free, hostile files do no harm, threads do not interfere."""

from __future__ import annotations

import resource
from concurrent.futures import ThreadPoolExecutor

from mlrcbench.env.code_lines import count_lines


def _lines(*sources: str) -> int:
    return count_lines(sources, "")[0]


def test_logical_lines_leave_documentation_out() -> None:
    """Statements count, docstrings, comments and layout do not; broken files count lines."""
    source = '"""Module."""\n\n# comment\ndef f(x):\n    """Doc."""\n    y = (\n        x)\n    return y\n'
    assert count_lines([source], source) == (3, 5)
    assert _lines(source, "a = 1; b = 2") == 5
    assert _lines("def broken(:\n\n  x") == 2
    assert _lines("a = 1\n", "\0\nx", "b = 1\n" * 60_000, "c = 1") == 2 + 2 + 60_000


def test_hostile_code_costs_the_library_nothing() -> None:
    """Names of thousands of parts take gigabytes to parse, brackets a deep stack; the child bears it."""
    bombs = (
        "(" * 100_000,
        "-" * 100_000 + "1",
        "x" + ".a" * 50_000,
        "a;" * 99_000,
        "import a" + ".a" * 60_000,
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for bomb in bombs:
        assert _lines("a = 1", bomb) >= 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10


def test_lines_are_counted_in_many_threads_at_once() -> None:
    """Environments in threads evaluate at the same time; all get the same count."""
    source = "\n".join(f"def f{i}(x):\n    return [x + {i}, (x, [x, {{'a': x}}])]" for i in range(400))
    with ThreadPoolExecutor(8) as pool:
        counts = set(pool.map(_lines, [source] * 16))
    assert counts == {800}
