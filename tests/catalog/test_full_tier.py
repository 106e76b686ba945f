"""A tier of real data can lay files over the starter, and can have its own scorer."""

from __future__ import annotations

from pathlib import Path

import pytest

import mlrcbench
from mlrcbench.catalog.competition import Competition
from mlrcbench.catalog.prepare import _raw_data, prepare_real
from mlrcbench.catalog.trusted import call
from mlrcbench.integrations.harbor import export_harbor
from mlrcbench.runs.changes import changes
from mlrcbench.sources.raw import MADE
from tests.conftest import body, copy_of_template

TIER = """
[tiers.full]
data = "real"
gpu_mb = 1000

[tiers.full.sources.one]
licence = "CC0"
gate = "kaggle"
steps = "Ask."
layout = ["note.txt"]
download_bytes = 0
disk_bytes = 10
"""

CONVERT = """
import importlib.util
import pathlib

from mlrcbench.sources import raw as raw_data


def convert(raw, public, private):
    raw_data.find(raw / "one", "note.txt")
    folder = pathlib.Path({folder!r})
    spec = importlib.util.spec_from_file_location("data", folder / "data.py")
    data = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(data)
    data.build(public, private, seed=0, tier="mini")
"""

SCORER = """
import os

from mlrcbench import Score


def score(artefacts, answers):
    return Score(0.5, details={"by_the_full_tier": 1.0, "gpu": float(os.environ["CUDA_VISIBLE_DEVICES"])})
"""


@pytest.fixture
def competition(fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Competition:
    """The template with a full tier that replaces one file of the starter, adds one, and scores 0.5."""
    folder = copy_of_template(tmp_path)
    card = (folder / "card.toml").read_text()
    limits = card[card.index("[tiers.mini.limits]") :].replace("mini", "full")
    (folder / "card.toml").write_text(f"{card}\n{TIER}\n{limits}")
    (folder / "statement_full.md").write_text("# Full\n")
    (folder / "full.py").write_text(CONVERT.format(folder=str(folder)))
    (folder / "scorer_full.py").write_text(SCORER)
    layer = folder / "starter_full"
    (layer / "models").mkdir(parents=True)
    (layer / "models" / "load.py").write_text("NAME = 'large'\n")
    main = (folder / "starter" / "main.py").read_text()
    (layer / "main.py").write_text(f"print('the full tier')\n{main}")
    note = tmp_path / "given" / "note.txt"
    note.parent.mkdir()
    note.write_text("real\n")
    changed = Competition(folder)
    prepare_real(changed, data=note.parent, quiet=True)
    for module in ("env.replay", "runs.changes"):
        monkeypatch.setattr(f"mlrcbench.{module}.get_competition", lambda _: changed)
    return changed


def test_a_full_tier_lays_files_over_the_starter(
    competition: Competition, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are seen and protected in that tier, its scorer judges, and the record says what changed."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    with mlrcbench.make(competition, tier="full", records=tmp_path / "records") as env:
        env.reset(seed=0)
        assert "the full tier" in body(env, mlrcbench.Run("python main.py"))
        assert "large" in body(env, mlrcbench.ReadFile("models/load.py"))
        assert "is protected" in body(env, mlrcbench.WriteFile("models/load.py", ""))
        env.step(mlrcbench.Run("echo broken > models/load.py; echo > main.py"))
        score = env.evaluate("dev")
        assert score.value == 0.5
        assert score.details["gpu"] == 3, "the scorer uses the GPU that was chosen"
        env.step(mlrcbench.Submit())
        record = env.record
    assert record is not None
    assert all(entry.matches for entry in mlrcbench.rescore(record))
    assert changes(mlrcbench.read_record(record)) == ""


def test_mini_has_none_of_it(competition: Competition) -> None:
    """The other tier keeps its starter and its scorer."""
    with mlrcbench.make(competition) as env:
        env.reset(seed=0)
        assert "the full tier" not in body(env, mlrcbench.Run("python main.py; ls"))
        assert "by_the_full_tier" not in env.evaluate("dev").details


def test_real_data_is_not_exported(
    competition: Competition, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder of a task would pass data on, which its licence may forbid."""
    monkeypatch.setattr("mlrcbench.get_competition", lambda _: competition)
    with pytest.raises(mlrcbench.DataError, match="export a generated tier"):
        export_harbor("_template", tmp_path / "task", tier="full")


@pytest.mark.parametrize(("gpu", "device"), [(True, "3"), (False, None)])
def test_a_scorer_uses_the_gpu_that_was_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpu: bool, device: str | None
) -> None:
    """Where the tier has a GPU, the variables that say which one are passed on, and no others."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    monkeypatch.setenv("HF_TOKEN", "secret")
    module = tmp_path / "scorer.py"
    names = ("CUDA_VISIBLE_DEVICES", "HF_TOKEN")
    module.write_text(f"import os\n\n\ndef score():\n    return [os.environ.get(name) for name in {names}]\n")
    assert call("score", module, {}, seconds=60, gpu=gpu) == [device, None]


def test_a_conversion_finds_what_it_finished(competition: Competition, fresh: Path, tmp_path: Path) -> None:
    """This holds for a folder of the user's, too, which is not changed; an unused folder is removed."""
    place = fresh / "sources" / competition.id / MADE
    assert not place.exists()
    for _ in range(2):
        with _raw_data(competition, "full", tmp_path / "given", None, True) as raw:
            text = (raw / MADE / "log").read_text() if (raw / MADE / "log").exists() else ""
            (raw / MADE / "log").write_text(f"{text}x")
    assert (place / "log").read_text() == "xx"
    assert [path.name for path in (tmp_path / "given").iterdir()] == ["note.txt"]
