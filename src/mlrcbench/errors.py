"""Errors: one root, one class per boundary.

Catch `MlrcbenchError` to catch everything this library raises on purpose. A message is a
sentence that says what is wrong, what exists instead, and what to do about it.
"""

from __future__ import annotations

import difflib
import errno
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
    """The sandbox, the machine or the library failed. Infrastructure: never scored as the agent's failure."""


class SubmissionError(MlrcbenchError):
    """What the agent's code left behind cannot be scored; the text says how to fix it."""


class TooSlowError(SubmissionError):
    """The agent's code did not do in time what a played evaluation asked of it."""


class ScoringError(MlrcbenchError):
    """The trusted scorer failed on artefacts that it should have judged: a bug of the library."""


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
    """The run cannot start, or the directory holds no run."""


class RecordError(MlrcbenchError):
    """A record directory cannot be read, replayed or scored again."""


class SnapshotError(MlrcbenchError):
    """A snapshot is damaged, belongs to another environment, or has lost its files."""


ENDPOINT_KINDS = (
    "timeout",  # no answer in time
    "connection",  # refused, reset, or broken off
    "rate limit",  # too many requests, or nothing left to pay with
    "server",  # the server's own failure
    "malformed",  # an answer that is not a chat completion
    "refusal",  # the model or its provider declined
    "context overflow",  # more tokens than the model takes
    "request",  # the server does not accept the call: key, model, arguments
    "budget",  # tokens or money of the caller are spent
    "setup",  # it cannot be called at all: package, key or price missing
)

MAX_SHOWN_CHARS = 80
_OF_THE_MACHINE = frozenset(
    {
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EFBIG,
        errno.EIO,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.EROFS,
        errno.ESTALE,
        errno.ENODEV,
        errno.ENOTCONN,
    }
)

# The agent is not to blame for these: they end an episode, and are never scored.
FAILURES = (SandboxError, ScoringError, SnapshotError)


def of_the_machine(error: OSError) -> bool:
    """Whether a call on an agent's files failed for want of something that no file can take away."""
    return error.errno in _OF_THE_MACHINE


def shown(value: object) -> str:
    """A value that was refused, as Python writes it, cut for a message."""
    try:
        text = repr(value)
    except ValueError:  # a number of thousands of digits
        text = f"a very large {type(value).__name__}"
    return shortened(text)


def shortened(text: str) -> str:
    """A text for a message, of at most 80 characters."""
    return text if len(text) <= MAX_SHOWN_CHARS else f"{text[:50]}...{text[-20:]}"


def cause(error: BaseException) -> str:
    """What an error says, without its number and its path where it comes from the system."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error about an unknown name: the nearest known name, then all known names.

    Args:
        name: The unknown name.
        known: All names that exist.

    Returns:
        For example `"Did you mean 'llm-merging'? Known: backdoor-trigger, llm-merging."`.
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    return f"{hint}Known: {', '.join(names) or 'none'}."
