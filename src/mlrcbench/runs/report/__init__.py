"""Reports: results of runs, for people to look at and for programs to read.

One self-contained HTML file, which needs no server and no network, and the same figures as
Markdown, CSV and JSON. Everything in it that an agent wrote is hostile text: it is embedded as
data and shown as text only, and the page's content policy lets no other script run than its own.

- `figures.py`: results and records -> figures.
- `episode_details.py`: one episode in detail: its steps, its changes, its scores, how much to trust it.
- `gap_figure.py`: the first picture, how much of the gap each agent closed.
- `plots.py`: figures -> SVG.
- `page.py`: figures, plots and episodes -> HTML, with `page.html`, `page.css` and `page.js`.
- `process_table.py`: how the agents worked.
- `tables.py`: Markdown, CSV, JSON.
- `beside_paper.py`: results of the full tier -> rows of the paper's table.
"""

from mlrcbench.runs.report.beside_paper import beside_paper, full_results
from mlrcbench.runs.report.figures import Report, summarise
from mlrcbench.runs.report.page import write_html
from mlrcbench.runs.report.process_table import process_table
from mlrcbench.runs.report.tables import to_csv, to_json, to_markdown

__all__ = [
    "Report",
    "beside_paper",
    "full_results",
    "process_table",
    "summarise",
    "to_csv",
    "to_json",
    "to_markdown",
    "write_html",
]
