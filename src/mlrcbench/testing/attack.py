"""What an attack is, and what came of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Attack:
    """One thing that hostile agent code tries.

    Attributes:
        name: Lower-case words joined by hyphens; unique.
        group: What kind of attack it is.
        gain: What it would have gained, one sentence.
        contained: Whether it may only be run where a pid namespace, a user of its own or a limit
            on the number of processes contains it, as it would exhaust the machine otherwise.
    """

    name: str
    group: str
    gain: str
    contained: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a group's runner found: the attack, whether it gained, and by what that is known."""

    attack: Attack
    gained: bool
    evidence: str
    seconds: float = 0.0
    ran: bool = True


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of an attack.

    Attributes:
        attack: See `Attack`.
        gained: Whether it got what it was after.
        evidence: By what that is known, one line.
        tier: Under which isolation.
        seconds: How long it took; attacks that share a command share its time.
        residual: Why a gain is known of this tier and stated in its isolation; empty otherwise.
        ran: False if it was not run here; the evidence says why.
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
    """An error in one line: its first, and its last, which for a traceback says what happened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ... ".join(dict.fromkeys([*lines[:1], *lines[-1:]]))[:600]
