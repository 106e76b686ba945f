"""LangChain: the actions as `StructuredTool`s.

LangChain passes a call on as the model wrote it, without checking it against the schema, so the episode
itself answers invalid calls, with messages that help; the message of such an answer has the status "error". A
failure of the infrastructure ends the agent with an
exception, which the model does not see.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from langchain_core.tools import StructuredTool, ToolException

import mlrcbench


def tools(session: mlrcbench.Session) -> list[StructuredTool]:
    """Tools for `create_agent`, or for `bind_tools` of a model.

    Args:
        session: The session; begin it before the first call, and read its `reward` when the agent has ended.
    """
    return [
        StructuredTool(
            name=spec["name"],
            description=spec["description"],
            args_schema=spec["parameters"],
            func=_caller(session, spec["name"]),
            handle_tool_error=True,  # its text is the answer
        )
        for spec in mlrcbench.tool_specs()
    ]


def stop(session: mlrcbench.Session) -> Any:
    """A middleware for `create_agent` that ends the agent when the episode is over.

    Args:
        session: The session of the agent's tools.
    """
    from langchain.agents.middleware import before_model

    @before_model(can_jump_to=["end"])
    def end_when_over(*_: Any) -> dict[str, Any] | None:
        return {"jump_to": "end"} if session.done else None

    return end_when_over


def _caller(session: mlrcbench.Session, name: str) -> Callable[..., str]:
    def call(**arguments: Any) -> str:
        result = session.call(name, arguments)
        if result.is_error:
            raise ToolException(result.text)
        return result.text

    return call
