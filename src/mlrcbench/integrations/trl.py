"""TRL: environments for GRPO, whose methods are the actions.

    trainer = GRPOTrainer(
        model=...,
        environment_factory=environment("backdoor-trigger"),
        train_dataset=Dataset.from_list(rows(range(64))),
        args=...,
    )

The trainer makes an environment for each rollout of a batch, resets it, lets the model call its
methods, and asks it for the reward. Rollouts of one group get the same row, and so the same instance.
TRL never closes environments: one ends its episode when it is reset, and its processes and its folder
are removed with it, or with the interpreter.

TRL shows a model every exception of a method. A failure of the infrastructure is therefore stored, and
raised when the trainer asks for the reward, so that no model learns from it.
"""

from __future__ import annotations

import inspect
import json
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import mlrcbench
from mlrcbench.integrations.signatures import parameters


class ActionEnvironment:
    """What all environments have in common; `environment` adds the methods.

    Args:
        session: The session that plays the episodes.
    """

    def __init__(self, session: mlrcbench.Session) -> None:
        self._session = session
        self._failure: Exception | None = None
        weakref.finalize(self, session.close)

    def reset(self, instance: int | None = None, **_: Any) -> str:
        """Begin an episode; the briefing is appended to the prompt.

        Args:
            instance: The row's instance; without it, one of the environment's pool is played.
        """
        self._failure = None
        return self._session.begin(instance=instance)

    def get_reward(self) -> float:
        """The episode's return; the workspace is submitted if the model has not done so.

        Raises:
            SandboxError, ScoringError, SnapshotError: The infrastructure failed in this episode.
        """
        if self._failure is None and not self._session.done:
            self._call("submit", {})
        if self._failure is not None:
            raise self._failure
        if not self._session.done:
            raise mlrcbench.SandboxError("the episode has no score, since it ended without one")
        return self._session.reward

    def _call(self, name: str, arguments: dict[str, Any]) -> str:
        try:
            return self._session.call(name, arguments).text
        except Exception as error:  # whatever it is, TRL would only show it to the model
            self._failure = error
            return "error: the infrastructure failed; the episode is over"


def environment(competition: str, **options: Any) -> type[ActionEnvironment]:
    """A class for `GRPOTrainer(environment_factory=...)`.

    Args:
        competition: The competition's id.
        options: Options of `mlrcbench.make`.
    """

    def start(self: ActionEnvironment) -> None:
        ActionEnvironment.__init__(self, mlrcbench.Session(mlrcbench.make(competition, **options)))

    methods = {spec["name"]: _method(spec) for spec in mlrcbench.tool_specs()}
    # The class's name is that of the reward's column.
    name = "".join(word.capitalize() for word in competition.strip("_").split("-"))
    return type(name, (ActionEnvironment,), {"__init__": start, **methods})


def rows(instances: Iterable[int]) -> list[dict[str, Any]]:
    """Rows for a dataset, one for each instance; the briefing is the whole prompt."""
    return [{"prompt": [{"role": "user", "content": ""}], "instance": instance} for instance in instances]


def _method(spec: dict[str, Any]) -> Callable[..., str]:
    """A method with the signature, type hints and docstring from which TRL makes its schema."""
    name, schema = spec["name"], spec["parameters"]
    arguments = parameters(schema)
    this = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    signature = inspect.Signature([this, *arguments], return_annotation=str)

    def call(self: ActionEnvironment, *positional: Any, **keywords: Any) -> str:
        bound = signature.bind(self, *positional, **keywords)
        return self._call(name, {key: value for key, value in bound.arguments.items() if key != "self"})

    call.__name__ = call.__qualname__ = name
    call.__doc__ = _docstring(spec)
    call.__annotations__ = {**{one.name: one.annotation for one in arguments}, "return": str}
    call.__dict__["__signature__"] = signature
    return call


def _docstring(spec: dict[str, Any]) -> str:
    """A docstring in Google's style, which transformers reads."""
    lines = [spec["description"], "", "Args:"]
    for key, argument in spec["parameters"]["properties"].items():
        choices = f" (choices: {json.dumps(argument['enum'])})" if "enum" in argument else ""
        lines.append(f"    {key}: {argument['description']}{choices}")
    return "\n".join([*lines, "", "Returns:", "    What happened."])
