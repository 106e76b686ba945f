"""Branching: what an episode carries from one environment into another.

Everything that makes an episode what it is, besides its files, goes into a `State` here, and is
compared with the environment that wants to go on from it.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mlrcbench import __version__
from mlrcbench.budget import Meter
from mlrcbench.competition import Competition, Instance
from mlrcbench.errors import SnapshotError
from mlrcbench.files import TreeLimits
from mlrcbench.observation import MAX_ASIDE_CHARS, Observation, cut
from mlrcbench.record import VERSION
from mlrcbench.snapshot import Snapshot, State, best_improvement

if TYPE_CHECKING:
    from mlrcbench.episode import Episode, Settings

ENDING = "restored a snapshot"


def rules(settings: Settings) -> dict[str, Any]:
    """What must be the same for an episode to go on in another environment."""
    budget = settings.budget
    return {
        "budget": {
            "steps": budget.steps,
            "seconds": float(budget.seconds),
            "evaluations": budget.evaluations,
        },
        "reward": settings.reward,
        "clip": None if settings.clip is None else [float(bound) for bound in settings.clip],
        "final": settings.final,
    }


def first_info(episode: Episode) -> dict[str, Any]:
    """What comes with the first observation: the competition, the instance, the isolation."""
    return {
        "competition": episode.competition.id,
        "version": episode.competition.card.version,
        "tier": episode.instance.tier,
        "instance": episode.instance.seed,
        "isolation": episode.sandbox.isolation.to_json(),
    }


def header(episode: Episode, start: State | None) -> dict[str, Any]:
    """What is needed to repeat the episode, and to judge how far to trust it.

    Args:
        episode: It.
        start: What it begins from, if not from the starter.
    """
    instance = episode.instance
    found = {
        "version": VERSION,
        "mlrcbench": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "competition": episode.competition.id,
        "competition_version": episode.competition.card.version,
        "tier": instance.tier,
        "instance": instance.seed,
        "instance_digest": instance.digest,
        "secret": instance.secret_kind,
        "statement": episode.briefing,
        "seed": episode.seed,
        "sandbox": episode.settings.sandbox,
        "isolation": episode.sandbox.isolation.to_json(),
        **rules(episode.settings),
    }
    if start is not None:
        found["parent"] = {"record": start.record, "step": start.steps}
    return found


def state_of(
    episode: Episode,
    observation: Observation,
    info: Mapping[str, Any],
    random: tuple[np.random.Generator, int],
) -> State:
    """All of an episode that is no file.

    Args:
        episode: It.
        observation: What was returned last,
        info: and what came with it.
        random: The environment's generator, and the seed it began with.

    Raises:
        SnapshotError: The generator is not of the kind that Gymnasium makes.
    """
    instance, meter, card = episode.instance, episode.meter, episode.competition.card
    return State(
        competition=card.id,
        version=card.version,
        tier=instance.tier,
        instance=instance.seed,
        instance_digest=instance.digest,
        rules=rules(episode.settings),
        seed=None if episode.seed is None else int(episode.seed),
        steps=meter.steps,
        evaluations=meter.evaluations,
        seconds=meter.seconds,
        scores=tuple(episode.scores),
        best=episode.best_folder,
        briefing=episode.briefing,
        body=observation.body,
        aside=observation.aside,
        body_seconds=observation.seconds,
        info=dict(info),
        random=_random_state(*random),
        record=episode.recorder.directory.name,
    )


def observation_from(state: State, settings: Settings) -> Observation:
    """What was returned last, with what is left of the budget."""
    meter = Meter(settings.budget)
    meter.go_back_to(state.steps, state.evaluations, state.seconds)
    told, best = (cut(state.body), meter.left), best_improvement(state.scores)
    return Observation(*told, best, state.body_seconds, cut(state.aside, MAX_ASIDE_CHARS))


def random_from(state: State) -> tuple[np.random.Generator, int]:
    """The generator in the state that a snapshot tells, and the seed it began with."""
    told = state.random
    bits = np.random.PCG64()
    bits.state = {
        "bit_generator": "PCG64",
        "state": {"state": told["state"], "inc": told["inc"]},
        "has_uint32": told["has_uint32"],
        "uinteger": told["uinteger"],
    }
    return np.random.Generator(bits), told["seed"]


def fitting_instance(
    snapshot: Snapshot, competition: Competition, settings: Settings, secret: str | None
) -> Instance:
    """The instance of a snapshot, if an environment can go on from it.

    Raises:
        SnapshotError: It is of another competition, instance or rules, or larger than allowed.
        DataError: The instance cannot be built.
    """
    state, card = snapshot.state, competition.card
    there, here = (state.competition, state.version, state.tier), (card.id, card.version, settings.tier)
    if there != here:
        raise SnapshotError(
            f"the snapshot is of {there[0]}, version {there[1]}, tier {there[2]}; "
            f"this environment is of {here[0]}, version {here[1]}, tier {here[2]}"
        )
    for name, value in rules(settings).items():
        if state.rules.get(name) != value:
            raise SnapshotError(
                f"the snapshot was taken with {name}={state.rules.get(name)!r}, "
                f"this environment has {value!r}; make one with the snapshot's"
            )
    tree, limits = snapshot.files.workspace, workspace_limits(competition, settings.tier)
    if len(tree) > limits.entries or sum(node.size for node in tree.values()) > limits.total_bytes:
        raise SnapshotError("the snapshot's workspace is larger than the competition allows")
    instance = competition.instance(state.instance, settings.tier, secret=secret)
    if instance.digest != state.instance_digest:
        raise SnapshotError(
            f"instance {state.instance} of {card.id} is not the snapshot's here; it was built from another "
            "secret (pass the same secret= to make) or by another version of its generator"
        )
    return instance


def workspace_limits(competition: Competition, tier: str) -> TreeLimits:
    """Bounds on what an agent may pile up."""
    return TreeLimits(total_bytes=competition.card.tier(tier).limits.workspace_mb << 20)


def _random_state(random: np.random.Generator, seed: int) -> dict[str, Any]:
    state: Any = random.bit_generator.state
    if state.get("bit_generator") != "PCG64":
        raise SnapshotError(
            f"np_random is a {state.get('bit_generator')}; reset the environment, which makes a PCG64"
        )
    return {
        "seed": int(seed),
        "state": int(state["state"]["state"]),
        "inc": int(state["state"]["inc"]),
        "has_uint32": int(state["has_uint32"]),
        "uinteger": int(state["uinteger"]),
    }
