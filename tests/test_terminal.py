"""Output as a terminal shows it, line ends, and blank lines around a text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlrcbench.text import on_terminal, passages, replace_passage, without_blank_ends

PLAIN = st.text(st.characters(exclude_categories=["Cc", "Cs"]) | st.sampled_from("\n\t"))
PIECES = st.sampled_from(
    [
        *("\r", "\n", "\b", "\0", "\a", "\x1b", "\x1b[", "\x1b]0;title", "\x1b\\", "\x9b2K", "\t", "é"),
        *("\x1b[A", "\x1b[2B", "\x1b[999999999C", "\x1b[5D", "\x1b[G", "\x1b[3;4H", "\x1b[J", "\x1b[2J"),
        *("\x1b[K", "\x1b[1K", "\x1b[2K", "\x1b[s", "\x1b[u", "\x1b[31m", "\x1b[?25l", "\x1b(B", "abc"),
        "\x1b[" + "9" * 5_000 + "A",
    ]
)


@pytest.mark.parametrize(
    ("written", "seen"),
    [
        ("10%\r50%\r100%\ndone\n", "100%\ndone\n"),
        ("a long line\rshort", "shortg line"),
        ("a long line\r\x1b[Kshort", "short"),
        ("\x1b[1;31mred\x1b[0m and \x1b[4mline\x1b[24m", "red and line"),
        ("\x1b]0;a title\x07\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]never ends\nnext", "\nnext"),
        ("pass\b\b\bush", "push"),
        ("a\0b\x07c\x7f", "abc"),
        ("one\r\ntwo\r\n", "one\ntwo\n"),
        ("0: 0%\n1: 0%\x1b[A\r0: 50%\n\r1: 50%\n", "0: 50%\n1: 50%\n"),
        ("0: 0%\n1: 0%\n\x1b[2F0: 9%\n1: 9%\n", "0: 9%\n1: 9%\n"),
        ("kept\n\x1b[2J\x1b[Hnew", "kept\nnew"),
        ("a\nb\nc\x1b[2A\x1b[Jz", "az"),
        ("a\x1b[3Cb", "a   b"),
        ("ab\x1b[2Dc\x1b[3Gd", "cbd"),
        ("\x1b[sabc\x1b[ud", "dbc"),
        ("a\x0cb", "a\nb"),
    ],
)
def test_a_terminal_shows_the_last_state(written: str, seen: str) -> None:
    """Bars, colours, titles and cursor moves are shown as a person sees them."""
    assert [line.rstrip() for line in on_terminal(written).split("\n")] == seen.split("\n")


@given(PLAIN)
def test_text_without_control_characters_is_shown_as_it_is(text: str) -> None:
    """Each letter, space and line."""
    assert on_terminal(text) == text
    assert on_terminal(text.replace("\n", "\r\n")) == text


@given(st.lists(PIECES | PLAIN, max_size=60).map("".join))
def test_whatever_is_written_is_shown_as_text(text: str) -> None:
    """No control character is left, and what is shown once stays; nothing grows beyond bounds."""
    seen = on_terminal(text)
    assert not any(ord(char) < 32 and char not in "\n\t" for char in seen)
    assert on_terminal(seen) == seen
    assert len(seen) <= 201 * (len(text) + 1)


@pytest.mark.parametrize(
    "unit",
    [
        "\x1b[",
        "\x1b]",
        "\r",
        "x\r",
        "\b",
        "\x1b[9999C.",
        "\x1b[A\n",
        "\x1b[2J",
        "\x1b[2Kx",
        "\x1b[1;",
        "\x1b]x\x07",
    ],
)
def test_hostile_output_is_shown_in_linear_time(unit: str) -> None:
    """A method that is quadratic would take minutes for a line this long."""
    text = "a" * 100_000 + unit * (200_000 // len(unit))
    assert len(on_terminal(text)) < 30_000_000


@pytest.mark.parametrize(
    ("text", "trimmed"),
    [("\n \t\n    a\n  b \n\n", "    a\n  b"), ("   \n", ""), ("", ""), ("  a", "  a"), ("a", "a")],
)
def test_only_blank_lines_are_trimmed(text: str, trimmed: str) -> None:
    """The first line keeps its indentation."""
    assert without_blank_ends(text) == trimmed


LINES = st.lists(st.sampled_from(["", "a", "b", "aa", "  c"]), min_size=1, max_size=8)


@given(LINES, st.sampled_from(["\n", "\r\n"]), st.sampled_from(["\n", "\r\n"]), st.data())
def test_a_passage_is_replaced_whatever_the_line_ends_are(
    lines: list[str], end: str, other: str, data: st.DataObject
) -> None:
    """The text keeps its line ends, and has no others afterwards."""
    plain = "\n".join(lines)
    start = data.draw(st.integers(0, len(plain)))
    old = plain[start : data.draw(st.integers(start, len(plain)))]
    if not old or plain.count(old) != 1:
        return
    text = plain.replace("\n", end)
    assert passages(text, old.replace("\n", other)) == 1
    changed = replace_passage(text, old.replace("\n", other), f"x{other}y")
    kept = end if "\n" in plain else "\n"
    assert changed == plain.replace(old, "x\ny").replace("\n", kept)


def test_mixed_line_ends_outside_of_the_passage_stay() -> None:
    """Only the passage changes."""
    assert replace_passage("a\r\nb\nc\r\nd\r\n", "b\nc", "x\ny") == "a\r\nx\r\ny\r\nd\r\n"
    assert replace_passage("a\nb\r\nc\nd\n", "b\nc", "x\ny") == "a\nx\ny\nd\n"
