"""Which of the files that an agent wrote enter an evaluation, if a competition says so."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable
from dataclasses import dataclass

from mlrcbench.errors import WorkspaceError
from mlrcbench.storage.trees import Entry


@dataclass(frozen=True, slots=True)
class Carried:
    """The files of a workspace that an evaluation takes along.

    A competition whose methods must learn during the evaluation takes code only, so that what was learnt
    before stays behind.

    Attributes:
        patterns: Globs over relative paths, in which `*` also stands for `/`; for example `*.py`.
        max_bytes: Size of these files together. Protected files of the starter do not count.
    """

    patterns: tuple[str, ...]
    max_bytes: int

    def chooser(self) -> Callable[[Entry], bool]:
        """A function for one copy, which says of each file or link whether it is carried.

        That function raises a `WorkspaceError` if the files are too large together.
        """
        total = 0

        def is_carried(entry: Entry) -> bool:
            nonlocal total
            if not any(fnmatch.fnmatchcase(entry.path, pattern) for pattern in self.patterns):
                return False
            total += entry.info.st_size
            if total > self.max_bytes:
                raise WorkspaceError(
                    f"an evaluation takes {' and '.join(self.patterns)} of your files, at most "
                    f"{self.max_bytes:,} bytes together, and there are more; make them smaller"
                )
            return True

        return is_carried
