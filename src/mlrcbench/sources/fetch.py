"""Bringing a competition's sources into one folder: `<folder>/<source>/...`.

`fetched.json` in a source's folder lists the files that are complete. A complete source needs no
network. Only one process at a time works on a source; a second one waits, and then has nothing to do.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from tqdm import tqdm

from mlrcbench.errors import DataError
from mlrcbench.sources.archives import check_space, stem, unpack
from mlrcbench.sources.download import download
from mlrcbench.sources.hub import fetch_repository
from mlrcbench.sources.raw import listing, missing
from mlrcbench.sources.spec import RemoteFile, Source
from mlrcbench.storage.durable import replace_text
from mlrcbench.storage.trees import locked

_DONE = "fetched.json"
_SPARE = 1 << 30  # bytes beyond three times the size on the card, which is approximate


def fetch(
    competition: str,
    sources: Mapping[str, Source],
    folder: Path,
    *,
    quiet: bool = False,
    on_progress: Callable[[str], None] | None = None,
) -> Path:
    """Download all sources that are not complete; only the user may read them.

    Args:
        competition: Id of the competition, for errors.
        sources: The sources by name.
        folder: Folder of the raw data, which is made if it does not exist.
        quiet: Whether to show no progress.
        on_progress: Called often with how much of a file has come; without it, a bar is shown on a terminal.

    Returns:
        `folder`, which has one folder for each source.

    Raises:
        DataError: A person has to do something first, the disk is too small, or a download failed.
    """
    for source in sources.values():  # before anything is downloaded
        if source.by_hand and not is_fetched(source, folder):
            raise DataError(_by_hand(competition, source))
    for source in sources.values():
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)  # answers are among what comes
        with locked(
            folder / f".{source.name}.lock",
            on_wait=lambda: _say("waiting for another process, which downloads it", quiet),
        ):
            if not is_fetched(source, folder):
                _fetch_one(source, folder / source.name, quiet, on_progress)
    return folder


def is_fetched(source: Source, folder: Path) -> bool:
    """Whether a source is complete in a folder, as far as the disk shows."""
    root = folder / source.name
    done = _read_done(root)
    complete = _complete(source)
    return (
        bool(complete)
        and all(done.get(key) == value for key, value in complete.items())
        and _intact(source, root)
    )


def take_folder(competition: str, sources: Mapping[str, Source], data: Path, scratch: Path) -> Path:
    """Use a folder of the user for all sources, without copying or changing anything in it.

    Args:
        competition: Id of the competition, for errors.
        sources: The sources by name.
        data: The user's folder, with the files of all layouts at any depth, or with one such folder
            for each source.
        scratch: An empty folder, in which one link for each source is made.

    Returns:
        `scratch`.

    Raises:
        DataError: Files are missing; the text names all of them.
    """
    if not data.is_dir():
        raise DataError(
            f"{data} is not a folder; --data names the folder that holds the data of {competition}"
        )
    missing_files = []
    for source in sources.values():
        own = data / source.name
        root = own if own.is_dir() else data
        missing_files += [f"{pattern} ({source.name})" for pattern in missing(root, source.layout)]
        (scratch / source.name).symlink_to(root.absolute(), target_is_directory=True)
    if missing_files:
        lines = "\n".join(f"  - {name}" for name in missing_files)
        raise DataError(
            f"{data} is not complete; {competition} also needs these files (at any depth, `|` means "
            f"either):\n{lines}\nUnpack archives first."
        )
    return scratch


def _fetch_one(source: Source, root: Path, quiet: bool, on_progress: Callable[[str], None] | None) -> None:
    """Download one source and record that it is complete."""
    root.mkdir(parents=True, exist_ok=True)
    present = sum((root / path).stat().st_size for path in listing(root))
    needed = source.download_bytes + source.disk_bytes - present
    check_space(root, needed, f"the source {source.name!r}")
    if source.repository:
        fetch_repository(source, root, quiet=quiet)
        _write_done(root, _complete(source))
    for file in source.files:
        entry = _complete(source)[file.path]
        if _read_done(root).get(file.path) != entry or not _final_path(file, root).exists():
            _fetch_file(file, root, source, quiet=quiet, on_progress=on_progress)
            _write_done(root, {**_read_done(root), file.path: entry})
    absent = missing(root, source.layout)
    if absent:
        (root / _DONE).unlink(missing_ok=True)
        raise DataError(f"the source {source.name!r} came without {', '.join(absent)}; it may have changed")


def _fetch_file(
    file: RemoteFile, root: Path, source: Source, *, quiet: bool, on_progress: Callable[[str], None] | None
) -> None:
    downloaded, unpacked = (3 * size + _SPARE for size in (source.download_bytes, source.disk_bytes))
    target = root / file.path
    hidden = quiet or on_progress is not None or not sys.stderr.isatty()
    _say(f"{file.url} ...", quiet or sys.stderr.isatty())
    with tqdm(desc=file.path, unit="B", unit_scale=True, disable=hidden, file=sys.stderr) as progress:
        bar: tqdm[NoReturn] = progress

        def show(have: int, total: int) -> None:
            bar.total = total or None
            bar.update(have - bar.n)
            if on_progress is not None:
                on_progress(f"{file.path}: {have / 1e6:,.1f}{f' of {total / 1e6:,.1f}' if total else ''} MB")

        if not target.exists():  # an earlier call may have ended before it unpacked the file
            download(
                file.url,
                target,
                sha256=file.sha256,
                size=file.bytes,
                max_bytes=downloaded,
                on_bytes=show,
            )
    if file.unpack:
        unpack(target, _final_path(file, root), max_bytes=unpacked)
        target.unlink()


def _final_path(file: RemoteFile, root: Path) -> Path:
    """The path of a downloaded file, or of its unpacked folder."""
    return root / (stem(file.path) if file.unpack else file.path)


def _complete(source: Source) -> dict[str, Any]:
    """The content of `fetched.json` for a complete source."""
    if source.repository:
        return {source.repository: [source.revision, list(source.patterns)]}
    return {file.path: [file.url, file.sha256] for file in source.files}


def _intact(source: Source, root: Path) -> bool:
    return all(_final_path(file, root).exists() for file in source.files) and not missing(root, source.layout)


def _read_done(root: Path) -> dict[str, Any]:
    try:
        done: dict[str, Any] = json.loads((root / _DONE).read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return done


def _write_done(root: Path, done: Mapping[str, Any]) -> None:
    replace_text(root / _DONE, json.dumps(done, indent=1))


def _by_hand(competition: str, source: Source) -> str:
    files = "\n".join(f"  - {pattern}" for pattern in source.layout)
    return (
        f"the source {source.name!r} of {competition} cannot be downloaded by a program "
        f"(access through: {source.gate}; licence: {source.licence}).\n{source.steps}\n"
        f"Put these into a folder, at any depth (`|` means either):\n{files}\n"
        f"Then: mlrcbench prepare {competition} --tier full --data FOLDER"
    )


def _say(message: str, quiet: bool) -> None:
    if not quiet:
        print(message, file=sys.stderr, flush=True)
