"""The plain backend: supervised processes with limits, and no confinement at all.

It does **not** protect against hostile code: a command runs as the host's user, reads and
writes whatever that user can, uses the network, and can end its own supervisor. It is there
for trusted agents, for debugging, and for systems without anything better, by explicit choice
only.
"""

from __future__ import annotations

from mlrcbench.sandbox import Policy
from mlrcbench.sandbox.landlock import SupervisedSandbox


class ProcessSandbox(SupervisedSandbox):
    """Runs commands as ordinary processes; nothing of them is left when they end."""

    def __init__(self, policy: Policy) -> None:
        super().__init__("process", policy)
