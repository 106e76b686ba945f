"""Downloads: resumed, retried, checked; and archives that mean harm."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlrcbench.errors import DataError
from mlrcbench.sources.archives import check_space, unpack
from mlrcbench.sources.download import ATTEMPTS, download
from tests.sources.server import Server, serving

CONTENT = bytes(range(256)) * 4000  # 1 MB


@pytest.fixture
def server() -> Iterator[Server]:
    """With one file."""
    with serving() as started:
        started.files["/data.bin"] = CONTENT
        yield started


def get(server: Server, target: Path, *, size: int = 0, sha256: str = "") -> list[float]:
    """Download it without really waiting; how long it would have waited each time."""
    pauses: list[float] = []
    download(f"{server.url}/data.bin", target, size=size, sha256=sha256, pause=pauses.append)
    return pauses


class TestDownload:
    """What arrives is the file, or nothing."""

    def test_it_arrives(self, server: Server, tmp_path: Path) -> None:
        """In folders that did not exist; nothing else is left beside it."""
        digest = hashlib.sha256(CONTENT).hexdigest()
        assert get(server, tmp_path / "deep" / "data.bin", size=len(CONTENT), sha256=digest) == []
        assert (tmp_path / "deep" / "data.bin").read_bytes() == CONTENT
        assert [path.name for path in (tmp_path / "deep").iterdir()] == ["data.bin"]

    def test_a_cut_connection_is_resumed(self, server: Server, tmp_path: Path) -> None:
        """Each byte is sent once, however often the connection ends."""
        server.faults["/data.bin"] = ["cut"] * 4
        get(server, tmp_path / "data.bin")
        assert (tmp_path / "data.bin").read_bytes() == CONTENT
        assert server.sent == len(CONTENT)
        assert server.seen["/data.bin"] == 5

    def test_a_later_call_resumes(self, server: Server, tmp_path: Path) -> None:
        """What an interrupted call left is not sent again."""
        server.faults["/data.bin"] = ["cut", *[503] * ATTEMPTS]
        with pytest.raises(DataError, match=r"broke off 6 times at byte 512,000.*503.*goes on from there"):
            get(server, tmp_path / "data.bin")
        assert not (tmp_path / "data.bin").exists()
        get(server, tmp_path / "data.bin")
        assert (tmp_path / "data.bin").read_bytes() == CONTENT
        assert server.sent == len(CONTENT)

    def test_it_waits_longer_each_time(self, server: Server, tmp_path: Path) -> None:
        """Twice as long, give or take, and begins anew after progress."""
        server.faults["/data.bin"] = [503, 429, 500, "cut", 502]
        pauses = get(server, tmp_path / "data.bin")
        assert [low <= pause <= 2 * low for pause, low in zip(pauses, [1, 2, 4, 0.5, 1], strict=True)]

    @pytest.mark.parametrize("status", [401, 403, 404])
    def test_a_refusal_is_final(self, server: Server, tmp_path: Path, status: int) -> None:
        """Asking again would not help."""
        server.faults["/data.bin"] = [status]
        with pytest.raises(DataError, match=f"cannot be had: the server says {status}"):
            get(server, tmp_path / "data.bin")
        assert server.seen["/data.bin"] == 1

    def test_a_changed_file_begins_anew(self, server: Server, tmp_path: Path) -> None:
        """Halves of two versions are never put together."""
        server.faults["/data.bin"] = ["cut", *[503] * ATTEMPTS]
        with pytest.raises(DataError):
            get(server, tmp_path / "data.bin")
        server.files["/data.bin"] = CONTENT[::-1]
        get(server, tmp_path / "data.bin")
        assert (tmp_path / "data.bin").read_bytes() == CONTENT[::-1]

    @pytest.mark.parametrize("fault", ["no ranges", "no tags"])
    def test_a_server_that_cannot_resume(self, server: Server, tmp_path: Path, fault: str) -> None:
        """It is asked for the whole again."""
        server.tags = fault != "no tags"
        server.plain = {"/data.bin"} if fault == "no ranges" else set()
        server.faults["/data.bin"] = ["cut"]
        get(server, tmp_path / "data.bin")
        assert (tmp_path / "data.bin").read_bytes() == CONTENT

    def test_a_part_that_is_longer_than_the_file(self, server: Server, tmp_path: Path) -> None:
        """It is dropped, and the file fetched."""
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
        """By size or checksum; it never takes the name."""
        with pytest.raises(DataError, match=reason):
            get(server, tmp_path / "data.bin", size=size, sha256=sha256)
        assert not (tmp_path / "data.bin").exists()

    def test_nobody_there(self, tmp_path: Path) -> None:
        """A sentence, after a few attempts."""
        with pytest.raises(DataError, match="broke off 6 times at byte 0"):
            download("http://127.0.0.1:9/x", tmp_path / "x", pause=lambda _: None)


def archive(path: Path, members: dict[str, bytes]) -> Path:
    """A zip or tar archive with these members."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as box:
            for name, content in members.items():
                box.writestr(name, content)
        return path
    with tarfile.open(path, "w:gz") as tape:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tape.addfile(info, io.BytesIO(content))
    return path


class TestUnpack:
    """Archives stay below their folder, and within their size."""

    @pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
    @given(names=st.sets(st.text("abc", min_size=1, max_size=3), min_size=1, max_size=4), content=st.binary())
    @settings(max_examples=10)
    def test_content_survives(
        self, name: str, names: set[str], content: bytes, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        """Every member, in its folder; an older folder of the name is replaced."""
        tmp_path = tmp_path_factory.mktemp("unpack")
        members = {f"x/{one}.bin": content + one.encode() for one in names}
        (tmp_path / "out" / "old").mkdir(parents=True)
        unpack(archive(tmp_path / name, members), tmp_path / "out", max_bytes=10_000)
        out = tmp_path / "out"
        found = {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file()}
        assert found == members
        assert not (tmp_path / "out" / "old").exists()

    @pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
    @pytest.mark.parametrize("member", ["../evil", "/evil", "x/../../evil", "x\\..\\evil"])
    def test_no_way_out(self, tmp_path: Path, name: str, member: str) -> None:
        """Nothing is left of an archive that tries."""
        inner = tmp_path / "inner"
        inner.mkdir()
        box = archive(inner / name, {"good": b"1", member: b"2"})
        with pytest.raises(DataError, match="reaches out of its folder"):
            unpack(box, inner / "out", max_bytes=1000)
        assert [path.name for path in inner.iterdir()] == [name]
        assert [path.name for path in tmp_path.iterdir()] == ["inner"]

    @pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
    def test_no_links_or_devices(self, tmp_path: Path, kind: bytes) -> None:
        """Whatever they point to."""
        with tarfile.open(tmp_path / "a.tar", "w") as tape:
            info = tarfile.TarInfo("one")
            info.type, info.linkname = kind, "/etc/passwd"
            tape.addfile(info)
        with pytest.raises(DataError, match="neither a file nor a folder"):
            unpack(tmp_path / "a.tar", tmp_path / "out", max_bytes=1000)

    def test_no_links_in_zip(self, tmp_path: Path) -> None:
        """A link is a mode there."""
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as box:
            info = zipfile.ZipInfo("one")
            info.external_attr = 0o120777 << 16
            box.writestr(info, "/etc/passwd")
        with pytest.raises(DataError, match="neither a file nor a folder"):
            unpack(tmp_path / "a.zip", tmp_path / "out", max_bytes=1000)

    @pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
    def test_no_bombs(self, tmp_path: Path, name: str) -> None:
        """Bytes are counted as they come out."""
        box = archive(tmp_path / name, {"zeros": bytes(10_000_000)})
        with pytest.raises(DataError, match="unpacks to more than 1,000,000 bytes"):
            unpack(box, tmp_path / "out", max_bytes=1_000_000)
        assert [path.name for path in tmp_path.iterdir()] == [name]

    @pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
    def test_damage_is_told(self, tmp_path: Path, name: str) -> None:
        """No trace of a stack."""
        (tmp_path / name).write_bytes(b"this is no archive")
        with pytest.raises(DataError, match="cannot be unpacked"):
            unpack(tmp_path / name, tmp_path / "out", max_bytes=1000)


def test_a_full_disk_is_told_before(tmp_path: Path) -> None:
    """How much is needed, how much there is, and what to do."""
    with pytest.raises(DataError, match=r"it needs 1000000000\.0 GB, and .* GB left; .*--cache"):
        check_space(tmp_path / "not" / "there", 10**18, "it")
    check_space(tmp_path, 1, "it")
