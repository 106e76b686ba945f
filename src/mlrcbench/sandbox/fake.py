"""A scripted sandbox for tests of what is built on sandboxes. It runs nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from mlrcbench.errors import SandboxError
from mlrcbench.sandbox import ExecResult, Isolation, Limits
from mlrcbench.sandbox.job import Job, Until, Waited


class FakeSandbox:
    """Answers each command from a script.

    Attributes:
        commands: What was asked to run, in order.
    """

    runs_jobs = False

    def __init__(self, script: Mapping[str, ExecResult] | Callable[[str], ExecResult]) -> None:
        """Set the script.

        Args:
            script: Results by command, or a function from command to result. A command
                that is not in a mapping is a `SandboxError`.
        """
        self._script = script
        self._closed = False
        self.commands: list[str] = []

    @property
    def isolation(self) -> Isolation:
        """Nothing runs, so nothing is enforced."""
        return Isolation("fake")

    def run(self, command: str, limits: Limits, *, log: Path | None = None) -> ExecResult:
        """Look the command up."""
        if self._closed:
            raise SandboxError("this sandbox is closed; open a new one")
        self.commands.append(command)
        if callable(self._script):
            return self._script(command)
        try:
            return self._script[command]
        except KeyError:
            raise SandboxError(f"the script has no result for {command!r}") from None

    def start_job(self, command: str, limits: Limits, *, log: Path) -> Job:
        """There are none."""
        raise SandboxError("a scripted sandbox runs no jobs; use sandbox='process'")

    def search(self, log: Path, until: Until) -> Waited:
        """There is no output."""
        raise SandboxError("a scripted sandbox runs no jobs; use sandbox='process'")

    def interrupt(self) -> None:
        """Nothing runs."""

    def start(self) -> None:
        """There is nothing to start."""

    def close(self) -> None:
        """Refuse further commands."""
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
