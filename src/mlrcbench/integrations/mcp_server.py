"""What clients of MCP see: instructions, tools, the statement as a resource, progress while a call runs.

Clients cut instructions after a few thousand characters, so the instructions are short and name a tool,
`briefing`, that returns the whole statement. Clients also give up on a call that is silent for a minute:
a call that takes long sends progress, if its client asked for that, and an answer that nobody waited for
can be read with the tool `last_answer`. Both tools cost no step.

The official SDK is used at its low level, so that the tools have the actions' own schemas, with either
of its major versions.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import anyio
from mcp import types
from mcp.server.lowlevel import Server
from mcp.shared import exceptions

import mlrcbench
from mlrcbench.integrations.serving import http
from mlrcbench.integrations.serving.episodes import BUSY, Hosted
from mlrcbench.protocol.wording import without_actions
from mlrcbench.text import one_line

BRIEFING, LAST_ANSWER = "briefing", "last_answer"
STATEMENT = "mlrcbench://statement"
PROGRESS_SECONDS = 5.0
_PATIENCE_SECONDS = 20.0  # how long a call waits for the one before it, as clients may send several at once
_POLL_SECONDS = 0.1
_MAX_INSTRUCTIONS = 2_000
_NO_RESOURCE = -32002
_READS_ONLY = frozenset({BRIEFING, LAST_ANSWER, "read_file", "wait_job"})
_DESTROYS = frozenset({"run", "start_job", "kill_job", "write_file", "submit"})
_HOW = (
    "You take part in a machine-learning research competition, {title}: {summary}\n\n"
    f"First call `{BRIEFING}`: it returns the task, the rules, the files and your budget, and costs nothing. "
    f"The task alone is the resource {STATEMENT}, too.\n\n"
    "Work on the competition with the tools of this server only: its files and commands are in a sandbox of "
    "its own, and those of your own machine have nothing to do with it. Make one call at a time. Each costs "
    f"a step of your budget, except `{BRIEFING}` and `{LAST_ANSWER}`, and its answer ends with what is left. "
    "A command or an evaluation may take minutes. If its call times out, it continues: do not repeat it, "
    f"but read its answer with `{LAST_ANSWER}`. "
    "When you are done, call `submit`: it ends the episode, which cannot be begun again."
)
_MORE_TOOLS: list[dict[str, Any]] = [
    {
        "name": BRIEFING,
        "description": "Read the task, the rules, the files and the budget. Call this first; it is free.",
        "inputSchema": {"type": "object", "properties": {}, "required": []},
    },
    {
        "name": LAST_ANSWER,
        "description": "Read the answer to the last call again, for example after a timeout; while that call "
        f"runs, this waits up to {_PATIENCE_SECONDS:.0f} seconds for it. It costs nothing.",
        "inputSchema": {"type": "object", "properties": {}, "required": []},
    },
]


@dataclass(frozen=True, slots=True)
class Introduction:
    """What a client gets without a call.

    Attributes:
        instructions: A short text for the model.
        statement: The competition's statement, in Markdown.
    """

    instructions: str
    statement: str


def introduction(competition: str, tier: str = "mini") -> Introduction:
    """The introduction to a competition.

    Raises:
        RegistryError: The competition or its tier does not exist.
    """
    subject = mlrcbench.get_competition(competition)
    subject.card.tier(tier)
    about = {"title": subject.card.title[:100], "summary": one_line(subject.card.summary)[:500]}
    return Introduction(_HOW.format(**about)[:_MAX_INSTRUCTIONS], subject.statement_of(tier))


def make_server(about: Introduction, find: Callable[[Any], Hosted]) -> Server[Any]:
    """A server whose tools are the actions.

    Args:
        about: What every client gets.
        find: Finds the episode of a request; it gets the HTTP request, or None over stdio.
    """
    tools = types.ListToolsResult.model_validate({"tools": [_tool(one) for one in _tools()]})
    resources = types.ListResourcesResult.model_validate({"resources": [_statement_resource()]})
    options: dict[str, Any] = {"version": mlrcbench.__version__, "instructions": about.instructions}
    if not hasattr(Server, "add_request_handler"):  # the SDK's first major version
        server: Any = Server("mlrcbench", **options)

        async def call_1(request: Any) -> Any:
            context = server.request_context
            result = await _answer(find(context.request), request.params, _reporter_1(context))
            return types.ServerResult(result)

        async def list_1(_: Any) -> Any:
            return types.ServerResult(tools)

        async def resources_1(_: Any) -> Any:
            return types.ServerResult(resources)

        async def read_1(request: Any) -> Any:
            return types.ServerResult(_read(about, request.params))

        server.request_handlers[types.ListToolsRequest] = list_1
        server.request_handlers[types.CallToolRequest] = call_1
        server.request_handlers[types.ListResourcesRequest] = resources_1
        server.request_handlers[types.ReadResourceRequest] = read_1
        return server

    async def call_2(context: Any, params: Any) -> Any:
        return await _answer(find(context.request), params, context.session.report_progress)

    async def list_2(_context: Any, _params: Any) -> Any:
        return tools

    async def resources_2(_context: Any, _params: Any) -> Any:
        return resources

    async def read_2(_context: Any, params: Any) -> Any:
        return _read(about, params)

    return Server(
        "mlrcbench",
        **options,
        on_list_tools=list_2,
        on_call_tool=call_2,
        on_list_resources=resources_2,
        on_read_resource=read_2,
    )


def _tools() -> list[dict[str, Any]]:
    """The tools without their annotations: those of this server, and the actions."""
    actions = [
        {"name": spec["name"], "description": spec["description"], "inputSchema": spec["parameters"]}
        for spec in mlrcbench.tool_specs()
    ]
    return [*_MORE_TOOLS, *actions]


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    """A tool with its title and with hints for clients that ask their user before some calls."""
    name = tool["name"]
    hints = {"readOnlyHint": name in _READS_ONLY, "openWorldHint": False}
    if name not in _READS_ONLY:
        hints["destructiveHint"] = name in _DESTROYS
    title = name.replace("_", " ").capitalize()
    return {**tool, "title": title, "annotations": {"title": title, **hints}}


def _statement_resource() -> dict[str, Any]:
    return {
        "uri": STATEMENT,
        "name": "statement",
        "title": "The competition's statement",
        "description": "The task, its rules and its scoring.",
        "mimeType": "text/markdown",
    }


def _read(about: Introduction, params: Any) -> types.ReadResourceResult:
    uri = str(params.uri)
    if uri.rstrip("/") != STATEMENT:
        raise _error(f"the resource {uri[:200]!r} does not exist; the only one is {STATEMENT}")
    content = {"uri": STATEMENT, "mimeType": "text/markdown", "text": about.statement}
    return types.ReadResourceResult.model_validate({"contents": [content]})


def _error(text: str) -> Exception:
    """An error for the client, in either major version of the SDK."""
    if hasattr(exceptions, "MCPError"):
        made: Exception = exceptions.MCPError(_NO_RESOURCE, text)
    else:
        made = exceptions.McpError(types.ErrorData(code=_NO_RESOURCE, message=text))
    return made


async def _answer(
    hosted: Hosted, params: Any, report: Callable[..., Awaitable[None]]
) -> types.CallToolResult:
    """Answer a call, and report progress meanwhile.

    A step is made in a thread, and carried out to its end even if nobody waits for the answer any more.
    """
    started = time.monotonic()

    async def tell() -> None:
        while True:
            await anyio.sleep(PROGRESS_SECONDS)
            seconds = time.monotonic() - started
            what = f"{str(params.name)[:40]} has run for {seconds:.0f} s"
            if not hosted.briefed:
                what = f"the episode has been prepared for {seconds:.0f} s; its data is built once here"
            try:
                await report(progress=seconds, message=what)
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                return

    async with anyio.create_task_group() as group:
        group.start_soon(tell)
        result = await _result(hosted, params)
        group.cancel_scope.cancel()
    meta = {}
    if params.name not in (BRIEFING, LAST_ANSWER):
        step = {"reward": result.reward, "terminated": result.terminated, "truncated": result.truncated}
        meta = {"mlrcbench/step": step}
    content = [{"type": "text", "text": result.text}]
    return types.CallToolResult.model_validate(
        {"content": content, "isError": result.is_error, "_meta": meta}
    )


async def _result(hosted: Hosted, params: Any) -> mlrcbench.ToolResult:
    """The result of a call, which may have to wait for the one before."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while hosted.busy and time.monotonic() < deadline:
        await anyio.sleep(_POLL_SECONDS)
    if params.name == LAST_ANSWER:
        return _last_answer(hosted)
    while True:
        if params.name == BRIEFING:
            result = await http.in_thread(hosted.brief)
            result = result if result.is_error else replace(result, text=without_actions(result.text))
        else:
            result = await http.in_thread(hosted.call, params.name, params.arguments)
        if result is not BUSY or time.monotonic() >= deadline:
            return _named(result)
        await anyio.sleep(_POLL_SECONDS)


def _named(result: mlrcbench.ToolResult) -> mlrcbench.ToolResult:
    """A result, which tells an agent whose last call still runs what it can do."""
    if result is not BUSY:
        return result
    return mlrcbench.ToolResult(f"{BUSY.text}: call {LAST_ANSWER}", True, 0.0, False, False, {})


def _last_answer(hosted: Hosted) -> mlrcbench.ToolResult:
    if hosted.busy:
        return _named(BUSY)
    answer = hosted.answer
    if answer is None:
        return mlrcbench.ToolResult("error: nothing has been called yet", True, 0.0, False, False, {})
    return answer


def _reporter_1(context: Any) -> Callable[..., Awaitable[None]]:
    """How a request of the SDK's first major version reports its progress, if its client asked for that."""
    token = getattr(context.meta, "progressToken", None)

    async def report(progress: float, message: str) -> None:
        if token is not None:
            await context.session.send_progress_notification(
                token, progress, message=message, related_request_id=str(context.request_id)
            )

    return report
