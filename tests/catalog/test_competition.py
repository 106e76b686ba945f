"""Instances are built once, and completely or not at all; the same key gives the same files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import mlrcbench
from mlrcbench.catalog.canary import CANARY
from mlrcbench.catalog.competition import Competition
from mlrcbench.catalog.instances import verified_digest
from mlrcbench.catalog.registry import get_competition
from mlrcbench.errors import CardError, DataError
from mlrcbench.score import SPLITS
from mlrcbench.storage.trees import hash_tree


@pytest.fixture
def fresh_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home."""
    monkeypatch.setenv("MLRCBENCH_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def template() -> Competition:
    """The template, with nothing cached in memory."""
    return Competition(get_competition("_template").folder)


def _copy(template: Competition, tmp_path: Path, **changes: str) -> Competition:
    """The template with other texts in its files."""
    folder = tmp_path / "_template"
    shutil.copytree(template.folder, folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in changes.items():
        (folder / f"{name}.py").write_text(text)
    return Competition(folder)


def test_seeds_and_secrets_make_different_instances(fresh_home: Path, template: Competition) -> None:
    """Two seeds differ, two secrets differ, and the same key gives the same digest."""
    first = template.instance(0)
    assert template.instance(0) == first
    others = [
        template.instance(1),
        *(template.instance(0, secret=own) for own in ("public", "my own secret")),
    ]
    assert len({first.digest, *(other.digest for other in others)}) == 4
    assert [first.secret_kind, *(other.secret_kind for other in others)] == [
        "installation",
        "installation",
        "public",
        "own",
    ]


@pytest.mark.parametrize("changed", ["scorer.py", "scorer_full.py"])
def test_real_data_is_converted_again_where_its_scorer_has_changed(changed: str, tmp_path: Path) -> None:
    """Either scorer counts, because the scorer of the full tier may use the other one."""
    folder = tmp_path / "rainfall_prediction"
    shutil.copytree(get_competition("rainfall-prediction").folder, folder)
    before = Competition(folder)._code_digest("full")
    with (folder / changed).open("a") as file:
        file.write("CHANGED = True\n")
    assert Competition(folder)._code_digest("full") != before


def test_one_key_is_bit_identical_across_processes(
    fresh_home: Path, tmp_path: Path, template: Competition
) -> None:
    """The files are the same when they are built in another process and another home."""
    here = template.instance(3, secret="shared secret")
    code = (
        "import mlrcbench; "
        "print(mlrcbench.get_competition('_template').instance(3, secret='shared secret').root)"
    )
    environment = {**os.environ, "MLRCBENCH_HOME": str(tmp_path / "other")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    there = Path(done.stdout.strip())
    assert there != here.root
    assert hash_tree(there / "private") == hash_tree(here.root / "private")
    assert hash_tree(there / "public") == hash_tree(here.public)


def test_the_installation_secret_is_private_and_drawn_once(fresh_home: Path, template: Competition) -> None:
    """It consists of 32 random bytes that only this user can read."""
    template.instance(0)
    secret = fresh_home / "secret"
    assert secret.stat().st_mode & 0o777 == 0o600
    assert len(secret.read_bytes()) == 32
    before = secret.read_bytes()
    template.instance(1)
    assert secret.read_bytes() == before


def test_private_files_are_private(fresh_home: Path, template: Competition) -> None:
    """Only this user can enter the answers' folders and read their digests; files are read-only."""
    instance = template.instance(0)
    for split in SPLITS:
        assert instance.answers(split).stat().st_mode & 0o777 == 0o700
    assert (instance.root / "manifest.json").stat().st_mode & 0o777 == 0o600
    for folder in (fresh_home, instance.root, instance.root / "private"):
        assert folder.stat().st_mode & 0o777 == 0o711
    assert (instance.answers("test") / "y.npy").stat().st_mode & 0o777 == 0o444


def test_a_damaged_cache_is_noticed(fresh_home: Path, template: Competition) -> None:
    """A changed byte is an error that says what to delete; after that, it is built again."""
    instance = template.instance(0)
    answers = instance.answers("test") / "y.npy"
    answers.chmod(0o644)
    data = bytearray(answers.read_bytes())
    data[-1] ^= 1
    answers.write_bytes(data)
    verified_digest.cache_clear()
    with pytest.raises(DataError, match="damaged; delete"):
        template.instance(0)
    shutil.rmtree(instance.root)
    assert template.instance(0).digest == instance.digest


def test_a_failed_build_leaves_nothing(fresh_home: Path, tmp_path: Path, template: Competition) -> None:
    """The error holds the traceback; no half instance stays."""
    broken = _copy(template, tmp_path, data="def build(public, private, *, seed, tier):\n    1 / 0\n")
    with pytest.raises(DataError, match="ZeroDivisionError"):
        broken.instance(0)
    names = [path.name for path in (fresh_home / "instances").glob("*/*")]
    assert [name for name in names if not name.endswith(".lock")] == []


def test_a_build_may_leave_only_files_and_folders(
    fresh_home: Path, tmp_path: Path, template: Competition
) -> None:
    """A link in an instance is refused."""
    code = "def build(public, private, *, seed, tier):\n    (public / 'x').symlink_to('/etc')\n"
    with pytest.raises(DataError, match="neither a file nor a folder"):
        _copy(template, tmp_path, data=code).instance(0)


def test_two_builders_at_once_agree(fresh_home: Path, tmp_path: Path) -> None:
    """Processes that ask for the same instance at the same time get the same one, built once."""
    call = "mlrcbench.get_competition('_template').instance(0, secret='a secret')"
    code = f"import mlrcbench; print({call}.digest)"

    def ask(_: int) -> str:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        return done.stdout

    with ThreadPoolExecutor(4) as pool:
        digests = set(pool.map(ask, range(4)))
    assert len(digests) == 1
    assert len(list((fresh_home / "instances").glob("*/*/manifest.json"))) == 1
    assert not list((fresh_home / "instances").glob("*/.building-*"))


def test_progress_is_reported(fresh_home: Path, tmp_path: Path, template: Competition) -> None:
    """The build's last line of output arrives while it runs."""
    code = (
        "import time\ndef build(public, private, *, seed, tier):\n"
        "    print('half', flush=True)\n    time.sleep(1)\n"
    )
    lines: list[str] = []
    _copy(template, tmp_path, data=code).instance(0, on_progress=lines.append)
    assert "half" in lines


def test_wrong_calls_are_explained(fresh_home: Path, tmp_path: Path, template: Competition) -> None:
    """The errors name a tier that does not exist, a negative seed, the entries that a folder lacks."""
    with pytest.raises(mlrcbench.RegistryError, match="no tier 'fulll'"):
        template.instance(0, "fulll")
    with pytest.raises(DataError, match="at least 0"):
        template.instance(-1)
    with pytest.raises(CardError, match=r"lacks __init__.py, card.toml"):
        Competition(tmp_path)
    with pytest.raises(mlrcbench.RegistryError, match="unknown competition 'backdoor'"):
        mlrcbench.get_competition("backdoor")


def test_statement_data_and_records_have_the_canary(env: mlrcbench.ResearchEnv) -> None:
    """A filter of training data finds all of them by one text, which the docs name."""
    assert CANARY in env.competition.statement
    assert CANARY in (env.workspace.root / "data" / "canary.txt").read_text("utf-8")
    assert env.record is not None
    assert CANARY in (env.record / "record.jsonl").read_text("utf-8").splitlines()[0]
    assert CANARY in Path(__file__).parents[2].joinpath("docs", "protocol.md").read_text("utf-8")
