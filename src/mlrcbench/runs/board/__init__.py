"""Boards: a static page over many bundles, which shows who is really better than whom.

    site/
      index.html            the table, which works without a server and without a script
      board.json            the same figures
      entries/<id>.html     one page for each bundle: its episodes, what was changed, how it worked

A folder of bundles may hold beside `run.mlrc` what this board's own commands wrote: `run.retest.json` and
`run.verify.json`. Everything in bundles is hostile text: it is escaped, and no script but the page's own
runs.

- `entries.py`: a bundle and the files beside it -> one entry.
- `standing.py`: entries -> ranks, by what is significant.
- `site.py`: entries -> the files of the site, with `board.html`, `board.css` and `board.js`.
- `scatter.py`: its figure; `markup.py`: texts of strangers as markup.
"""

from mlrcbench.runs.board.entries import BoardEntry, read_entry
from mlrcbench.runs.board.site import write_board
from mlrcbench.runs.board.standing import Standing, standings

__all__ = ["BoardEntry", "Standing", "read_entry", "standings", "write_board"]
