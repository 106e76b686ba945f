"""Draw the ladder of each competition from its measurements, for the documentation.

    python -m tools.draw_ladders

It writes the pictures into `docs/competitions/figures/`, which is not under version control.
"""

from __future__ import annotations

from pathlib import Path

import mlrcbench
from mlrcbench.testing.calibration import draw_ladder, read_measurements, read_methods

ROOT = Path(__file__).parents[1]


def logs() -> list[Path]:
    """The measurements of every competition that has been calibrated."""
    return sorted((ROOT / "calibration").glob("*/calibration.jsonl"))


def picture_of(log: Path) -> Path:
    """The file that the picture of a competition's measurements is written to."""
    return ROOT / "docs" / "competitions" / "figures" / f"{competition_of(log).id}.svg"


def draw(log: Path) -> Path:
    """Draw one ladder, and return its file."""
    competition = competition_of(log)
    methods = read_methods(competition, log.parent / "methods")
    picture = picture_of(log)
    draw_ladder(read_measurements(log), methods, competition.card, picture)
    return picture


def competition_of(log: Path) -> mlrcbench.Competition:
    """The competition whose measurements a file holds."""
    return mlrcbench.get_competition(log.parent.name.replace("_", "-"))


if __name__ == "__main__":
    for log in logs():
        print(draw(log))
