"""The state of an episode at a step: its files, and everything else that it consists of."""

from __future__ import annotations

import dataclasses
import os
import re
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from mlrcbench.errors import SandboxError, SnapshotError, WorkspaceError
from mlrcbench.score import Score
from mlrcbench.storage.layout import EVALUATIONS
from mlrcbench.storage.snapshots.manifest import Manifest
from mlrcbench.storage.strict import bounds

DIGEST = re.compile(r"[0-9a-f]{64}")
_ANY_NUMBER = -sys.float_info.max
KEPT = re.compile(rf"{EVALUATIONS}/[0-9]{{3,9}}-(dev|test)")


class ContentSource(Protocol):
    """What a snapshot's contents are read from: a store, or a saved file."""

    def reader(self, digest: str) -> AbstractContextManager[int]:
        """A descriptor, positioned at the start of a content."""
        ...


@dataclass(frozen=True, slots=True)
class SpendingLimits:
    """The budget that an episode runs under; see `mlrcbench.Budget`."""

    steps: int
    seconds: float
    evaluations: int


@dataclass(frozen=True, slots=True)
class Rules:
    """What must be the same for an episode to continue in another environment.

    Attributes:
        budget: What the episode may spend.
        reward: "sparse" or "shaped".
        clip: Bounds on improvements in the reward, or None.
        final: "best" or "last".
    """

    budget: SpendingLimits
    reward: str
    clip: tuple[float, float] | None
    final: str


@dataclass(frozen=True, slots=True)
class RandomState:
    """The state of an environment's random generator, a PCG64, and the seed that it began with."""

    seed: int = field(metadata=bounds(least=-1, most=2**128))
    state: int = field(metadata=bounds(most=2**128 - 1))
    inc: int = field(metadata=bounds(most=2**128 - 1))
    has_uint32: int = field(metadata=bounds(most=1))
    uinteger: int = field(metadata=bounds(most=2**32 - 1))

    @classmethod
    def of(cls, generator: np.random.Generator, seed: int) -> RandomState:
        """The present state of a generator.

        Raises:
            SnapshotError: The generator is not of the kind that Gymnasium makes.
        """
        bits: Any = generator.bit_generator.state
        if bits.get("bit_generator") != "PCG64":
            raise SnapshotError(
                f"np_random is a {bits.get('bit_generator')}; reset the environment, which makes a PCG64"
            )
        state = {name: int(bits["state"][name]) for name in ("state", "inc")}
        return cls(int(seed), **state, has_uint32=int(bits["has_uint32"]), uinteger=int(bits["uinteger"]))

    def generator(self) -> np.random.Generator:
        """A generator in this state."""
        bits = np.random.PCG64()
        bits.state = {
            "bit_generator": "PCG64",
            "state": {"state": self.state, "inc": self.inc},
            "has_uint32": self.has_uint32,
            "uinteger": self.uinteger,
        }
        return np.random.Generator(bits)


@dataclass(slots=True)
class EpisodeState:
    """Everything that an episode consists of, except its files.

    An episode changes its state in place; a snapshot holds a copy, and a restored episode begins with
    one. The file of a saved snapshot is written and read by the types of these fields.

    Attributes:
        competition: Id of the competition.
        version: Version of the competition.
        tier: "mini" or "full".
        instance: Seed of the instance.
        instance_digest: SHA-256 over the instance's files.
        rules: The environment's rules.
        seed: Seed of the reset that began the episode.
        record: Name of the record's folder.
        briefing: What the agent read at the start.
        steps: Steps taken so far.
        evaluations: Evaluations used so far.
        seconds: Seconds used up to the moment at which this copy was taken, from which the meter continues.
        scores: The agent's scores on dev, in order.
        best: Value and folder of the evaluation whose files would be scored on test.
        body: Body of the last observation.
        aside: Aside of the last observation.
        body_seconds: Seconds that the last step took; None after a reset.
        info: Info of the last reset or step; JSON types.
        random: State of the environment's `np_random` when a snapshot was taken; None before that.
    """

    competition: str
    version: int
    tier: str
    instance: int
    instance_digest: str = field(metadata=bounds(pattern=DIGEST))
    rules: Rules
    seed: int | None = field(metadata=bounds(most=2**128))
    record: str = ""
    briefing: str = ""
    steps: int = 0
    evaluations: int = 0
    seconds: float = field(default=0.0, metadata=bounds())
    scores: tuple[Score, ...] = ()
    best: tuple[float, str] | None = field(
        metadata=bounds(pattern=KEPT, least=-sys.float_info.max), default=None
    )
    body: str = ""
    aside: str = ""
    body_seconds: float | None = field(default=None, metadata=bounds())
    info: Mapping[str, Any] = field(default_factory=dict)
    random: RandomState | None = None

    @property
    def best_improvement(self) -> float:
        """The largest relative improvement on dev so far; 0, the baseline, before the first."""
        improvements = (score.improvement for score in self.scores)
        return max([0.0, *(improvement for improvement in improvements if improvement is not None)])

    def copy(self, **changes: Any) -> EpisodeState:
        """A copy with some fields replaced, which shares no mutable value with this state."""
        changes.setdefault("info", deepcopy(dict(self.info)))
        return dataclasses.replace(self, **changes)

    def check(self) -> None:
        """Compare the fields with each other; for a state from a file that need not be trusted.

        Raises:
            ValueError: Some of them contradict each other.
        """
        if self.steps >= self.rules.budget.steps or self.evaluations > self.rules.budget.evaluations:
            raise ValueError("more was spent than the budget allows")
        if len(self.scores) > self.evaluations or any(score.split != "dev" for score in self.scores):
            raise ValueError("scores and evaluations contradict each other")
        if self.best is not None and not any(score.valid for score in self.scores):
            raise ValueError("there is a best evaluation, but no valid score")
        if self.random is None:
            raise ValueError("the state of the random generator is missing")


@dataclass(frozen=True, slots=True)
class Files:
    """All files of an episode, and the lines of its record.

    Attributes:
        workspace: The workspace as the agent has left it.
        outputs: Outputs that were too long to show.
        kept: Folder in the record -> the files that were kept of an evaluation.
        journal: Digest and size of each part of the record after its header.
    """

    workspace: Manifest
    outputs: Manifest
    kept: Mapping[str, Manifest]
    journal: tuple[tuple[str, int], ...]

    def contents(self) -> dict[str, int]:
        """Digest -> size of every content that these files name."""
        manifests = (self.workspace, self.outputs, *self.kept.values())
        nodes = (node for manifest in manifests for node in manifest.values())
        return {**{node.content: node.size for node in nodes if node.kind == "file"}, **dict(self.journal)}

    def read_journal(self, source: ContentSource) -> bytes:
        """The record's lines up to this step, without its header.

        Raises:
            SnapshotError: The lines are missing.
        """
        parts = []
        for digest, size in self.journal:
            with source.reader(digest) as descriptor:
                parts.append(os.pread(descriptor, size, os.lseek(descriptor, 0, os.SEEK_CUR)))
        return b"".join(parts)


def explained(error: WorkspaceError | SandboxError) -> SnapshotError:
    """The error for a failed restore, for which the agent is not responsible."""
    return SnapshotError(f"the snapshot cannot be restored: {error}")
