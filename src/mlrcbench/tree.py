"""Tree: a folder's content as a value.

For each path its kind, permission bits, time of modification, and the digest of its content or
the text of its link. Contents are in a store.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from mlrcbench.errors import WorkspaceError
from mlrcbench.store import Store

Kind = Literal["file", "folder", "link", "view"]

ROOT = "."
ARTEFACTS = "artefacts"
MAX_FILE_BYTES = 1 << 30
MAX_PATH_BYTES = 3_500


class Node(NamedTuple):
    """One entry of a tree.

    Attributes:
        kind: A "view" is a link to a folder outside that the workspace shows; what it leads to
            is no part of the tree.
        mode: Permission bits; those that change users are left out.
        mtime_ns: Time of modification, in nanoseconds.
        size: Of a file, in bytes.
        content: A file's digest, a link's text, a view's name; empty for a folder.
    """

    kind: Kind
    mode: int = 0
    mtime_ns: int = 0
    size: int = 0
    content: str = ""


# Relative path -> node; a folder comes before what is in it. `ROOT` is the folder itself.
Tree = Mapping[str, Node]


def link_out(tree: Tree, store: Store, root: Path) -> None:
    """Fill a folder that agent code cannot reach, its files shared with the store where that can be.

    Artefacts are copied: those that are judged again must be plain files of their own.

    Raises:
        WorkspaceError: A content is gone, or the disk is full.
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
