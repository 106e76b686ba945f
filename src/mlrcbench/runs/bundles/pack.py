"""Packing: the results of one agent of a run -> a bundle."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from mlrcbench.errors import RunError, WorkspaceError, nearest
from mlrcbench.runs.bundles.agent_card import AgentCard
from mlrcbench.runs.bundles.leaks import LeakCheck
from mlrcbench.runs.bundles.manifest_file import (
    FORMAT,
    MANIFEST_FILE,
    MAX_BUNDLE_BYTES,
    MAX_FILES,
    VERSION,
    BundledFile,
    Manifest,
    is_place,
)
from mlrcbench.runs.plan import EPISODES, PLAN, read_plan_entries
from mlrcbench.runs.results import ATTEMPTS, RESULT, Result, read_results
from mlrcbench.storage.durable import scratch_beside, sync
from mlrcbench.storage.layout import EVALUATIONS, OUTPUTS, RECORD_FILE
from mlrcbench.storage.strict import open_regular
from mlrcbench.storage.trees import TreeLimits, hash_file, is_cache, walk

_LIMITS = TreeLimits(entries=MAX_FILES, depth=80, total_bytes=MAX_BUNDLE_BYTES)
_CHUNK = 1 << 20
_TAR_BYTES = 2_048  # of a member, besides its content
_PRIVATE_OPTIONS = ("base_url", "key_variable", "prices")  # where the user's server and files are


@dataclass(frozen=True, slots=True)
class Packed:
    """A bundle that was written.

    Attributes:
        path: The file.
        sha256: SHA-256 of the file, as hex.
        episodes: How many episodes of the plan it has.
        manifest: Its manifest.
    """

    path: Path
    sha256: str
    episodes: int
    manifest: Manifest


@dataclass(slots=True)
class _Content:
    """What goes into a bundle: path in it -> path on disk or content."""

    files: dict[str, Path | bytes] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def write_bundle(
    run: str | Path,
    out: str | Path,
    *,
    agent: str | None = None,
    card: AgentCard | None = None,
    secret: str | None = None,
) -> Packed:
    """Write the bundle of an agent.

    Args:
        run: The directory of a run.
        out: The file to write, whose name ends in ".mlrc".
        agent: The agent's name; needed if the run has several.
        card: Who made the agent.
        secret: Secret of the instances, if it was a text of the user's, so that it can be looked for.

    Raises:
        RunError: The directory holds no run, the run has no such agent, a file cannot be read or holds
            something secret, or the bundle would be too large.
        OSError: The bundle cannot be written.
    """
    directory, path = Path(run), Path(out)
    if path.suffix != ".mlrc":
        raise RunError(f"a bundle's name ends in .mlrc, and {path.name} does not")
    plan = read_plan_entries(directory)
    name = _agent_of(plan["agents"], agent)
    results = [one for one in read_results(directory) if one.assignment.agent == name]
    content = _content(directory, {**plan, "agents": [name], "llm": _public(plan.get("llm"))}, results)
    files = dict(_described(content, LeakCheck(secret)))
    if len(files) > MAX_FILES or sum(one.size + _TAR_BYTES for one in files.values()) > MAX_BUNDLE_BYTES:
        raise RunError(f"the bundle would have more than {MAX_FILES:,} files or {MAX_BUNDLE_BYTES:,} bytes")
    folders, left_out = (tuple(sorted(paths)) for paths in (content.folders, content.left_out))
    manifest = Manifest(FORMAT, VERSION, name, card, files, folders, left_out)
    with scratch_beside(path) as scratch:
        _write(scratch, content, manifest)
        sync(scratch)
        digest = hash_file(scratch)
        os.replace(scratch, path)
    return Packed(path, digest, len(results), manifest)


def _agent_of(agents: list[str], agent: str | None) -> str:
    """The agent to pack."""
    if agent is None and len(agents) == 1:
        return agents[0]
    if agent is None:
        raise RunError(f"a bundle holds one agent, and the run has {len(agents)}: {', '.join(agents)}")
    if agent not in agents:
        raise RunError(f"the run has no agent {agent!r}. {nearest(agent, agents)}")
    return agent


def _public(llm: object) -> dict[str, object]:
    """The options of language models without those that say where the user's server and files are."""
    options = llm if isinstance(llm, dict) else {}
    return {name: value for name, value in options.items() if name not in _PRIVATE_OPTIONS}


def _content(directory: Path, plan: dict[str, object], results: list[Result]) -> _Content:
    """Everything that goes into the bundle: the plan, and of each episode its results and records.

    Logs and calls of language models stay behind: they are not needed to check a result.
    """
    content = _Content({PLAN: (json.dumps(plan, indent=1, sort_keys=True) + "\n").encode()})
    for one in results:
        names = (RESULT, *(f"attempt-{number}.json" for number in range(1, ATTEMPTS)))
        for name in names:
            if (one.folder / name).exists():
                content.files[f"{EPISODES}/{one.assignment.name}/{name}"] = one.folder / name
        for attempt in (one, *one.attempts):
            if attempt.record is not None:
                _add_record(
                    content, one.folder / attempt.record, f"{EPISODES}/{one.assignment.name}/{attempt.record}"
                )
    if unusable := [path for path in content.files if not is_place(path)]:
        raise RunError(f"{directory} has a name that no run writes: {unusable[0]!r}")
    return content


def _add_record(content: _Content, record: Path, place: str) -> None:
    """Add what an episode has written to its record."""
    if (record / RECORD_FILE).exists():
        content.files[f"{place}/{RECORD_FILE}"] = record / RECORD_FILE
    for part in (OUTPUTS, EVALUATIONS):
        if not (record / part).is_dir():
            continue
        try:
            entries = list(walk(record / part, _LIMITS, skip=is_cache))
        except WorkspaceError as error:
            raise RunError(f"{record / part} cannot be put into a bundle: {error}") from None
        above = {entry.path.rpartition("/")[0] for entry in entries}
        for entry in entries:
            path = f"{place}/{part}/{entry.path}"
            if not (entry.is_file or entry.is_folder) or not _is_plain(path):
                content.left_out.append(ascii(path))
            elif entry.is_file:
                content.files[path] = record / part / entry.path
            elif entry.path not in above:
                content.folders.append(path)


def _is_plain(path: str) -> bool:
    """Whether any reader of archives can take this path."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return is_place(path)


def _described(content: _Content, check: LeakCheck) -> Iterator[tuple[str, BundledFile]]:
    """Each file with its size and digest, after it was searched for secrets."""
    for path in sorted(content.files):
        source = content.files[path]
        with _opened(source) as file:
            secret = check.find(io.BytesIO(path.encode())) or check.find(file)
            if secret is not None:
                raise RunError(
                    f"{path} holds {secret}, and a bundle is for everyone; replace that secret if an agent "
                    "has seen it, and play the episode again without it"
                )
            size = file.seek(0, io.SEEK_END)
            executable = isinstance(source, Path) and bool(source.lstat().st_mode & 0o100)
            yield path, BundledFile(size, _sha256(file), executable)


def _sha256(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    file.seek(0)
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


def _opened(source: Path | bytes) -> IO[bytes]:
    if isinstance(source, bytes):
        return io.BytesIO(source)
    try:
        return open_regular(source, MAX_BUNDLE_BYTES)
    except (OSError, ValueError) as error:
        raise RunError(f"{source} cannot be read: {error}") from None


def _write(path: Path, content: _Content, manifest: Manifest) -> None:
    """Write the archive: the manifest, then the files by their paths; no clock and no user is in it."""
    with tarfile.open(path, "x:", format=tarfile.PAX_FORMAT) as archive:
        text = manifest.to_text().encode()
        _add(archive, MANIFEST_FILE, len(text), 0o644, io.BytesIO(text))
        for name, entry in manifest.files.items():
            with _opened(content.files[name]) as file:
                _add(archive, name, entry.size, 0o755 if entry.executable else 0o644, file)


def _add(archive: tarfile.TarFile, name: str, size: int, mode: int, file: IO[bytes]) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, mode
    archive.addfile(info, file)
