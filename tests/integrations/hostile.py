"""Nonsense that a model may send, and environments that fail, for tests through the servers' own clients."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlrcbench
from mlrcbench.integrations.serving import http
from mlrcbench.integrations.serving.access import Gate
from mlrcbench.integrations.serving.episodes import SessionTable
from tests.integrations.attacker import free_port

SURROGATE = "caf\udce9 \ud800"


def nested(depth: int) -> Any:
    """A list in a list, and so on."""
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 1 << 62, 10**308, 10**400, -(10**400), 1.5, 1e308, float("nan"), float("inf"), ""),
    *("a\0b", SURROGATE, "\u202e\x1b[2J", "x" * 100_000, [], {}, [None], {"": {"action": "submit"}}),
    *(nested(100), nested(400), {SURROGATE: SURROGATE}, {"self": 1, "cls": 2, "_fields_set": 3}),
)
_NAMES = ("run", "read_file", "write_file", "edit_file", "dance", "", SURROGATE, "reset")
_KEYS = ("command", "path", "text", "timeout", "old", "new", "self", "action", "metadata", SURROGATE, "")


def calls(seed: int, number: int) -> list[tuple[str, dict[str, Any]]]:
    """Calls of tools that make no sense, always the same for a seed; none of them ends the episode."""
    random_ = random.Random(seed)
    return [
        (
            random_.choice(_NAMES),
            {random_.choice(_KEYS): random_.choice(VALUES) for _ in range(random_.randrange(4))},
        )
        for _ in range(number)
    ]


class StrangeEnv(mlrcbench.ResearchEnv):
    """An environment whose sandbox fails at the command "break", and whose scores have strange reasons."""

    def step(self, action: Any) -> Any:
        """See `ResearchEnv.step`."""
        if isinstance(action, dict) and action.get("command") == "break":
            raise mlrcbench.SandboxError("the disk is gone")
        observation, reward, terminated, truncated, info = super().step(action)
        info = dict(info)
        for key in ("score", "test_score"):
            if info.get(key):
                info[key] = {**info[key], "reason": SURROGATE, "details": {"part": float("nan")}}
        observation = {**observation, "text": f"{observation['text']}{SURROGATE}"}
        return observation, reward, terminated, truncated, info


def strange_table(records: Path) -> SessionTable:
    """A table of such episodes."""
    return SessionTable(
        lambda: StrangeEnv("_template", records=records, budget={"steps": 1_000, "seconds": 36_000})
    )


@contextlib.contextmanager
def served(app: Gate, table: SessionTable) -> Iterator[int]:
    """The port of an application that is served by a thread of this process."""
    with contextlib.suppress(ImportError):  # a signal that its first event loop would keep
        from sse_starlette.sse import AppStatus

        AppStatus.should_exit, AppStatus.should_exit_event = False, None
    port = free_port()
    server = http.server(app, "127.0.0.1", port)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield port
    finally:
        server.should_exit = True
        thread.join()
        table.close()
