"""Bundles: the same run gives the same bytes, nothing secret gets in, and opening one trusts nothing."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mlrcbench
from mlrcbench.catalog.installation import read_secret
from mlrcbench.cli import main
from mlrcbench.errors import CardError, MlrcbenchError, RecordError, RunError
from mlrcbench.runs import read_results
from mlrcbench.runs.bundles import manifest_file, open_bundle, opened, read_agent_card, write_bundle
from tests.runs.bundles.conftest import CARD, forged, unpacked, write_archive


def test_the_same_run_gives_the_same_bytes(played: Path, honest: Path, tmp_path: Path) -> None:
    """Neither the clock nor the place of the run, nor the times of its files, are in a bundle."""
    copy = tmp_path / "elsewhere"
    shutil.copytree(played, copy)
    for path in copy.rglob("*"):
        os.utime(path, (1, 1))
    write_bundle(copy, tmp_path / "again.mlrc", agent="reference", card=CARD)
    assert (tmp_path / "again.mlrc").read_bytes() == honest.read_bytes()


def test_an_opened_bundle_is_the_run_of_one_agent(played: Path, honest: Path, tmp_path: Path) -> None:
    """Results and records are those of the run; logs stay behind; a compressed bundle is the same one."""
    (compressed := tmp_path / "run.mlrc.gz").write_bytes(gzip.compress(honest.read_bytes()))
    (before,) = (one for one in read_results(played) if one.assignment.agent == "reference")
    digests = set()
    for path in (honest, compressed):
        with open_bundle(path) as bundle:
            (result,) = bundle.results
            record = mlrcbench.read_record(result.folder / str(result.record))
            assert (result.assignment, result.test, result.dev) == (
                before.assignment,
                before.test,
                before.dev,
            )
            assert bundle.planned == [result.assignment]
            assert bundle.manifest.card == CARD
            assert record.evaluations == mlrcbench.read_record(before.folder / str(before.record)).evaluations
            assert not list(bundle.root.rglob("log.txt"))
            digests.add(bundle.digest)
        assert not bundle.root.exists()
    assert len(digests) == 1


def test_what_archives_cannot_hold_is_named(played: Path, tmp_path: Path) -> None:
    """Links are left out and listed, empty folders and execute bits are kept, two agents need a choice."""
    shutil.copytree(played, tmp_path / "run")
    (workspace,) = (tmp_path / "run" / "episodes").glob(
        "*reference*/records/*/evaluations/002-test/workspace"
    )
    (workspace / "link").symlink_to("/etc/passwd")
    (workspace / "empty").mkdir()
    (workspace / "method.py").chmod(0o755)
    packed = write_bundle(tmp_path / "run", tmp_path / "a.mlrc", agent="reference")
    assert [name.rpartition("/")[2] for name in packed.manifest.left_out] == ["link'"]
    with open_bundle(packed.path) as bundle:
        (copy,) = bundle.root.rglob("002-test/workspace")
        assert (copy / "empty").is_dir()
        assert os.access(copy / "method.py", os.X_OK)
        assert not os.access(copy / "main.py", os.X_OK)
    with pytest.raises(RunError, match="holds one agent, and the run has 2: baseline, reference"):
        write_bundle(played, tmp_path / "b.mlrc")
    with pytest.raises(RunError, match="Did you mean 'reference'"):
        write_bundle(played, tmp_path / "b.mlrc", agent="referense")


@pytest.mark.parametrize(
    ("secret", "named"),
    [
        (lambda: read_secret(None)[1], "the secret of the instances"),
        (lambda: read_secret(None)[1].hex().encode(), "the secret of the instances"),
        (lambda: b"a secret of my own", "the secret of the instances"),
        (lambda: b"a long value of a variable", "the environment variable MY_API_TOKEN"),
        (lambda: b"-----BEGIN OPENSSH PRIVATE KEY-----", "a private key"),
        (lambda: b"sk-" + b"a1B2" * 10, "a key of a model's provider"),
        (lambda: b"ghp_" + b"a1B2" * 9, "a token of a code host"),
    ],
)
def test_nothing_secret_gets_into_a_bundle(
    secret: Callable[[], bytes], named: str, played: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Secrets are found wherever they are in a file; the error says which kind, but not the secret."""
    monkeypatch.setenv("MY_API_TOKEN", "a long value of a variable")
    shutil.copytree(played, tmp_path / "run")
    (outputs,) = (tmp_path / "run" / "episodes").glob("*reference*/records/*/outputs")
    text = b"x" * ((1 << 20) - 5) + b" " + secret() + b" " + b"y" * 100
    (outputs / "1.txt").write_bytes(text)
    with pytest.raises(RunError, match=named) as caught:
        write_bundle(tmp_path / "run", tmp_path / "a.mlrc", agent="reference", secret="a secret of my own")
    assert secret().decode("latin-1") not in str(caught.value)
    assert not list(tmp_path.glob("*.mlrc*"))


def test_where_the_users_server_is_stays_private(played: Path, tmp_path: Path) -> None:
    """The plan in a bundle lacks the address of a model's server, the name of the key and paths of files."""
    shutil.copytree(played, tmp_path / "run")
    plan = json.loads((tmp_path / "run" / "run.json").read_text())
    options = {"base_url": "http://user@host", "key_variable": "K", "prices": "/home/u/p", "context": 9}
    (tmp_path / "run" / "run.json").write_text(json.dumps({**plan, "llm": options}))
    packed = write_bundle(tmp_path / "run", tmp_path / "a.mlrc", agent="reference")
    assert json.loads(unpacked(packed.path)["run.json"])["llm"] == {"context": 9}


def _member(name: str, kind: bytes, target: str = "") -> Callable[[Path, Path], None]:
    """An attacker who adds a member to the archive."""

    def attack(honest: Path, out: Path) -> None:
        shutil.copy(honest, out)
        with tarfile.open(out, "a", format=tarfile.PAX_FORMAT) as archive:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            info.size = 1 if kind == tarfile.REGTYPE else 0
            archive.addfile(info, io.BytesIO(b"x"))

    return attack


def _manifest(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path, Path], None]:
    """An attacker who changes the manifest."""

    def attack(honest: Path, out: Path) -> None:
        files = unpacked(honest)
        manifest = json.loads(files["manifest.json"])
        change(manifest)
        write_archive(out, {**files, "manifest.json": json.dumps(manifest).encode()})

    return attack


def _as(write: Callable[[bytes], bytes]) -> Callable[[Path, Path], object]:
    return lambda honest, out: out.write_bytes(write(honest.read_bytes()))


def _zip(data: bytes) -> bytes:
    with zipfile.ZipFile(file := io.BytesIO(), "w") as archive:
        archive.writestr("manifest.json", data[:100])
    return file.getvalue()


def _changed(files: dict[str, bytes]) -> dict[str, bytes]:
    name = next(name for name in files if name.endswith("predictions.npy"))
    return {**files, name: files[name][:-1] + b"x"}


def _odd_place(honest: Path, out: Path) -> None:
    forged(honest, out.parent, lambda files: (files / "x.py").write_text("")).rename(out)
    shutil.rmtree(out.parent / "files")


_EPISODE = "episodes/a/records/b"
_ABOVE = f"{_EPISODE}/outputs/../../../../../x"
ATTACKS: dict[str, tuple[Callable[[Path, Path], Any], str]] = {
    "symbolic link": (_member("x", tarfile.SYMTYPE, "/etc/passwd"), "neither a file nor a folder"),
    "hard link": (_member("x", tarfile.LNKTYPE, "run.json"), "neither a file nor a folder"),
    "device": (_member("x", tarfile.CHRTYPE), "neither a file nor a folder"),
    "pipe": (_member("x", tarfile.FIFOTYPE), "neither a file nor a folder"),
    "above": (_member("../x", tarfile.REGTYPE), "reaches out of its folder"),
    "within above": (_member(f"{_EPISODE}/outputs/../../x", tarfile.REGTYPE), "reaches out of its folder"),
    "absolute": (_member("/tmp/x", tarfile.REGTYPE), "reaches out of its folder"),
    "twice": (_member("run.json", tarfile.REGTYPE), "twice"),
    "unlisted": (_member(f"{_EPISODE}/outputs/x", tarfile.REGTYPE), "does not list"),
    "terminal": (_member(f"{_EPISODE}/outputs/\x1b]0;owned\x07", tarfile.REGTYPE), r"x1b\]0;owned"),
    "changed": (lambda honest, out: write_archive(out, _changed(unpacked(honest))), "is not the file that"),
    "odd place": (_odd_place, "x.py"),
    "missing": (_manifest(lambda data: data["files"].update(x=data["files"]["run.json"])), "lacks 'x'"),
    "version": (_manifest(lambda data: data.update(version=2)), "reads up to 1"),
    "format": (_manifest(lambda data: data.update(format="x")), "not the manifest of a bundle"),
    "no files": (_manifest(lambda data: data.pop("files")), "lacks 'files'"),
    "digest": (_manifest(lambda data: data["files"]["run.json"].update(sha256="x")), "cannot be read"),
    "nested": (_manifest(lambda data: data.update(left_out=[[["x"]]])), "cannot be read"),
    "card": (_manifest(lambda data: data["card"].update(name="\x1b[31m")), "not printable"),
    "folder": (_manifest(lambda data: data.update(folders=[_ABOVE])), "cannot have"),
    "folder on a file": (_manifest(lambda data: data.update(folders=["run.json"])), "cannot be made"),
    "xz": (_as(lzma.compress), "does not begin with"),
    "zip": (_as(_zip), "does not begin with"),
    "text": (_as(lambda _: b"hello"), "does not begin with"),
    "empty": (_as(lambda _: b""), "does not begin with"),
    "torn": (_as(lambda data: data[: len(data) // 2]), "cannot be (opened|unpacked)"),
    "gzip of nothing": (_as(lambda _: gzip.compress(b"")), "cannot be opened"),
}  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
def test_a_hostile_bundle_is_refused(
    name: str, honest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each is refused with a sentence that a terminal can show, and nothing is left of it."""
    attack, reason = ATTACKS[name]
    path = tmp_path / "hostile.mlrc"
    attack(honest, path)
    before = set(tmp_path.iterdir())
    with pytest.raises(RecordError, match=reason), open_bundle(path):
        pass
    assert set(tmp_path.iterdir()) == before
    assert main(["verify", str(path), "--quiet"]) == 2
    assert "\x1b" not in capsys.readouterr().err


def test_an_archive_that_grows_is_stopped(
    honest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small file that unpacks to a large one, or to very many, is refused while it is unpacked."""
    files = unpacked(honest)
    bomb = write_archive(tmp_path / "a.mlrc", {**files, f"{_EPISODE}/outputs/x": bytes(8 << 20)})
    (tmp_path / "bomb.mlrc.gz").write_bytes(gzip.compress(bomb.read_bytes()))
    assert (tmp_path / "bomb.mlrc.gz").stat().st_size < 1 << 20
    many = write_archive(
        tmp_path / "many.mlrc", {**files, **{f"{_EPISODE}/outputs/{i}": b"" for i in range(99)}}
    )
    monkeypatch.setattr(opened, "MAX_BUNDLE_BYTES", 1 << 20)
    monkeypatch.setattr(opened, "MAX_MANIFEST_BYTES", 1 << 20)
    monkeypatch.setattr(opened, "MAX_FILES", 40)
    for path, reason in ((tmp_path / "bomb.mlrc.gz", "unpacks to more than"), (many, "more than 80 files")):
        with pytest.raises(RecordError, match=reason), open_bundle(path):
            pass
    assert manifest_file.MAX_BUNDLE_BYTES == 4 << 30


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    """A pipe, a folder, a missing file and a file of another name are refused at once."""
    os.mkfifo(tmp_path / "pipe.mlrc")
    (tmp_path / "folder.mlrc").mkdir()
    for name in ("pipe.mlrc", "folder.mlrc", "missing.mlrc", "run.tar"):
        with pytest.raises(RecordError, match=r"is not a (file|bundle)"), open_bundle(tmp_path / name):
            pass


@pytest.mark.parametrize(
    "text",
    [
        "name = 'a'\nmodel = 'b'\nauthors = []\nlicence = 'c'",
        "name = 'a'\nmodel = 'b'\nauthors = ['x']",
        "name = \"\\u001b[31m\"\nmodel = 'b'\nauthors = ['x']\nlicence = 'c'",
        f"name = '{'a' * 501}'\nmodel = 'b'\nauthors = ['x']\nlicence = 'c'",
        "name = 'a'\nmodel = 'b'\nauthors = [1]\nlicence = 'c'",
        "name = 'a'\nmodel = 'b'\nauthors = ['x']\nlicence = 'c'\nemail = 'x'",
        "name = ",
    ],
)
def test_an_agents_card_is_checked(text: str, tmp_path: Path) -> None:
    """A card has a name, a model, authors and a licence, all short and printable, and nothing else."""
    (tmp_path / "card.toml").write_text(text)
    with pytest.raises(CardError):
        read_agent_card(tmp_path / "card.toml")


def test_the_command_writes_a_bundle(
    played: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command reads the card and prints the digest of the file."""
    (tmp_path / "card.toml").write_text(
        "name = 'Reference'\nmodel = 'none'\nauthors = ['A']\nlicence = 'MIT'\ncontact = 'a@example.org'\n"
    )
    out = tmp_path / "a.mlrc"
    command = ["bundle", str(played), "--out", str(out), "--agent", "reference"]
    assert main([*command, "--card", str(tmp_path / "card.toml"), "--quiet"]) == 0
    assert "1 episodes of reference\nsha256 " in capsys.readouterr().out
    with open_bundle(out) as bundle:
        assert bundle.manifest.card is not None
        assert bundle.manifest.card.contact == "a@example.org"
    assert main(["bundle", str(played), "--out", str(tmp_path / "a.tar"), "--quiet"]) == 2
    with pytest.raises(MlrcbenchError, match="no run"):
        write_bundle(tmp_path, out)
