"""Verdicts in words: for a terminal, and as tables for the documentation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mlrcbench.testing.attacks.attack import Verdict
from mlrcbench.text import table


def format_verdicts(verdicts: Sequence[Verdict]) -> str:
    """Verdicts for a terminal: counts for each group, then every attack that gained or was not run."""
    rows = [[group, *_counts(verdicts, group)] for group in _groups(verdicts)]
    parts = [table(["attacks", *_VERDICTS], rows)]
    for verdict in verdicts:
        if verdict.word != "held":
            why = f"\n    known of this tier: {verdict.residual}" if verdict.residual else ""
            parts.append(
                f"{verdict.word}: {verdict.attack.name} ({verdict.attack.group}): {verdict.evidence}\n"
                f"    it {verdict.attack.gain}{why}"
            )
    gained = sum(verdict.word == "GAINED" for verdict in verdicts)
    tiers = ", ".join(sorted({verdict.tier for verdict in verdicts}))
    count = "none of them gained anything" if not gained else f"{gained} of them gained something"
    known = sum(verdict.word == "residual" for verdict in verdicts)
    more = f" beyond the {known} known of it" if known and not gained else ""
    parts.append(f"{len(verdicts)} attacks under isolation {tiers}: {count}{more}")
    return "\n".join(parts)


def markdown_table(verdicts: Iterable[Verdict]) -> str:
    """Verdicts for the documentation: one row for each attack, one column for each tier.

    Args:
        verdicts: Verdicts of one or several runs, under different tiers.
    """
    cells: dict[tuple[str, str, str], dict[str, str]] = {}
    tiers: list[str] = []
    for verdict in verdicts:
        tier = "process" if verdict.tier == "none" else verdict.tier
        if tier not in tiers:
            tiers.append(tier)
        attack = verdict.attack
        cells.setdefault((attack.group, attack.name, attack.gain), {})[tier] = verdict.word
    lines = [f"| attack | it | {' | '.join(tiers)} |", f"|{'---|' * (2 + len(tiers))}"]
    last = ""
    for (group, name, gain), words in cells.items():
        if group != last:
            lines.append(f"| **{group}** | {'| ' * (1 + len(tiers))}")
            last = group
        lines.append(f"| {name} | {gain} | {' | '.join(words.get(tier, '') for tier in tiers)} |")
    return "\n".join(lines)


_VERDICTS = ("held", "residual", "GAINED", "not run")


def _groups(verdicts: Sequence[Verdict]) -> list[str]:
    return list(dict.fromkeys(verdict.attack.group for verdict in verdicts))


def _counts(verdicts: Sequence[Verdict], group: str) -> list[str]:
    words = [verdict.word for verdict in verdicts if verdict.attack.group == group]
    return [str(words.count(word)) for word in _VERDICTS]
