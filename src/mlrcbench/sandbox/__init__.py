"""Sandboxes: run one command in a workspace, under limits, with everything else out of reach.

- Holds: the contract (`contract.py`), the kinds of sandbox and the choice among them
  (`choice.py`), and the supervisor, which runs as a separate small program (`supervisor/`).
- May import: `errors`.
- Start reading at `contract.py`, then `supervised.py`.
"""

from __future__ import annotations

from mlrcbench.sandbox.choice import BACKENDS, KINDS, isolation_report, open_sandbox
from mlrcbench.sandbox.contract import (
    MAX_JOBS,
    Ending,
    ExecResult,
    Isolation,
    Job,
    Limits,
    Met,
    Policy,
    Sandbox,
    Until,
    Waited,
    environment,
)

__all__ = [
    "BACKENDS",
    "KINDS",
    "MAX_JOBS",
    "Ending",
    "ExecResult",
    "Isolation",
    "Job",
    "Limits",
    "Met",
    "Policy",
    "Sandbox",
    "Until",
    "Waited",
    "environment",
    "isolation_report",
    "open_sandbox",
]
