"""mlrcbench: machine-learning research competitions as environments for AI agents.

    import mlrcbench

    with mlrcbench.make("backdoor-trigger") as env:
        obs, info = env.reset(seed=0)
        obs, reward, terminated, truncated, info = env.step(mlrcbench.Run("python main.py"))
        score = env.evaluate("dev")

Importing registers the environments with Gymnasium, as `mlrcbench/BackdoorTrigger-v0` and so on.
Everything else is loaded when it is first used. This process never loads torch or datasets.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from mlrcbench.__version__ import __version__ as __version__
from mlrcbench.catalog.gymnasium_ids import register_shipped

if TYPE_CHECKING:
    from mlrcbench.agents import (
        Agent as Agent,
    )
    from mlrcbench.agents import (
        play as play,
    )
    from mlrcbench.catalog.card import (
        Card as Card,
    )
    from mlrcbench.catalog.competition import (
        Competition as Competition,
    )
    from mlrcbench.catalog.instances import (
        Instance as Instance,
    )
    from mlrcbench.catalog.limits import (
        Budget as Budget,
    )
    from mlrcbench.catalog.prepare import (
        Prepared as Prepared,
    )
    from mlrcbench.catalog.prepare import (
        prepare as prepare,
    )
    from mlrcbench.catalog.prepare import (
        prepare_real as prepare_real,
    )
    from mlrcbench.catalog.registry import (
        get_competition as get_competition,
    )
    from mlrcbench.catalog.registry import (
        list_competitions as list_competitions,
    )
    from mlrcbench.env.replay import (
        replay as replay,
    )
    from mlrcbench.env.replay import (
        rescore as rescore,
    )
    from mlrcbench.env.research_env import (
        ResearchEnv as ResearchEnv,
    )
    from mlrcbench.env.research_env import (
        make as make,
    )
    from mlrcbench.env.session import (
        Session as Session,
    )
    from mlrcbench.env.vector import (
        VectorEnv as VectorEnv,
    )
    from mlrcbench.env.vector import (
        make_vec as make_vec,
    )
    from mlrcbench.errors import (
        ActionError as ActionError,
    )
    from mlrcbench.errors import (
        AgentError as AgentError,
    )
    from mlrcbench.errors import (
        CardError as CardError,
    )
    from mlrcbench.errors import (
        DataError as DataError,
    )
    from mlrcbench.errors import (
        EndpointError as EndpointError,
    )
    from mlrcbench.errors import (
        MlrcbenchError as MlrcbenchError,
    )
    from mlrcbench.errors import (
        RecordError as RecordError,
    )
    from mlrcbench.errors import (
        RegistryError as RegistryError,
    )
    from mlrcbench.errors import (
        RunError as RunError,
    )
    from mlrcbench.errors import (
        SandboxError as SandboxError,
    )
    from mlrcbench.errors import (
        ScoringError as ScoringError,
    )
    from mlrcbench.errors import (
        SnapshotError as SnapshotError,
    )
    from mlrcbench.errors import (
        SubmissionError as SubmissionError,
    )
    from mlrcbench.errors import (
        WorkspaceError as WorkspaceError,
    )
    from mlrcbench.protocol.actions import (
        Action as Action,
    )
    from mlrcbench.protocol.actions import (
        EditFile as EditFile,
    )
    from mlrcbench.protocol.actions import (
        Evaluate as Evaluate,
    )
    from mlrcbench.protocol.actions import (
        KillJob as KillJob,
    )
    from mlrcbench.protocol.actions import (
        ReadFile as ReadFile,
    )
    from mlrcbench.protocol.actions import (
        Run as Run,
    )
    from mlrcbench.protocol.actions import (
        StartJob as StartJob,
    )
    from mlrcbench.protocol.actions import (
        Submit as Submit,
    )
    from mlrcbench.protocol.actions import (
        WaitJob as WaitJob,
    )
    from mlrcbench.protocol.actions import (
        WriteFile as WriteFile,
    )
    from mlrcbench.protocol.tools import (
        ToolResult as ToolResult,
    )
    from mlrcbench.protocol.tools import (
        tool_specs as tool_specs,
    )
    from mlrcbench.runs import (
        Result as Result,
    )
    from mlrcbench.runs import (
        leaderboard as leaderboard,
    )
    from mlrcbench.runs import (
        read_results as read_results,
    )
    from mlrcbench.runs import (
        run as run,
    )
    from mlrcbench.runs.process_metrics import (
        ProcessMetrics as ProcessMetrics,
    )
    from mlrcbench.runs.process_metrics import (
        process_metrics as process_metrics,
    )
    from mlrcbench.sandbox.folders import (
        home as home,
    )
    from mlrcbench.score import (
        Score as Score,
    )
    from mlrcbench.storage.record import (
        Record as Record,
    )
    from mlrcbench.storage.record import (
        read_record as read_record,
    )
    from mlrcbench.storage.snapshots.snapshot import (
        Snapshot as Snapshot,
    )
    from mlrcbench.storage.snapshots.snapshot import (
        load_snapshot as load_snapshot,
    )

# Module -> the public names that it defines.
_HOMES = {
    "agents": (
        "Agent",
        "play",
    ),
    "catalog.card": ("Card",),
    "catalog.limits": ("Budget",),
    "catalog.competition": ("Competition",),
    "sandbox.folders": ("home",),
    "catalog.instances": ("Instance",),
    "catalog.prepare": (
        "Prepared",
        "prepare",
        "prepare_real",
    ),
    "catalog.registry": (
        "get_competition",
        "list_competitions",
    ),
    "env.replay": (
        "replay",
        "rescore",
    ),
    "env.research_env": (
        "ResearchEnv",
        "make",
    ),
    "env.session": ("Session",),
    "env.vector": (
        "VectorEnv",
        "make_vec",
    ),
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
    "protocol.actions": (
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
    "protocol.tools": (
        "ToolResult",
        "tool_specs",
    ),
    "runs": (
        "Result",
        "leaderboard",
        "read_results",
        "run",
    ),
    "runs.process_metrics": (
        "ProcessMetrics",
        "process_metrics",
    ),
    "score": ("Score",),
    "storage.record": (
        "Record",
        "read_record",
    ),
    "storage.snapshots.snapshot": (
        "Snapshot",
        "load_snapshot",
    ),
}
_MODULES = {name: module for module, names in _HOMES.items() for name in names}

__all__ = sorted(_MODULES)  # noqa: PLE0605 (each name is written once, above)


def __getattr__(name: str) -> Any:
    """Load a public name from its module when it is first used."""
    if name not in _MODULES:
        raise AttributeError(f"mlrcbench has no {name!r}")
    value = getattr(importlib.import_module(f"mlrcbench.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


register_shipped()
