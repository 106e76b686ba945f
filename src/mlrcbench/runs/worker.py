"""Plays one episode in a process of its own: `python -m mlrcbench.runs.worker`.

The request comes as one line on standard input, which then stays open: when it closes, whoever
asked is gone, and so is this process, with everything that it started.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from mlrcbench.agents import Step, play
from mlrcbench.agents.external import ExternalAgent
from mlrcbench.agents.scripted import make_agent
from mlrcbench.competition import Competition
from mlrcbench.env import ResearchEnv
from mlrcbench.errors import AgentError, MlrcbenchError
from mlrcbench.registry import get_competition
from mlrcbench.runs.plan import EXTERNAL
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
    scratch = folder / f"{RESULT}.new"
    scratch.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    os.replace(scratch, folder / RESULT)


def _play(request: dict[str, Any], folder: Path, program: ExternalAgent | None) -> dict[str, Any]:
    """The episode's outcome: "played", "agent failed" or "infrastructure failed"."""
    assignment = request["assignment"]
    competition = get_competition(assignment["competition"])
    dev: list[dict[str, Any]] = []

    def watch(step: Step) -> None:
        if "score" in step.info:
            dev.append(step.info["score"])

    env = None
    try:
        with _open(request, competition, folder) as env, program or contextlib.nullcontext():
            last = play(
                env,
                program or make_agent(assignment["agent"], competition),
                seed=assignment["trial"],
                options={"instance": assignment["instance"]},
                on_step=watch,
            )
        outcome = {"outcome": "played", "reason": "", "test": last.info["test_score"], "steps": last.number}
    except AgentError as error:
        outcome = {"outcome": "agent failed", "reason": str(error), "test": None, "steps": 0}
    except MlrcbenchError as error:
        outcome = {"outcome": "infrastructure failed", "reason": str(error), "test": None, "steps": 0}
    record = env.record if env is not None else None
    return {**outcome, "dev": dev, "record": str(record.relative_to(folder)) if record else None}


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
