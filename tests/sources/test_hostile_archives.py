"""Archives that lie about themselves: only one error comes out, with bounded memory and disk."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import random
import resource
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mlrcbench.errors import DataError
from mlrcbench.sources import archives
from mlrcbench.sources.archives import MAX_DEPTH, unpack

CONTENT = {"a/b.txt": b"text" * 500, "c.bin": bytes(range(256)) * 20, "empty": b""}
LIMIT = 1_000_000


def tar(members: dict[str, bytes] = CONTENT, **headers: str) -> bytes:
    """A tar archive, whose first member has these pax headers."""
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w") as writer:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.pax_headers, headers = len(content), headers, {}
            writer.addfile(info, io.BytesIO(content))
    return memory.getvalue()


def zipped(kind: int, members: dict[str, bytes] = CONTENT) -> bytes:
    """A zip archive with one kind of compression."""
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", kind) as writer:
        for name, content in members.items():
            writer.writestr(name, content)
        writer.comment = b"a comment"
    return memory.getvalue()


KINDS: dict[str, Callable[[], bytes]] = {
    "plain.tar": tar,
    "long.tar": lambda: tar({"n" * 150: b"x", **CONTENT}, comment="c" * 600),
    "gz.tar.gz": lambda: gzip.compress(tar()),
    "bz.tar": lambda: bz2.compress(tar()),
    "xz.tar": lambda: lzma.compress(tar()),
    "stored.zip": lambda: zipped(zipfile.ZIP_STORED),
    "deflated.zip": lambda: zipped(zipfile.ZIP_DEFLATED),
}


def _write(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def _files(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def _mutated(data: bytes, random_: random.Random) -> bytes:
    """Real data with a few bytes changed, cut out, doubled or inserted."""
    changed = bytearray(data)
    for _ in range(random_.choice((1, 1, 2, 5))):
        at, length = random_.randrange(len(changed)), random_.randrange(1, 40)
        pieces = {
            "flip": bytes([changed[at] ^ 1 << random_.randrange(8)]),
            "cut": b"",
            "double": bytes(changed[at : at + length]) * 2,
            "noise": random_.randbytes(length),
            "large": b"\xff" * length,
        }
        kind = random_.choice(list(pieces))
        changed[at : at + (1 if kind == "flip" else length)] = pieces[kind]
        if not changed or (kind == "cut" and random_.random() < 0.2):
            changed = changed[:at] or bytearray(1)
    return bytes(changed)


@pytest.mark.parametrize("name", KINDS)
def test_whole_archives_are_unpacked(name: str, tmp_path: Path) -> None:
    """Every kind of compression, and long names."""
    unpack(_write(tmp_path, name, KINDS[name]()), tmp_path / "out", max_bytes=LIMIT)
    assert _files(tmp_path / "out").items() >= CONTENT.items()


@pytest.mark.parametrize("name", KINDS)
def test_mutations_raise_one_error(name: str, tmp_path: Path) -> None:
    """A damaged archive raises it or, if the damage is in no content, is unpacked; nothing is left over."""
    data, random_ = KINDS[name](), random.Random(name)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(200):
        path = _write(tmp_path, name, _mutated(data, random_))
        with contextlib.suppress(DataError):
            unpack(path, tmp_path / "out", max_bytes=LIMIT)
        assert sum(map(len, _files(tmp_path).values())) <= LIMIT + path.stat().st_size
        assert {one.name for one in tmp_path.iterdir()} <= {name, "out"}
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000, "kilobytes"


@pytest.mark.parametrize("name", ["gz.tar.gz", "bz.tar", "xz.tar", "deflated.zip"])
def test_a_wrong_checksum_is_refused(name: str, tmp_path: Path) -> None:
    """Also one that lies behind the last member."""
    data = bytearray(KINDS[name]())
    if name.endswith(".zip"):
        at = data.index(b"PK\x01\x02") + 16
    else:
        at = len(data) - {"gz": 8, "bz": 5, "xz": 20}[name[:2]]
    data[at] ^= 0x55
    with pytest.raises(DataError, match="cannot be unpacked"):
        unpack(_write(tmp_path, name, bytes(data)), tmp_path / "out", max_bytes=LIMIT)


def test_a_damaged_header_does_not_end_an_archive_early(tmp_path: Path) -> None:
    """Python's reader takes it for the end."""
    data = bytearray(tar())
    data[data.index(b"c.bin")] = 0
    with pytest.raises(DataError, match="header is damaged"):
        unpack(_write(tmp_path, "a.tar", bytes(data)), tmp_path / "out", max_bytes=LIMIT)
    with pytest.raises(DataError, match="cannot be unpacked"):
        unpack(_write(tmp_path, "a.tar", tar()[:3072]), tmp_path / "out", max_bytes=LIMIT)


BOMB = """
import gzip, resource, sys, tarfile
from pathlib import Path
from mlrcbench.errors import DataError
from mlrcbench.sources.archives import unpack
kind, folder = sys.argv[1], Path(sys.argv[2])
info = tarfile.TarInfo("long")
info.type, info.size = {"gnu": tarfile.GNUTYPE_LONGNAME, "pax": tarfile.XHDTYPE}[kind], 3 << 30
with gzip.open(folder / "a.tar.gz", "wb", 1) as file:
    file.write(info.tobuf())
    for _ in range(120):
        file.write(b"x" * (1 << 20))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    unpack(folder / "a.tar.gz", folder / "out", max_bytes=1000)
except DataError as error:
    print(error, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("kind", ["gnu", "pax"])
def test_a_name_of_gigabytes_takes_no_memory(kind: str, tmp_path: Path) -> None:
    """It is refused before it is read."""
    done = subprocess.run(
        [sys.executable, "-c", BOMB, kind, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert "header of more than" in done.stdout, done.stderr
    assert int(done.stdout.split()[-1]) < 60_000, "kilobytes"


@pytest.mark.parametrize("kind", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_that_python_undoes_in_one_go_is_refused(kind: int, tmp_path: Path) -> None:
    """A few hundred bytes could take gigabytes of memory."""
    path = _write(tmp_path, "a.zip", zipped(kind))
    with pytest.raises(DataError, match="must be compressed by deflate"):
        unpack(path, tmp_path / "out", max_bytes=LIMIT)


def test_folders_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are members, and those that are made for a member."""
    monkeypatch.setattr(archives, "MAX_ENTRIES", 100)
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w") as writer:
        for number in range(101):
            info = tarfile.TarInfo(f"folder-{number}")
            info.type = tarfile.DIRTYPE
            writer.addfile(info)
    inner = {f"{'/'.join([str(number)] * 30)}/file": b"" for number in range(4)}
    for data in (memory.getvalue(), tar(inner)):
        with pytest.raises(DataError, match="more than 100 files and folders"):
            unpack(_write(tmp_path, "a.tar", data), tmp_path / "out", max_bytes=LIMIT)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"a": b"1", "a/b": b"2"}, "'a' twice"),
        ({"a/b": b"1", "a": b"2"}, "'a' twice"),
        ({"x" * 300: b"1"}, "cannot be unpacked"),
        ({"/".join("d" * (MAX_DEPTH + 1)): b"1"}, "folders around it"),
    ],
)
@pytest.mark.parametrize("name", ["a.tar", "a.zip"])
def test_names_that_no_disk_can_have(
    members: dict[str, bytes], message: str, name: str, tmp_path: Path
) -> None:
    """A file that is a folder, too long a name, and too many folders."""
    data = tar(members) if name == "a.tar" else zipped(zipfile.ZIP_STORED, members)
    with pytest.raises(DataError, match=message):
        unpack(_write(tmp_path, name, data), tmp_path / "out", max_bytes=LIMIT)
    assert not (tmp_path / "out").exists()
