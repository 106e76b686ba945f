"""The sources of a card: its tables `[tiers.full.sources.<name>]`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mlrcbench.errors import CardError
from mlrcbench.storage.strict import Table

Gate = Literal["none", "kaggle", "aicrowd", "organisers", "hub"]
GATES = ("none", "kaggle", "aicrowd", "organisers", "hub")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file to download.

    Attributes:
        path: Path of the file below the source's folder.
        url: An http or https URL.
        bytes: Size of the file; 0 if it is not known.
        sha256: Checksum as hex; empty if it is not known.
        unpack: Whether the file is a zip or tar archive, which a folder of its name without suffix replaces.
    """

    path: str
    url: str
    bytes: int
    sha256: str
    unpack: bool


@dataclass(frozen=True, slots=True)
class Source:
    """One place that data comes from.

    Attributes:
        name: Name of the source, and of its folder in the raw data.
        licence: Licence of the data.
        gate: Who must be asked first: nobody, a site with accounts, the organisers, the model hub.
        steps: The exact steps that a person has to do; empty if nothing is to be done.
        variable: Environment variable that holds the hub's token; empty if no token is needed.
        download_bytes: Approximate size of the download.
        disk_bytes: Approximate size when unpacked.
        repository: Name on the model hub, "owner/name"; empty if the data is not there.
        repository_kind: "model" or "dataset".
        revision: Commit, tag or branch of the repository.
        patterns: Globs over the repository's files to download; empty for all.
        files: Files to download one by one.
        layout: Files that must exist at the end: globs over paths, at any depth; `a|b` means either.
    """

    name: str
    licence: str
    gate: Gate
    steps: str
    variable: str
    download_bytes: int
    disk_bytes: int
    repository: str
    repository_kind: str
    revision: str
    patterns: tuple[str, ...]
    files: tuple[RemoteFile, ...]
    layout: tuple[str, ...]

    @property
    def by_hand(self) -> bool:
        """Whether a person must download the source."""
        return not (self.files or self.repository)


def read_sources(table: Table) -> Mapping[str, Source]:
    """The sources in `[tiers.<tier>.sources]`, by name.

    Raises:
        CardError: An entry is missing, unknown, of the wrong type, or makes no sense.
    """
    return {name: _source(name, table.table(name)) for name in table.left()}


def _source(name: str, table: Table) -> Source:
    source = Source(
        name=name,
        licence=table.take("licence", str),
        gate=table.choice("gate", GATES),
        steps=table.take("steps", str, ""),
        variable=table.take("variable", str, ""),
        download_bytes=table.take("download_bytes", int),
        disk_bytes=table.take("disk_bytes", int),
        repository=table.take("repository", str, ""),
        repository_kind=table.take("repository_kind", str, "model"),
        revision=table.take("revision", str, "main"),
        patterns=table.names("patterns", []),
        files=tuple(_file(entry) for entry in table.tables("files", [])),
        layout=table.names("layout"),
    )
    table.done(*(field for field in Source.__dataclass_fields__ if field != "name"))
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise CardError(f"the source {name!r} must be lower-case words joined by hyphens")
    if not source.layout:
        raise CardError(f"the source {name!r} must say in 'layout' which files it holds")
    if (source.gate != "none" or source.by_hand) and not source.steps:
        raise CardError(f"the source {name!r} must say in 'steps' what a person has to do")
    if source.repository and source.files:
        raise CardError(f"the source {name!r} has a 'repository' and 'files'; make two sources of it")
    return source


def _file(table: Table) -> RemoteFile:
    file = RemoteFile(
        path=table.take("path", str),
        url=table.take("url", str),
        bytes=table.take("bytes", int, 0),
        sha256=table.take("sha256", str, ""),
        unpack=table.take("unpack", bool, False),
    )
    table.done(*RemoteFile.__dataclass_fields__)
    if not file.url.startswith(("https://", "http://")):
        raise CardError(f"the file {file.path!r} has the url {file.url!r}; it must be http or https")
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*", file.path):
        raise CardError(f"the file {file.path!r} must be a plain relative path")
    return file
