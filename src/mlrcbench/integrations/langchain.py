"""LangChain: the actions as `StructuredTool`s.

LangChain hands a call on as the model wrote it, without checking it against the schema, so that
what is wrong with it is told by the episode itself, in words that help.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from langchain_core.tools import StructuredTool

import mlrcbench


def tools(session: mlrcbench.Session) -> list[StructuredTool]:
    """Tools for `create_agent`, or for `bind_tools` of a model.

    Args:
        session: Begun before the first call; its `reward` is there when the agent has ended.
    """
    return [
        StructuredTool(
            name=spec["name"],
            description=spec["description"],
            args_schema=spec["parameters"],
            func=_caller(session, spec["name"]),
        )
        for spec in mlrcbench.tool_specs()
    ]


def _caller(session: mlrcbench.Session, name: str) -> Callable[..., str]:
    def call(**arguments: Any) -> str:
        return session.call(name, arguments).text

    return call
