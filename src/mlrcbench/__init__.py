"""mlrcbench: machine-learning research competitions as environments for AI agents.

    import mlrcbench

    with mlrcbench.make("backdoor-trigger") as env:
        obs, info = env.reset(seed=0)
        obs, reward, terminated, truncated, info = env.step(mlrcbench.Run("python main.py"))
        score = env.evaluate("dev")

Importing registers the environments with Gymnasium, as `mlrcbench/BackdoorTrigger-v0` and so
on. Everything else is loaded when it is first used; torch and datasets never in this process.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from mlrcbench.registration import register_shipped

if TYPE_CHECKING:
    from mlrcbench.actions import (
        Action,
        EditFile,
        Evaluate,
        KillJob,
        ReadFile,
        Run,
        StartJob,
        Submit,
        WaitJob,
        WriteFile,
    )
    from mlrcbench.agents import Agent, play
    from mlrcbench.budget import Budget
    from mlrcbench.card import Card
    from mlrcbench.competition import Competition, Instance, home
    from mlrcbench.env import ResearchEnv, make
    from mlrcbench.errors import (
        ActionError,
        AgentError,
        CardError,
        DataError,
        EndpointError,
        MlrcbenchError,
        RecordError,
        RegistryError,
        RunError,
        SandboxError,
        ScoringError,
        SnapshotError,
        SubmissionError,
        WorkspaceError,
    )
    from mlrcbench.preparation import Prepared, prepare, prepare_real
    from mlrcbench.record import Record, read_record
    from mlrcbench.registry import get_competition, list_competitions
    from mlrcbench.runs import Result, leaderboard, read_results, run
    from mlrcbench.saved import load_snapshot
    from mlrcbench.score import Score
    from mlrcbench.session import Session
    from mlrcbench.snapshot import Snapshot
    from mlrcbench.tools import ToolResult, tool_specs
    from mlrcbench.vector import VectorEnv, make_vec
    from mlrcbench.verify import replay, rescore

__version__ = "0.1.0"

_HOMES = {
    "actions": (
        "Action",
        "EditFile",
        "Evaluate",
        "KillJob",
        "ReadFile",
        "Run",
        "StartJob",
        "Submit",
        "WaitJob",
        "WriteFile",
    ),
    "agents": ("Agent", "play"),
    "budget": ("Budget",),
    "card": ("Card",),
    "competition": ("Competition", "Instance", "home"),
    "env": ("ResearchEnv", "make"),
    "errors": (
        "ActionError",
        "AgentError",
        "CardError",
        "DataError",
        "EndpointError",
        "MlrcbenchError",
        "RecordError",
        "RegistryError",
        "RunError",
        "SandboxError",
        "ScoringError",
        "SnapshotError",
        "SubmissionError",
        "WorkspaceError",
    ),
    "preparation": ("Prepared", "prepare", "prepare_real"),
    "record": ("Record", "read_record"),
    "registry": ("get_competition", "list_competitions"),
    "runs": ("Result", "leaderboard", "read_results", "run"),
    "saved": ("load_snapshot",),
    "score": ("Score",),
    "session": ("Session",),
    "snapshot": ("Snapshot",),
    "tools": ("ToolResult", "tool_specs"),
    "vector": ("VectorEnv", "make_vec"),
    "verify": ("replay", "rescore"),
}
_MODULES = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Action",
    "ActionError",
    "Agent",
    "AgentError",
    "Budget",
    "Card",
    "CardError",
    "Competition",
    "DataError",
    "EditFile",
    "EndpointError",
    "Evaluate",
    "Instance",
    "KillJob",
    "MlrcbenchError",
    "Prepared",
    "ReadFile",
    "Record",
    "RecordError",
    "RegistryError",
    "ResearchEnv",
    "Result",
    "Run",
    "RunError",
    "SandboxError",
    "Score",
    "ScoringError",
    "Session",
    "Snapshot",
    "SnapshotError",
    "StartJob",
    "SubmissionError",
    "Submit",
    "ToolResult",
    "VectorEnv",
    "WaitJob",
    "WorkspaceError",
    "WriteFile",
    "get_competition",
    "home",
    "leaderboard",
    "list_competitions",
    "load_snapshot",
    "make",
    "make_vec",
    "play",
    "prepare",
    "prepare_real",
    "read_record",
    "read_results",
    "replay",
    "rescore",
    "run",
    "tool_specs",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its module at its first use."""
    if name not in _MODULES:
        raise AttributeError(f"mlrcbench has no {name!r}")
    value = getattr(importlib.import_module(f"mlrcbench.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


register_shipped()
