"""Sources as a whole: each is fetched once, by one process, from where the card says."""

from __future__ import annotations

import io
import multiprocessing
import os
import re
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlrcbench.errors import CardError, DataError
from mlrcbench.sources import raw
from mlrcbench.sources.fetch import fetch, is_fetched, take_folder
from mlrcbench.sources.spec import Source, read_sources
from mlrcbench.storage.strict import Table
from tests.sources.server import TOKEN, Server, serving

PLAIN: dict[str, Any] = {"licence": "CC0", "gate": "none", "download_bytes": 10, "disk_bytes": 1000}
STEPS = "1. Open the page. 2. Accept the rules."


def packed(members: dict[str, bytes]) -> bytes:
    """A zip archive."""
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as zipped:
        for name, content in members.items():
            zipped.writestr(name, content)
    return memory.getvalue()


def sources(**tables: dict[str, Any]) -> dict[str, Source]:
    """The sources of a card with these tables."""
    return dict(read_sources(Table(tables, "test")))


@pytest.fixture
def server() -> Iterator[Server]:
    """A server with an archive, a table and two repositories, one of them gated."""
    with serving() as started:
        started.files["/box.zip"] = packed({"box/a.npy": b"1", "box/b.npy": b"2"})
        started.files["/table.csv"] = b"x,y\n"
        started.repositories["models/lab/model"] = {"config.json": b"{}", "model.bin": b"weights"}
        started.repositories["datasets/lab/prompts"] = {"train.json": b"[]"}
        started.gated.add("models/lab/model")
        yield started


def files_of(server: Server) -> dict[str, Source]:
    """A source of the archive and the table."""
    listed = [
        {"path": "box.zip", "url": f"{server.url}/box.zip", "unpack": True},
        {"path": "more/table.csv", "url": f"{server.url}/table.csv", "bytes": 4},
    ]
    return sources(plain={**PLAIN, "files": listed, "layout": ["*.npy", "table.csv"]})


def hub_of() -> dict[str, Source]:
    """A source of the gated model, without its weights."""
    table = {**PLAIN, "gate": "hub", "steps": STEPS, "variable": "TEST_TOKEN", "repository": "lab/model"}
    return sources(model={**table, "patterns": ["*.json"], "layout": ["config.json"]})


class TestFiles:
    """Sources of plain files."""

    def test_once(self, server: Server, tmp_path: Path) -> None:
        """Archives are unpacked and removed; a second call makes no request."""
        lines: list[str] = []
        folder = fetch("c", files_of(server), tmp_path / "cache", on_progress=lines.append)
        assert any(re.fullmatch(r"\S+: \d+\.\d of \d+\.\d MB", line) for line in lines), lines
        assert folder.stat().st_mode & 0o777 == 0o700
        names = raw.listing(folder / "plain")
        assert names == ["fetched.json", "box/box/a.npy", "box/box/b.npy", "more/table.csv"]
        requests = dict(server.seen)
        fetch("c", files_of(server), tmp_path / "cache", quiet=True)
        assert dict(server.seen) == requests

    def test_interrupted(self, server: Server, tmp_path: Path) -> None:
        """Files that came before an interruption are not fetched again."""
        server.faults["/table.csv"] = [404]
        with pytest.raises(DataError, match=r"table\.csv cannot be downloaded"):
            fetch("c", files_of(server), tmp_path, quiet=True)
        assert not is_fetched(files_of(server)["plain"], tmp_path)
        fetch("c", files_of(server), tmp_path, quiet=True)
        assert server.seen["/box.zip"] == 1

    def test_a_lost_file_is_fetched_again(self, server: Server, tmp_path: Path) -> None:
        """Only that file is fetched again."""
        fetch("c", files_of(server), tmp_path, quiet=True)
        (tmp_path / "plain" / "more" / "table.csv").unlink()
        assert not is_fetched(files_of(server)["plain"], tmp_path)
        fetch("c", files_of(server), tmp_path, quiet=True)
        assert (server.seen["/box.zip"], server.seen["/table.csv"]) == (1, 2)

    def test_another_layout_is_refused(self, server: Server, tmp_path: Path) -> None:
        """An archive without the files of the layout is an error."""
        server.files["/box.zip"] = packed({"other.txt": b""})
        with pytest.raises(DataError, match=r"came without \*\.npy"):
            fetch("c", files_of(server), tmp_path, quiet=True)

    def test_killed(self, server: Server, tmp_path: Path) -> None:
        """After SIGKILL, the next call requests only the other half."""
        server.files["/table.csv"] = bytes(100_000)
        listed = [{"path": "table.csv", "url": f"{server.url}/table.csv", "bytes": 100_000}]
        table = sources(plain={**PLAIN, "files": listed, "layout": ["table.csv"]})
        server.faults["/table.csv"] = ["stall"]
        process = multiprocessing.get_context("spawn").Process(target=fetch, args=("c", table, tmp_path))
        process.start()
        part = tmp_path / "plain" / "table.csv.part"
        while not (part.exists() and part.stat().st_size == 50_000):
            time.sleep(0.02)
        process.kill()
        process.join()
        fetch("c", table, tmp_path, quiet=True)
        assert (tmp_path / "plain" / "table.csv").stat().st_size == server.sent == 100_000

    def test_two_at_once(self, server: Server, tmp_path: Path) -> None:
        """One process fetches, the other waits and then has nothing to do."""
        code = (
            "import sys; from pathlib import Path; from types import SimpleNamespace as N; "
            "from tests.sources.test_fetch import fetch, files_of; "
            "fetch('c', files_of(N(url=sys.argv[1])), Path(sys.argv[2]), quiet=True)"
        )
        command = [sys.executable, "-c", code, server.url, str(tmp_path)]
        root = Path(__file__).parents[2]
        running = [
            subprocess.Popen(command, cwd=root, env={**os.environ, "PYTHONPATH": str(root)}) for _ in "ab"
        ]
        assert [one.wait() for one in running] == [0, 0]
        assert (server.seen["/box.zip"], server.seen["/table.csv"]) == (1, 1)


class TestHub:
    """Sources that are repositories of a hub."""

    def test_gated(self, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without access the error holds the steps; with the token, the card's files are fetched."""
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("TEST_TOKEN", "")
        with pytest.raises(
            DataError, match=r"refuses access to lab/model at main\. 1\. Open the page"
        ) as caught:
            fetch("c", hub_of(), tmp_path, quiet=True)
        assert TOKEN not in str(caught.value)
        monkeypatch.setenv("TEST_TOKEN", TOKEN)
        folder = fetch("c", hub_of(), tmp_path, quiet=True)
        assert raw.listing(folder / "model") == ["config.json", "fetched.json"]
        assert server.tokens == {f"Bearer {TOKEN}"}
        assert not any(TOKEN in path.read_text("utf-8") for path in tmp_path.rglob("*") if path.is_file())

    def test_offline(self, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A complete source needs no network; for another, the error says that the hub cannot be reached."""
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        table = {**PLAIN, "repository": "lab/prompts", "repository_kind": "dataset"}
        prompts = sources(prompts={**table, "layout": ["*.json"]})
        fetch("c", prompts, tmp_path, quiet=True)
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
        fetch("c", prompts, tmp_path, quiet=True)
        with pytest.raises(DataError, match=r"could not be fetched from the hub .*continues from there"):
            fetch("c", prompts, tmp_path / "other", quiet=True)

    def test_no_token_unless_asked_for(
        self, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A login on the machine is not sent to a repository that is open to all."""
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        table = {**PLAIN, "repository": "lab/prompts", "repository_kind": "dataset"}
        fetch("c", sources(prompts={**table, "layout": ["*.json"]}), tmp_path, quiet=True)
        assert server.tokens == set()

    def test_no_such_revision(self, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The error names the revision."""
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        table = {**PLAIN, "repository": "lab/prompts", "repository_kind": "dataset", "revision": "v9"}
        with pytest.raises(DataError, match="no revision 'v9'"):
            fetch("c", sources(prompts={**table, "layout": ["*.json"]}), tmp_path, quiet=True)


class TestByHand:
    """Sources that a person has to download."""

    TABLE = {**PLAIN, "gate": "aicrowd", "steps": STEPS, "layout": ["a.csv", "b.csv|c.csv"]}  # noqa: RUF012

    def test_the_steps(self, server: Server, tmp_path: Path) -> None:
        """The error holds all steps, and comes before anything is downloaded."""
        both = {**files_of(server), **sources(shop=self.TABLE)}
        with pytest.raises(DataError) as caught:
            fetch("my-problem", both, tmp_path, quiet=True)
        text = str(caught.value)
        for part in (STEPS, "a.csv", "b.csv|c.csv", "aicrowd", "CC0"):
            assert part in text
        assert "mlrcbench prepare my-problem --tier full --data FOLDER" in text
        assert not server.seen

    def test_a_folder(self, tmp_path: Path) -> None:
        """Files may lie at any depth; missing files are named; nothing is copied or changed."""
        data, scratch = tmp_path / "data", tmp_path / "scratch"
        (data / "deep").mkdir(parents=True)
        scratch.mkdir()
        (data / "deep" / "c.csv").write_text("c")
        with pytest.raises(DataError, match=r"not complete") as caught:
            take_folder("p", sources(shop=self.TABLE), data, scratch)
        assert "- a.csv (shop)" in str(caught.value)
        assert "c.csv" not in str(caught.value).replace("b.csv|c.csv", "")
        (scratch / "shop").unlink()
        (data / "a.csv").write_text("a")
        folder = take_folder("p", sources(shop=self.TABLE), data, scratch)
        assert raw.find(folder / "shop", "a.csv").read_text() == "a"
        assert raw.find(folder / "shop", "b.csv|c.csv").read_text() == "c"
        assert sorted(raw.listing(data)) == ["a.csv", "deep/c.csv"]

    def test_no_folder(self, tmp_path: Path) -> None:
        """A path that is not a folder is refused."""
        with pytest.raises(DataError, match="is not a folder"):
            take_folder("p", sources(shop=self.TABLE), tmp_path / "nothing", tmp_path)


class TestRaw:
    """Finding files in raw data."""

    def test_one_or_an_error(self, tmp_path: Path) -> None:
        """No match and several matches are both errors."""
        for name in ("x/a.csv", "y/a.csv", "y/b.csv"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(name)
        assert raw.find(tmp_path, "x/a.csv").read_text() == "x/a.csv"
        assert raw.find_all(tmp_path, "y/*.csv").keys() == {"a", "b"}
        with pytest.raises(DataError, match=r"exactly one file a\.csv; it holds x/a\.csv, y/a\.csv"):
            raw.find(tmp_path, "a.csv")
        with pytest.raises(DataError, match="it holds none"):
            raw.find(tmp_path, "z.csv")
        with pytest.raises(DataError, match="holds a twice"):
            raw.find_all(tmp_path, "*.csv")

    def test_link(self, tmp_path: Path) -> None:
        """A link is made where the disk can do so, not a copy."""
        (tmp_path / "a").write_text("a")
        (tmp_path / "a").chmod(0o644)
        raw.link(tmp_path / "a", tmp_path / "b")
        assert (tmp_path / "b").stat().st_ino == (tmp_path / "a").stat().st_ino

    def test_a_private_file_is_copied(self, tmp_path: Path) -> None:
        """The copy can be read by everybody, and the user's file keeps its mode."""
        (tmp_path / "a").write_text("a")
        (tmp_path / "a").chmod(0o600)
        raw.link(tmp_path / "a", tmp_path / "b")
        assert (tmp_path / "b").read_text() == "a"
        assert [(tmp_path / name).stat().st_mode & 0o777 for name in "ab"] == [0o600, 0o444]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"gate": "moon"}, "'gate' is 'moon'"),
        ({"gate": "kaggle", "repository": "a/b"}, "in 'steps'"),
        ({}, "in 'steps'"),
        ({"layout": []}, "in 'layout'"),
        ({"repository": "a/b", "files": [{"path": "x", "url": "https://y"}]}, "two sources"),
        ({"files": [{"path": "../x", "url": "https://y"}]}, "plain relative path"),
        ({"files": [{"path": "x", "url": "file:///etc/passwd"}]}, "must be http or https"),
        ({"steps": "s", "colour": "red"}, "'colour' is unknown"),
    ],
)
def test_cards_are_read_strictly(change: dict[str, Any], reason: str) -> None:
    """A table that makes no sense is an error that says why."""
    with pytest.raises(CardError, match=reason):
        sources(one={**PLAIN, "layout": ["x"], **change})
