"""OpenAI Agents SDK: the actions as `FunctionTool`s.

A call waits in a thread, so that agents that run in the same event loop go on. A failure of the
infrastructure ends the run as an exception; it is not told to the model.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from agents import FunctionTool

import mlrcbench


def tools(session: mlrcbench.Session) -> list[FunctionTool]:
    """Tools for an `Agent`.

    Args:
        session: Begun before the first call; its `reward` is there when the run has ended.
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


def _caller(session: mlrcbench.Session, name: str) -> Callable[[Any, str], Awaitable[str]]:
    async def call(_: Any, arguments: str) -> str:
        result = await asyncio.to_thread(session.call, name, arguments)
        return result.text

    return call
