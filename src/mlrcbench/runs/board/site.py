"""The site: entries -> an index, the same figures as JSON, and one page for each bundle.

The index is plain HTML, in which everything from a bundle is escaped; its only script sorts and filters rows.
The pages of bundles are those of a report, without the paths of this machine.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import string
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mlrcbench.__version__ import __version__
from mlrcbench.aggregates import Interval
from mlrcbench.errors import MlrcbenchError, RunError
from mlrcbench.runs.board.entries import BoardEntry, read_entry
from mlrcbench.runs.board.markup import as_markup
from mlrcbench.runs.board.scatter import scatter
from mlrcbench.runs.board.standing import Standing, standings
from mlrcbench.runs.bundles.opened import Bundle, open_bundle
from mlrcbench.runs.paper import read_paper
from mlrcbench.runs.report.episode_details import describe_episode
from mlrcbench.runs.report.figures import summarise
from mlrcbench.runs.report.page import write_html
from mlrcbench.runs.results import Result
from mlrcbench.storage.durable import replace_text

_HERE = Path(__file__).parent
_STYLE = _HERE.parent / "report" / "page.css"
_PATTERNS = ("*.mlrc", "*.mlrc.gz")
_NOTHING = "&ndash;"
_COPIES = 5


def write_board(folder: Path, out: Path, title: str = "Board") -> tuple[list[Standing], dict[str, str]]:
    """Write the site of a folder of bundles.

    Args:
        folder: The folder; bundles are files in it whose names end in ".mlrc" or ".mlrc.gz".
        out: The site's folder, which is made if it does not exist.
        title: The board's title.

    Returns:
        The standings, and for each bundle that cannot be shown, why.

    Raises:
        RunError: The folder has no bundle that can be shown.
        OSError: The site cannot be written.
    """
    entries: dict[str, BoardEntry] = {}
    refused: dict[str, str] = {}
    (out / "entries").mkdir(parents=True, exist_ok=True)
    for path in sorted(file for pattern in _PATTERNS for file in folder.glob(pattern)):
        try:
            with open_bundle(path) as bundle:
                entry = read_entry(bundle)
                if entry.id in entries:
                    raise RunError(f"it has the same content as {entries[entry.id].file}")
                _write_entry(bundle, entry, out)
            entries[entry.id] = entry
        except MlrcbenchError as error:
            refused[path.name] = str(error)
    if not entries:
        raise RunError(
            f"{folder} holds no bundle that can be shown; {'; '.join(refused.values()) or 'add one'}"
        )
    rows = standings(list(entries.values()))
    replace_text(out / "board.json", json.dumps(_figures(title, rows), indent=1, allow_nan=False) + "\n")
    replace_text(out / "index.html", _index(title, rows))
    return rows, refused


def _write_entry(bundle: Bundle, entry: BoardEntry, out: Path) -> None:
    """Write the page of a bundle."""

    def describe(result: Result) -> dict[str, Any]:
        details = describe_episode(result)
        details["trouble"] = details["trouble"].replace(f"{bundle.root}/", "")
        details.pop("record", None)
        details.pop("replay", None)
        return details

    report = summarise(bundle.results, f"{entry.title} ({entry.file})", process=False)
    path = out / "entries" / f"{entry.id}.html"
    write_html(report, path, plots=False, describe=describe)


def _figures(title: str, rows: Sequence[Standing]) -> dict[str, Any]:
    """All figures as JSON types."""
    return {
        "title": title,
        "mlrcbench": __version__,
        "entries": [dataclasses.asdict(row) for row in rows],
        "paper": {"source": read_paper().source, "improvements": _plain(read_paper().improvements)},
    }


def _plain(table: Any) -> dict[str, dict[str, float]]:
    return {agent: dict(row) for agent, row in table.items()}


def _index(title: str, rows: Sequence[Standing]) -> str:
    """The text of the index."""
    script = (_HERE / "board.js").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(f"\n{script}".encode()).digest()).decode()
    labels = sorted({label for row in rows for label in row.entry.public})
    return string.Template((_HERE / "board.html").read_text("utf-8")).substitute(
        policy=f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'",
        title=as_markup(title),
        style=_STYLE.read_text("utf-8") + (_HERE / "board.css").read_text("utf-8"),
        count=len(rows),
        version=as_markup(__version__),
        head=_head(["rank", "entry", "retest (95 %)", "public (95 %)", *labels, "seconds", "US dollars",
                    "evaluations", "invalid", "approaches", "isolation", "checks", "retested episodes"]),
        rows="".join(_row(row, labels) for row in rows),
        figure=scatter([row for row in rows if row.rank is not None]),
        paper_source=as_markup(read_paper().source),
        paper_head=_head(["agent", *sorted(read_paper().anchors), "mean"]),
        paper_rows="".join(_paper_rows()),
        script=script,
    )  # fmt: skip


def _head(titles: Iterable[str]) -> str:
    return "".join(
        f'<th scope="col"><button type="button">{as_markup(title)}</button></th>' for title in titles
    )


def _row(row: Standing, labels: Sequence[str]) -> str:
    """One line of the table; its id is the target of links to it."""
    entry = row.entry
    card = entry.card
    maker = f"{card.model}; {', '.join(card.authors)}; {card.licence}" if card else "no card"
    name = (
        f'<a href="entries/{entry.id}.html">{as_markup(entry.title)}</a>'
        f'<br><span class="maker">{as_markup(maker)}</span>{_copies(row)}'
    )
    scores = entry.retested or ({} if row.rank is None else entry.public)
    means = [_mean(scores.get(label)) for label in labels]
    process = entry.process
    cells = [
        _cell(row.rank, f'<a href="#{entry.id}">{row.rank or _NOTHING}</a>'),
        _cell(entry.title.lower(), name),
        _interval(row.again),
        _interval(row.public),
        *(_cell(mean, _percent(mean)) for mean in means),
        *(_number(entry.costs.get(key)) for key in ("seconds", "money")),
        _number(process["evaluations"]),
        _cell(process["invalid_share"], _percent(process["invalid_share"])),
        _number(process["approaches"]),
        _cell(" ".join(entry.isolation), as_markup(", ".join(entry.isolation)) or _NOTHING),
        _checks(entry),
        _cell(entry.verdicts.get("holds"), as_markup(_verdicts(entry)) or _NOTHING),
    ]
    return f'<tr id="{entry.id}">{"".join(cells)}</tr>\n'


def _copies(row: Standing) -> str:
    """Links to the entries with which an entry has code in common."""
    links = [f'<a href="#{entry_id}">{entry_id[:6]}</a>' for entry_id in row.copies[:_COPIES]]
    further = ", ..." if len(row.copies) > _COPIES else ""
    return f'<br><span class="maker">same code as {", ".join(links)}{further}</span>' if links else ""


def _checks(entry: BoardEntry) -> str:
    if entry.failed is None:
        return _cell(None, "not verified")
    if not entry.failed:
        return _cell(0, "passed")
    lines = "".join(f"<li>{as_markup(sentence)}</li>" for sentence in entry.failed[:50])
    return _cell(
        len(entry.failed), f"<details><summary>{len(entry.failed)} failed</summary><ul>{lines}</ul></details>"
    )


def _verdicts(entry: BoardEntry) -> str:
    return ", ".join(f"{count} {verdict}" for verdict, count in sorted(entry.verdicts.items()))


def _paper_rows() -> Iterable[str]:
    paper = read_paper()
    for agent, row in paper.improvements.items():
        values = [row[name] for name in sorted(paper.anchors)]
        cells = "".join(_cell(one, _percent(one)) for one in (*values, paper.mean(agent)))
        yield f"<tr>{_cell(agent, as_markup(agent))}{cells}</tr>\n"


def _mean(values: Sequence[float] | None) -> float | None:
    return sum(values) / len(values) if values else None


def _interval(interval: Interval | None) -> str:
    """A value with its interval, which a single score does not have."""
    if interval is None:
        return _cell(None, _NOTHING)
    markup = _percent(interval.value)
    if interval.lower < interval.upper:
        ends = f"{_percent(interval.lower)} to {_percent(interval.upper)}"
        markup += f' <span class="maker">({ends})</span>'
    return _cell(interval.value, markup)


def _number(value: float | None) -> str:
    return _cell(value, _NOTHING if value is None else f"{value:.4g}")


def _percent(value: float | None) -> str:
    return _NOTHING if value is None else f"{100 * value:.1f}"


def _cell(value: float | str | None, markup: str) -> str:
    """A cell with what it is sorted by, and its content as markup."""
    attribute = "" if value is None else f' data-value="{as_markup(str(value))}"'
    return f"<td{attribute}>{markup}</td>"
