"""Agents that are objects of Python: a class by its place, `module:Class`, or an instance of one.

The episodes of a run are played in processes of their own, on other machines too. A class is imported
there by its name and called without arguments; an instance travels as its pickle, so that each episode
begins with a fresh copy of it. Both need a module that can be imported there. The object runs as the
host's user, outside of the sandbox: it is the agent, not the agent's code.
"""

from __future__ import annotations

import base64
import contextlib
import importlib
import pickle
import re
import socket
import sys
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from mlrcbench.errors import AgentError, EndpointError, RegistryError, RunError, shown
from mlrcbench.llm import Usage

FORM = "MODULE:CLASS"
_PLACE = re.compile(
    r"(?P<module>[^\W\d]\w*(?:\.[^\W\d]\w*)*):(?P<object>[^\W\d]\w*(?:\.[^\W\d]\w*)*)"
    r"(?:\+(?P<label>[A-Za-z0-9_.-]{1,80}))?"
)
_MAX_BYTES = 64 << 20


def is_place(name: str) -> bool:
    """Whether a name has the form of a Python agent's, whether or not there is one."""
    return _PLACE.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class Origin:
    """What a process needs, besides the name, to make a Python agent.

    Attributes:
        path: Folders in which modules are looked for.
        pickled: The instance as the base64 form of its pickle; None for a class.
    """

    path: tuple[str, ...]
    pickled: str | None = None

    @classmethod
    def here(cls, pickled: str | None = None) -> Self:
        """The origin of an agent of this process."""
        return cls(tuple(str(Path(folder).absolute()) for folder in sys.path), pickled)


class PythonAgent:
    """An object of Python as an agent, whose exceptions are the agent's failures.

    Args:
        agent: An object with a method `act`; its methods `begin` and `close` are called if it has them.
    """

    def __init__(self, agent: Any) -> None:
        self._agent = agent

    def begin(self, record: Path) -> None:
        """See `EpisodicAgent`."""
        if hasattr(self._agent, "begin"):
            _guarded(self._agent.begin, record)

    def act(self, observation: dict[str, Any], info: dict[str, Any]) -> Any:
        """See `Agent`.

        Raises:
            AgentError: The object has raised an exception, which is printed to standard error.
            EndpointError: The object's language model failed.
        """
        return _guarded(self._agent.act, observation, info)

    def close(self) -> None:
        """End the agent with its episode."""
        if hasattr(self._agent, "close"):
            with contextlib.suppress(AgentError):  # the episode is over; what was raised has been printed
                _guarded(self._agent.close)

    @property
    def spent(self) -> Usage | None:
        """What the agent's language model has used, if the object says so in an attribute of this name."""
        spent = getattr(self._agent, "spent", None)
        return spent if isinstance(spent, Usage) else None


def name_of_object(agent: object) -> tuple[str, str | None]:
    """The name of a class or an instance that a run is given, and the instance's pickle in base64.

    Raises:
        RunError: The object cannot be an agent, or an episode's process could not have it.
    """
    kind = agent if isinstance(agent, type) else type(agent)
    if not callable(getattr(agent, "act", None)):
        raise RunError(
            f"agents must be names, or objects with a method `act`, not {kind.__name__}; to run your own "
            "program, name it as 'external:COMMAND'"
        )
    module, place = kind.__module__, f"{kind.__module__}:{kind.__qualname__}"
    if module == "__main__" or "<locals>" in place or not getattr(sys.modules.get(module), "__file__", None):
        raise RunError(
            f"an episode's own process cannot import the agent {place}: define the class at the top of a "
            "file of its own, for example my_agents.py, and import it from there"
        )
    if isinstance(agent, type):
        return place, None
    label = getattr(agent, "name", None)
    name = f"{place}+{label}" if isinstance(label, str) else place
    if not is_place(name):
        raise RunError(
            f"the agent's attribute `name` is {shown(label)}; a name has up to 80 letters, digits, and the "
            "signs '.', '_' and '-'"
        )
    return name, _pickled(agent, name)


def check_importable(name: str) -> None:
    """Check that a process like this one can make the agent of a name.

    Raises:
        RegistryError: There is no such class, or the name is that of an instance.
    """
    parts = _PLACE.fullmatch(name)
    assert parts is not None
    if parts["label"]:
        raise RegistryError(
            f"the agent {name!r} was an object of a program: give the object itself to mlrcbench.run"
        )
    factory = _find(name)
    if isinstance(factory, type) and not hasattr(factory, "act"):
        raise RegistryError(f"the class of the agent {name!r} has no method `act`")


def python_agent(name: str, origin: Origin | None = None) -> PythonAgent:
    """The agent of a name.

    Args:
        name: See `is_place`.
        origin: Where it comes from; by default the modules of this process.

    Raises:
        RegistryError: It cannot be imported here.
        AgentError: It cannot be made: an exception of its own.
    """
    origin = origin or Origin(())
    sys.path.extend(folder for folder in origin.path if folder not in sys.path)
    if origin.pickled is None:
        check_importable(name)
        agent = _guarded(_find(name))
    else:
        _find(name.partition("+")[0])
        agent = _guarded(pickle.loads, base64.b64decode(origin.pickled))  # from the program that asked
    if not callable(getattr(agent, "act", None)):
        raise RegistryError(f"the agent {name!r} is a {type(agent).__name__}, which has no method `act`")
    return PythonAgent(agent)


def _find(name: str) -> Any:
    """What a name of the form "module:Class" names.

    Raises:
        RegistryError: It names nothing that can be called.
    """
    module, _, attributes = name.partition(":")
    try:
        factory: Any = importlib.import_module(module)
        for attribute in attributes.split("."):
            factory = getattr(factory, attribute)
    except Exception as error:
        raise RegistryError(
            f"the agent {name!r} cannot be imported on {socket.gethostname()}: {error}; an installed module, "
            "or a file in the folder in which the command runs, is found, for example my_agents:MyAgent"
        ) from None
    if not callable(factory):
        raise RegistryError(f"the agent {name!r} is a {type(factory).__name__}; name a class, or a function")
    return factory


def _pickled(agent: object, name: str) -> str:
    try:
        data = pickle.dumps(agent)
    except Exception as error:
        raise RunError(
            f"the agent {name} cannot be sent to an episode's process: {error}; give its class, which is "
            "then made there, or leave out of its pickle what cannot be pickled"
        ) from None
    if len(data) > _MAX_BYTES:
        raise RunError(f"the agent {name} is larger than {_MAX_BYTES >> 20} MB; have it load its data itself")
    return base64.b64encode(data).decode()


def _guarded(function: Any, *arguments: Any) -> Any:
    """Call what belongs to the agent.

    Raises:
        AgentError: It has raised an exception, or tried to end the process.
        EndpointError: It has raised this one.
    """
    try:
        return function(*arguments)
    except (AgentError, EndpointError):
        raise
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        reason = "".join(traceback.format_exception_only(error)).strip()[:500]
        raise AgentError(f"the agent raised {reason}") from None


def distinct(agents: Iterable[tuple[str, str | None]]) -> dict[str, str]:
    """The pickles of instances, by name, from names and pickles.

    Raises:
        RunError: Two agents that differ have one name.
    """
    known: dict[str, str | None] = {}
    for name, pickled in agents:
        if known.setdefault(name, pickled) != pickled:
            raise RunError(f"two agents are called {name}; give each an attribute `name` of its own")
    return {name: pickled for name, pickled in known.items() if pickled is not None}
