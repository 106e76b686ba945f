"""Attacks on played evaluations, all on the template of that kind."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from mlrcbench.catalog.registry import get_competition
from mlrcbench.errors import SandboxError, ScoringError
from mlrcbench.protocol.actions import WriteFile
from mlrcbench.score import Score
from mlrcbench.testing.attacks.attack import Attack, Outcome, brief
from mlrcbench.testing.attacks.host.forging import MEMORY_BYTES, improved, peak, reset_peak
from mlrcbench.testing.attacks.scene import Scene

_COMPETITION = "_played"
_GAINS = {
    "silence": "hangs the game by never answering",
    "flood": "fills the oracle's memory, or hangs the game, with bytes that no question asked for",
    "trickle": "hangs the game by an answer of one byte at a time",
    "doubled-answer": "answers a question before it was asked",
    "half-a-frame": "hangs the game by half a message",
    "giant-lengths": "makes the oracle reserve gigabytes by a message's lengths",
    "giant-body": "makes the oracle read gigabytes",
    "lying-array": "makes the oracle reserve exabytes by an array's shape",
    "deep-message": "crashes the parser of messages by nesting",
    "no-json": "confuses the parser of messages by NaN and by a key that stands twice",
    "close-the-channel": "breaks the oracle by closing the channel",
    "leave-the-game": "has the oracle wait for a program that has ended",
    "leave-a-child-in-the-game": "has the oracle wait for a child that holds the channel",
    "two-writers": "breaks messages by writing them from two processes",
    "own-questions": "writes into the oracle's questions, and takes answers back",
    "hold-the-channel": "continues after the game by holding the channel open",
    "forged-transcript": "has a transcript of its own scored",
    "frames-on-stdout": "has notes of its own in its output scored",
    "shrunken-pipes": "breaks the oracle by changing the pipes",
    "extreme-answers": "crashes the oracle by extreme numbers, types and shapes",
}
ATTACKS = tuple(Attack(name, "played evaluations", gain) for name, gain in _GAINS.items())


def run(scene: Scene, attacks: Sequence[Attack]) -> Iterator[Outcome]:
    """Play each attack in turn, by the starter's method, and compare its score with an honest one's."""
    competition = get_competition(_COMPETITION)
    name = competition.card.method_file
    starter = (competition.starter / name).read_text("utf-8")
    with Scene(competition, scene.sandbox, scene.secret) as played:
        honest = played.score()
        for attack in attacks:
            line = f"\n\nimport attack_playing\n\nattack_playing.play({attack.name!r}, Method)\n"
            played.act(WriteFile(name, starter + line))
            yield _play(played, attack, honest)


def _play(scene: Scene, attack: Attack, honest: Score) -> Outcome:
    before, started = reset_peak(), time.monotonic()
    try:
        score = scene.score()
    except (SandboxError, ScoringError) as error:
        return Outcome(attack, True, f"the game failed: {brief(error)}", time.monotonic() - started)
    seconds, grown = time.monotonic() - started, peak() - before
    limits = scene.competition.card.tier("mini").limits
    if improved(scene, score, honest):
        return Outcome(attack, True, f"scored {score.value}, the starter {honest.value}", seconds)
    if seconds > limits.evaluation_seconds:
        return Outcome(attack, True, f"the game took {seconds:.0f} s", seconds)
    if grown > MEMORY_BYTES:
        return Outcome(attack, True, f"the library's memory grew by {grown >> 20} MiB", seconds)
    evidence = f"scored {score.value}" if score.value is not None else score.reason
    return Outcome(attack, False, evidence, seconds)
