"""Reports: what runs found, for a person to look at and for a program to read on.

One self-contained HTML file, which needs no server and no network, and the same figures as
Markdown, CSV and JSON. Everything in it that an agent wrote is hostile text: it is embedded as
data, shown as text only, and the page's own content policy lets no script run but the page's.

- `summary.py`: results and records -> figures.
- `episode.py`: one episode in full: its steps, its changes, its scores, how far to trust it.
- `plots.py`: figures -> SVG.
- `page.py`: all of it -> HTML, with `page.html`, `page.css` and `page.js`.
- `text.py`: Markdown, CSV, JSON.
- `beside.py`: results of the full tier -> rows of the paper's table.
"""

from mlrcbench.report.beside import beside_paper, full_results
from mlrcbench.report.page import write_html
from mlrcbench.report.summary import Report, summarise
from mlrcbench.report.text import to_csv, to_json, to_markdown

__all__ = [
    "Report",
    "beside_paper",
    "full_results",
    "summarise",
    "to_csv",
    "to_json",
    "to_markdown",
    "write_html",
]
