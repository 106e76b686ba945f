"""The page: one HTML file that holds everything.

Figures are drawn beforehand; tables are made by the page's script from embedded data. Each episode
is embedded separately, compressed, and unpacked when a reader opens it, so that a thousand of them open
as fast as ten. A content policy names the script by its hash: nothing that an agent wrote can run,
load or send anything, even if a browser took it for markup.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlrcbench.runs.report.episode_details import describe_episode
from mlrcbench.runs.report.figures import Report
from mlrcbench.runs.report.gap_figure import draw_gaps
from mlrcbench.runs.report.plots import draw_all
from mlrcbench.runs.report.process_table import process_rows
from mlrcbench.runs.results import Result
from mlrcbench.storage.durable import replace_text

_HERE = Path(__file__).parent


def write_html(
    report: Report,
    path: Path,
    on_episode: Callable[[], None] | None = None,
    *,
    plots: bool = True,
    describe: Callable[[Result], dict[str, Any]] = describe_episode,
) -> None:
    """Write the page, in one step.

    Args:
        report: See `summarise`.
        path: The file to write.
        on_episode: Called after each episode has been read.
        plots: Whether to draw curves.
        describe: Returns what is shown of an episode.

    Raises:
        RegistryError: matplotlib is not installed.
        OSError: The file cannot be written.
    """
    script = (_HERE / "page.js").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(f"\n{script}".encode()).digest()).decode()
    figures = "".join(
        f"<figure><figcaption>{html.escape(title)}</figcaption>{svg}</figure>"
        for title, svg in (draw_all(report) if plots else {}).items()
    )
    page = string.Template((_HERE / "page.html").read_text("utf-8")).substitute(
        policy=f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'",
        title=html.escape(report.title),
        style=(_HERE / "page.css").read_text("utf-8"),
        count=len(report.episodes),
        version=report.version,
        gaps=draw_gaps(report),
        figures=figures
        or f"<p>No curves{': each agent has one trial of one evaluation' if plots else ''}.</p>",
        data=_embed(_data(report, describe, on_episode)),
        script=script,
    )
    replace_text(path, page)


def _data(
    report: Report, describe: Callable[[Result], dict[str, Any]], on_episode: Callable[[], None] | None
) -> dict[str, Any]:
    packed = []
    for result in report.results:
        packed.append(_pack(describe(result)))
        if on_episode is not None:
            on_episode()
    return {
        "competitions": report.competitions,
        "rows": [
            {
                "agent": row.agent,
                "means": row.means,
                "mean": row.mean,
                "robust": [row.robust.value, row.robust.lower, row.robust.upper],
                "success": row.success,
                "failures": row.failures,
                **{name: report.costs[row.agent].get(name) for name in ("seconds", "tokens", "money")},
            }
            for row in report.rows
        ],
        "best": report.best,
        "judgements": report.judgements,
        "process": process_rows(report.process),
        "episodes": report.episodes,
        "packed": packed,
    }


def _pack(episode: dict[str, Any]) -> str:
    text = json.dumps(episode, ensure_ascii=False)
    return base64.b64encode(gzip.compress(text.encode("utf-8", "replace"), mtime=0)).decode()


def _embed(data: dict[str, Any]) -> str:
    """JSON that cannot end the script element around it."""
    return json.dumps(data, allow_nan=False).replace("<", "\\u003c").replace("&", "\\u0026")
