"""Texts of strangers as markup."""

from __future__ import annotations

import html

_SHOWN_CHARS = 120


def as_markup(text: str) -> str:
    """A text as markup, cut, without characters that change the direction of what follows."""
    shown = "".join(char if char.isprintable() else " " for char in text[:_SHOWN_CHARS])
    return html.escape(shown + ("…" if len(text) > _SHOWN_CHARS else ""))
