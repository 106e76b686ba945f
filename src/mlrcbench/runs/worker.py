"""Plays one episode in a process of its own: `python -m mlrcbench.runs.worker`.

The request comes as one line on standard input, which then stays open: when it closes, whoever
asked is gone, and so is this process, with everything that it started.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from mlrcbench.agents import play
from mlrcbench.agents.external import ExternalAgent
from mlrcbench.agents.named import EXTERNAL, LlmOptions, make_agent
from mlrcbench.agents.react import ReactAgent
from mlrcbench.competition import Competition
from mlrcbench.env import ResearchEnv
from mlrcbench.errors import AgentError, MlrcbenchError
from mlrcbench.files import replace_text
from mlrcbench.record import read_record
from mlrcbench.registry import get_competition
from mlrcbench.runs.results import RESULT

RECORDS = "records"
_ORPHANED = 3


def main() -> None:
    """Read the request, play, write the result."""
    request = json.loads(sys.stdin.readline())
    folder, name = Path(request["folder"]), request["assignment"]["agent"]
    program = ExternalAgent(name.removeprefix(EXTERNAL)) if name.startswith(EXTERNAL) else None
    threading.Thread(target=_end_when_orphaned, args=(program,), daemon=True).start()
    started = time.monotonic()
    result = {"assignment": request["assignment"], **_play(request, folder, program)}
    result["seconds"] = round(time.monotonic() - started, 3)
    replace_text(folder / RESULT, json.dumps(result, indent=1) + "\n")


def _play(request: dict[str, Any], folder: Path, program: ExternalAgent | None) -> dict[str, Any]:
    """The episode's outcome: "played", "agent failed" or "infrastructure failed"."""
    assignment = request["assignment"]
    competition = get_competition(assignment["competition"])
    env, agent, outcome, reason = None, None, "played", ""
    try:
        with _open(request, competition, folder) as env, program or contextlib.nullcontext():
            agent = program or make_agent(assignment["agent"], competition, LlmOptions.read(request["llm"]))
            play(env, agent, seed=assignment["trial"], options={"instance": assignment["instance"]})
    except AgentError as error:
        outcome, reason = "agent failed", str(error)
    except MlrcbenchError as error:
        outcome, reason = "infrastructure failed", str(error)
    told: dict[str, Any] = {"outcome": outcome, "reason": reason}
    if isinstance(agent, ReactAgent):
        told["usage"] = dataclasses.asdict(agent.spent)
    return {**told, **_read(folder, env.record)} if env is not None and env.record is not None else told


def _read(folder: Path, path: Path) -> dict[str, Any]:
    """Scores and steps, as the record has them."""
    record = read_record(path)
    scores = [(entry["split"], entry["score"]) for entry in record.evaluations]
    return {
        "dev": [score for split, score in scores if split == "dev"],
        "test": next((score for split, score in scores if split == "test"), None),
        "steps": len(record.steps),
        "record": str(path.relative_to(folder)),
    }


def _open(request: dict[str, Any], competition: Competition, folder: Path) -> ResearchEnv:
    return ResearchEnv(
        competition,
        tier=request["tier"],
        sandbox=request["sandbox"],
        secret=request["secret"],
        budget=request["budget"],
        records=folder / RECORDS,
    )


def _end_when_orphaned(program: ExternalAgent | None) -> None:
    """Supervisors end with this process, and commands with them; an agent's program does not."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    if program is not None:
        program.kill()
    os._exit(_ORPHANED)


if __name__ == "__main__":
    main()
