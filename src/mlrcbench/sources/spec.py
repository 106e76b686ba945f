"""What a card says about a source: `[tiers.full.sources.<name>]`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mlrcbench.card_table import Table
from mlrcbench.errors import CardError

Gate = Literal["none", "kaggle", "aicrowd", "organisers", "hub"]
GATES = ("none", "kaggle", "aicrowd", "organisers", "hub")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file to download.

    Attributes:
        path: Where it is put, below the source's folder.
        url: http or https.
        bytes: Its size; 0 if it is not known.
        sha256: As hex; empty if it is not known.
        unpack: Whether it is a zip or tar archive, to be replaced by a folder of its name without suffix.
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
        name: Folder below the raw data.
        licence: Of what is there.
        gate: Who has to be asked first: nobody, a site with accounts, the organisers, the model hub.
        steps: What a person has to do, exactly; empty if nothing.
        variable: Environment variable that holds the hub's token; empty if none is needed.
        download_bytes: About how much comes over the network.
        disk_bytes: About how much it takes when unpacked.
        repository: On the model hub, "owner/name"; empty if it is not there.
        repository_kind: "model" or "dataset".
        revision: Commit, tag or branch of the repository.
        patterns: Globs over the repository's files; empty for all.
        files: To download one by one.
        layout: What must be there at the end: globs over paths, at any depth; `a|b` is either.
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
        """Whether no program can download it."""
        return not (self.files or self.repository)


def read_sources(table: Table) -> Mapping[str, Source]:
    """All tables of `[tiers.<tier>.sources]`.

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
        raise CardError(f"the source {name!r} must say in 'layout' which files it gives")
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
