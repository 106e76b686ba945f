"""Thoughts that a server leaves in a reasoning model's text, with drafts of actions in them.

A thought lies between two marks. The opening mark may be missing, because many servers put it at the
end of the prompt, and the closing mark is missing where the reply was cut off. A mark in quotation marks
or backticks is spoken about, and does not count.
"""

from __future__ import annotations

import re

# The marks of models: what opens a thought, and what closes it.
_MARKS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<reflection>", "</reflection>"),
    ("<scratchpad>", "</scratchpad>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|channel|>analysis", "<|channel|>final"),
)
_OPENING = {opening.lower() for opening, _ in _MARKS}
_MARK = re.compile(
    r"(?<![`\"'\\])(" + "|".join(re.escape(mark) for marks in _MARKS for mark in marks) + r")(?![`\"'\\])",
    re.IGNORECASE,
)


def end_of_thought(text: str, start: int, end: int) -> int | None:
    """Where the thought ends in which a passage lies; None if it lies in none.

    A passage lies in a thought that opens before it and does not close before it, and in one that closes
    after it without having opened. A thought that never closes ends with the text.

    Args:
        text: The text.
        start: Where the passage begins.
        end: Where it ends; marks within it belong to it.
    """
    is_open = False
    for mark in _MARK.finditer(text, 0, start):
        is_open = mark.group().lower() in _OPENING
    following = _MARK.search(text, end)
    if is_open:
        closing = next((mark for mark in _MARK.finditer(text, end) if not _opens(mark)), None)
        return closing.end() if closing else len(text)
    return following.end() if following is not None and not _opens(following) else None


def without_thoughts(text: str) -> str:
    """The text after its last thought; empty if that never closes."""
    rest = 0
    for mark in _MARK.finditer(text):
        rest = len(text) if _opens(mark) else mark.end()
    return text[rest:].lstrip()


def _opens(mark: re.Match[str]) -> bool:
    return mark.group().lower() in _OPENING
