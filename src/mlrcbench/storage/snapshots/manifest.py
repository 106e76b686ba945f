"""Manifest: a folder's content as a value.

For each path its kind, permission bits, time of modification, and the digest of its content or
the text of its link. The contents are in a store.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from mlrcbench.errors import WorkspaceError
from mlrcbench.storage.layout import ARTEFACTS
from mlrcbench.storage.snapshots.content_store import ContentStore

Kind = Literal["file", "folder", "link", "view"]

ROOT = "."
MAX_FILE_BYTES = 1 << 30


class Node(NamedTuple):
    """One entry of a tree.

    Attributes:
        kind: A "view" is a link to a folder outside that the workspace shows; what it leads to
            is not part of the tree.
        mode: Permission bits, without those that change users.
        mtime_ns: Time of modification, in nanoseconds.
        size: Size of a file, in bytes.
        content: A file's digest, a link's text, a view's name; empty for a folder.
    """

    kind: Kind
    mode: int = 0
    mtime_ns: int = 0
    size: int = 0
    content: str = ""


# Relative path -> node; a folder comes before what is in it. `ROOT` is the folder itself.
Manifest = Mapping[str, Node]


def link_out(tree: Manifest, store: ContentStore, root: Path) -> None:
    """Fill a folder that agent code cannot reach, with files shared with the store where possible.

    Artefacts are copied: to be judged again, they must be plain files with only one name.

    Raises:
        WorkspaceError: A content is missing, or the disk is full.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        for path, node in tree.items():
            goal = root / path
            if node.kind == "folder":
                goal.mkdir(exist_ok=path == ROOT)
            elif node.kind == "file":
                store.link_out(node.content, node.mode, goal, copy=path.startswith(f"{ARTEFACTS}/"))
            elif node.kind == "link":
                goal.symlink_to(node.content)
    except OSError as error:
        raise WorkspaceError(f"the record cannot be completed: {error.strerror}") from error
