"""Plays one episode in its own process: `python -m mlrcbench.runs.worker`.

The request comes as one line on standard input. The process that takes care of this one ends it, with
everything that it started, when the program that asked is gone; see `sandbox/supervisor/caretaker.py`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any

from mlrcbench.agents import play
from mlrcbench.agents.external import ExternalAgent
from mlrcbench.agents.named import LlmOptions, make_agent
from mlrcbench.agents.python_object import Origin, PythonAgent
from mlrcbench.agents.react import ReactAgent
from mlrcbench.catalog.registry import get_competition
from mlrcbench.env.research_env import ResearchEnv
from mlrcbench.env.settings import Settings
from mlrcbench.errors import AgentError, EndpointError, MlrcbenchError
from mlrcbench.runs.plan import Assignment
from mlrcbench.runs.results import RECORDS, Outcome, Result, note_action, what_was_recorded, write_result
from mlrcbench.storage.durable import sync
from mlrcbench.storage.layout import RECORD_FILE

# Failures of a language model's server that nothing which an agent writes can cause.
_NOT_BY_AGENTS = ("connection", "rate limit", "setup")


def main() -> None:
    """Read the request, play, write the result."""
    request = json.loads(sys.stdin.readline())
    started = time.monotonic()
    result = _play(request)
    write_result(dataclasses.replace(result, seconds=round(time.monotonic() - started, 3)))


def _play(request: dict[str, Any]) -> Result:
    """Play the episode; its result says how it ended."""
    assignment, folder = Assignment(**request["assignment"]), Path(request["folder"])
    competition = get_competition(assignment.competition)
    env, agent, reason, excused = None, None, "", False
    outcome: Outcome = "played"
    try:
        settings = Settings.from_json(request["settings"])
        env = ResearchEnv(competition, records=folder / RECORDS, **settings.to_options())
        llm, origin = LlmOptions.read(request["llm"]), request["origin"]
        with env, contextlib.ExitStack() as held:
            agent = make_agent(
                assignment.agent, competition, llm, None if origin is None else Origin(**origin)
            )
            if isinstance(agent, ExternalAgent | PythonAgent):
                held.callback(agent.close)
            play(
                env,
                agent,
                seed=assignment.trial,
                options={"instance": assignment.instance},
                on_action=lambda *_: note_action(folder),
            )
    except AgentError as error:
        outcome, reason = "agent failed", str(error)
    except MlrcbenchError as error:
        outcome, reason = "infrastructure failed", str(error)
        excused = isinstance(error, EndpointError) and error.kind in _NOT_BY_AGENTS
    record = None if env is None else env.record
    failed = outcome == "infrastructure failed"
    entries = what_was_recorded(folder, record, failed=failed and not excused)
    if record is not None:
        with contextlib.suppress(OSError):
            sync(record / RECORD_FILE)
    spent = agent.spent if isinstance(agent, ReactAgent | PythonAgent) else None
    usage = None if spent is None else dataclasses.asdict(spent)
    return Result(assignment, outcome, reason, folder, usage=usage, **entries)


if __name__ == "__main__":
    main()
