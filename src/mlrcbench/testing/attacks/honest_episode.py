"""An honest episode in the same process as the attacks: its results must never change."""

from __future__ import annotations

import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from mlrcbench.env.research_env import ResearchEnv
from mlrcbench.errors import MlrcbenchError
from mlrcbench.protocol.actions import Run, WriteFile
from mlrcbench.testing.attacks.attack import brief
from mlrcbench.testing.attacks.scene import PLENTY

_PAUSE_SECONDS = 1.5


class HonestEpisode:
    """Runs and evaluates the template again and again during the attacks.

    Args:
        sandbox: See `open_sandbox`.
        records: The folder of its records.
        note: A text in its workspace that others must not find.
    """

    def __init__(self, sandbox: str, records: Path, note: str) -> None:
        self.env = ResearchEnv("_template", sandbox=sandbox, records=records, budget=PLENTY)
        self.env.reset(seed=0)
        self.env.step(WriteFile("notes.txt", note))
        self.first = self.result()
        self.count = 1
        self.trouble = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._repeat, name="honest neighbour")
        self._thread.start()

    @property
    def paths(self) -> list[str]:
        """Its files that others must not read."""
        record = self.env.record
        assert record is not None
        return [str(self.env.workspace.root / "notes.txt"), str(record / "record.jsonl")]

    def result(self) -> str:
        """The results of a command and an evaluation."""
        observation, *_ = self.env.step(Run("python main.py"))
        body = observation["text"].rpartition("\n")[0]
        return f"{body} {self.env.evaluate('dev').value}"

    def verdict(self) -> str:
        """How the attacks affected the episode; empty if not at all."""
        self._stop.set()
        self._thread.join()
        if not self.trouble:
            self._check()
        return self.trouble

    def close(self) -> None:
        """End the episode."""
        self._stop.set()
        self._thread.join()
        self.env.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _repeat(self) -> None:
        while not self.trouble and not self._stop.wait(_PAUSE_SECONDS):
            self._check()

    def _check(self) -> None:
        try:
            result = self.result()
        except MlrcbenchError as error:
            self.trouble = f"it failed: {brief(error)}"
            return
        self.count += 1
        if result != self.first:
            self.trouble = f"{result!r} instead of {self.first!r}"[:400]
