"""Downloads are resumed, tried again and checked; hostile archives are refused."""

from __future__ import annotations

import contextlib
import hashlib
import io
import shutil
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlrcbench.errors import DataError
from mlrcbench.sources import fetch as fetch_module
from mlrcbench.sources.archives import check_space, unpack
from mlrcbench.sources.download import ATTEMPTS, download
from mlrcbench.sources.spec import read_sources
from mlrcbench.storage.strict import Table
from tests.sources.server import Server, serving

CONTENT = bytes(range(256)) * 4000  # 1 MB


@pytest.fixture
def server() -> Iterator[Server]:
    """A server with one file."""
    with serving() as started:
        started.files["/data.bin"] = CONTENT
        yield started


def get(server: Server, target: Path, *, size: int = 0, sha256: str = "") -> list[float]:
    """Download the file without waiting; returns the seconds of each wait."""
    pauses: list[float] = []
    download(f"{server.url}/data.bin", target, size=size, sha256=sha256, pause=pauses.append)
    return pauses


class TestDownload:
    """A download makes the right file, or none."""

    def test_it_arrives(self, server: Server, tmp_path: Path) -> None:
        """The file comes into folders that did not exist, and nothing else is left there."""
        digest = hashlib.sha256(CONTENT).hexdigest()
        assert get(server, tmp_path / "deep" / "data.bin", size=len(CONTENT), sha256=digest) == []
        assert (tmp_path / "deep" / "data.bin").read_bytes() == CONTENT
        assert [path.name for path in (tmp_path / "deep").iterdir()] == ["data.bin"]

    def test_a_cut_connection_is_resumed(self, server: Server, tmp_path: Path) -> None:
        """Each byte is sent once, however often the connection breaks off."""
        server.faults["/data.bin"] = ["cut"] * 4
        get(server, tmp_path / "data.bin")
        assert (tmp_path / "data.bin").read_bytes() == CONTENT
        assert server.sent == len(CONTENT)
        assert server.seen["/data.bin"] == 5

    def test_a_later_call_resumes(self, server: Server, tmp_path: Path) -> None:
        """The bytes that an interrupted call received are not sent again."""
        server.faults["/data.bin"] = ["cut", *[503] * ATTEMPTS]
        with pytest.raises(DataError, match=r"broke off 6 times at byte 512,000.*503.*continues from there"):
            get(server, tmp_path / "data.bin")
        assert not (tmp_path / "data.bin").exists()
        get(server, tmp_path / "data.bin")
        assert (tmp_path / "data.bin").read_bytes() == CONTENT
        assert server.sent == len(CONTENT)

    def test_it_waits_longer_each_time(self, server: Server, tmp_path: Path) -> None:
        """Each wait is about twice as long as the last, and a short one after progress."""
        server.faults["/data.bin"] = [503, 429, 500, "cut", 502]
        pauses = get(server, tmp_path / "data.bin")
        assert [low <= pause <= 2 * low for pause, low in zip(pauses, [1, 2, 4, 0.5, 1], strict=True)]

    @pytest.mark.parametrize("status", [401, 403, 404])
    def test_a_refusal_is_final(self, server: Server, tmp_path: Path, status: int) -> None:
        """A refused request is not repeated."""
        server.faults["/data.bin"] = [status]
        with pytest.raises(DataError, match=f"cannot be downloaded: the server says {status}"):
            get(server, tmp_path / "data.bin")
        assert server.seen["/data.bin"] == 1

    def test_a_changed_file_is_downloaded_again(self, server: Server, tmp_path: Path) -> None:
        """Halves of two versions are never put together."""
        server.faults["/data.bin"] = ["cut", *[503] * ATTEMPTS]
        with pytest.raises(DataError):
            get(server, tmp_path / "data.bin")
        server.files["/data.bin"] = CONTENT[::-1]
        get(server, tmp_path / "data.bin")
        assert (tmp_path / "data.bin").read_bytes() == CONTENT[::-1]

    @pytest.mark.parametrize("fault", ["no ranges", "no tags"])
    def test_a_server_that_cannot_resume(self, server: Server, tmp_path: Path, fault: str) -> None:
        """The whole file is requested again."""
        server.tags = fault != "no tags"
        server.plain = {"/data.bin"} if fault == "no ranges" else set()
        server.faults["/data.bin"] = ["cut"]
        get(server, tmp_path / "data.bin")
        assert (tmp_path / "data.bin").read_bytes() == CONTENT

    def test_a_part_that_is_longer_than_the_file(self, server: Server, tmp_path: Path) -> None:
        """The part is removed, and the file downloaded."""
        (tmp_path / "data.bin.part").write_bytes(CONTENT + b"more")
        (tmp_path / "data.bin.part.tag").write_text(f'"{hashlib.sha1(CONTENT).hexdigest()}"')
        get(server, tmp_path / "data.bin")
        assert (tmp_path / "data.bin").read_bytes() == CONTENT

    @pytest.mark.parametrize(
        ("size", "sha256", "reason"),
        [
            (len(CONTENT) + 1, "", "1,024,000 bytes, not 1,024,001"),
            (len(CONTENT) - 1, "", "more than the 1,023,999 bytes"),
            (0, "0" * 64, "the checksum [0-9a-f]{64}, not 0{64}"),
        ],
    )
    def test_another_file_is_refused(
        self, server: Server, tmp_path: Path, size: int, sha256: str, reason: str
    ) -> None:
        """A file of another size or checksum never gets the final name."""
        with pytest.raises(DataError, match=reason):
            get(server, tmp_path / "data.bin", size=size, sha256=sha256)
        assert not (tmp_path / "data.bin").exists()

    def test_no_server(self, tmp_path: Path) -> None:
        """After a few attempts, the error is a sentence."""
        with pytest.raises(DataError, match="broke off 6 times at byte 0"):
            download("http://127.0.0.1:9/x", tmp_path / "x", pause=lambda _: None)


def archive(path: Path, members: dict[str, bytes]) -> Path:
    """A zip or tar archive with these members."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
            for name, content in members.items():
                zipped.writestr(name, content)
        return path
    with tarfile.open(path, "w:gz") as tarred:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tarred.addfile(info, io.BytesIO(content))
    return path


class TestUnpack:
    """Archives stay below their folder, and within their size."""

    @pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
    @given(names=st.sets(st.text("abc", min_size=1, max_size=3), min_size=1, max_size=4), content=st.binary())
    @settings(max_examples=10)
    def test_content_survives(
        self, name: str, names: set[str], content: bytes, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        """Every member is unpacked, and an older folder of the same name is replaced."""
        tmp_path = tmp_path_factory.mktemp("unpack")
        members = {f"x/{one}.bin": content + one.encode() for one in names}
        (tmp_path / "out" / "old").mkdir(parents=True)
        unpack(archive(tmp_path / name, members), tmp_path / "out", max_bytes=10_000)
        out = tmp_path / "out"
        unpacked = {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file()}
        assert unpacked == members
        assert not (tmp_path / "out" / "old").exists()

    @pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
    @pytest.mark.parametrize("member", ["../evil", "/evil", "x/../../evil", "x\\..\\evil"])
    def test_no_way_out(self, tmp_path: Path, name: str, member: str) -> None:
        """Nothing is unpacked from an archive with a member outside of its folder."""
        inner = tmp_path / "inner"
        inner.mkdir()
        hostile = archive(inner / name, {"good": b"1", member: b"2"})
        with pytest.raises(DataError, match="reaches out of its folder"):
            unpack(hostile, inner / "out", max_bytes=1000)
        assert [path.name for path in inner.iterdir()] == [name]
        assert [path.name for path in tmp_path.iterdir()] == ["inner"]

    @pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
    def test_no_links_or_devices(self, tmp_path: Path, kind: bytes) -> None:
        """An archive with links or devices is refused, whatever they point to."""
        with tarfile.open(tmp_path / "a.tar", "w") as tarred:
            info = tarfile.TarInfo("one")
            info.type, info.linkname = kind, "/etc/passwd"
            tarred.addfile(info)
        with pytest.raises(DataError, match="neither a file nor a folder"):
            unpack(tmp_path / "a.tar", tmp_path / "out", max_bytes=1000)

    def test_no_links_in_zip(self, tmp_path: Path) -> None:
        """In a zip archive, the mode of a member makes it a link."""
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as zipped:
            info = zipfile.ZipInfo("one")
            info.external_attr = 0o120777 << 16
            zipped.writestr(info, "/etc/passwd")
        with pytest.raises(DataError, match="neither a file nor a folder"):
            unpack(tmp_path / "a.zip", tmp_path / "out", max_bytes=1000)

    @pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
    def test_no_bombs(self, tmp_path: Path, name: str) -> None:
        """Bytes are counted as they are unpacked."""
        bomb = archive(tmp_path / name, {"zeros": bytes(10_000_000)})
        with pytest.raises(DataError, match="unpacks to more than 1,000,000 bytes"):
            unpack(bomb, tmp_path / "out", max_bytes=1_000_000)
        assert [path.name for path in tmp_path.iterdir()] == [name]

    @pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
    def test_damaged_archives(self, tmp_path: Path, name: str) -> None:
        """The error is a sentence, not that of the standard library."""
        (tmp_path / name).write_bytes(b"this is not an archive")
        with pytest.raises(DataError, match="cannot be unpacked"):
            unpack(tmp_path / name, tmp_path / "out", max_bytes=1000)


def test_a_full_disk_is_noticed_before(tmp_path: Path) -> None:
    """The error says how much is needed, how much is free, and what to do."""
    with pytest.raises(DataError, match=r"it needs 1000000000\.0 GB, and .* GB left; .*--cache"):
        check_space(tmp_path / "not" / "there", 10**18, "it")
    check_space(tmp_path, 1, "it")


class _Endless(BaseHTTPRequestHandler):
    """Answers without saying how long the answer is, and does not stop."""

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""

    def do_GET(self) -> None:
        """Send until the client has gone away."""
        self.send_response(200)
        if "?" in self.path:
            self.send_header("Content-Length", self.path.partition("?")[2])
        self.end_headers()
        with contextlib.suppress(OSError):
            while True:
                self.wfile.write(bytes(1 << 16))


@pytest.fixture
def endless() -> Iterator[str]:
    """The URL of a file without an end."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Endless) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/x"
        server.shutdown()


class TestHostileServers:
    """A server cannot fill the disk."""

    def test_a_file_without_an_end(self, endless: str, tmp_path: Path) -> None:
        """It is cut off at the size that is allowed, and nothing of it is kept."""
        with pytest.raises(DataError, match="more than the 1,000,000 bytes"):
            download(endless, tmp_path / "x", max_bytes=1_000_000)
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) == 0

    def test_a_source_is_capped_by_its_card(
        self, endless: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The card's size of the download, with a margin."""
        monkeypatch.setattr(fetch_module, "_SPARE", 1_000_000)
        table = {"licence": "CC0", "gate": "none", "download_bytes": 1_000, "disk_bytes": 1_000}
        listed = {**table, "files": [{"path": "x", "url": endless}], "layout": ["x"]}
        with pytest.raises(DataError, match="more than the 1,003,000 bytes"):
            fetch_module.fetch("c", read_sources(Table({"plain": listed}, "test")), tmp_path, quiet=True)

    def test_a_file_that_says_it_is_large(self, endless: str, tmp_path: Path) -> None:
        """It is refused before its first byte; a length in other characters than digits is not believed."""
        with pytest.raises(DataError, match="has 99,999,999 bytes, more than the 1,000,000"):
            download(f"{endless}?99999999", tmp_path / "x", max_bytes=1_000_000)
        for length in ("x", "-1", "9" * 30):
            with pytest.raises(DataError, match="more than the 1,000,000 bytes"):
                download(f"{endless}?{length}", tmp_path / "x", max_bytes=1_000_000, pause=lambda _: None)

    def test_a_full_disk(self, endless: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Some room is left, and the error says at once what is missing."""
        usage = shutil.disk_usage(tmp_path)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1 << 20))
        with pytest.raises(DataError, match="make room"):
            download(endless, tmp_path / "x")
        monkeypatch.undo()
        (tmp_path / "y.part").mkdir()
        with pytest.raises(DataError, match="cannot be written"):
            download(endless, tmp_path / "y", pause=lambda _: None)
