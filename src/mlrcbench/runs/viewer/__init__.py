"""A page on this machine that shows records and runs while they happen.

- `watched.py`: a folder of records, or a run -> the state of its episodes, and new steps of one of them.
- `page_server.py`: these as JSON, and the page, over HTTP on the loopback interface, behind a token.
- `live.html`, `live.css`, `live.js`: the page, which asks again every second.
"""

from mlrcbench.runs.viewer.page_server import PageServer
from mlrcbench.runs.viewer.watched import Watched

__all__ = ["PageServer", "Watched"]
