"""What an attack is, and how one ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Attack:
    """One thing that hostile agent code tries.

    Attributes:
        name: Lower-case words joined by hyphens; unique.
        group: What kind of attack it is.
        gain: What it would gain, as one sentence without its subject.
        contained: Whether it may only be run where a pid namespace, a separate user or a limit on the
            number of processes contains it, as it would exhaust the machine otherwise.
    """

    name: str
    group: str
    gain: str
    contained: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a group's runner observed: the attack, whether it gained, and the evidence."""

    attack: Attack
    gained: bool
    evidence: str
    seconds: float = 0.0
    ran: bool = True


@dataclass(frozen=True, slots=True)
class Verdict:
    """How an attack ended.

    Attributes:
        attack: See `Attack`.
        gained: Whether it reached its aim.
        evidence: How that is known, in one line.
        tier: The isolation tier under which it was run.
        seconds: How long it took; attacks that share a command share its time.
        residual: Why this tier is known to allow the gain; empty if it is not known to.
        ran: Whether it was run here; if not, the evidence says why.
    """

    attack: Attack
    gained: bool
    evidence: str
    tier: str
    seconds: float
    residual: str = ""
    ran: bool = True

    @property
    def word(self) -> str:
        """One of "held", "GAINED", "residual", "not run"."""
        if not self.ran:
            return "not run"
        if not self.gained:
            return "held"
        return "residual" if self.residual else "GAINED"

    def to_json(self) -> dict[str, Any]:
        """A dict of JSON types."""
        return {
            "attack": self.attack.name,
            "group": self.attack.group,
            "gain": self.attack.gain,
            "verdict": self.word,
            "gained": self.gained,
            "evidence": self.evidence,
            "tier": self.tier,
            "seconds": round(self.seconds, 3),
            "residual": self.residual,
            "ran": self.ran,
        }


def brief(error: Exception) -> str:
    """An error in one line: its first and its last line, which says what happened in a traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ... ".join(dict.fromkeys([*lines[:1], *lines[-1:]]))[:600]
