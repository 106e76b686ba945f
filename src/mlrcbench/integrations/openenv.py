"""OpenEnv: episodes for training programs, where each WebSocket has its own environment.

The client of OpenEnv is the host's program: it resets, and learns the score on test when an episode is
over. Its agent may only use `step`. So the token is for training programs, never for an agent. An action
is the JSON form that `ResearchEnv.step` takes, `{"action": "run", "command": "ls"}`; if it is invalid, the
observation says why. If the infrastructure fails, `step` raises an exception in the client: such an episode
has no reward.

The instances of the server's pool are tasks of the split "train". `reset(seed=s)` draws one of them, and
`reset(split="train", index=i)` takes the one with this index.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, Self

import anyio
from openenv.core.env_server.http_server import create_fastapi_app
from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import (
    Action,
    ConcurrencyConfig,
    EnvironmentMetadata,
    Observation,
    State,
)
from pydantic import ConfigDict, Field, PrivateAttr

import mlrcbench
from mlrcbench.integrations.serving import http
from mlrcbench.integrations.serving.access import Gate, GateLimits, Receive, Scope, Send, client_gate
from mlrcbench.integrations.serving.episodes import Hosted, SessionTable
from mlrcbench.integrations.serving.websockets import Message
from mlrcbench.text import plain_text

SPLIT = "train"
_MAX_LISTED = 1_000
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
    """An action's JSON form, valid or not."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"oneOf": _FORMS})

    action: str = Field(description="The action's name; its arguments are further keys.")
    _form: dict[str, Any] | None = PrivateAttr(None)

    @classmethod
    def model_validate(cls, obj: Any, *_: Any, **__: Any) -> Self:
        """Accept everything: the observation says what is wrong with it."""
        action: Self = cls.model_construct(action="")
        action._form = dict(obj) if isinstance(obj, Mapping) else {"action": obj}
        return action

    @property
    def call(self) -> tuple[Any, dict[str, Any]]:
        """The action's name, and its arguments."""
        form = {"action": self.action, **(self.model_extra or {})} if self._form is None else self._form
        return form.get("action"), {k: form[k] for k in form if k not in ("action", "metadata")}


class ToolObservation(Observation):
    """The result of a step; `done` and `reward` are fields of OpenEnv."""

    text: str = Field(default="", description="The observation for the agent.")
    is_error: bool = Field(default=False, description="Whether the action could not be carried out.")
    terminated: bool = Field(default=False, description="Whether the work was submitted.")
    truncated: bool = Field(default=False, description="Whether the budget is spent.")
    score: dict[str, Any] | None = Field(default=None, description="The score of an evaluation on dev.")
    test_score: dict[str, Any] | None = Field(
        default=None, description="The score on test, when the episode is over."
    )


class EpisodeInfo(State):
    """What is known of the running episode, for training programs."""

    competition: str = Field(default="", description="The competition's id.")
    tier: str = Field(default="", description="The tier of its data.")
    instance: int | None = Field(default=None, description="The seed of the episode's instance.")


class Arena(Environment):
    """One connection's environment, which plays one episode of a table after the other.

    Args:
        table: The table of episodes.
        sample: An environment like those of the table; nobody plays it.
    """

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self, table: SessionTable, sample: mlrcbench.ResearchEnv) -> None:
        super().__init__()
        self._table = table
        self._sample = sample
        self._hosted: Hosted | None = None
        self._episode = ""

    async def reset_async(
        self,
        seed: int | None = None,
        episode_id: str | None = None,
        split: str = SPLIT,
        index: int | None = None,
    ) -> ToolObservation:
        """End the previous episode and begin another.

        Args:
            seed: Draws an instance of the pool, unless there is an index.
            episode_id: The episode's name.
            split: The only split is "train".
            index: The index of the task, whose instance is played.

        Raises:
            IndexError: There is no such task.
            Full, DataError, SandboxError: The episode cannot begin.
        """
        instance = None if index is None else self.get_task(split, index)["instance"]
        await http.in_thread(self.close)
        self._hosted = self._table.open()
        self._episode = str(episode_id or self._hosted.id)
        return ToolObservation(text=await http.in_thread(self._hosted.begin, seed, instance))

    async def step_async(self, action: ToolAction) -> ToolObservation:
        """Carry out one action.

        Raises:
            SandboxError: The infrastructure failed; the episode is over, and has no score.
        """
        if self._hosted is None or not self._hosted.begun:
            return ToolObservation(text="error: no episode is running; reset first", is_error=True)
        result = await http.in_thread(self._hosted.call, *action.call)
        if self._hosted.failure:
            raise mlrcbench.SandboxError(f"the episode has no score: {self._hosted.failure}")
        return ToolObservation(
            text=result.text,
            is_error=result.is_error,
            terminated=result.terminated,
            truncated=result.truncated,
            done=result.done or bool(self._hosted.ended),
            reward=None if self._hosted.unscored else result.reward,
            score=result.info.get("score"),
            test_score=result.info.get("test_score"),
        )

    def reset(
        self,
        seed: int | None = None,
        episode_id: str | None = None,
        split: str = SPLIT,
        index: int | None = None,
        **_: Any,
    ) -> ToolObservation:
        """See `reset_async`."""
        observation: ToolObservation = anyio.run(self.reset_async, seed, episode_id, split, index)
        return observation

    def step(self, action: ToolAction, timeout_s: float | None = None, **_: Any) -> ToolObservation:
        """See `step_async`."""
        observation: ToolObservation = anyio.run(self.step_async, action)
        return observation

    @property
    def state(self) -> EpisodeInfo:
        """What is known of the episode."""
        session = self._hosted.session if self._hosted else None
        return EpisodeInfo(
            episode_id=self._episode,
            step_count=session.calls if session else 0,
            competition=self._sample.competition.id,
            tier=self._sample.tier.name,
            instance=session.instance if session else None,
        )

    def get_metadata(self) -> EnvironmentMetadata:
        """The competition, for people."""
        subject = self._sample.competition
        return EnvironmentMetadata(
            name=f"mlrcbench/{subject.id}",
            description=f"{subject.card.title}: {subject.card.summary}",
            readme_content=subject.statement_of(self._sample.tier.name),
            version=mlrcbench.__version__,
            author="The mlrcbench maintainers",
        )

    def list_splits(self) -> list[str]:
        """The names of the splits, of which there is one."""
        return [SPLIT]

    def num_tasks(self, split: str) -> int:
        """How many instances the pool has.

        Raises:
            IndexError: The split does not exist.
        """
        if split != SPLIT:
            raise IndexError(f"the split {split!r} does not exist; the only one is {SPLIT!r}")
        return len(self._sample.pool)

    def get_task(self, split: str, index: int) -> dict[str, Any]:
        """The task of an index.

        Raises:
            IndexError: There is no such task.
        """
        count = self.num_tasks(split)
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < count:
            raise IndexError(f"the index must be a whole number from 0 to {count - 1}, not {str(index)[:40]}")
        competition, instance = self._sample.competition.id, self._sample.pool[index]
        return {
            "id": f"{competition}-{instance}",
            "index": index,
            "competition": competition,
            "tier": self._sample.tier.name,
            "instance": instance,
        }

    def list_tasks(self, split: str) -> list[dict[str, Any]]:
        """The tasks of the split, as many as one answer should have."""
        return [self.get_task(split, index) for index in range(min(self.num_tasks(split), _MAX_LISTED))]

    def get_task_range(self, split: str, start: int, stop: int) -> list[dict[str, Any]]:
        """The tasks from an index to another, as many as one answer should have."""
        first, last = max(0, int(start)), min(int(stop), self.num_tasks(split))
        return [self.get_task(split, index) for index in range(first, min(last, first + _MAX_LISTED))]

    def close(self) -> None:
        """End the episode."""
        hosted, self._hosted = self._hosted, None
        if hosted is not None:
            hosted.end("its client closed it or disconnected")


def http_app(table: SessionTable, control_token: str, *, token: str = "", loopback: bool = True) -> Gate:
    """The ASGI application: OpenEnv's paths, and `/control/episodes` for the operator.

    Args:
        table: The episodes; closed when the application ends.
        control_token: The operator's secret.
        token: The training programs' secret; without one, every program on this machine may connect.
        loopback: Whether only this machine is served.

    Raises:
        MlrcbenchError: Other machines are to be served without a token.
    """
    limits = GateLimits(idle_seconds=table.limits.idle_seconds)
    sample = table.make()
    sample.close()
    inner = create_fastapi_app(
        lambda: Arena(table, sample),
        ToolAction,
        ToolObservation,
        # Not the idle limit: OpenEnv's own reaper would also end sessions in one long step.
        concurrency_config=ConcurrencyConfig(
            max_concurrent_envs=2 * table.limits.sessions, session_timeout=table.limits.lifetime_seconds
        ),
        env_name="mlrcbench",
        state_cls=EpisodeInfo,
    )

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def receive_readable() -> Message:
            message = await receive()
            text = message.get("text")
            return message if text is None else {**message, "text": _readable(text)}

        await inner(scope, receive_readable, send)

    return client_gate(app, table, control_token, token=token, loopback=loopback, limits=limits)


def _readable(text: str) -> str:
    """A message that OpenEnv can read; it would close the connection on one that it cannot."""
    readable = plain_text(text)
    message = {"type": "step"} if readable is None else json.loads(readable)
    if isinstance(message, dict) and message.get("type") == "step":
        data = message.get("data", "what is no JSON, or nests too deep")
        message = {"type": "step", "data": data if isinstance(data, dict) else {"action": data}}
    return json.dumps(message)


def from_environment() -> Gate:
    """The application for `uvicorn --factory`, set up by environment variables.

    They are MLRCBENCH_COMPETITION, MLRCBENCH_INSTANCES (how many; by default 1), MLRCBENCH_TOKEN and
    MLRCBENCH_CONTROL_TOKEN.
    """
    competition = os.environ.get("MLRCBENCH_COMPETITION", "")
    mlrcbench.get_competition(competition)
    token, control = os.environ.get("MLRCBENCH_TOKEN", ""), os.environ.get("MLRCBENCH_CONTROL_TOKEN", "")
    if not control:
        raise mlrcbench.MlrcbenchError("set MLRCBENCH_CONTROL_TOKEN to a secret that you choose")
    instances = os.environ.get("MLRCBENCH_INSTANCES", "1")
    if not instances.isdecimal() or int(instances) < 1:
        raise mlrcbench.MlrcbenchError("MLRCBENCH_INSTANCES must be a whole number of at least 1")
    table = SessionTable(lambda: mlrcbench.make(competition, instances=int(instances)))
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
    app = http_app(table, control_token, token=token, loopback=http.is_loopback(host))
    http.serve(app, host, port, control_token)
