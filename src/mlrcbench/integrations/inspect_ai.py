"""Inspect: every competition as a task, the actions as tools, the results as a score.

    inspect eval mlrcbench/backdoor_trigger --model openai/gpt-5 -T instances=4

A sample is an episode on one instance. It begins in `begin`, the setup that stays when another
solver replaces `researcher`; the actions are then the state's tools, and `actions()` returns them for
agents that bring their own loop. The episode ends with `submit`, with its budget, or in the scorer, which
submits the workspace as it is. A failure of the infrastructure is an error of the sample, never its score.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import anyio
from inspect_ai import Task, task
from inspect_ai.agent import AgentState, as_solver, react
from inspect_ai.dataset import Sample
from inspect_ai.event import ScoreEvent
from inspect_ai.log import transcript
from inspect_ai.scorer import Score, Target, mean, scorer, stderr
from inspect_ai.solver import Generate, Solver, TaskState, solver
from inspect_ai.tool import Tool, ToolDef, ToolError, ToolParams
from inspect_ai.util import store

import mlrcbench
from mlrcbench.integrations import inspect_sandbox  # noqa: F401 (which registers it with Inspect)

_KEY = "mlrcbench_episode"
_CONTINUE = "No tool was called. Continue with the tools; `submit` ends the work."
_sessions: dict[str, mlrcbench.Session] = {}


def actions() -> list[Tool]:
    """The actions as tools, which act on the episode of the sample that calls them."""
    return [_tool(spec) for spec in mlrcbench.tool_specs()]


def _tool(spec: dict[str, Any]) -> Tool:
    async def execute(**kwargs: Any) -> str:
        session = _sessions[store().get(_KEY)]
        result: mlrcbench.ToolResult = await anyio.to_thread.run_sync(session.call, spec["name"], kwargs)
        _note_dev_score(result.info.get("score"))
        if result.is_error:
            raise ToolError(result.text)
        return result.text

    # The episode itself cuts observations, and says so.
    parameters = ToolParams(**spec["parameters"])
    return ToolDef(execute, spec["name"], spec["description"], parameters, max_output=0).as_tool()


def _note_dev_score(score: dict[str, Any] | None) -> None:
    """Show an evaluation on dev in the sample's transcript, as a score before the end."""
    if score is not None:
        gain, valid = score["improvement"], score["value"] is not None
        text = f"{score['value']:.6g} on dev" if valid else score["reason"]
        noted = Score(value=gain if valid else 0.0, explanation=text, metadata=score)
        transcript()._event(ScoreEvent(score=noted, intermediate=True, scorer="dev"))


@solver
def begin(**options: Any) -> Solver:
    """Begin the sample's episode, and put its briefing into the prompt.

    Args:
        options: Options of `mlrcbench.make`.
    """

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        session = mlrcbench.Session(mlrcbench.make(state.metadata["competition"], **options))
        _sessions[state.uuid] = session
        state.store.set(_KEY, state.uuid)

        def reset() -> str:
            return session.begin(instance=state.metadata["instance"])

        state.user_prompt.text = await anyio.to_thread.run_sync(reset)
        state.tools = actions()
        return state

    return solve


@solver
def researcher() -> Solver:
    """An agent that calls actions until the episode is over."""

    async def advise(state: AgentState) -> bool | str:
        if _sessions[store().get(_KEY)].done:
            return False
        return True if state.output.message.tool_calls else _CONTINUE

    agent: Solver = as_solver(react(prompt=None, tools=actions(), submit=False, on_continue=advise))
    return agent


@scorer(metrics={"improvement": [mean(), stderr()], "value": [mean(), stderr()], "valid": [mean()]})
def test_score() -> Callable[[TaskState, Target], Any]:
    """The episode's score on test.

    `improvement` is the relative improvement to the target, 0 for a submission that cannot be scored;
    `value` is the competition's own metric, NaN for such a submission, so that means leave it out; `valid`
    is 1 or 0.
    The score's metadata hold the details, the return, the number of steps, and the record's path.
    """

    async def score(state: TaskState, target: Target) -> Score:
        session = _sessions[state.uuid]
        if not session.done:
            await anyio.to_thread.run_sync(session.call, "submit")
        test = session.test_score
        if test is None:
            raise mlrcbench.SandboxError("the episode has no score, since its infrastructure failed")
        valid = test["value"] is not None
        return Score(
            value={
                "improvement": test["improvement"] if valid else 0.0,
                "value": test["value"] if valid else float("nan"),
                "valid": float(valid),
            },
            explanation=test["reason"] or f"relative improvement {test['improvement']:.3f}",
            metadata={
                **test,
                "return": session.reward,
                "steps": session.calls,
                "record": str(session.env.record),
            },
        )

    return score


async def _end(state: TaskState) -> None:
    session = _sessions.pop(state.uuid, None)
    if session is not None:
        await anyio.to_thread.run_sync(session.close)


def _make_task(card: mlrcbench.Card) -> Callable[..., Task]:
    def make(
        instances: int = 1,
        first: int = 0,
        tier: str = "mini",
        kind: str = "auto",
        steps: int | None = None,
        evaluations: int | None = None,
        seconds: float | None = None,
        reward: str = "sparse",
        final: str = "best",
        secret: str | None = None,
    ) -> Task:
        parts = {"steps": steps, "evaluations": evaluations, "seconds": seconds}
        budget = {name: number for name, number in parts.items() if number is not None}
        options: dict[str, Any] = {
            "tier": tier,
            "sandbox": kind,
            "reward": reward,
            "final": final,
            "secret": secret,
        }
        mlrcbench.make(card.id, **options, budget=budget or None).close()  # wrong options fail here
        return Task(
            dataset=[_sample(card, instance) for instance in range(first, first + instances)],
            setup=begin(**options, budget=budget or None),
            solver=researcher(),
            scorer=test_score(),
            cleanup=_end,
            version=card.version,
            metadata={"competition": card.id, "tier": tier, "mlrcbench": mlrcbench.__version__},
        )

    make.__doc__ = f"""{card.title}.

    Args:
        instances: How many samples there are, each with its instance.
        first: Seed of the first instance.
        tier: "mini" or "full".
        kind: The kind of the episode's sandbox; see `mlrcbench doctor`.
        steps: How many steps an episode has; by default the card's number.
        evaluations: How many evaluations it has; by default the card's number.
        seconds: How many seconds it has; by default the card's number.
        reward: "sparse" or "shaped": how improvements become the return, which the metadata hold.
        final: "best" or "last": which state is scored on test.
        secret: The instances' secret; by default this installation's.
    """
    named_task: Callable[..., Task] = task(name=card.id.replace("-", "_"))(make)
    return named_task


def _sample(card: mlrcbench.Card, instance: int) -> Sample:
    return Sample(
        id=f"{card.id}-{instance}",
        input=card.summary,  # `begin` replaces it by the briefing
        metadata={"competition": card.id, "instance": instance},
    )


def _tasks(cards: Sequence[mlrcbench.Card]) -> dict[str, Callable[..., Task]]:
    return {card.id.replace("-", "_"): _make_task(card) for card in cards}


globals().update(_tasks(mlrcbench.list_competitions(hidden=True)))
