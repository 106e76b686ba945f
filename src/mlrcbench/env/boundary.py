"""The boundary of an environment: which exceptions leave it, and what becomes of all others.

An agent can send anything and leave anything on the disk, and a machine can fail at any call. Whoever
calls the environment sees the exceptions that its docstrings name and no others. What nobody foresaw ends the
episode, with a footer in its record that says so, and becomes a `SandboxError`, whose cause is chained and
logged.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator

from mlrcbench.errors import FAILURES, MlrcbenchError, SandboxError

_logger = logging.getLogger("mlrcbench")


@contextlib.contextmanager
def boundary(end: Callable[[str], None], *named: type[Exception]) -> Iterator[None]:
    """Run a block that raises `named` exceptions and those of `FAILURES`, and nothing else.

    Args:
        end: Ends the episode, given the ending for its record; called for every exception but the named.
        named: Exceptions that leave the episode as it is.

    Raises:
        SandboxError: Something failed that nobody foresaw; its cause is the exception.
    """
    try:
        yield
    except named:
        raise
    except FAILURES as failure:
        end(f"failed: {failure}")
        raise
    except Exception as error:
        _logger.exception("an episode ends, because the library or the machine failed")
        reason = unforeseen(error)
        end(f"failed: {reason}")
        raise SandboxError(reason) from error


def unforeseen(error: Exception) -> str:
    """What an exception that nobody foresaw means, for a message."""
    if isinstance(error, MlrcbenchError):
        return str(error)
    if isinstance(error, OSError):
        return f"the machine failed: {error}; see whether its disks are full and its folders still exist"
    return f"the library failed: {type(error).__name__}: {error}; this is a bug, please report it"


@contextlib.contextmanager
def logged(task: str) -> Iterator[None]:
    """Log what a block raises, for cleaning up: that must not hide a result, nor an earlier failure.

    Args:
        task: What is being done.
    """
    try:
        yield
    except Exception:
        _logger.warning("%s failed", task, exc_info=True)
