"""Bringing a competition's sources into one folder: `<folder>/<source>/...`.

`fetched.json` in a source's folder says what is complete, file by file. A source that is needs no
network. One process at a time works on a source; a second one waits, and finds it done.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from tqdm import tqdm

from mlrcbench.errors import DataError
from mlrcbench.files import locked, replace_text
from mlrcbench.sources.archives import check_space, stem, unpack
from mlrcbench.sources.download import download
from mlrcbench.sources.hub import fetch_repository
from mlrcbench.sources.raw import listing, missing
from mlrcbench.sources.spec import RemoteFile, Source

_DONE = "fetched.json"
_SPARE = 1 << 30  # bytes that an archive may have more than the card says, three times over


def fetch(competition: str, sources: Mapping[str, Source], folder: Path, *, quiet: bool = False) -> Path:
    """Bring all sources here, as far as they are not; only the user may read them.

    Args:
        competition: Its id, for errors.
        sources: By name.
        folder: Made if it does not exist.
        quiet: Show no progress.

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
        with locked(folder / f".{source.name}.lock", on_wait=lambda: _say("another process is at it", quiet)):
            if not is_fetched(source, folder):
                _fetch_one(source, folder / source.name, quiet)
    return folder


def is_fetched(source: Source, folder: Path) -> bool:
    """Whether a source is complete in a folder; looks at the disk only."""
    root = folder / source.name
    done = _read_done(root)
    wanted = _wanted(source)
    return (
        bool(wanted)
        and all(done.get(key) == value for key, value in wanted.items())
        and _intact(source, root)
    )


def take_folder(competition: str, sources: Mapping[str, Source], data: Path, scratch: Path) -> Path:
    """Use a folder that the user has, for all sources; nothing is copied, nothing in it is changed.

    Args:
        competition: Its id, for errors.
        sources: By name.
        data: Holds what the layouts ask for, at any depth, or one such folder for each source.
        scratch: An empty folder, which gets one link for each source.

    Returns:
        `scratch`.

    Raises:
        DataError: Something is missing; the text names all of it.
    """
    if not data.is_dir():
        raise DataError(f"{data} is no folder; --data names the folder that holds the data of {competition}")
    lacks = []
    for source in sources.values():
        own = data / source.name
        root = own if own.is_dir() else data
        lacks += [f"{pattern} ({source.name})" for pattern in missing(root, source.layout)]
        (scratch / source.name).symlink_to(root.absolute(), target_is_directory=True)
    if lacks:
        lines = "\n".join(f"  - {words}" for words in lacks)
        raise DataError(
            f"{data} is not complete; of what {competition} needs, these are missing (at any depth, `|` is "
            f"either):\n{lines}\nUnpack archives first."
        )
    return scratch


def _fetch_one(source: Source, root: Path, quiet: bool) -> None:
    """Bring one source here and write down that it is complete."""
    root.mkdir(parents=True, exist_ok=True)
    here = sum((root / path).stat().st_size for path in listing(root))
    needed = source.download_bytes + source.disk_bytes - here
    check_space(root, needed, f"the source {source.name!r}")
    if source.repository:
        fetch_repository(source, root, quiet=quiet)
        _write_done(root, _wanted(source))
    for file in source.files:
        wanted = _wanted(source)[file.path]
        if _read_done(root).get(file.path) != wanted or not _place(file, root).exists():
            _fetch_file(file, root, 3 * source.disk_bytes + _SPARE, quiet)
            _write_done(root, {**_read_done(root), file.path: wanted})
    lacks = missing(root, source.layout)
    if lacks:
        (root / _DONE).unlink(missing_ok=True)
        raise DataError(f"the source {source.name!r} came without {', '.join(lacks)}; it may have changed")


def _fetch_file(file: RemoteFile, root: Path, max_bytes: int, quiet: bool) -> None:
    target = root / file.path
    hidden = quiet or not sys.stderr.isatty()
    _say(f"{file.url} ...", quiet or not hidden)
    with tqdm(desc=file.path, unit="B", unit_scale=True, disable=hidden, file=sys.stderr) as shown:
        bar: tqdm[NoReturn] = shown

        def show(have: int, total: int) -> None:
            bar.total = total or None
            bar.update(have - bar.n)

        if not target.exists():  # else it came before, and was not unpacked
            download(file.url, target, size=file.bytes, sha256=file.sha256, on_bytes=show)
    if file.unpack:
        unpack(target, _place(file, root), max_bytes=max_bytes)
        target.unlink()


def _place(file: RemoteFile, root: Path) -> Path:
    """Where a file is in the end."""
    return root / (stem(file.path) if file.unpack else file.path)


def _wanted(source: Source) -> dict[str, Any]:
    """What `fetched.json` says of a complete source."""
    if source.repository:
        return {source.repository: [source.revision, list(source.patterns)]}
    return {file.path: [file.url, file.sha256] for file in source.files}


def _intact(source: Source, root: Path) -> bool:
    return all(_place(file, root).exists() for file in source.files) and not missing(root, source.layout)


def _read_done(root: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((root / _DONE).read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return found


def _write_done(root: Path, done: Mapping[str, Any]) -> None:
    replace_text(root / _DONE, json.dumps(done, indent=1))


def _by_hand(competition: str, source: Source) -> str:
    files = "\n".join(f"  - {pattern}" for pattern in source.layout)
    return (
        f"the source {source.name!r} of {competition} cannot be downloaded by a program "
        f"(asks for it: {source.gate}; licence: {source.licence}).\n{source.steps}\n"
        f"Put these into a folder, at any depth (`|` means either):\n{files}\n"
        f"Then: mlrcbench prepare {competition} --tier full --data FOLDER"
    )


def _say(words: str, quiet: bool) -> None:
    if not quiet:
        print(words, file=sys.stderr, flush=True)
