"""Trees of files: hostile ones are walked, copied and removed within bounds."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from mlrcbench.errors import WorkspaceError
from mlrcbench.storage.trees import TreeLimits, copy_tree, hash_tree, remove_tree, walk


def _deep(root: Path, depth: int) -> None:
    """A chain of folders, made without long paths."""
    root.mkdir()
    descriptor = os.open(root, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=descriptor)
        deeper = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = deeper
    os.close(descriptor)


def test_a_deep_tree_is_refused_and_removed(tmp_path: Path) -> None:
    """A chain of 3,000 folders is refused by a copy, and can be removed."""
    _deep(tmp_path / "deep", 3000)
    with pytest.raises(WorkspaceError, match="deeper"):
        copy_tree(tmp_path / "deep", tmp_path / "copy")
    remove_tree(tmp_path / "deep")
    assert not (tmp_path / "deep").exists()


def test_a_tree_without_permissions_is_removed(tmp_path: Path) -> None:
    """Folders of mode 000 can be removed."""
    (tmp_path / "tree/closed/in").mkdir(parents=True)
    (tmp_path / "tree/closed/in/file").write_text("x")
    (tmp_path / "tree/closed/in").chmod(0)
    (tmp_path / "tree/closed").chmod(0)
    remove_tree(tmp_path / "tree")
    assert not (tmp_path / "tree").exists()
    remove_tree(tmp_path / "tree")


def test_a_copy_holds_files_folders_and_link_texts_only(tmp_path: Path) -> None:
    """Pipes and sockets stay behind, links are not followed, modes are kept."""
    source = tmp_path / "source"
    (source / "folder").mkdir(parents=True)
    (source / "folder/run.sh").write_text("x")
    (source / "folder/run.sh").chmod(0o755)
    (source / "link").symlink_to("/etc")
    os.mkfifo(source / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(source / "socket"))
    copy_tree(source, tmp_path / "copy")
    assert sorted(entry.path for entry in walk(tmp_path / "copy")) == ["folder", "folder/run.sh", "link"]
    assert os.readlink(tmp_path / "copy/link") == "/etc"
    assert (tmp_path / "copy/folder/run.sh").stat().st_mode & 0o777 == 0o755


def test_limits_are_kept(tmp_path: Path) -> None:
    """Too many files, or a sparse giant, are refused."""
    (tmp_path / "many").mkdir()
    for number in range(20):
        (tmp_path / "many" / str(number)).touch()
    with pytest.raises(WorkspaceError, match="more than 10 files"):
        copy_tree(tmp_path / "many", tmp_path / "copy", TreeLimits(entries=10))
    (tmp_path / "sparse").mkdir()
    with (tmp_path / "sparse/file").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(WorkspaceError, match="bytes"):
        copy_tree(tmp_path / "sparse", tmp_path / "copy2")


def test_the_hash_sees_every_change(tmp_path: Path) -> None:
    """Content, name, mode and link text matter; times do not."""
    root = tmp_path / "tree"
    root.mkdir()
    (root / "file").write_text("1")
    (root / "link").symlink_to("a")
    hashes = {hash_tree(root)}
    os.utime(root / "file", (0, 0))
    assert hash_tree(root) in hashes
    (root / "file").write_text("2")
    hashes.add(hash_tree(root))
    (root / "file").chmod(0o755)
    hashes.add(hash_tree(root))
    (root / "link").unlink()
    (root / "link").symlink_to("b")
    hashes.add(hash_tree(root))
    (root / "file").rename(root / "renamed")
    hashes.add(hash_tree(root))
    assert len(hashes) == 5
