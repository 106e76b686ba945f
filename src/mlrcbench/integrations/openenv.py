"""OpenEnv: episodes for training programs, each WebSocket an environment of its own.

The client of OpenEnv is the host's: it resets, and learns the score on test when an episode is
over. What it lets its agent do is `step`. So its token is for training programs, never for an
agent. An action is the JSON form that `ResearchEnv.step` takes, `{"action": "run", "command":
"ls"}`; what is wrong with it, the observation says.
"""

from __future__ import annotations

import os
from typing import Any

import anyio
from openenv.core.env_server.http_server import create_fastapi_app
from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, ConcurrencyConfig, Observation, State
from pydantic import ConfigDict, Field

import mlrcbench
from mlrcbench.integrations import web
from mlrcbench.integrations.gate import Gate, GateLimits, client_gate
from mlrcbench.integrations.hosting import Hosted, SessionTable

_FORMS = [
    {
        **spec["parameters"],
        "description": spec["description"],
        "properties": {"action": {"const": spec["name"]}, **spec["parameters"]["properties"]},
        "required": ["action", *spec["parameters"]["required"]],
    }
    for spec in mlrcbench.tool_specs()
]


class ToolAction(Action):
    """An action's JSON form."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"oneOf": _FORMS})

    action: str = Field(description="Its name; its arguments stand beside it.")


class ToolObservation(Observation):
    """What a step came to; `done` and `reward` are OpenEnv's own."""

    text: str = Field(default="", description="For the agent.")
    is_error: bool = Field(default=False, description="Whether the action could not be carried out.")
    terminated: bool = Field(default=False, description="Whether the work was submitted.")
    truncated: bool = Field(default=False, description="Whether the budget is spent.")
    score: dict[str, Any] | None = Field(default=None, description="On dev, of an evaluation.")
    test_score: dict[str, Any] | None = Field(default=None, description="On test, when it is over.")


class Arena(Environment):
    """One connection's environment: an episode of a table after the other.

    Args:
        table: Where the episodes are.
    """

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self, table: SessionTable) -> None:
        super().__init__()
        self._table = table
        self._hosted: Hosted | None = None
        self._episode = ""

    async def reset_async(self, seed: int | None = None, episode_id: str | None = None) -> ToolObservation:
        """Begin an episode, and end the one before.

        Raises:
            Full, DataError, SandboxError: It cannot begin.
        """
        await web.in_thread(self.close)
        self._hosted = self._table.open()
        self._episode = str(episode_id or self._hosted.id)
        return ToolObservation(text=await web.in_thread(self._hosted.begin, seed))

    async def step_async(self, action: ToolAction) -> ToolObservation:
        """Carry out one action."""
        if self._hosted is None or not self._hosted.begun:
            return ToolObservation(text="error: no episode is running; reset first", is_error=True)
        arguments = dict(action.model_extra or {})
        result = await web.in_thread(self._hosted.call, action.action, arguments)
        return ToolObservation(
            text=result.text,
            is_error=result.is_error,
            terminated=result.terminated,
            truncated=result.truncated,
            done=result.done or bool(self._hosted.ended),
            reward=result.reward,
            score=result.info.get("score"),
            test_score=result.info.get("test_score"),
        )

    def reset(self, seed: int | None = None, episode_id: str | None = None, **_: Any) -> ToolObservation:
        """See `reset_async`."""
        begun: ToolObservation = anyio.run(self.reset_async, seed, episode_id)
        return begun

    def step(self, action: ToolAction, timeout_s: float | None = None, **_: Any) -> ToolObservation:
        """See `step_async`."""
        found: ToolObservation = anyio.run(self.step_async, action)
        return found

    @property
    def state(self) -> State:
        """The episode's name and how many steps it has had."""
        return State(episode_id=self._episode, step_count=self._hosted.session.calls if self._hosted else 0)

    def close(self) -> None:
        """End the episode."""
        hosted, self._hosted = self._hosted, None
        if hosted is not None:
            hosted.end("its client closed it, or went away")


def http_app(table: SessionTable, control_token: str, *, token: str = "", loopback: bool = True) -> Gate:
    """The ASGI application: OpenEnv's paths, and `/control/episodes` for the operator.

    Args:
        table: The episodes; closed when the application's life ends.
        control_token: The operator's secret.
        token: The training programs' secret; without one, anybody on this machine is one.
        loopback: Whether only this machine is served.

    Raises:
        MlrcbenchError: Other machines are to be served without a token.
    """
    limits = GateLimits(idle_seconds=table.limits.idle_seconds)
    inner = create_fastapi_app(
        lambda: Arena(table),
        ToolAction,
        ToolObservation,
        # Not the limit on idleness: OpenEnv's own reaper also ends who works on one long step.
        concurrency_config=ConcurrencyConfig(
            max_concurrent_envs=2 * table.limits.sessions, session_timeout=table.limits.lifetime_seconds
        ),
        env_name="mlrcbench",
    )
    return client_gate(inner, table, control_token, token=token, loopback=loopback, limits=limits)


def from_environment() -> Gate:
    """For `uvicorn --factory`: MLRCBENCH_COMPETITION, MLRCBENCH_TOKEN and MLRCBENCH_CONTROL_TOKEN."""
    competition = os.environ.get("MLRCBENCH_COMPETITION", "")
    mlrcbench.get_competition(competition)
    token, control = os.environ.get("MLRCBENCH_TOKEN", ""), os.environ.get("MLRCBENCH_CONTROL_TOKEN", "")
    if not control:
        raise mlrcbench.MlrcbenchError("set MLRCBENCH_CONTROL_TOKEN to a secret of your own")
    table = SessionTable(lambda: mlrcbench.make(competition))
    return http_app(table, control, token=token, loopback=not token)


def serve(table: SessionTable, control_token: str, *, token: str, host: str, port: int) -> None:
    """Serve over HTTP until interrupted.

    Args:
        table: The episodes.
        control_token: The operator's secret.
        token: See `http_app`.
        host: Address to bind to.
        port: Port to bind to.
    """
    app = http_app(table, control_token, token=token, loopback=web.is_loopback(host))
    web.serve(app, host, port, control_token)
