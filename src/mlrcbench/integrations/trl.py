"""TRL: environments for GRPO, whose methods are the actions.

    trainer = GRPOTrainer(
        model=...,
        environment_factory=environment("backdoor-trigger"),
        train_dataset=Dataset.from_list(rows(range(64))),
        args=...,
    )

The trainer makes an instance for each rollout of a batch, resets it, lets the model call its
methods, and asks it for the reward. Rollouts of one group get the same row, so the same instance.
TRL never closes what it makes: an instance ends its episode when it is reset, and its processes
and its folder go with it, or with the interpreter.

TRL shows a model whatever a method raises. A failure of the infrastructure is therefore kept, and
raised again where the reward is asked for, so that nobody learns from it.
"""

from __future__ import annotations

import inspect
import json
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import mlrcbench

_TYPES: dict[str, Any] = {"string": str, "integer": int, "number": float, "null": None}


class ActionEnvironment:
    """What all have in common; `environment` adds the methods.

    Args:
        session: Whose episodes.
    """

    def __init__(self, session: mlrcbench.Session) -> None:
        self._session = session
        self._failure: Exception | None = None
        weakref.finalize(self, session.close)

    def reset(self, instance: int | None = None, **_: Any) -> str:
        """Begin an episode; the briefing is appended to the prompt.

        Args:
            instance: The row's; without it, one of the environment's pool.
        """
        self._failure = None
        return self._session.begin(instance=instance)

    def get_reward(self) -> float:
        """The episode's return; what stands is submitted if the model has not done so.

        Raises:
            SandboxError, ScoringError, SnapshotError: The infrastructure failed in this episode.
        """
        if self._failure is None and not self._session.done:
            self._call("submit", {})
        if self._failure is not None:
            raise self._failure
        return self._session.reward

    def _call(self, name: str, arguments: dict[str, Any]) -> str:
        try:
            return self._session.call(name, arguments).text
        except mlrcbench.MlrcbenchError as error:
            self._failure = error
            return "error: the infrastructure failed; the episode is over"


def environment(competition: str, **options: Any) -> type[ActionEnvironment]:
    """A class for `GRPOTrainer(environment_factory=...)`.

    Args:
        competition: Its id.
        options: Of `mlrcbench.make`.
    """

    def start(self: ActionEnvironment) -> None:
        ActionEnvironment.__init__(self, mlrcbench.Session(mlrcbench.make(competition, **options)))

    methods = {spec["name"]: _method(spec) for spec in mlrcbench.tool_specs()}
    name = "".join(word.capitalize() for word in competition.strip("_").split("-"))  # of the reward's column
    return type(name, (ActionEnvironment,), {"__init__": start, **methods})


def rows(instances: Iterable[int]) -> list[dict[str, Any]]:
    """Rows for a dataset, one for each instance; the briefing is the whole prompt."""
    return [{"prompt": [{"role": "user", "content": ""}], "instance": instance} for instance in instances]


def _method(spec: dict[str, Any]) -> Callable[..., str]:
    """A method with the signature, type hints and docstring from which TRL makes its schema."""
    name, schema = spec["name"], spec["parameters"]
    hints = {key: _hint(told["type"]) for key, told in schema["properties"].items()}
    signature = inspect.Signature(
        [
            inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD),
            *(
                inspect.Parameter(
                    key,
                    inspect.Parameter.POSITIONAL_OR_KEYWORD,
                    default=told.get("default", inspect.Parameter.empty),
                    annotation=hints[key],
                )
                for key, told in schema["properties"].items()
            ),
        ],
        return_annotation=str,
    )

    def call(self: ActionEnvironment, *positional: Any, **keywords: Any) -> str:
        bound = signature.bind(self, *positional, **keywords)
        return self._call(name, {key: value for key, value in bound.arguments.items() if key != "self"})

    call.__name__ = call.__qualname__ = name
    call.__doc__ = _docstring(spec)
    call.__annotations__ = {**hints, "return": str}
    call.__dict__["__signature__"] = signature
    return call


def _hint(kinds: str | list[str]) -> Any:
    first, *more = [kinds] if isinstance(kinds, str) else kinds
    hint = _TYPES[first]
    for kind in more:
        hint = hint | _TYPES[kind]
    return hint


def _docstring(spec: dict[str, Any]) -> str:
    """Of Google's style; transformers reads it."""
    lines = [spec["description"], "", "Args:"]
    for key, told in spec["parameters"]["properties"].items():
        choices = f" (choices: {json.dumps(told['enum'])})" if "enum" in told else ""
        lines.append(f"    {key}: {told['description']}{choices}")
    return "\n".join([*lines, "", "Returns:", "    What happened."])
