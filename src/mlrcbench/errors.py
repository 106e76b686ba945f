"""Errors: one root, one class per boundary.

Catch `MlrcbenchError` to catch everything this library raises on purpose. A message is a
sentence that says what is wrong, what exists instead, and what to do about it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MlrcbenchError(Exception):
    """Root of every error that mlrcbench raises on purpose."""


class ActionError(MlrcbenchError):
    """An action could not be understood or carried out; its text is shown to the agent."""


class CardError(MlrcbenchError):
    """A competition's card.toml, or its folder, is incomplete or contradicts itself."""


class RegistryError(MlrcbenchError):
    """A name does not lead to a competition, tier, agent or sandbox."""


class DataError(MlrcbenchError):
    """An instance's files are missing, damaged, or could not be built."""


class WorkspaceError(ActionError):
    """A path or a file of the workspace cannot be used as asked; shown to the agent."""


class SandboxError(MlrcbenchError):
    """The sandbox itself failed. Infrastructure: never scored as the agent's failure."""


class SubmissionError(MlrcbenchError):
    """What the agent's code left behind cannot be scored; the text says how to mend it."""


class ScoringError(MlrcbenchError):
    """The trusted scorer failed on artefacts that it should have judged. A library's bug."""


class AgentError(MlrcbenchError):
    """An agent's program failed: it ended, was too slow, or broke the protocol."""


class EndpointError(MlrcbenchError):
    """A language model's endpoint gave no usable reply.

    Attributes:
        kind: One of `ENDPOINT_KINDS`.
    """

    def __init__(self, text: str, kind: str) -> None:
        super().__init__(text)
        self.kind = kind


class RunError(MlrcbenchError):
    """A run cannot be started, or its directory is none."""


class RecordError(MlrcbenchError):
    """A record directory cannot be read, replayed or scored again."""


class SnapshotError(MlrcbenchError):
    """A snapshot is damaged, is of another environment, or its files are gone."""


ENDPOINT_KINDS = (
    "timeout",  # no answer in time
    "connection",  # refused, reset, or broken off
    "rate limit",  # too many requests, or nothing left to pay with
    "server",  # the server's own failure
    "malformed",  # an answer that is no chat completion
    "refusal",  # the model or its provider declined
    "context overflow",  # more tokens than the model takes
    "request",  # the server does not accept the call: key, model, arguments
    "budget",  # tokens or money of the caller are spent
    "setup",  # it cannot be called at all: package, key or price missing
)

# None of them is the agent's: they end an episode, and are never scored.
FAILURES = (SandboxError, ScoringError, SnapshotError)


def nearest(name: str, known: Iterable[str]) -> str:
    """Words an error ends with: the nearest known name, then all of them.

    Args:
        name: What was asked for.
        known: What exists.

    Returns:
        For example `"Did you mean 'llm-merging'? Known: backdoor-trigger, llm-merging."`.
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    return f"{hint}Known: {', '.join(names) or 'none'}."
