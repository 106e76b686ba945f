"""OpenAI Agents SDK: the actions as `FunctionTool`s.

A call waits in a thread, so that other agents in the same event loop continue. A failure of the
infrastructure ends the run with an exception, which the model does not see.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from agents import FunctionTool, ToolsToFinalOutputResult

import mlrcbench


def tools(session: mlrcbench.Session) -> list[FunctionTool]:
    """Tools for an `Agent`.

    Args:
        session: The session; begin it before the first call, and read its `reward` when the run has ended.
    """
    return [
        FunctionTool(
            name=spec["name"],
            description=spec["description"],
            params_json_schema=spec["parameters"],
            on_invoke_tool=_caller(session, spec["name"]),
            strict_json_schema=False,  # which would forbid optional arguments
        )
        for spec in mlrcbench.tool_specs()
    ]


def stop(session: mlrcbench.Session) -> Callable[[Any, list[Any]], ToolsToFinalOutputResult]:
    """A `tool_use_behavior` for an `Agent` that ends its run when the episode is over.

    Args:
        session: The session of the agent's tools.
    """

    def behave(_: Any, results: list[Any]) -> ToolsToFinalOutputResult:
        return ToolsToFinalOutputResult(is_final_output=session.done, final_output=str(results[-1].output))

    return behave


def _caller(session: mlrcbench.Session, name: str) -> Callable[[Any, str], Awaitable[str]]:
    async def call(_: Any, arguments: str) -> str:
        result = await asyncio.to_thread(session.call, name, arguments)
        return result.text

    return call
