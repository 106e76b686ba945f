"""Plain text: aligned tables, what a terminal shows, line ends, long texts shortened; and plain JSON."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

MAX_CHARS = 100_000
CRLF_NOTE = "[lines end in CRLF; edit_file takes passages as they are shown here, and keeps CRLF]\n"
_PLAIN_DEPTH = 60
_PLAIN_DIGITS = 308  # as many as a float can have before the point
_SCREEN_ROWS = 50  # how far up the cursor can go
_SCREEN_COLUMNS = 200  # how far to the right it can go beyond the text
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_TOKEN = re.compile(
    r"(?P<text>[^\x00-\x08\x0a-\x1f\x7f-\x9f]+)"
    r"|(?:\x1b\[|\x9b)(?P<arguments>[0-?]{0,64})[ -/]{0,8}(?P<command>[@-~])"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)?"  # titles, links
    r"|\x1b[ -/]{0,8}[0-~]?"
    r"|(?P<control>.)",
    re.DOTALL,
)
# Control characters, line and paragraph separators, marks that change the direction of text, and half
# characters. A tab moves the cursor, but harms no line.
_COMMANDS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str) -> str:
    """A text that a terminal shows and does not obey: control characters are escaped, line ends stay."""
    return _COMMANDS.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def percent(improvement: float, error: float | None = None) -> str:
    """An improvement with its standard error, if that is known: "+7.1 ± 5.0 %"."""
    noise = "" if error is None else f" ± {100 * error:.1f}"
    return f"{100 * improvement:+.1f}{noise} %"


def one_line(text: str) -> str:
    """A text that takes one line of a terminal: control characters and line ends are escaped."""
    return printable(text).replace("\n", "\\n")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows in columns as wide as their longest cell, two spaces apart; an empty header is left out.

    A row takes one line, whatever its cells hold.
    """
    lines = [[one_line(cell) for cell in line] for line in ([header, *rows] if any(header) else rows)]
    if not lines:
        return ""
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    texts = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
    return "\n".join(text.rstrip() for text in texts)


def html_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table for a notebook; whatever the cells hold is shown as text."""
    lines = [f"<tr>{''.join(f'<th>{html.escape(cell)}</th>' for cell in header)}</tr>"]
    lines += [f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows]
    return f"<table>{''.join(lines)}</table>"


def cut(text: str, limit: int = MAX_CHARS) -> str:
    """`text`, or, if it is too long, its head and tail and how many characters lie between.

    Bytes of file names that are not valid Unicode are shown escaped.
    """
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n[... {len(text) - 2 * half:,} characters left out ...]\n{text[-half:]}"


def on_terminal(text: str) -> str:
    """A program's output as a terminal shows it in the end; without control characters it stays as it is.

    Progress bars return to the beginning of their line, colours and titles are control sequences, and a
    bar for each worker moves the cursor up; a reader should see the last state of each. Carriage returns,
    backspaces, and the sequences that move the cursor or erase have their effect; every other control
    character or sequence has none. Lines are not wrapped, and what a program clears from the screen stays
    above it. The time is linear in the length of the text, and so is the length of the result.
    """
    if not _CONTROL.search(text):
        return text
    screen = _Screen()
    for token in _TOKEN.finditer(text):
        if token["text"]:
            screen.write(token["text"])
        elif token["command"]:
            screen.obey(token["command"], token["arguments"])
        elif token["control"]:
            screen.control(token["control"])
    return "\n".join("".join(row) for row in screen.rows)


class _Screen:
    """Rows of characters with a cursor; the first rows have left the screen at its upper end."""

    def __init__(self) -> None:
        self.rows: list[list[str]] = [[]]
        self._row = self._column = self._cleared = 0
        self._saved = (0, 0)

    def write(self, text: str) -> None:
        """Put text where the cursor is, over what stands there."""
        row = self.rows[self._row]
        self._column = min(self._column, max(len(row), _SCREEN_COLUMNS))
        row.extend(" " * (self._column - len(row)))
        row[self._column : self._column + len(text)] = text
        self._column += len(text)

    def control(self, char: str) -> None:
        """Obey a control character."""
        match char:
            case "\n" | "\v" | "\f" | "\x85":
                self._column = 0
                self._row += 1
                if self._row == len(self.rows):
                    self.rows.append([])
            case "\r":
                self._column = 0
            case "\b":
                self._column = max(0, self._column - 1)

    def obey(self, command: str, arguments: str) -> None:
        """Obey a control sequence."""
        numbers = [int(part) if part.isdecimal() else 0 for part in arguments[:64].split(";")]
        count = max(1, numbers[0])
        commands: dict[str, Callable[[], None]] = {
            "A": lambda: self._move(self._row - count, self._column),
            "B": lambda: self._move(self._row + count, self._column),
            "C": lambda: self._move(self._row, self._column + count),
            "D": lambda: self._move(self._row, self._column - count),
            "E": lambda: self._move(self._row + count, 0),
            "F": lambda: self._move(self._row - count, 0),
            "G": lambda: self._move(self._row, count - 1),
            "H": lambda: self._move(self._top + count - 1, max(1, (*numbers, 1)[1]) - 1),
            "d": lambda: self._move(self._top + count - 1, self._column),
            "J": lambda: self._clear(numbers[0]),
            "K": lambda: self._erase(numbers[0]),
            "s": self._save,
            "u": lambda: self._move(*self._saved),
        }
        commands["f"] = commands["H"]
        if not arguments.startswith("?") and command in commands:
            commands[command]()

    @property
    def _top(self) -> int:
        return max(self._cleared, len(self.rows) - _SCREEN_ROWS)

    def _save(self) -> None:
        self._saved = self._row, self._column

    def _move(self, row: int, column: int) -> None:
        self._row = min(max(row, self._top), len(self.rows) - 1)
        self._column = max(column, 0)

    def _clear(self, kind: int) -> None:
        """Erase below the cursor, above it, or everything, which then stays above the screen."""
        if kind == 0:
            self._erase(0)
            del self.rows[self._row + 1 :]
        elif kind in (2, 3):
            if self.rows[-1]:
                self.rows.append([])
            self._cleared = self._row = len(self.rows) - 1

    def _erase(self, kind: int) -> None:
        """Erase to the end of the line, or all of it."""
        if kind == 0:
            del self.rows[self._row][self._column :]
        elif kind == 2:
            self.rows[self._row].clear()


def without_blank_ends(text: str) -> str:
    """The text without blank lines before and white space after it; its first line keeps its indentation."""
    text = text.rstrip()
    lines = len(text) - len(text.lstrip())
    return text[text.rfind("\n", 0, lines) + 1 :]


def has_crlf(text: str) -> bool:
    """Whether most lines of a text end as on Windows, in CR LF."""
    returns = text.count("\r\n")
    return 2 * returns > text.count("\n") > 0


def replace_passage(text: str, old: str, new: str) -> str:
    """The text with the only occurrence of a passage replaced, whatever its line ends are.

    Line ends of all three may be LF or CR LF; those of the text are kept, and the new passage gets them.

    Args:
        text: The text.
        old: A passage that occurs once, as `passages` counts.
        new: What takes its place.
    """
    plain, old, new = _plain(text), _plain(old), _plain(new)
    start = plain.index(old)
    new = new.replace("\n", "\r\n") if has_crlf(text) else new
    return text[: _place(text, plain, start)] + new + text[_place(text, plain, start + len(old)) :]


def passages(text: str, old: str) -> int:
    """How often a passage occurs in a text, whatever the line ends of both are."""
    return _plain(text).count(_plain(old))


def _plain(text: str) -> str:
    return text.replace("\r\n", "\n")


def _place(text: str, plain: str, place: int) -> int:
    """The place in a text that is a place in its version with plain line ends."""
    line = plain.count("\n", 0, place)
    before = text.split("\n", line)[:line]
    return sum(len(part) + 1 for part in before) + place - (plain.rfind("\n", 0, place) + 1)


def read_json(text: str, **hooks: Callable[[str], Any]) -> Any:
    """The value of a JSON text as models and their servers write it.

    Line breaks and other control characters in strings need not be escaped.

    Args:
        text: The text.
        hooks: Functions that read numbers and constants; see `json.loads`.

    Raises:
        ValueError: It is not JSON, or it is nested too deeply.
    """
    try:
        return json.loads(text, strict=False, **hooks)  # type: ignore[arg-type]
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def plain(value: Any, depth: int = 0) -> Any:
    """A value with the same meaning, as far as JSON has it in all languages.

    Python reads numbers of any length, halves of surrogate pairs and NaN from JSON, and writes them again;
    other libraries refuse them, some in the middle of a connection, which ends an episode. So only what is
    plain is passed on, to an episode, to a client and to a language model's server.

    What is no Unicode becomes a question mark, NaN and infinity become null, a number that is too long and
    what nests too deep become texts that say so, and objects of unknown types become their text.
    """
    if isinstance(value, Mapping | list | tuple) and depth == _PLAIN_DEPTH:
        return f"what nests deeper than {_PLAIN_DEPTH} levels"
    if isinstance(value, Mapping):
        return {plain(str(key)): plain(inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner, depth + 1) for inner in value]
    return _plain_scalar(value)


def _plain_scalar(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, int):
        digits = int(value.bit_length() * math.log10(2))
        return int(value) if digits < _PLAIN_DIGITS else f"a number of about {digits} digits"
    return str(value).encode("utf-8", "replace").decode("utf-8")


def plain_text(text: str | bytes) -> str | None:
    """JSON text as plain JSON text; None if it is not JSON, or nests too deep to be read."""
    try:
        value = json.loads(text, parse_int=_whole, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return None
    return json.dumps(plain(value))


def _whole(digits: str) -> int | str:
    """A whole number; Python refuses to read very long ones."""
    return int(digits) if len(digits) <= _PLAIN_DIGITS else f"a number of {len(digits)} digits"
