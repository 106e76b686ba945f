"""Write what was measured of each competition's scale: `claims.toml` in its folder, and a table on its page.

python -m tools.claims [--check]
"""

from __future__ import annotations

import sys
from pathlib import Path

from mlrcbench.testing.calibration import claims, claims_text, format_claims, read_measurements, read_methods
from mlrcbench.testing.calibration.claims import FILE
from tools.draw_ladders import ROOT, competition_of, logs
from tools.stale import refresh

BEGIN, END = "<!-- claims: begin -->", "<!-- claims: end -->"
_HEAD = "# Written by `python -m tools.claims` from calibration/{name}/calibration.jsonl.\n\n"


def fresh() -> dict[Path, str]:
    """File -> text of all claims, as the calibrations have them now."""
    texts: dict[Path, str] = {}
    for log in logs():
        competition = competition_of(log)
        methods = read_methods(competition, log.parent / "methods")
        rows = claims(read_measurements(log), methods, competition.card)
        texts[competition.folder / FILE] = _HEAD.format(name=log.parent.name) + claims_text(rows)
        page = ROOT / "docs" / "competitions" / f"{competition.id}.md"
        before, _, rest = page.read_text("utf-8").partition(BEGIN)
        _, _, after = rest.partition(END)
        texts[page] = f"{before}{BEGIN}\n\n{format_claims(rows)}\n\n{END}{after}"
    return texts


def main(arguments: list[str]) -> int:
    """Write what is out of date, or with `--check` only name it; status 1 if there is any to name."""
    return refresh(fresh(), arguments, "tools.claims", ROOT)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
