"""The attackers: scripted agents that try everything that a hostile agent would.

    verdicts = run_attacks(get_competition("my-competition"))
    assert not [one for one in verdicts if one.gained and not one.residual]

Each attack says what it would have gained, and whether it did is decided by what the host sees:
a random token or the hash of a private file in what the agent is shown, a score that beats the
starter's, a file that changed, a process that is left. Under `sandbox="process"` many do gain:
that shows that the attacks work.

Only attacks that the machine can bear are made: whatever could exhaust it is run where it is
contained, and otherwise reported as not run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import ModuleType

from mlrcbench.competition import Competition
from mlrcbench.errors import RegistryError, SandboxError, ScoringError, nearest
from mlrcbench.registry import get_competition
from mlrcbench.testing.attack import Attack, Outcome, Verdict, brief
from mlrcbench.testing.groups import (
    exhausting,
    file_actions,
    forging,
    jobs,
    library,
    outliving,
    patching,
    privileges,
    reading,
    sending,
    smuggling,
    tampering,
)
from mlrcbench.testing.neighbour import Neighbour
from mlrcbench.testing.residuals import residual
from mlrcbench.testing.scene import Scene

GROUPS: tuple[ModuleType, ...] = (
    reading,
    library,
    file_actions,
    privileges,
    sending,
    tampering,
    smuggling,
    patching,
    forging,
    outliving,
    jobs,
    exhausting,
)
NEIGHBOUR = Attack(
    "harm-the-neighbour", "honest neighbour", "changes what an honest episode in the same process gets"
)
# Those whose success may depend on the competition; the template shows the others in less time.
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
        competition: Its id, or the object; its instance 0 of the tier mini is attacked.
        sandbox: See `open_sandbox`.
        secret: Of the instance. With "public" one attack gains by design: it builds it anew.
        only: Names of attacks, or of groups; all by default.
        on_verdict: Called with each verdict as it comes.

    Returns:
        A verdict for each attack that was asked for.

    Raises:
        RegistryError: There is no such attack, competition or sandbox.
        SandboxError: The sandbox does not work here at all.
    """
    chosen = set(_chosen(only))
    found = get_competition(competition) if isinstance(competition, str) else competition
    verdicts: list[Verdict] = []

    def tell(outcome: Outcome, tier: str) -> None:
        attack = outcome.attack
        known = residual(tier, attack.name) if outcome.gained else ""
        verdicts.append(
            Verdict(attack, outcome.gained, outcome.evidence, tier, outcome.seconds, known, outcome.ran)
        )
        if on_verdict is not None:
            on_verdict(verdicts[-1])

    with Scene(found, sandbox, secret) as scene:
        started = time.monotonic()
        with Neighbour(sandbox, scene.folder / "neighbour", scene.victim.token) as beside:
            scene.others = beside.paths
            for group in GROUPS:
                for outcome in _run(scene, group, [one for one in group.ATTACKS if one in chosen]):
                    tell(outcome, scene.tier)
            trouble = beside.verdict()
            evidence = trouble or f"{beside.count} times the same"
        if NEIGHBOUR in chosen:
            tell(Outcome(NEIGHBOUR, bool(trouble), evidence, time.monotonic() - started), scene.tier)
    return verdicts


def _chosen(only: Iterable[str] | None) -> Sequence[Attack]:
    every = attacks()
    if only is None:
        return every
    wanted = list(only)
    known = {attack.name for attack in every} | {attack.group for attack in every}
    for name in wanted:
        if name not in known:
            raise RegistryError(f"there is no attack {name!r}. {nearest(name, known)}")
    return [attack for attack in every if attack.name in wanted or attack.group in wanted]


def _run(scene: Scene, group: ModuleType, chosen: Sequence[Attack]) -> Iterator[Outcome]:
    """Outcomes of a group; whatever breaks the environment has gained."""
    able = [attack for attack in chosen if scene.contained or not attack.contained]
    for attack in chosen:
        if attack not in able:
            yield Outcome(attack, False, "not run: nothing here would contain it", ran=False)
    if not able:
        return
    done = set()
    try:
        for outcome in group.run(scene, able):
            done.add(outcome.attack)
            yield outcome
    except (SandboxError, ScoringError) as error:
        words = f"the environment failed: {brief(error)}"
        for attack in able:
            if attack not in done:
                yield Outcome(attack, True, words)
        scene.reset()
