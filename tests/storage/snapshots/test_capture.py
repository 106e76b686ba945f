"""Folders as values: captured and laid out exactly, cheaply, and within bounds."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlrcbench.errors import SnapshotError, WorkspaceError
from mlrcbench.storage.snapshots.capture import CapturedFolder
from mlrcbench.storage.snapshots.content_store import ContentStore
from mlrcbench.storage.snapshots.manifest import Manifest, link_out
from mlrcbench.storage.trees import TreeLimits

LIMITS = TreeLimits(entries=500, depth=8, total_bytes=10_000_000)
IS_ROOT = os.geteuid() == 0


@pytest.fixture
def store() -> Iterator[ContentStore]:
    """A store with one user."""
    new_store = ContentStore()
    new_store.join()
    yield new_store
    new_store.leave()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with entries of every kind."""
    path = tmp_path / "root"
    (path / "lib" / "deep").mkdir(parents=True)
    (path / "main.py").write_text("print('main')\n")
    (path / "lib" / "run.sh").write_text("#!/bin/sh\n")
    (path / "lib" / "run.sh").chmod(0o755)
    (path / "lib" / "deep" / "secret").write_bytes(b"\0\1")
    (path / "lib" / "deep" / "secret").chmod(0o600)
    (path / "empty").mkdir()
    (path / "empty").chmod(0o700)
    (path / "link").symlink_to("lib/nowhere")
    (path / os.fsdecode(b"odd\n\xff name")).write_text("x")
    return path


def look(root: Path) -> dict[str, tuple[object, ...]]:
    """Everything in a folder that a tree must bring back."""
    entries: dict[str, tuple[object, ...]] = {}
    for folder, names, files in os.walk(root):
        for name in [*names, *files]:
            path = os.path.join(folder, name)
            state = os.lstat(path)
            content: object = None
            if stat.S_ISLNK(state.st_mode):
                content = os.readlink(path)
            elif stat.S_ISREG(state.st_mode):
                content = Path(path).read_bytes()
            mode = 0 if stat.S_ISLNK(state.st_mode) else state.st_mode
            time_ns = 0 if stat.S_ISLNK(state.st_mode) else state.st_mtime_ns
            entries[os.path.relpath(path, root)] = (mode, time_ns, content)
    return entries


def tick() -> None:
    """Wait until the kernel's clock has ticked, so that what was written counts as settled."""
    time.sleep(0.02)


def test_a_tree_comes_back_exactly(root: Path, store: ContentStore, tmp_path: Path) -> None:
    """Contents, modes, times, links and odd names return in a new folder, and in one that was changed."""
    checkout = CapturedFolder(root, LIMITS)
    before = look(root)
    tree = checkout.capture(store, {})
    other = CapturedFolder(tmp_path / "other", LIMITS)
    other.lay_out(tree, store, {})
    assert look(other.root) == before
    (root / "main.py").write_text("other")
    (root / "lib" / "run.sh").chmod(0o600)
    shutil.rmtree(root / "lib" / "deep")
    (root / "lib" / "deep").symlink_to("/etc")
    (root / "link").unlink()
    (root / "link").mkdir()
    (root / "link" / "x").write_text("x")
    (root / "empty").rmdir()
    (root / "empty").write_text("a file now")
    os.mkfifo(root / "pipe")
    checkout.lay_out(tree, store, {})
    assert look(root) == before


def test_large_files_come_back(root: Path, store: ContentStore) -> None:
    """Each file has its own content, named by its digest."""
    contents = {f"big-{number}": os.urandom((2 << 20) + number) for number in range(2)}
    for name, content in contents.items():
        (root / name).write_bytes(content)
    checkout = CapturedFolder(root, LIMITS)
    tree = checkout.capture(store, {})
    for name, content in contents.items():
        assert tree[name].content == hashlib.sha256(content).hexdigest()
        (root / name).write_bytes(b"gone")
    checkout.lay_out(tree, store, {})
    assert {name: (root / name).read_bytes() for name in contents} == contents


def test_views_are_links_by_name(root: Path, store: ContentStore, tmp_path: Path) -> None:
    """The files behind a view are not captured; elsewhere, the view leads to the folder of that place."""
    (root / "data").symlink_to(tmp_path / "here")
    (root / "outputs").symlink_to("/etc")
    views = {"data": tmp_path / "here", "outputs": tmp_path / "outputs"}
    tree = CapturedFolder(root, LIMITS).capture(store, views)
    assert (tree["data"].kind, tree["outputs"].kind) == ("view", "link")
    other = CapturedFolder(tmp_path / "other", LIMITS)
    other.lay_out(tree, store, {"data": tmp_path / "there", "outputs": tmp_path / "outputs"})
    assert os.readlink(other.root / "data") == str(tmp_path / "there")
    assert os.readlink(other.root / "outputs") == "/etc"


def test_unchanged_files_are_not_read(
    root: Path, store: ContentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a capture nor laying out reads them; a changed file is read."""
    checkout = CapturedFolder(root, LIMITS)
    tick()
    tree = checkout.capture(store, {})
    (root / "main.py").write_text("print('MAIN')\n")
    read, written = Mock(wraps=store.put), Mock(wraps=store.copy_out)
    monkeypatch.setattr(store, "put", read)
    monkeypatch.setattr(store, "copy_out", written)
    changed = checkout.capture(store, {})
    assert [call.args[1] for call in read.call_args_list] == [len("print('MAIN')\n")]
    assert {path for path in tree if tree[path] != changed[path]} == {"main.py"}
    checkout.lay_out(tree, store, {})
    assert [call.args[0] for call in written.call_args_list] == [tree["main.py"].content]


def test_a_change_within_a_tick_is_seen(root: Path, store: ContentStore) -> None:
    """A file of the same size, with its time of modification set back, still has another content."""
    checkout = CapturedFolder(root, LIMITS)
    path = root / "main.py"
    for number in range(30):
        path.write_text(f"value = {number % 10}")
        os.utime(path, ns=(10**18, 10**18))
        tree = checkout.capture(store, {})
        with store.reader(tree["main.py"].content) as descriptor:
            assert os.read(descriptor, 100).decode() == f"value = {number % 10}"


def test_nothing_is_remembered_while_code_runs(root: Path, store: ContentStore) -> None:
    """Mapped memory changes a file without changing its times; so it is read each time."""
    checkout = CapturedFolder(root, LIMITS)
    tick()
    checkout.capture(store, {}, still=False)
    assert not checkout._known
    checkout.capture(store, {})
    assert checkout._known


def test_hard_links_become_separate_files(root: Path, store: ContentStore) -> None:
    """A write to one of them does not reach the other after it was laid out."""
    (root / "copy.py").write_text("print('main')\n")
    checkout = CapturedFolder(root, LIMITS)
    tree = checkout.capture(store, {})
    (root / "copy.py").unlink()
    os.link(root / "main.py", root / "copy.py")
    checkout.lay_out(tree, store, {})
    with (root / "main.py").open("a") as file:
        file.write("more")
    assert (root / "copy.py").read_text() == "print('main')\n"


def test_writing_to_a_workspace_never_reaches_the_store(root: Path, store: ContentStore) -> None:
    """Whatever happens to laid out files, stored contents and other trees stay."""
    checkout = CapturedFolder(root, LIMITS)
    before = look(root)
    tree = checkout.capture(store, {})
    checkout.lay_out(tree, store, {})
    for path in root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            path.chmod(0o666)
            with path.open("r+b") as file:
                file.write(b"!")
    checkout.lay_out(tree, store, {})
    assert look(root) == before


def test_what_is_linked_into_a_record_cannot_change_the_store(
    root: Path, store: ContentStore, tmp_path: Path
) -> None:
    """Writing to a file of a record does not change what is restored."""
    tree = CapturedFolder(root, LIMITS).capture(store, {})
    link_out(tree, store, tmp_path / "a")
    link_out(tree, store, tmp_path / "b")
    first, second = tmp_path / "a" / "main.py", tmp_path / "b" / "main.py"
    assert first.samefile(second)
    assert stat.S_IMODE((tmp_path / "a" / "lib" / "run.sh").stat().st_mode) == 0o555
    assert stat.S_IMODE((tmp_path / "a" / "lib" / "deep" / "secret").stat().st_mode) == 0o600
    first.chmod(0o644)
    first.write_text("forged")
    other = CapturedFolder(tmp_path / "other", LIMITS)
    other.lay_out(tree, store, {})
    assert (other.root / "main.py").read_text() == "print('main')\n"


def test_special_files_are_left_out(root: Path, store: ContentStore, tmp_path: Path) -> None:
    """Pipes and sockets neither block nor fail."""
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        folder = os.open(root, os.O_RDONLY)
        try:
            listener.bind(f"/proc/self/fd/{folder}/socket")
        finally:
            os.close(folder)
        tree = CapturedFolder(root, LIMITS).capture(store, {})
    assert not {"pipe", "socket"} & set(tree)
    assert "main.py" in tree


def _many(root: Path) -> None:
    for number in range(600):
        (root / f"{number}").touch()


def _deep(root: Path) -> None:
    folder = os.open(root, os.O_RDONLY)
    for _ in range(3_000):
        os.mkdir("d", dir_fd=folder)
        inner = os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(folder)


def _sparse(root: Path) -> None:
    with (root / "sparse").open("wb") as file:
        file.truncate(1 << 40)


def _long(root: Path, levels: int) -> None:
    """Folders within folders, with names of 250 characters."""
    folder = os.open(root, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("d" * 250, dir_fd=folder)
        inner = os.open("d" * 250, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(folder)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_many, "more than 500 files"),
        (_deep, "nest deeper than 8"),
        (_sparse, "10,000,000 bytes"),
    ],
)
def test_trees_out_of_bounds_are_refused_and_replaced(
    spoil: Callable[[Path], None], message: str, root: Path, store: ContentStore
) -> None:
    """The error says what is too much; an earlier tree can still be laid out over the folder."""
    checkout = CapturedFolder(root, LIMITS)
    before = look(root)
    tree = checkout.capture(store, {})
    spoil(root)
    with pytest.raises(WorkspaceError, match=message):
        checkout.capture(store, {})
    checkout.lay_out(tree, store, {})
    assert look(root) == before


def test_long_paths_are_fine_up_to_a_bound(root: Path, store: ContentStore, tmp_path: Path) -> None:
    """Paths that are too long for the system are refused."""
    limits = TreeLimits(entries=500, depth=64, total_bytes=10_000_000)
    checkout, other = CapturedFolder(root, limits), CapturedFolder(tmp_path / "other", limits)
    _long(root, 12)
    before = look(root)
    tree = checkout.capture(store, {})
    other.lay_out(tree, store, {})
    assert look(other.root) == before
    shutil.rmtree(root)
    root.mkdir()
    _long(root, 16)
    with pytest.raises(WorkspaceError, match="a path is longer"):
        checkout.capture(store, {})
    checkout.lay_out(tree, store, {})
    assert look(root) == before


@pytest.mark.skipif(IS_ROOT, reason="root can read everything")
@pytest.mark.parametrize("name", ["main.py", "lib"])
def test_what_cannot_be_read_is_named(name: str, root: Path, store: ContentStore) -> None:
    """The error says what to do; laying out an earlier tree fixes it."""
    checkout = CapturedFolder(root, LIMITS)
    before = look(root)
    tree = checkout.capture(store, {})
    (root / name).chmod(0)
    with pytest.raises(WorkspaceError, match=f"'{name}' cannot be read; fix it with chmod"):
        checkout.capture(store, {})
    checkout.lay_out(tree, store, {})
    assert look(root) == before


def test_folders_without_permission_come_back(root: Path, store: ContentStore, tmp_path: Path) -> None:
    """A read-only folder is filled first and made read-only after that; later it can change again."""
    (root / "lib" / "deep").chmod(0o500)
    (root / "lib").chmod(0o555)
    before = look(root)
    tree = CapturedFolder(root, LIMITS).capture(store, {})
    other = CapturedFolder(tmp_path / "other", LIMITS)
    other.lay_out(tree, store, {})
    assert look(other.root) == before
    os.chmod(other.root / "lib" / "deep", 0o700)
    (other.root / "lib" / "deep" / "secret").write_text("changed")
    os.chmod(other.root / "lib" / "deep", 0o500)
    other.lay_out(tree, store, {})
    assert look(other.root) == before
    for path in (root / "lib", other.root / "lib"):
        path.chmod(0o755)
        (path / "deep").chmod(0o755)


def test_a_tree_that_changes_underneath_is_bounded(root: Path, store: ContentStore) -> None:
    """A writer that never stops, or swaps a folder for a link, causes no error and shows no outside file."""
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "answers").write_text("very secret")
    stop = threading.Event()

    def disturb() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            with (root / "growing").open("ab" if number % 50 else "wb") as file:
                file.write(b"x" * 1000)
            (root / "swap").mkdir(exist_ok=True)
            (root / "swap").rmdir()
            (root / "swap").symlink_to(outside)
            (root / "swap").unlink()

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        checkout = CapturedFolder(root, LIMITS)
        for _ in range(100):
            tree = checkout.capture(store, {}, still=False)
            assert "swap/answers" not in tree
            assert "main.py" in tree
    finally:
        stop.set()
        thread.join()


def test_contents_are_kept_once_and_removed_with_their_snapshots(root: Path, store: ContentStore) -> None:
    """Equal files share a content; contents that no holder names are removed, the others stay."""

    class Holder:
        """Names one tree."""

        def __init__(self, tree: Manifest) -> None:
            self.tree = tree

        def digests(self) -> set[str]:
            """The contents of the tree."""
            return {node.content for node in self.tree.values() if node.kind == "file"}

    (root / "twice.py").write_text("print('main')\n")
    checkout = CapturedFolder(root, LIMITS)
    first = Holder(checkout.capture(store, {}))
    store.hold(first)
    assert first.tree["twice.py"].content == first.tree["main.py"].content
    (root / "big").write_bytes(os.urandom(3 << 20))
    second = Holder(checkout.capture(store, {}))
    store.hold(second)
    digest = second.tree["big"].content
    store.sweep()
    assert digest in store
    del second
    store.sweep()
    assert digest not in store
    assert not (store.folder / digest).exists()
    assert all(name in store for name in first.digests())
    assert checkout.capture(store, {})["big"].content == digest, "it is read again"


def test_a_store_ends_with_its_last_user(root: Path) -> None:
    """Its folder is removed; a later use raises an error that says what to do."""
    store = ContentStore()
    store.join()
    store.join()
    tree = CapturedFolder(root, LIMITS).capture(store, {})
    store.leave()
    assert store.folder.exists()
    store.leave()
    assert not store.folder.exists()
    with pytest.raises(SnapshotError, match=r"save\(\) a snapshot to keep it"):
        CapturedFolder(root.parent / "other", LIMITS).lay_out(tree, store, {})


NAMES = st.sampled_from(["a", "b", "c"])
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("write"), NAMES, NAMES, st.binary(max_size=3)),
        st.tuples(st.just("link"), NAMES, NAMES, st.just(b"")),
        st.tuples(st.just("chmod"), NAMES, NAMES, st.sampled_from([b"600", b"755", b"444"])),
        st.tuples(st.just("remove"), NAMES, NAMES, st.just(b"")),
        st.tuples(st.just("capture"), NAMES, NAMES, st.just(b"")),
        st.tuples(st.just("back"), NAMES, NAMES, st.just(b"")),
    ),
    max_size=25,
)


@settings(max_examples=60)
@given(changes=CHANGES)
def test_any_history_can_be_gone_back_in(
    changes: list[tuple[str, str, str, bytes]], store: ContentStore
) -> None:
    """Each captured tree comes back as it was, after any changes, captures and returns."""
    root = store.folder / "work"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    checkout = CapturedFolder(root, LIMITS)
    captured = [(checkout.capture(store, {}), look(root))]
    for kind, folder, name, data in changes:
        path = root / folder / name
        if kind == "capture":
            captured.append((checkout.capture(store, {}), look(root)))
        elif kind == "back":
            tree, before = captured[(ord(folder) + ord(name)) % len(captured)]
            checkout.lay_out(tree, store, {})
            assert look(root) == before
        elif kind == "remove":
            shutil.rmtree(root / folder, ignore_errors=True)
        elif kind == "chmod":
            if path.is_file() and not path.is_symlink():
                path.chmod(int(data, 8))
        else:
            path.parent.mkdir(exist_ok=True)
            path.unlink(missing_ok=True)
            path.symlink_to(name) if kind == "link" else path.write_bytes(data)
    for tree, before in captured:
        checkout.lay_out(tree, store, {})
        assert look(root) == before
