"""Plain text: long texts are cut in the middle."""

from __future__ import annotations

from hypothesis import event, given
from hypothesis import strategies as st

from mlrcbench.text import cut


@st.composite
def _texts_and_limits(draw: st.DrawFn) -> tuple[str, int]:
    """A limit, and a text that is beyond it about as often as within; arbitrary texts are mostly short."""
    limit = draw(st.integers(20, 100))
    least, most = draw(st.sampled_from([(0, limit), (limit + 1, 2 * limit), (limit, limit + 2)]))
    return draw(st.text(st.characters(exclude_categories=["Cs"]), min_size=least, max_size=most)), limit


def test_a_cut_keeps_head_and_tail() -> None:
    """Short texts stay; of long ones both ends do, with the number of characters left out between."""
    was_cut: list[bool] = []

    @given(_texts_and_limits())
    def check(drawn: tuple[str, int]) -> None:
        text, limit = drawn
        result, half = cut(text, limit), limit // 2
        was_cut.append(len(text) > limit)
        event("cut" if was_cut[-1] else "whole")
        if not was_cut[-1]:
            assert result == text
        else:
            left_out = f"\n[... {len(text) - 2 * half:,} characters left out ...]\n"
            assert result == text[:half] + left_out + text[-half:]

    check()
    assert sum(was_cut) >= len(was_cut) / 3, "too few generated texts are long enough to be cut"
