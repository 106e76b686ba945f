"""The plain backend: supervised processes with limits, but without any confinement.

It does **not** protect against hostile code: a command runs as the host's user, reads and
writes whatever that user can, uses the network, and can end its own supervisor. It is meant for
trusted agents, for debugging, and for systems without anything better, and is used only if it is
asked for by name.
"""

from __future__ import annotations

from mlrcbench.sandbox.contract import Policy
from mlrcbench.sandbox.supervised import SupervisedSandbox


class ProcessSandbox(SupervisedSandbox):
    """Runs commands as ordinary processes, of which none is left when the command ends."""

    def __init__(self, policy: Policy) -> None:
        super().__init__("process", policy)
