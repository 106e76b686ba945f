"""Files that a script derives from others: write those that are out of date, or only name them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path


def refresh(fresh: Mapping[Path, str], arguments: Sequence[str], command: str, root: Path) -> int:
    """Write what is out of date, or with `--check` only name it; status 1 if there is any to name.

    Args:
        fresh: File -> the text that it should have.
        arguments: Those of the command line.
        command: The script, as `python -m` takes it.
        root: The folder that names are relative to.
    """
    stale = {
        path: text for path, text in fresh.items() if not path.exists() or path.read_text("utf-8") != text
    }
    for path, text in stale.items():
        if "--check" in arguments:
            print(f"{path.relative_to(root)} is out of date; write it with: python -m {command}")
        else:
            path.write_text(text, "utf-8")
            print(f"wrote {path.relative_to(root)}")
    return 1 if stale and "--check" in arguments else 0
