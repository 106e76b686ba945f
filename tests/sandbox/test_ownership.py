"""An object that remembers its process is not taken for that of a forked copy."""

from __future__ import annotations

import os

from mlrcbench.sandbox.ownership import Owner


def test_a_forked_copy_is_not_the_owner() -> None:
    """The original stays the owner."""
    owner = Owner()
    pid = os.fork()
    if pid == 0:
        os._exit(int(owner.is_here))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert owner.is_here
