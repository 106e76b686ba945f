"""Competitions as a taskset of verifiers: one task for each instance, the actions as its tools.

    vf-eval mlrcbench-vf --env.taskset.competition backdoor-trigger -n 3 ...

verifiers finds tasksets by the names of top-level modules, so `mlrcbench_vf` exports this one. The
episode runs in the tool server's process, which verifiers starts for each rollout as this module; the
state from which rewards are read is sent from there. An episode that is never submitted has earned the
rewards of its steps so far: nothing, if the reward is sparse. Where the infrastructure failed, reading the
reward raises an exception.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import verifiers.v1 as vf
from pydantic import Field

import mlrcbench
from mlrcbench.agents.named import make_agent
from mlrcbench.integrations.signatures import parameters, type_of

__all__ = ["ResearchTaskset"]

_HOW = (
    "Work on the competition below with the tools; each call costs a step, and each answer ends with what is "
    "left. When you are done, call submit: it ends the episode.\n\n"
)


class ResearchState(vf.State):
    """The state from which rewards are read."""

    reward: float = 0.0
    calls: int = 0
    done: bool = False
    failure: str = ""
    test_value: float | None = None


class ResearchData(vf.TaskData):
    """One episode: which competition, which instance, under which rules."""

    competition: str
    instance: int
    tier: str = "mini"
    sandbox: str = "auto"
    reward: str = "sparse"
    steps: int | None = None
    secret_public: bool = False


def _environment(task: ResearchData) -> mlrcbench.ResearchEnv:
    """The environment of an episode."""
    return mlrcbench.make(
        task.competition,
        tier=task.tier,
        sandbox=task.sandbox,
        reward=task.reward,
        instances=[task.instance],
        budget={"steps": task.steps} if task.steps else None,
        secret="public" if task.secret_public else None,
    )


def _reference_improves(task: ResearchData) -> bool:
    """Whether the reference solution of a competition, in an episode of its own, beats the baseline."""
    agent = make_agent("reference", mlrcbench.get_competition(task.competition))
    with _environment(task) as env:
        improvement = mlrcbench.play(env, agent).info["test_score"]["improvement"]
    return improvement is not None and improvement > 0


class ResearchToolset(vf.Toolset[vf.ToolsetConfig, ResearchState]):
    """The actions, in one episode that the first call begins."""

    TOOL_PREFIX = None
    _session: mlrcbench.Session

    async def setup_task(self, task: ResearchData) -> None:
        """Make the episode's environment; it is closed with the server."""
        self._session = self._exit_stack.enter_context(mlrcbench.Session(_environment(task)))
        self._begun = False
        self._turn = asyncio.Lock()

    def register(self, mcp: Any) -> None:
        """Add a tool for each action."""
        for spec in mlrcbench.tool_specs():
            tool = self._with_state(with_signature(self._tool(spec["name"]), spec))
            mcp.add_tool(tool, name=spec["name"], description=spec["description"])

    def _tool(self, name: str) -> Callable[..., Any]:
        async def call(**arguments: Any) -> str:
            passed = {key: value for key, value in arguments.items() if value is not None}
            async with self._turn:
                try:
                    result = await asyncio.to_thread(self._call, name, passed)
                except Exception as error:
                    self.state.failure = str(error) or type(error).__name__
                    raise
            session = self._session
            self.state.reward, self.state.calls, self.state.done = session.reward, session.calls, session.done
            if session.test_score is not None:
                self.state.test_value = session.test_score["value"]
            return str(result.text)

        return call

    def _call(self, name: str, arguments: dict[str, Any]) -> mlrcbench.ToolResult:
        if not self._begun:
            self._session.begin()
            self._begun = True
        return self._session.call(name, arguments)


class ResearchTaskConfig(vf.TaskConfig):
    """The configuration of the tool server."""

    tools: vf.ToolsetConfig = vf.ToolsetConfig()


class ResearchTask(vf.Task[ResearchData, ResearchState, ResearchTaskConfig]):
    """An episode and its rewards."""

    @classmethod
    def toolsets(cls, config: ResearchTaskConfig) -> list[Any]:
        """The actions."""
        return [ResearchToolset(config.tools)]

    async def validate(self, runtime: Any) -> bool:
        """Whether the competition's reference solution is scored as better than its baseline."""
        return await asyncio.to_thread(_reference_improves, self.data)

    @vf.stop
    async def episode_over(self, trace: vf.Trace) -> bool:
        """Whether the episode is over, or has failed."""
        return bool(trace.state.done or trace.state.failure)

    @vf.reward(weight=1.0)
    async def improvement(self, trace: vf.Trace) -> float:
        """The sum of the episode's rewards; see docs/protocol.md.

        Raises:
            SandboxError: The infrastructure failed, so the episode has no reward.
        """
        if trace.state.failure:
            raise mlrcbench.SandboxError(f"the episode has no score: {trace.state.failure}")
        return float(trace.state.reward)

    @vf.metric
    async def submitted(self, trace: vf.Trace) -> float:
        """1 if the episode is over, otherwise 0."""
        return float(trace.state.done)

    @vf.metric
    async def test_value(self, trace: vf.Trace) -> float:
        """The competition's metric on test; nan without a valid submission."""
        return float("nan") if trace.state.test_value is None else float(trace.state.test_value)


class ResearchConfig(vf.TasksetConfig):
    """The choice of tasks."""

    competition: str = "backdoor-trigger"
    instances: int = 10
    first: int = 0
    tier: Literal["mini", "full"] = "mini"
    sandbox: str = "auto"
    reward: Literal["sparse", "shaped"] = "sparse"
    steps: int | None = None
    secret_public: bool = False
    task: ResearchTaskConfig = ResearchTaskConfig()


class ResearchTaskset(vf.Taskset[ResearchTask, ResearchConfig]):
    """Instances of one competition."""

    def load(self) -> list[ResearchTask]:
        """A task for each instance.

        Raises:
            RegistryError: The competition does not exist.
        """
        config = self.config
        prompt = _HOW + mlrcbench.get_competition(config.competition).statement_of(config.tier)
        return [
            ResearchTask(
                ResearchData(
                    name=f"{config.competition}, instance {instance}",
                    prompt=prompt,
                    competition=config.competition,
                    instance=instance,
                    tier=config.tier,
                    sandbox=config.sandbox,
                    reward=config.reward,
                    steps=config.steps,
                    secret_public=config.secret_public,
                ),
                config.task,
            )
            for instance in range(config.first, config.first + config.instances)
        ]


def with_signature(call: Callable[..., Any], spec: dict[str, Any]) -> Callable[..., Any]:
    """Give a function the arguments of an action, for a framework that reads them off functions."""
    arguments = parameters(spec["parameters"], _annotation, keyword_only=True)
    call.__signature__ = inspect.Signature(arguments, return_annotation=str)  # type: ignore[attr-defined]
    return call


def _annotation(spec: Mapping[str, Any]) -> Any:
    """The type of an argument, with its description."""
    annotated: Any = Annotated
    return annotated[type_of(spec, literals=True), Field(description=spec["description"])]


if __name__ == "__main__":
    ResearchToolset.run()
