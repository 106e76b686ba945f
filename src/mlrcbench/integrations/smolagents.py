"""smolagents: the actions as `Tool`s, for agents that call tools and for those that write code.

smolagents shows a model every exception of a tool, failures of the infrastructure included, and continues
when the episode is over. `run` stops the agent in both cases, and raises the failure.
"""

from __future__ import annotations

from typing import Any

import smolagents
from smolagents.utils import AgentError

import mlrcbench


class ActionTool(smolagents.Tool):
    """One action.

    Args:
        session: The session whose episode the tool acts on.
        spec: One of `mlrcbench.tool_specs()`.

    Attributes:
        failure: The infrastructure's failure in a call; None without one.
    """

    output_type = "string"
    skip_forward_signature_validation = True

    def __init__(self, session: mlrcbench.Session, spec: dict[str, Any]) -> None:
        schema = spec["parameters"]
        self.name = spec["name"]
        self.description = spec["description"]
        self.inputs = {
            name: _input(spec, required=name in schema["required"])
            for name, spec in schema["properties"].items()
        }
        self.failure: Exception | None = None
        self._session = session
        super().__init__()

    def forward(self, **arguments: Any) -> str:
        """Call the action."""
        try:
            return self._session.call(self.name, arguments).text
        except Exception as error:
            self.failure = error
            raise


def _input(spec: dict[str, Any], *, required: bool) -> dict[str, Any]:
    """A property of a JSON schema for smolagents, to which 30 is only an integer, not also a number."""
    kinds = spec["type"] if isinstance(spec["type"], list) else [spec["type"]]
    if "number" in kinds:
        spec = {**spec, "type": ["integer", *kinds]}
    return spec if required else {**spec, "nullable": True}


def tools(session: mlrcbench.Session) -> list[ActionTool]:
    """Tools for an agent.

    Args:
        session: The session; begin it before the first call, and read its `reward` when the agent has ended.
    """
    return [ActionTool(session, spec) for spec in mlrcbench.tool_specs()]


def run(agent: smolagents.MultiStepAgent, session: mlrcbench.Session, task: str, **options: Any) -> Any:
    """Run an agent until it gives its final answer, or until its episode is over.

    Args:
        agent: An agent with the tools of `tools`.
        session: The session of these tools.
        task: The task; usually the episode's briefing.
        options: Options of the agent's own `run`.

    Returns:
        The agent's final answer; None if the episode was over before it gave one.

    Raises:
        SandboxError, ScoringError, SnapshotError: The infrastructure failed; the episode has no score.
    """
    own = [tool for tool in agent.tools.values() if isinstance(tool, ActionTool)]

    def failure() -> Exception | None:
        return next((tool.failure for tool in own if tool.failure is not None), None)

    def after_step(_: Any, **__: Any) -> None:
        if session.done or failure() is not None:
            agent.interrupt()

    agent.step_callbacks.register(smolagents.ActionStep, after_step)
    try:
        return agent.run(task, **options)
    except AgentError:
        if not session.done and failure() is None:
            raise
        return None
    finally:
        if (error := failure()) is not None:
            raise error
