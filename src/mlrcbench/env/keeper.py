"""The keeper of an environment's episode: it begins and ends episodes, and owns what they leave.

That is the private folder, the store of the snapshots, and the boundary that lets no unforeseen exception
out. Whatever happens, an episode ends with a footer in its record, and the next one can begin.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from pathlib import Path

from gymnasium.error import ResetNeeded

from mlrcbench.catalog.competition import Competition
from mlrcbench.catalog.instances import Instance
from mlrcbench.env.boundary import boundary, logged
from mlrcbench.env.episode import RESTORED, Episode
from mlrcbench.env.resume import PendingFork
from mlrcbench.env.settings import Settings
from mlrcbench.errors import SandboxError
from mlrcbench.storage.record import Footer, Recorder, new_directory
from mlrcbench.storage.snapshots.content_store import ContentStore
from mlrcbench.storage.snapshots.snapshot import Snapshot
from mlrcbench.storage.temporary import PrivateFolder


class EpisodeKeeper:
    """At most one running episode.

    Args:
        competition: The competition.
        settings: The options of an episode.
        records: Folder for the episodes' records.

    Attributes:
        episode: The running episode, if it has begun.
        pending: What a fork's episode will begin from at its first use.
        record: Folder of the last episode's record.
    """

    def __init__(self, competition: Competition, settings: Settings, records: Path) -> None:
        self.episode: Episode | None = None
        self.pending: PendingFork | None = None
        self.record: Path | None = None
        self._competition = competition
        self._settings = settings
        self._records = records
        self._folder = PrivateFolder("episode")
        self._store: ContentStore | None = None
        self._interruption = ""

    def boundary(self, *named: type[Exception]) -> AbstractContextManager[None]:
        """What leaves the environment: `named` exceptions, and failures, which end the episode."""
        return boundary(self.end, *named)

    def begin(self, instance: Instance, seed: int | None, start: Snapshot | None = None) -> Episode:
        """Begin an episode with a new record, which is closed if the episode cannot begin.

        Args:
            instance: The instance of the competition.
            seed: Seed of the reset that begins the episode.
            start: The snapshot that it begins from; None for the starter.

        Raises:
            SandboxError: The sandbox does not work, or `interrupt` was called.
            SnapshotError: The snapshot cannot be restored.
            OSError: The machine failed.
        """
        folder, recorder = self._empty_folder(), self._new_recorder()
        try:
            episode = Episode(
                self._competition, instance, self._settings, folder, recorder, seed=seed, start=start
            )
        except Exception as error:
            with logged("writing the end of a record"):
                recorder.close(Footer(f"failed: {error}"))
            self._remove_folder()
            raise
        self.episode = episode
        self.check_interruption()  # an earlier interruption could not reach the episode
        return episode

    def go_to(self, instance: Instance, start: Snapshot) -> None:
        """Bring the running episode to a snapshot, or begin an episode there.

        Raises:
            SandboxError, SnapshotError, OSError: As for `begin`.
        """
        episode = self.episode
        if episode is None or episode.instance != instance or not episode.workspace.root.is_dir():
            self.end(RESTORED)
            self.begin(instance, start.state.seed, start)
        else:
            episode.go_back(start, self._new_recorder())

    def require(self) -> Episode:
        """The running episode; the episode of a fork begins now, if it has not begun.

        Raises:
            ResetNeeded: No episode is running.
            SandboxError, SnapshotError, OSError: As for `begin`.
        """
        if self.pending is not None:
            fork, self.pending = self.pending, None
            start = fork.start.later(time.monotonic() - fork.since)
            self.begin(fork.instance, start.state.seed, start)
        if self.episode is None:
            raise ResetNeeded("no episode is running; call reset() first")
        if not self.episode.is_own:
            raise SandboxError(
                "this episode belongs to the process that began it, and this process is a forked copy; "
                "call reset() to begin another episode here, which leaves that one as it is"
            )
        return self.episode

    def fork(self, start: Snapshot) -> EpisodeKeeper:
        """A keeper with the same store, whose episode begins from a snapshot at its first use."""
        episode = self.require()
        sandbox = episode.workbench.sandbox
        child = EpisodeKeeper(self._competition, self._settings, self._records)
        child._interruption = self._interruption
        child._store = self.store()
        child._store.join()
        child.pending = PendingFork(
            start, episode.instance, time.monotonic(), sandbox.isolation, sandbox.runs_jobs
        )
        return child

    def store(self) -> ContentStore:
        """The store that this environment shares with its forks.

        Raises:
            WorkspaceError: It cannot be created.
        """
        if self._store is None or not self._store.is_open:
            self._store = ContentStore()
            self._store.join()
        return self._store

    def interrupt(self, reason: str) -> None:
        """Let what is running fail soon, from any thread; `reason` is the ending for the record."""
        self._interruption = reason
        if self.episode is not None:
            self.episode.interrupt()

    def check_interruption(self, _: str = "") -> None:
        """Raise an error after an `interrupt`; also called with each line of a build's output."""
        if self._interruption:
            raise SandboxError(f"interrupted: {self._interruption}")

    def end(self, ending: str) -> None:
        """End the episode, if one is running; an interruption is its ending, if there was one."""
        self.pending = None
        if self.episode is not None:
            episode, self.episode = self.episode, None
            episode.close(self._interruption or ending)

    def close(self) -> None:
        """End the episode and remove everything but its record."""
        self.end("closed")
        self._remove_folder()
        if self._store is not None:
            store, self._store = self._store, None
            with logged("removing the files of snapshots"):
                store.leave()

    def _new_recorder(self) -> Recorder:
        recorder = Recorder(new_directory(self._records))
        self.record = recorder.directory
        return recorder

    def _empty_folder(self) -> Path:
        """The folder of an episode, made again if it has disappeared or something is left in it."""
        path = self._folder.path
        if not path.is_dir() or any(path.iterdir()):
            self._remove_folder()
        return self._folder.path

    def _remove_folder(self) -> None:
        with logged("removing an episode's folder"):
            self._folder.remove()
