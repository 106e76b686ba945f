"""An honest episode beside the attacks, in the same process: what it gets must never change."""

from __future__ import annotations

import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from mlrcbench.actions import Run, WriteFile
from mlrcbench.env import ResearchEnv
from mlrcbench.errors import MlrcbenchError
from mlrcbench.testing.attack import brief
from mlrcbench.testing.scene import PLENTY

_PAUSE_SECONDS = 1.5


class Neighbour:
    """Runs and evaluates the template again and again while attacks go on.

    Args:
        sandbox: See `open_sandbox`.
        records: Where its records lie.
        note: A text that it keeps in its workspace, which others must not find.
    """

    def __init__(self, sandbox: str, records: Path, note: str) -> None:
        self.env = ResearchEnv("_template", sandbox=sandbox, records=records, budget=PLENTY)
        self.env.reset(seed=0)
        self.env.step(WriteFile("notes.txt", note))
        self.first = self.result()
        self.count = 1
        self.trouble = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._go_on, name="honest neighbour")
        self._thread.start()

    @property
    def paths(self) -> list[str]:
        """Files of it that others must not read."""
        episode, record = self.env._episode, self.env.record
        assert episode is not None
        assert record is not None
        return [str(episode.workspace.root / "notes.txt"), str(record / "record.jsonl")]

    def result(self) -> str:
        """What a command and an evaluation give."""
        observation, *_ = self.env.step(Run("python main.py"))
        body = observation["text"].rpartition("\n")[0]
        return f"{body} {self.env.evaluate('dev').value}"

    def verdict(self) -> str:
        """How it was affected; empty if not at all."""
        self._stop.set()
        self._thread.join()
        if not self.trouble:
            self._look()
        return self.trouble

    def close(self) -> None:
        """End it."""
        self._stop.set()
        self._thread.join()
        self.env.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _go_on(self) -> None:
        while not self.trouble and not self._stop.wait(_PAUSE_SECONDS):
            self._look()

    def _look(self) -> None:
        try:
            found = self.result()
        except MlrcbenchError as error:
            self.trouble = f"it failed: {brief(error)}"
            return
        self.count += 1
        if found != self.first:
            self.trouble = f"{found!r} instead of {self.first!r}"[:400]
