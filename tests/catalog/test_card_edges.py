"""Cards at the edges of what is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlrcbench.catalog.card import read_card
from mlrcbench.catalog.registry import get_competition
from mlrcbench.errors import CardError

TEXT = (get_competition("_template").folder / "card.toml").read_text("utf-8")
METRIC = 'direction = "minimize"\nunit = "1"\nlower = 0.0\nupper = inf'


def _card(tmp_path: Path, direction: str, lower: str, upper: str) -> Path:
    assert METRIC in TEXT
    path = tmp_path / "card.toml"
    metric = f'direction = "{direction}"\nunit = "1"\nlower = {lower}\nupper = {upper}'
    path.write_text(TEXT.replace(METRIC, metric), "utf-8")
    return path


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
@pytest.mark.parametrize(("lower", "upper"), [("1.0", "0.0"), ("1.0", "1.0"), ("inf", "inf"), ("nan", "1.0")])
def test_a_metric_has_its_lower_bound_below_its_upper(
    direction: str, lower: str, upper: str, tmp_path: Path
) -> None:
    """Bounds that are equal, in the wrong order, or no numbers are refused."""
    with pytest.raises(CardError, match="lower bound must be below its upper"):
        read_card(_card(tmp_path, direction, lower, upper))


@pytest.mark.parametrize(
    ("direction", "lower", "upper"),
    [("minimize", "0.0", "inf"), ("maximize", "-inf", "1.0"), ("maximize", "0.0", "1e-9")],
)
def test_only_the_worst_value_may_be_infinite(direction: str, lower: str, upper: str, tmp_path: Path) -> None:
    """The best value fixes the largest improvement, so it is finite."""
    metric = read_card(_card(tmp_path, direction, lower, upper)).metric
    assert (metric.lower, metric.upper) == (float(lower), float(upper))


@pytest.mark.parametrize(
    ("direction", "lower", "upper"), [("maximize", "0.0", "inf"), ("minimize", "-inf", "0.0")]
)
def test_the_best_value_is_finite(direction: str, lower: str, upper: str, tmp_path: Path) -> None:
    """Otherwise no score is perfect."""
    with pytest.raises(CardError, match="best value is finite"):
        read_card(_card(tmp_path, direction, lower, upper))
