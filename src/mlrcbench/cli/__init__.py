"""The command line: commands become calls of the library.

- Holds: one module for each group of commands, the options that they share, progress lines.
- May import: everything else; no other chapter imports this one.
- Start reading at `main.py`.
"""

from __future__ import annotations

from mlrcbench.cli.main import main

__all__ = ["main"]
