"""The attackers: scripted agents that try everything that a hostile agent would.

    verdicts = run_attacks(get_competition("my-competition"))
    assert not [verdict for verdict in verdicts if verdict.gained and not verdict.residual]

Each attack says what it would gain. Whether it did is decided by what the host sees: a random token or
the hash of a private file in the agent's observations, a score that beats the starter's, a file that
changed, a process that survived. Under `sandbox="process"` many do gain: that shows that the attacks work.

Attacks that could exhaust the machine are run only where they are contained, and otherwise reported as
not run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import ModuleType

from mlrcbench.catalog.competition import Competition
from mlrcbench.catalog.registry import get_competition
from mlrcbench.errors import RegistryError, SandboxError, ScoringError, nearest
from mlrcbench.testing.attacks.attack import Attack, Outcome, Verdict, brief
from mlrcbench.testing.attacks.honest_episode import HonestEpisode
from mlrcbench.testing.attacks.host import (
    background,
    exhausting,
    file_actions,
    forging,
    leaking,
    library,
    outliving,
    patching,
    playing,
    privileges,
    random_actions,
    reading,
    sending,
    sharing,
    smuggling,
    tampering,
)
from mlrcbench.testing.attacks.known_gaps import residual
from mlrcbench.testing.attacks.scene import Scene

GROUPS: tuple[ModuleType, ...] = (
    reading,
    library,
    file_actions,
    privileges,
    sending,
    tampering,
    smuggling,
    leaking,
    patching,
    forging,
    playing,
    outliving,
    background,
    sharing,
    random_actions,
    exhausting,
)
NEIGHBOUR = Attack(
    "harm-the-neighbour", "honest neighbour", "changes what an honest episode in the same process gets"
)
# Attacks whose success may depend on the competition; the template shows the others in less time.
REDUCED = (
    "reading",
    "reading while evaluated",
    "the library itself",
    "file actions",
    "network",
    "tampering",
    "smuggling",
    "symlink-to-answers",
    "copy-of-answers",
    "pipe",
    "pickle",
    "sparse-file",
    "not-a-number",
    "protected-files",
    "planted-modules",
)


def attacks() -> tuple[Attack, ...]:
    """Every attack of the kit."""
    return (*(attack for group in GROUPS for attack in group.ATTACKS), NEIGHBOUR)


def run_attacks(
    competition: Competition | str,
    *,
    sandbox: str = "auto",
    secret: str | None = None,
    only: Iterable[str] | None = None,
    on_verdict: Callable[[Verdict], None] | None = None,
) -> list[Verdict]:
    """Attack a competition.

    Args:
        competition: An id or a competition; its instance 0 of the tier mini is attacked.
        sandbox: See `open_sandbox`.
        secret: The instance's secret. With "public" one attack gains by design: it builds the instance again.
        only: Names of attacks or of groups; by default all are run.
        on_verdict: Called with each verdict.

    Returns:
        A verdict for each attack that was asked for.

    Raises:
        RegistryError: The attack, the competition or the sandbox does not exist.
        SandboxError: The sandbox does not work here at all.
    """
    selected = set(_selected(only))
    target = get_competition(competition) if isinstance(competition, str) else competition
    verdicts: list[Verdict] = []

    def add(outcome: Outcome, tier: str) -> None:
        attack = outcome.attack
        known = residual(tier, attack.name) if outcome.gained else ""
        verdicts.append(
            Verdict(attack, outcome.gained, outcome.evidence, tier, outcome.seconds, known, outcome.ran)
        )
        if on_verdict is not None:
            on_verdict(verdicts[-1])

    with Scene(target, sandbox, secret) as scene:
        started = time.monotonic()
        with HonestEpisode(sandbox, scene.folder / "neighbour", scene.victim.token) as neighbour:
            scene.others = neighbour.paths
            for group in GROUPS:
                for outcome in _run(scene, group, [attack for attack in group.ATTACKS if attack in selected]):
                    add(outcome, scene.tier)
            trouble = neighbour.verdict()
            evidence = trouble or f"{neighbour.count} times the same"
        if NEIGHBOUR in selected:
            add(Outcome(NEIGHBOUR, bool(trouble), evidence, time.monotonic() - started), scene.tier)
    return verdicts


def _selected(only: Iterable[str] | None) -> Sequence[Attack]:
    every = attacks()
    if only is None:
        return every
    names = list(only)
    known = {attack.name for attack in every} | {attack.group for attack in every}
    for name in names:
        if name not in known:
            raise RegistryError(f"the attack {name!r} does not exist. {nearest(name, known)}")
    return [attack for attack in every if attack.name in names or attack.group in names]


def _run(scene: Scene, group: ModuleType, selected: Sequence[Attack]) -> Iterator[Outcome]:
    """Outcomes of a group; an attack that breaks the environment has gained."""
    runnable = [attack for attack in selected if scene.contained or not attack.contained]
    for attack in selected:
        if attack not in runnable:
            yield Outcome(attack, False, "not run: nothing here would contain it", ran=False)
    if not runnable:
        return
    done = set()
    try:
        for outcome in group.run(scene, runnable):
            done.add(outcome.attack)
            yield outcome
    except (SandboxError, ScoringError) as error:
        evidence = f"the environment failed: {brief(error)}"
        for attack in runnable:
            if attack not in done:
                yield Outcome(attack, True, evidence)
        scene.reset()
