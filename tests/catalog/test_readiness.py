"""Readiness: what a machine lacks for a tier, and what preparing would cost."""

from __future__ import annotations

from pathlib import Path

import pytest

import mlrcbench
from mlrcbench.catalog import readiness
from mlrcbench.catalog.competition import Competition
from mlrcbench.cli import catalog_commands, main
from mlrcbench.sandbox import environment
from tests.conftest import copy_of_template

TIER = """
[tiers.full]
data = "real"
extras = ["plot", "nothing"]
gpu_mb = 1000000000

[tiers.full.sources.one]
licence = "CC0"
gate = "kaggle"
steps = "1. Sign in.\\n2. Agree."
download_bytes = 0
disk_bytes = 1000000

[tiers.full.sources.two]
licence = "CC0"
gate = "hub"
steps = "Ask for access."
variable = "MLRCBENCH_TEST_TOKEN"
repository = "lab/model"
layout = ["*"]
download_bytes = 600000000
disk_bytes = 599000000
"""


def with_full_tier(tmp_path: Path, change: tuple[str, str] = ("", "")) -> Competition:
    """The template with a tier of real data."""
    folder = copy_of_template(tmp_path)
    card = (folder / "card.toml").read_text()
    limits = card[card.index("[tiers.mini.limits]") :].replace("mini", "full")
    tier = TIER.replace('steps = "1.', 'layout = ["a.csv"]\nsteps = "1.').replace(*change)
    (folder / "card.toml").write_text(f"{card}\n{tier}\n{limits}")
    (folder / "full.py").write_text("def convert(raw, public, private):\n    pass\n")
    (folder / "statement_full.md").write_text("# Full\n")
    return Competition(folder)


def test_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A download by hand and a token are missing; the costs of the other downloads are given."""
    monkeypatch.setenv("MLRCBENCH_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLRCBENCH_TEST_TOKEN", raising=False)
    status = readiness.readiness(with_full_tier(tmp_path), "full")
    assert not status.prepared
    assert status.missing == (
        "one, by hand (kaggle), then --data",
        "access to lab/model (hub): set MLRCBENCH_TEST_TOKEN",
    )
    assert (status.download_bytes, status.disk_bytes) == (600_000_000, 1_200_000_000)
    assert status.minutes == pytest.approx((60 + 30) / 60)
    assert any(advice.startswith("GPU ") for advice in status.advice)
    monkeypatch.setenv("MLRCBENCH_TEST_TOKEN", "x")
    assert len(readiness.readiness(with_full_tier(tmp_path / "2"), "full").missing) == 1
    text = catalog_commands.readiness_table([status])
    assert "by hand, first:" in text
    assert "600.0" not in text
    assert "0.6 GB" in text


def test_disk_and_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing disk is given in numbers, missing packages by their names and their extra."""
    huge = with_full_tier(tmp_path, ("disk_bytes = 1000000\n", "disk_bytes = 1000000000000000\n"))
    assert any(
        "disk: 2000001.2 GB are needed" in phrase for phrase in readiness.readiness(huge, "full").missing
    )
    monkeypatch.setattr(readiness, "_installed", lambda _: False)
    assert any(
        phrase == "packages matplotlib: pip install 'mlrcbench[plot]'"
        for phrase in readiness.readiness(huge, "full").missing
    )


def test_mini_is_ready() -> None:
    """It needs nothing and costs no download."""
    status = readiness.readiness(mlrcbench.get_competition("_template"), "mini")
    assert (status.missing, status.prepared, status.download_bytes, status.minutes) == ((), True, 0, 0)


def test_doctor_lists_tiers(capsys: pytest.CaptureFixture[str]) -> None:
    """Each tier is listed with its costs, and with the steps that the user has to take."""
    main(["doctor"])
    text = capsys.readouterr().out
    assert "temporal-action-localization  full" in text
    assert "aicrowd dataset download" in text


@pytest.mark.parametrize("name", ["full.py", "statement_full.md"])
def test_a_tier_of_real_data_needs_its_files(tmp_path: Path, name: str) -> None:
    """The error names what is missing."""
    folder = with_full_tier(tmp_path).folder
    (folder / name).unlink()
    with pytest.raises(mlrcbench.MlrcbenchError, match=f"lacks {name}"):
        _ = Competition(folder).card


def test_a_device_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable passes it on to conversions, commands and scorers; a missing GPU is an error."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    monkeypatch.setattr(catalog_commands, "gpu_memory_mb", lambda: 80_000)
    for device, visible in (("auto", "5"), ("cuda", "5"), ("cuda:1", "1"), ("cpu", "")):
        catalog_commands.choose_device(device)
        assert environment(Path("home"), 1, gpu=True)["CUDA_VISIBLE_DEVICES"] == visible
    monkeypatch.setattr(catalog_commands, "gpu_memory_mb", lambda: 0)
    for device in ("cuda", "cuda:0"):
        with pytest.raises(mlrcbench.MlrcbenchError, match="no GPU was found"):
            catalog_commands.choose_device(device)


@pytest.mark.parametrize("device", ["", "gpu", "cuda:", "cuda:-1", "cuda:0,1", "cuda:1\nPATH=x"])
def test_an_unknown_device_is_refused(device: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The exit status is 2, and the message names the known devices."""
    assert main(["prepare", "_template", f"--device={device}"]) == 2
    assert "use auto, cpu, cuda" in capsys.readouterr().err
