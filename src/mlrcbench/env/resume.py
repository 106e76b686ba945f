"""Continuing from a snapshot: whether it fits an environment, and what a fork holds until its first use."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from mlrcbench.catalog.competition import Competition
from mlrcbench.catalog.instances import Instance
from mlrcbench.env.episode_files import MAX_OUTPUTS_BYTES
from mlrcbench.env.settings import Settings
from mlrcbench.errors import SnapshotError
from mlrcbench.sandbox import Isolation
from mlrcbench.storage.snapshots.snapshot import Snapshot
from mlrcbench.storage.strict import to_json
from mlrcbench.storage.trees import TreeLimits


@dataclass(frozen=True, slots=True)
class PendingFork:
    """The start of a fork's episode, which is delayed until the fork is first used.

    Attributes:
        start: The snapshot that it begins from.
        instance: The instance of the episode.
        since: Time of the fork, by the monotonic clock.
        isolation: What its sandbox will enforce, which is the same as in its parent.
        runs_jobs: Whether its sandbox will run jobs, which is the same as in its parent.
    """

    start: Snapshot
    instance: Instance
    since: float
    isolation: Isolation
    runs_jobs: bool


def fitting_instance(snapshot: Snapshot, competition: Competition, settings: Settings) -> Instance:
    """The instance of a snapshot, if an environment of these settings can continue from it.

    Raises:
        SnapshotError: The snapshot has another competition, instance or rules, or is too large.
        DataError: The instance cannot be built.
    """
    state, card = snapshot.state, competition.card
    there, here = (state.competition, state.version, state.tier), (card.id, card.version, settings.tier)
    if there != here:
        raise SnapshotError(
            f"the snapshot is from {there[0]}, version {there[1]}, tier {there[2]}; "
            f"this environment has {here[0]}, version {here[1]}, tier {here[2]}"
        )
    rules = settings.rules(card.tier(settings.tier))
    for field in dataclasses.fields(rules):
        theirs, ours = (to_json(getattr(side, field.name)) for side in (state.rules, rules))
        if theirs != ours:
            raise SnapshotError(
                f"the snapshot was taken with {field.name}={theirs!r}, this environment has {ours!r}; "
                f"make an environment with the snapshot's {field.name}"
            )
    workspace, limits = snapshot.files.workspace, competition.workspace_limits(settings.tier)
    total_bytes = sum(node.size for node in workspace.values())
    if len(workspace) > limits.entries or total_bytes > limits.total_bytes:
        raise SnapshotError("the snapshot's workspace is larger than the competition allows")
    outputs = sum(node.size for node in snapshot.files.outputs.values())
    kept = [sum(node.size for node in tree.values()) for tree in snapshot.files.kept.values()]
    # An evaluation keeps the workspace, artefacts that lay in a copy of it, and its output.
    most_kept = 2 * limits.total_bytes + MAX_OUTPUTS_BYTES
    if outputs > TreeLimits().total_bytes or max(kept, default=0) > most_kept:
        raise SnapshotError("the snapshot's outputs or evaluations are larger than the competition allows")
    instance = competition.instance(state.instance, settings.tier, secret=settings.secret)
    if instance.digest != state.instance_digest:
        raise SnapshotError(
            f"instance {state.instance} of {card.id} is not the one of the snapshot; it was built from "
            "another secret (pass the same secret= to make) or by another version of the generator"
        )
    return instance
