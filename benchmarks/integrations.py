"""The cost of a step through each adapter, against the same step called directly in the same run.

    python benchmarks/integrations.py [--rounds 100]

In process, the ratio counts. Over a server, the overhead counts, next to that of the same server
with an environment that does nothing: the difference is the library's. All are measured in turn, and
medians are reported. Adapters whose framework is not installed are left out.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import importlib.util
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from measure import timed_in_turn

import mlrcbench
from mlrcbench.integrations.menu import MenuEnv
from mlrcbench.integrations.serving.access import Gate
from mlrcbench.integrations.serving.episodes import SessionTable
from mlrcbench.text import table

NAME, ARGUMENTS = "read_file", {"path": "method.py"}
STEP = {"action": NAME, **ARGUMENTS}
BUDGET = {"steps": 1_000_000, "seconds": 1e6}


class Nothing:
    """An environment whose steps do nothing, for a `Session`."""

    record = None

    def reset(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """An observation without content."""
        return {"text": "nothing"}, {}

    def call_tool(self, *_: Any) -> mlrcbench.ToolResult:
        """A result without content."""
        return mlrcbench.ToolResult("nothing", False, 0.0, False, False, {})

    def interrupt(self, _: str) -> None:
        """Nothing runs."""

    def close(self) -> None:
        """Nothing is open."""


def template() -> mlrcbench.ResearchEnv:
    """An environment of the competition that is measured."""
    return mlrcbench.make("_template", budget=BUDGET)


@contextlib.contextmanager
def serving(app: Gate) -> Iterator[int]:
    """The port of a server in a thread."""
    from mlrcbench.integrations.serving.http import server

    running = server(app, "127.0.0.1", 0)
    thread = threading.Thread(target=running.run)
    thread.start()
    while not running.started:
        time.sleep(0.01)
    try:
        yield running.servers[0].sockets[0].getsockname()[1]
    finally:
        running.should_exit = True
        thread.join()


@contextlib.contextmanager
def mcp_step(make: Callable[[], Any]) -> Iterator[Callable[[], object]]:
    """A step over MCP's HTTP, on a connection that stays open."""
    from mlrcbench.integrations.mcp import http_app

    episodes = SessionTable(make)
    with serving(http_app(episodes, "words", "secret")) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        headers = {"Authorization": f"Bearer {episodes.open().token}", "Content-Type": "application/json"}
        headers["Accept"] = "application/json, text/event-stream"
        call = {"name": NAME, "arguments": ARGUMENTS}
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call})

        def step() -> None:
            connection.request("POST", "/mcp", body, headers)
            assert not json.loads(connection.getresponse().read())["result"]["isError"]

        yield step
        connection.close()


@contextlib.contextmanager
def openenv_step(make: Callable[[], Any]) -> Iterator[Callable[[], object]]:
    """A step over OpenEnv's WebSocket."""
    from websockets.sync.client import connect

    from mlrcbench.integrations.openenv import http_app

    with (
        serving(http_app(SessionTable(make), "secret")) as port,
        connect(f"ws://127.0.0.1:{port}/ws") as connection,
    ):

        def send(kind: str, data: dict[str, Any]) -> None:
            connection.send(json.dumps({"type": kind, "data": data}))
            assert json.loads(connection.recv())["type"] == "observation"

        send("reset", {})
        yield lambda: send("step", STEP)


def main() -> None:
    """Measure what is installed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=100, help="at most 500, for the servers' limits")
    rounds = parser.parse_args().rounds
    with contextlib.ExitStack() as stack:
        env, session = template(), mlrcbench.Session(template())
        menu = MenuEnv(template(), [STEP])
        for opened in (env, session, menu):
            stack.callback(opened.close)
        env.reset(seed=0)
        session.begin(seed=0)
        menu.reset(seed=0)
        calls: dict[str, Callable[[], object]] = {
            "direct": lambda: env.step(STEP),
            "Session": lambda: session.call(NAME, ARGUMENTS),
            "MenuEnv": lambda: menu.step(0),
        }
        for name, step in {"mcp": mcp_step, "openenv": openenv_step}.items():
            if importlib.util.find_spec(name):
                calls[name] = stack.enter_context(step(template))
                calls[f"{name}, doing nothing"] = stack.enter_context(step(Nothing))
        seconds = timed_in_turn(rounds, calls)
    direct = seconds["direct"]
    rows = [
        [name, f"{1e3 * spent:.2f} ms", f"{spent / direct:.2f}", f"{1e3 * (spent - direct):+.2f} ms"]
        for name, spent in seconds.items()
    ]
    print(table(["a step through", "median", "ratio", "more than direct"], rows))


if __name__ == "__main__":
    main()
