"""OpenReward: episodes over the Open Reward Standard, HTTP and server-sent events, for any language.

OpenReward's own server speaks the protocol; this module has the environment that it serves. A task is an
instance of one competition, a session is an episode of it. Each answer to a call of a tool contains its
reward. As with OpenEnv, the client is the host's program: its key is for training programs, never for an
agent, to which it passes the prompt, the tools and their answers. If the infrastructure fails, the call of a
tool is an error in the client: such an episode has no reward.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import HTTPException
from openreward.environments import Environment, Server, Split, TextBlock, ToolOutput, tool
from pydantic import BaseModel, ConfigDict

import mlrcbench
from mlrcbench.integrations.serving import http
from mlrcbench.integrations.serving.access import (
    App,
    Gate,
    Receive,
    Scope,
    Send,
    client_gate,
    plain_body,
    respond,
)
from mlrcbench.integrations.serving.episodes import Full, Hosted, SessionTable

SPLITS = {"train": 0, "test": 1_000_000}  # the first instance of each; the splits share no instance


def environment(competition: str, table: SessionTable, *, tasks: int) -> type[Environment]:
    """The class whose instances are the sessions.

    Args:
        competition: The environment's name for clients.
        table: The table of episodes.
        tasks: How many tasks each split has.
    """

    class Research(_Episode):
        @classmethod
        def name(cls) -> str:
            return competition

        @classmethod
        def list_splits(cls) -> Sequence[Split]:
            return [Split(name=name, type=name) for name in SPLITS]

        @classmethod
        def list_tasks(cls, split: str) -> Sequence[dict[str, Any]]:
            return [{"instance": SPLITS[split] + index} for index in range(tasks)]

    Research.table = table
    for spec in mlrcbench.tool_specs():
        setattr(Research, spec["name"], _method(spec))
    return Research


class _Episode(Environment):
    """A session, which is an episode of a table."""

    table: SessionTable

    def __init__(self, task_spec: Mapping[str, Any], secrets: Mapping[str, str] | None = None) -> None:
        super().__init__(task_spec)
        instance = task_spec.get("instance")
        if not isinstance(instance, int) or isinstance(instance, bool) or not 0 <= instance < 1 << 62:
            raise HTTPException(400, 'a task is {"instance": K}, K a whole number from 0 on')
        self.hosted: Hosted | None = None
        self._instance = instance
        self._briefing = ""
        self._over = False

    def setup(self) -> None:
        """Begin the episode, in a thread. If the table is full, the client's next request fails."""
        try:
            self.hosted = self.table.open()
        except Full as error:
            raise HTTPException(503, str(error)) from error
        if self._over:  # the client deleted it meanwhile, before there was an episode to end
            self.teardown()
        else:
            self._briefing = self.hosted.begin(instance=self._instance)

    def teardown(self) -> None:
        """End the episode, in a thread, even during a call or its beginning."""
        self._over = True
        if self.hosted is not None:
            self.hosted.end("its client deleted it or disconnected")

    def get_prompt(self) -> list[TextBlock]:
        """The agent's briefing."""
        return [TextBlock(text=self._briefing)]


def _method(spec: Mapping[str, Any]) -> Any:
    """A tool's method, with the action's own schema."""

    class Arguments(BaseModel):
        model_config = ConfigDict(extra="allow")  # the answer says what is wrong with them

        @classmethod
        def model_json_schema(cls, *_: Any, **__: Any) -> dict[str, Any]:
            return dict(spec["parameters"])

    async def call(self: _Episode, arguments: Arguments) -> ToolOutput:
        assert self.hosted is not None, "OpenReward calls after setup"
        result = await http.in_thread(self.hosted.call, spec["name"], dict(arguments.model_extra or {}))
        if self.hosted.failure:
            raise mlrcbench.SandboxError(f"the episode has no score: {self.hosted.failure}")
        metadata = {
            "is_error": result.is_error,
            "terminated": result.terminated,
            "truncated": result.truncated,
            "score": result.info.get("score"),
            "test_score": result.info.get("test_score"),
        }
        finished = result.done or bool(self.hosted.ended)
        blocks = [TextBlock(text=result.text)]
        reward = None if self.hosted.unscored else result.reward
        return ToolOutput(blocks=blocks, metadata=metadata, reward=reward, finished=finished)

    call.__doc__ = spec["description"]
    call.__annotations__ = {"arguments": Arguments, "return": ToolOutput}  # OpenReward reads them
    return tool(call)


def http_app(
    table: SessionTable,
    control_token: str,
    *,
    competition: str,
    tasks: int = 1_000,
    token: str = "",
    loopback: bool = True,
) -> Gate:
    """The ASGI application: the standard's paths, and `/control/episodes` for the operator.

    Args:
        table: The episodes; closed when the application ends.
        control_token: The operator's secret.
        competition: The competition's id.
        tasks: How many tasks each split has.
        token: The training programs' secret, which OpenReward's client sends as its API key;
            without one, every program on this machine may connect.
        loopback: Whether only this machine is served.

    Raises:
        MlrcbenchError: Other machines are to be served without a token.
    """
    inner = Server([environment(competition, table, tasks=tasks)]).app
    return client_gate(_guarded(inner), table, control_token, token=token, loopback=loopback)


def _guarded(inner: App) -> App:
    """OpenReward's application, whose requests are plain JSON, and which offers no tools but ours.

    OpenReward's own toolsets would act beside the episode, outside of its steps and its record.
    """

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await inner(scope, receive, send)
            return
        body, receive = await plain_body(receive)
        request = None if body is None else json.loads(body)
        if isinstance(request, dict) and request.get("toolset_name") is not None:
            await respond(send, 400, {"detail": "this server has no toolsets; leave out toolset_name"})
            return
        await inner(scope, receive, send)

    return app


def serve(
    table: SessionTable, control_token: str, *, competition: str, tasks: int, token: str, host: str, port: int
) -> None:
    """Serve over HTTP until interrupted.

    Args:
        table: The episodes.
        control_token: The operator's secret.
        competition: The competition's id.
        tasks: How many tasks each split has.
        token: See `http_app`.
        host: Address to bind to.
        port: Port to bind to.
    """
    loopback = http.is_loopback(host)
    app = http_app(table, control_token, competition=competition, tasks=tasks, token=token, loopback=loopback)
    http.serve(app, host, port, control_token)
