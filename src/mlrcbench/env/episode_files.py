"""The files of one episode: its workspace, its long outputs, and its record.

All of them can be captured into a store, and laid out from it again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

from mlrcbench.errors import SandboxError, WorkspaceError
from mlrcbench.sandbox.folders import MOVE_TEMPORARY, usable
from mlrcbench.storage.layout import DATA, EVALUATED_WORKSPACE, EVALUATIONS, OUTPUTS
from mlrcbench.storage.record import Header, Recorder
from mlrcbench.storage.snapshots.capture import CapturedFolder
from mlrcbench.storage.snapshots.content_store import ContentStore
from mlrcbench.storage.snapshots.manifest import Manifest, link_out
from mlrcbench.storage.snapshots.snapshot import Snapshot
from mlrcbench.storage.snapshots.state import Files, explained
from mlrcbench.storage.trees import TreeLimits, copy_file, remove_tree
from mlrcbench.storage.workspace import Workspace

# No output may make the record grow without end.
MAX_OUTPUTS_BYTES = 64 << 20
_EVALUATION_LIMITS = TreeLimits(entries=100_000, depth=80, total_bytes=1 << 40)


class EpisodeFiles:
    """The workspace, the folder of long outputs, and the record.

    Args:
        workspace: The agent's workspace; its root does not exist yet.
        outputs: Folder for outputs that are too long to show.
        data: The instance's public files, which the workspace shows as `data`.
        recorder: The writer of the record.
        limits: Bounds on the workspace.
    """

    def __init__(
        self, workspace: Workspace, outputs: Path, data: Path, recorder: Recorder, limits: TreeLimits
    ) -> None:
        self.workspace = workspace
        self.outputs = outputs
        self.recorder = recorder
        self._data = data
        self._captured_workspace = CapturedFolder(workspace.root, limits)
        self._captured_outputs = CapturedFolder(outputs, TreeLimits())
        self._outputs_bytes = 0
        self._evaluations = 0
        self._kept: dict[str, Manifest] = {}
        self._journal: tuple[tuple[str, int], ...] = ()
        self._journal_end = 0
        outputs.mkdir()
        outputs.chmod(0o755)  # the sandbox's user reads it, whatever the umask is

    @property
    def outputs_left(self) -> int:
        """Bytes that the outputs of further commands may take."""
        return max(0, MAX_OUTPUTS_BYTES - self._outputs_bytes)

    def create(self, *, from_starter: bool) -> None:
        """Create the workspace's folder, with the starter in it, or empty.

        Raises:
            SandboxError: The folder cannot be created.
        """
        with usable(self.workspace.root, MOVE_TEMPORARY, SandboxError):
            if from_starter:
                self.workspace.create()
            else:
                self.workspace.root.mkdir()

    def begin_record(self, header: Header, journal: bytes = b"") -> None:
        """Write the header, and the lines of the record up to where the episode begins."""
        self.recorder.write(header)
        self.recorder.write_lines(journal)
        self._journal_end = self.recorder.position

    def lay_out(self, start: Snapshot) -> int:
        """Bring all files back to a snapshot; no process may be running.

        Returns:
            Bytes that the workspace took on the disk before.

        Raises:
            SnapshotError: A content is missing, or the disk is full.
        """
        files, store = start.files, start.store
        outputs = [node for node in files.outputs.values() if node.kind == "file"]
        self._outputs_bytes = sum(node.size for node in outputs)
        self.workspace.views.pop(OUTPUTS, None)
        if outputs:
            self.workspace.views[OUTPUTS] = self.outputs
        self._kept, self._journal, self._evaluations = dict(files.kept), files.journal, len(files.kept)
        record = self.recorder.directory
        try:
            replaced_bytes = self._captured_workspace.lay_out(files.workspace, store, self._views)
            self._captured_outputs.lay_out(files.outputs, store, {})
            for name, manifest in files.kept.items():
                link_out(manifest, store, record / name)
            link_out(files.outputs, store, record / OUTPUTS)
        except (WorkspaceError, SandboxError) as error:
            raise explained(error) from error
        return replaced_bytes

    def capture(self, store: ContentStore, *, still: bool) -> Files:
        """All files; their contents are put into a store.

        Args:
            store: Receives the contents that it does not have.
            still: Whether no process of the agent is running.

        Raises:
            WorkspaceError: The workspace exceeds its limits, or cannot be read.
        """
        store.hold(self)
        with store.lock:
            workspace = self._captured_workspace.capture(store, self._views, still=still)
            outputs = self._captured_outputs.capture(store, {})
            for folder in sorted((self.recorder.directory / EVALUATIONS).glob("*")):
                name = f"{EVALUATIONS}/{folder.name}"
                if name not in self._kept:
                    self._kept[name] = CapturedFolder(folder, _EVALUATION_LIMITS).capture(store, {})
            lines = self.recorder.lines_from(self._journal_end)
            if lines:
                self._journal = (*self._journal, (store.put_bytes(lines), len(lines)))
                self._journal_end += len(lines)
            return Files(workspace, outputs, dict(self._kept), self._journal)

    def digests(self) -> set[str]:
        """Digests of contents that the next snapshot will name without reading them again."""
        return set(Files({}, {}, self._kept, self._journal).contents())

    def new_evaluation(self, split: str) -> str:
        """The folder of the next evaluation, relative to the record."""
        self._evaluations += 1
        return f"{EVALUATIONS}/{self._evaluations:03d}-{split}"

    def evaluated_workspace(self, folder: str) -> Workspace:
        """The files that an evaluation scored."""
        return self.workspace.at(self.recorder.directory / folder / EVALUATED_WORKSPACE, {})

    def keep_output(self, log: Path) -> None:
        """Copy an output that was too long to show to the record, and let the agent see it.

        Raises:
            SandboxError: It cannot be copied, which is never the agent's fault.
        """
        try:
            copy_file(log, self.recorder.directory / OUTPUTS / log.name)
        except WorkspaceError as error:
            raise SandboxError(f"an output cannot be copied to the record: {error}") from error
        self._outputs_bytes += log.stat().st_size
        self.show_outputs()

    def keep_job_logs(self, logs: list[Path]) -> None:
        """Copy the logs of jobs that have ended to the record."""
        for log in logs:
            with contextlib.suppress(WorkspaceError):  # the sandbox was lost before the log was begun
                copy_file(log, self.recorder.directory / OUTPUTS / log.name)

    def show_outputs(self) -> None:
        """Let the agent see the folder of long outputs."""
        self.workspace.views[OUTPUTS] = self.outputs
        self.workspace.link_views()

    def remove(self) -> None:
        """Remove the workspace and the outputs; the record stays."""
        remove_tree(self.workspace.root)
        remove_tree(self.outputs)

    @property
    def _views(self) -> Mapping[str, Path]:
        return {DATA: self._data, OUTPUTS: self.outputs}
