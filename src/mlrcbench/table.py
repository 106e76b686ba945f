"""Plain text tables."""

from __future__ import annotations

from collections.abc import Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their longest cell, two spaces apart; an empty header is left out."""
    lines = [header, *rows] if any(header) else list(rows)
    if not lines:
        return ""
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    texts = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
    return "\n".join(text.rstrip() for text in texts)
