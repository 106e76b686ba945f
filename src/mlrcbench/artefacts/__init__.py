"""Artefacts: reading what hostile code left behind or sends, without believing a word of it.

- Holds: the files of an evaluation and their readers (`collected.py`), which this package offers; the
  messages of a played evaluation, the trusted side of the game, and its transcript.
- May import: `errors`.
- Start reading at `collected.py`; for played evaluations at `player.py`.
"""

from __future__ import annotations

from mlrcbench.artefacts.collected import (
    MAX_ENTRIES,
    ArtefactSpec,
    collect,
    map_npy,
    read_json,
    read_npy,
    read_safetensors,
    safetensors_layout,
)

__all__ = [
    "MAX_ENTRIES",
    "ArtefactSpec",
    "collect",
    "map_npy",
    "read_json",
    "read_npy",
    "read_safetensors",
    "safetensors_layout",
]
