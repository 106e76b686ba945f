"""Cards are read strictly; an error names the file, the entry and what was expected."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlrcbench.catalog.card import read_card
from mlrcbench.catalog.registry import get_competition
from mlrcbench.errors import CardError, RegistryError

TEMPLATE = get_competition("_template").folder / "card.toml"


def test_the_template_is_read() -> None:
    """Every entry has its type."""
    card = read_card(TEMPLATE)
    assert card.gymnasium_id == "mlrcbench/Template-v0"
    assert card.metric.direction == "minimize"
    assert card.tier("mini").anchors["dev"].target_kind == "reference"
    assert card.tier("mini").budget.steps == 20
    assert card.artefacts[0].pattern == "predictions.npy"
    with pytest.raises(RegistryError, match="Did you mean 'mini'"):
        card.tier("minni")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('id = "_template"', 'id = "My Template"', "lower-case words"),
        ("version = 0", "", "'version' is missing"),
        ("version = 0", 'version = "0"', "'version' must be a int"),
        ("version = 0", "version = true", "'version' must be a int"),
        ("version = 0", "version = 0\nvenu = 1", "'venu' is unknown. Did you mean 'venue'"),
        ('direction = "minimize"', 'direction = "minimise"', "Did you mean 'minimize'"),
        ("lower = 0.0", "lower = -inf", "best value is finite"),
        ("max_bytes = 4096", "max_bytes = 4096\nmax_byte = 1", "'max_byte' is unknown"),
        ("steps = 20", "steps = 0", "steps must be a whole number from 1"),
        ("steps = 20", "steps = 20.5", "'steps' must be a int"),
        ("threads = 1", "", "'threads' is missing"),
        ('editable = ["method.py"]', "editable = [1]", "list of strings"),
        ("reference = {", "human = {", ""),
        ("reference = {", "someone = {", "one of 'human' or 'reference'"),
        ("value = 0.1,", "value = 1.159,", "must differ"),
        ("[metric]", "[[[", ""),
    ],
)
def test_faults_are_named(old: str, new: str, message: str, tmp_path: Path) -> None:
    """A misspelt, missing or ill-typed entry is a `CardError`; "human" may take the place of "reference"."""
    text = TEMPLATE.read_text()
    assert old in text
    path = tmp_path / "card.toml"
    path.write_text(text.replace(old, new))
    if new == "human = {":
        assert read_card(path).tier("mini").anchors["test"].target_kind == "human"
        return
    with pytest.raises(CardError) as caught:
        read_card(path)
    assert message in str(caught.value)
