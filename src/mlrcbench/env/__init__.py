"""The environment: an episode, from the starter to the score.

- Holds: `ResearchEnv` and its parts: the episode, its evaluation, its jobs, its reward; vectors of
  environments, sessions for callers of tools, replay.
- May import: `protocol`, `catalog`, `storage`, `sandbox` and what these import.
- Start reading at `research_env.py`, then `episode.py`.
"""

from __future__ import annotations

from mlrcbench.env.research_env import ResearchEnv, make

__all__ = ["ResearchEnv", "make"]
