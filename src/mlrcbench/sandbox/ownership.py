"""To which process an object belongs: a forked copy of that process neither uses nor ends what it holds."""

from __future__ import annotations

import os


class Owner:
    """The process that made this object."""

    def __init__(self) -> None:
        self._process = os.getpid()

    @property
    def is_here(self) -> bool:
        """Whether this process is the owner; False in a forked copy of it."""
        return self._process == os.getpid()
