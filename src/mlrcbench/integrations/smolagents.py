"""smolagents: the actions as `Tool`s, for agents that call tools and for those that write code.

smolagents tells a model about any exception of a tool, failures of the infrastructure included;
after one, each further call answers that no episode is running, and `test_score` stays None.
"""

from __future__ import annotations

from typing import Any

import smolagents

import mlrcbench


class ActionTool(smolagents.Tool):
    """One action.

    Args:
        session: Whose episode.
        spec: Of `mlrcbench.tool_specs()`.
    """

    output_type = "string"
    skip_forward_signature_validation = True

    def __init__(self, session: mlrcbench.Session, spec: dict[str, Any]) -> None:
        schema = spec["parameters"]
        self.name = spec["name"]
        self.description = spec["description"]
        self.inputs = {
            name: _input(told, required=name in schema["required"])
            for name, told in schema["properties"].items()
        }
        self._session = session
        super().__init__()

    def forward(self, **arguments: Any) -> str:
        """Make the call."""
        return self._session.call(self.name, arguments).text


def _input(told: dict[str, Any], *, required: bool) -> dict[str, Any]:
    """A property of a JSON schema as smolagents reads it: 30 is no number there, but an integer."""
    kinds = told["type"] if isinstance(told["type"], list) else [told["type"]]
    if "number" in kinds:
        told = {**told, "type": ["integer", *kinds]}
    return told if required else {**told, "nullable": True}


def tools(session: mlrcbench.Session) -> list[ActionTool]:
    """Tools for an agent.

    Args:
        session: Begun before the first call; its `reward` is there when the agent has ended.
    """
    return [ActionTool(session, spec) for spec in mlrcbench.tool_specs()]
