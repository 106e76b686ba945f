"""Opening: a bundle -> a temporary folder that is laid out like a run, and holds what its manifest lists."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mlrcbench.errors import DataError, MlrcbenchError, RecordError, WorkspaceError
from mlrcbench.runs.bundles.manifest_file import (
    MANIFEST_FILE,
    MAX_BUNDLE_BYTES,
    MAX_FILES,
    MAX_MANIFEST_BYTES,
    Manifest,
    is_place,
    read_manifest,
)
from mlrcbench.runs.plan import Assignment, read_assignments
from mlrcbench.runs.results import Result, read_results
from mlrcbench.sources.archives import unpack
from mlrcbench.storage.temporary import scratch
from mlrcbench.storage.trees import TreeLimits, hash_file, walk

_LIMITS = TreeLimits(entries=2 * MAX_FILES, depth=80, total_bytes=MAX_BUNDLE_BYTES + MAX_MANIFEST_BYTES)
_SUFFIXES = (".mlrc", ".mlrc.gz")
_GZIP = b"\x1f\x8b"
_MANIFEST_START = MANIFEST_FILE.encode() + b"\0"


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle that was opened.

    Attributes:
        path: The file.
        root: The folder with its files, which exists as long as the bundle is open.
        manifest: Its manifest.
        digest: SHA-256 of the manifest, as hex, which identifies the content.
        planned: The episodes that its plan has.
        results: The results of these episodes, and of any others that it holds.
    """

    path: Path
    root: Path
    manifest: Manifest
    digest: str
    planned: list[Assignment]
    results: list[Result]


@contextlib.contextmanager
def open_bundle(path: str | Path) -> Iterator[Bundle]:
    """Unpack a bundle, which may come from anyone, into a temporary folder.

    Nothing in it is run or believed; links, devices, names that lead out of the folder, archives that grow
    beyond 4 GiB or 100,000 files, and files that the manifest does not list, or lists differently, are
    refused.

    Raises:
        RecordError: The file is not a bundle, or is damaged.
    """
    source = Path(path)
    _check_kind(source)
    with scratch("bundle") as folder:
        root = folder / "bundle"
        try:
            unpack(source, root, max_bytes=MAX_BUNDLE_BYTES + MAX_MANIFEST_BYTES, max_entries=2 * MAX_FILES)
        except DataError as error:
            raise RecordError(f"the bundle cannot be opened: {error}") from None
        manifest = read_manifest(root)
        _check_files(root, manifest)
        _make_folders(root, manifest)
        digest = hashlib.sha256((root / MANIFEST_FILE).read_bytes()).hexdigest()
        try:
            planned, results = read_assignments(root), read_results(root)
        except MlrcbenchError as error:
            raise RecordError(f"{source} has no plan that can be read: {error}") from None
        yield Bundle(source, root, manifest, digest, planned, results)


def _check_kind(path: Path) -> None:
    """Check that a file can be a bundle, before a reader of archives sees it."""
    if not path.name.endswith(_SUFFIXES):
        raise RecordError(f"{path.name} is not a bundle, whose name ends in {' or '.join(_SUFFIXES)}")
    if not path.is_file():
        raise RecordError(f"{path} is not a file; name a bundle that mlrcbench bundle wrote")
    with path.open("rb") as file:
        start = file.read(len(_MANIFEST_START))
    if not start.startswith(_GZIP) and start != _MANIFEST_START:
        raise RecordError(f"{path.name} is not a bundle: it does not begin with {MANIFEST_FILE}")


def _check_files(root: Path, manifest: Manifest) -> None:
    """Check that the folder has exactly the files of the manifest; those to execute become executable."""
    try:
        paths = [entry.path for entry in walk(root, _LIMITS) if entry.is_file]
    except WorkspaceError as error:
        raise RecordError(f"the bundle cannot be opened: {error}") from None
    for path in paths:
        if path == MANIFEST_FILE:
            continue
        entry, file = manifest.files.get(path), root / path
        if entry is None:
            raise RecordError(f"the bundle holds {path[:200]!a}, which its manifest does not list")
        if not is_place(path):
            raise RecordError(f"the bundle holds {path[:200]!a}, which no episode writes")
        if file.stat().st_size != entry.size or hash_file(file) != entry.sha256:
            raise RecordError(f"{path[:200]!a} is not the file that the bundle's manifest lists")
        file.chmod(0o700 if entry.executable else 0o600)
    if missing := manifest.files.keys() - set(paths):
        raise RecordError(f"the bundle lacks {min(missing)[:200]!a}, which its manifest lists")


def _make_folders(root: Path, manifest: Manifest) -> None:
    """Make the folders without content; no link lies in the way, since an archive with one is refused."""
    for path in manifest.folders:
        if len(manifest.folders) > MAX_FILES or not is_place(path):
            raise RecordError(f"the bundle's manifest lists the folder {path[:200]!a}, which it cannot have")
        try:
            (root / path).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RecordError(f"the folder {path[:200]!a} cannot be made: {error.strerror}") from None
