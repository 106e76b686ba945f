"""A real run of two agents on the template, and the means to change a bundle as its author could."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from mlrcbench.cli import main
from mlrcbench.runs import run
from mlrcbench.runs.bundles import AgentCard, write_bundle
from mlrcbench.runs.bundles.manifest_file import BundledFile, read_manifest
from tests.runs.report.conftest import HOSTILE

CARD = AgentCard("Reference", "none", ("A. Author", "B. Author"), "CC-BY-4.0")
Change = Callable[[Path], object]


@pytest.fixture(scope="package")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run of `baseline` and `reference` on one instance."""
    directory = tmp_path_factory.mktemp("played") / "run"
    run(["baseline", "reference"], ["_template"], directory=directory, jobs=2)
    return directory


@pytest.fixture(scope="package")
def honest(played: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of `reference`."""
    path = tmp_path_factory.mktemp("honest") / "run.mlrc"
    write_bundle(played, path, agent="reference", card=CARD)
    return path


def write_archive(path: Path, files: Mapping[str, bytes]) -> Path:
    """Write an archive of files, as they are."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def unpacked(path: Path) -> dict[str, bytes]:
    """The files of a bundle, the manifest first."""
    with tarfile.open(path) as archive:
        return {name: archive.extractfile(name).read() for name in archive.getnames()}  # type: ignore[union-attr]


def forged(path: Path, out: Path, change: Change) -> Path:
    """A bundle that its author changed, with a manifest that fits.

    Args:
        path: A bundle.
        out: A new folder.
        change: Changes the files of a folder.
    """
    files = out / "files"
    for name, content in unpacked(path).items():
        (files / name).parent.mkdir(parents=True, exist_ok=True)
        (files / name).write_bytes(content)
    manifest = read_manifest(files)
    change(files)
    names = sorted(str(entry.relative_to(files)) for entry in files.rglob("*") if entry.is_file())
    contents = {name: (files / name).read_bytes() for name in names if name != "manifest.json"}
    listed = {
        name: BundledFile(len(content), hashlib.sha256(content).hexdigest())
        for name, content in contents.items()
    }
    text = dataclasses.replace(manifest, files=listed).to_text().encode()
    return write_archive(out / "forged.mlrc", {"manifest.json": text, **contents})


def change_rows(kind: str, **entries: object) -> Change:
    """A change of all rows of a kind in all records; a value that is a function gets the old value."""

    def change(files: Path) -> None:
        for path in files.rglob("record.jsonl"):
            rows = [json.loads(line) for line in path.read_text().splitlines()]
            for row in rows:
                if row["kind"] == kind:
                    row.update({key: new(row[key]) if callable(new) else new for key, new in entries.items()})
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    return change


@pytest.fixture(scope="package")
def site(played: Path, honest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an honest bundle, verified and retested, a hostile one, and its `site`."""
    folder = tmp_path_factory.mktemp("board")
    shutil.copy(honest, folder / "honest.mlrc")
    card = AgentCard(HOSTILE, HOSTILE, (HOSTILE,), HOSTILE, HOSTILE)
    plain = write_bundle(played, folder / "plain.mlrc", agent="baseline", card=card).path
    isolation = {"tier": HOSTILE[:40], "enforced": [], "missing": [HOSTILE]}
    forged(plain, folder, change_rows("header", isolation=isolation))
    shutil.rmtree(folder / "files")
    plain.unlink()
    checks, tests = str(folder / "honest.verify.json"), str(folder / "honest.retest.json")
    assert main(["verify", str(folder / "honest.mlrc"), "--json", checks, "--quiet"]) == 0
    command = ["retest", str(folder / "honest.mlrc"), "--instances", "2", "--json", tests, "--quiet"]
    assert main(command) in (0, 1)
    failing = str(folder / "forged.verify.json")
    assert main(["verify", str(folder / "forged.mlrc"), "--json", failing, "--quiet"]) == 1
    assert main(["board", str(folder), "--out", str(folder / "site"), "--title", HOSTILE, "--quiet"]) == 0
    return folder / "site"
