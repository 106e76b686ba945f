"""Workspaces: no path, link or file an agent can make leads outside or breaks anything."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlrcbench.errors import WorkspaceError
from mlrcbench.storage.workspace import MAX_SCAN_BYTES, Workspace

part = st.sampled_from(["a", "b", "..", ".", "", "link", "data", "main.py", "lib", "x" * 300, "\n", "é", "~"])


def test_it_holds_starter_statement_and_views(workspace: Workspace) -> None:
    """This is what an agent finds at the start."""
    assert workspace.files() == ["data/", "lib/", "lib/tools.py", "main.py", "method.py", "statement.md"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/etc/passwd", "absolute"),
        ("../starter/main.py", "'..'"),
        ("lib/../../x", "'..'"),
        ("", "does not name a file"),
        (".", "does not name a file"),
        ("a\0b", "NUL"),
        ("nothing.txt", "does not exist"),
        ("lib", "is a folder"),
        ("main.py/x", "not a folder"),
        ("x" * 300, "too long"),
        ("link", "symbolic link"),
        ("folder/passwd", "symbolic link"),
        ("data/../main.py", "'..'"),
        ("data/nothing", "does not exist"),
        ("data", "is a folder"),
        ("pipe", "not a regular file"),
        ("binary", "binary"),
        ("\ud800", "not valid Unicode"),
    ],
)
def test_reading_what_cannot_be_read_says_why(path: str, message: str, workspace: Workspace) -> None:
    """Each fault has its own message, and nothing hangs."""
    (workspace.root / "link").symlink_to("/etc/passwd")
    (workspace.root / "folder").symlink_to("/etc")
    os.mkfifo(workspace.root / "pipe")
    (workspace.root / "binary").write_bytes(b"\x00\x01")
    with pytest.raises(WorkspaceError) as caught:
        workspace.read(path)
    assert message in str(caught.value)


@given(st.lists(part, max_size=6).map("/".join), st.text(max_size=20))
def test_no_path_writes_outside(workspace: Workspace, path: str, text: str) -> None:
    """Whatever the path, only the workspace changes, and protected files do not."""
    link = workspace.root / "link"
    if not link.is_symlink():
        link.symlink_to("..")
    before = _outside(workspace)
    try:
        workspace.write(path, text)
    except WorkspaceError as error:
        assert len(str(error)) < 1000
    assert _outside(workspace) == before
    assert (workspace.root / "main.py").read_text() == "print('main')\n"


def _outside(workspace: Workspace) -> list[tuple[str, int]]:
    inside = str(workspace.root)
    paths = (path for path in workspace.root.parent.rglob("*") if not str(path).startswith(inside))
    return sorted((str(path), path.stat().st_mtime_ns if path.is_file() else 0) for path in paths)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_what_is_written_is_read_back(workspace: Workspace, text: str) -> None:
    """Files hold exactly the text."""
    workspace.write("deep/er/new.txt", text)
    assert (workspace.root / "deep/er/new.txt").read_bytes().decode("utf-8") == text


@pytest.mark.parametrize(
    "path", ["main.py", "./main.py", "lib//tools.py", "statement.md", "data/x", "artefacts/x"]
)
def test_protected_files_are_refused(path: str, workspace: Workspace) -> None:
    """Protected files cannot be written, however the path is spelt."""
    with pytest.raises(WorkspaceError, match=r"protected|reserved"):
        workspace.write(path, "x")
    with pytest.raises(WorkspaceError, match=r"protected|reserved"):
        workspace.edit(path, "a", "b")


def test_an_edit_must_match_exactly_once(workspace: Workspace) -> None:
    """Otherwise the error says how often the passage occurs, and where."""
    with pytest.raises(WorkspaceError, match=r"occurs 2 times in 'method.py', at lines 1, 3"):
        workspace.edit("method.py", "a = ", "c = ")
    with pytest.raises(WorkspaceError, match=r"does not occur in .* its first line occurs at line 2"):
        workspace.edit("method.py", "b = 2\nc", "x")
    with pytest.raises(WorkspaceError, match="is empty"):
        workspace.edit("method.py", "", "x")
    with pytest.raises(WorkspaceError, match="does not exist"):
        workspace.edit("nothing.py", "a", "b")
    assert "+b = 20" in workspace.edit("method.py", "b = 2\n", "b = 20\n")
    assert (workspace.root / "method.py").read_text() == "a = 1\nb = 20\na = 3\n"


@given(st.text(), st.text(min_size=1, max_size=5), st.text(max_size=5))
def test_an_edit_is_what_replace_does(workspace: Workspace, text: str, old: str, new: str) -> None:
    """For every text and every passage that occurs in it once; otherwise the file stays as it is."""
    try:
        workspace.write("free.txt", text)
    except (WorkspaceError, UnicodeEncodeError):
        return
    try:
        workspace.edit("free.txt", old, new)
    except WorkspaceError:
        assert text.count(old) != 1
    except UnicodeEncodeError:
        return
    else:
        assert (workspace.root / "free.txt").read_bytes().decode() == text.replace(old, new)


def test_writing_keeps_the_mode_and_breaks_hard_links(workspace: Workspace) -> None:
    """A write never goes through to another name of the same file."""
    outside = workspace.root.parent / "outside.txt"
    outside.write_text("outside")
    os.link(outside, workspace.root / "inside.txt")
    workspace.write("run.sh", "echo 1")
    (workspace.root / "run.sh").chmod(0o755)
    workspace.write("run.sh", "echo 2")
    workspace.write("inside.txt", "changed")
    assert outside.read_text() == "outside"
    assert (workspace.root / "run.sh").stat().st_mode & 0o777 == 0o755


def test_reading_pages_through_long_files(workspace: Workspace) -> None:
    """Each page says where to continue; lines are numbered."""
    (workspace.root / "long.txt").write_text("".join(f"line {n}\n" for n in range(1, 5001)))
    first = workspace.read("long.txt")
    assert first.splitlines()[0] == "     1  line 1"
    assert "has more lines; continue with start=" in first.splitlines()[-1]
    assert workspace.read("long.txt", 4999).splitlines()[-1] == "[end of 'long.txt', 5,000 lines]"
    assert workspace.read("long.txt", 3, 3).splitlines() == [
        "     3  line 3",
        "['long.txt' has more lines; continue with start=4]",
    ]
    assert workspace.read("long.txt", 9999) == "['long.txt' has 5,000 lines]"


def test_reading_is_bounded_for_giants(workspace: Workspace) -> None:
    """A sparse terabyte and an endless line cost neither time nor memory."""
    with (workspace.root / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    with (workspace.root / "giant.txt").open("wb") as file:
        file.write(b"a" * 10_000)
        file.truncate(1 << 40)
    started = time.monotonic()
    with pytest.raises(WorkspaceError, match="binary"):
        workspace.read("sparse")
    with pytest.raises(WorkspaceError, match="too long"):
        workspace.read("giant.txt", start=2)
    assert time.monotonic() - started < 30
    assert MAX_SCAN_BYTES < 1 << 30


def test_text_that_is_not_utf8_can_be_read_but_not_edited(workspace: Workspace) -> None:
    """Reading shows replacement characters; an edit would damage the rest."""
    (workspace.root / "latin.txt").write_bytes(b"caf\xe9\n")
    assert "caf�" in workspace.read("latin.txt")
    with pytest.raises(WorkspaceError, match="not a text file"):
        workspace.edit("latin.txt", "caf", "tea")


def test_a_clone_has_the_protected_files_of_the_starter(workspace: Workspace, tmp_path: Path) -> None:
    """Whatever commands did to them: changed, removed, replaced by links or folders."""
    (workspace.root / "main.py").write_text("forged")
    (workspace.root / "lib" / "tools.py").unlink()
    (workspace.root / "lib").rmdir()
    (workspace.root / "lib").symlink_to(tmp_path)
    (workspace.root / "statement.md").unlink()
    (workspace.root / "statement.md").mkdir()
    (workspace.root / "data").unlink()
    (workspace.root / "data").mkdir()
    (workspace.root / "data" / "table.csv").write_text("forged")
    (workspace.root / "method.py").write_text("mine")
    (workspace.root / "new.py").write_text("new")
    clone = workspace.clone(tmp_path / "clone", workspace.views)
    assert (clone.root / "main.py").read_text() == "print('main')\n"
    assert (clone.root / "lib" / "tools.py").read_text() == "TOOLS = 1\n"
    assert (clone.root / "statement.md").read_text() == "# A statement\n"
    assert (clone.root / "data" / "table.csv").read_text() == "x,y\n1,2\n"
    assert (clone.root / "method.py").read_text() == "mine"
    assert (clone.root / "new.py").read_text() == "new"
    assert not (tmp_path / "tools.py").exists()


def test_views_are_put_back(workspace: Workspace) -> None:
    """A view that an agent removed or replaced is put back; what was in its place is kept."""
    (workspace.root / "data").unlink()
    (workspace.root / "data").mkdir()
    (workspace.root / "data" / "mine").write_text("mine")
    workspace.link_views()
    assert workspace.read("data/table.csv").startswith("     1  x,y")
    assert [path.name for path in workspace.root.glob("data.moved-*/*")] == ["mine"]


def test_sources_are_the_python_files_the_agent_touched(workspace: Workspace) -> None:
    """Starter files count once they differ."""
    assert workspace.sources() == []
    workspace.write("method.py", "a = 9\n")
    workspace.write("extra/more.py", "b = 9\n")
    workspace.write("notes.txt", "no code")
    assert sorted(workspace.sources()) == ["a = 9\n", "b = 9\n"]


@pytest.mark.parametrize("target", ["/dev/zero", "/etc/passwd"])
def test_counting_code_follows_no_link(target: str, workspace: Workspace) -> None:
    """A method that became a link to something endless, or secret, counts as nothing."""
    (workspace.root / "method.py").unlink()
    (workspace.root / "method.py").symlink_to(target)
    assert workspace.text("method.py") is None
    assert workspace.sources() == []


def test_a_workspace_whose_mode_was_taken_away_is_usable(workspace: Workspace) -> None:
    """The host gives the permissions back."""
    workspace.root.chmod(0)
    workspace.link_views()
    assert workspace.text("method.py") is not None


def test_paths_of_this_machine_are_scrubbed(workspace: Workspace) -> None:
    """What an agent reads does not depend on where the workspace lies."""
    view = workspace.views["data"]
    text = f"{workspace.root}/main.py {workspace.root} {view}/table.csv"
    assert workspace.scrub(text) == "./main.py . data/table.csv"
