"""Runs routes inside a sandbox and prints one line for each: what it got hold of.

Each route runs in its own process, so that one that dies, hangs or locks itself in does not affect
the others. A line holds the SHA-256 of everything that was read, every token in it, and every claim
("claim:...") that a route made.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import re
import select
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

TOKEN = re.compile(rb"(?:token|smuggled)-[0-9a-f]{32}")
SECONDS = 8.0
MAX_FINDS = 40


def finds(loot: Any) -> list[str]:
    """The tokens, claims, facts and digests in a route's loot."""
    entries: list[str] = []
    for piece in loot if isinstance(loot, list) else [loot]:
        data = piece if isinstance(piece, bytes) else str(piece).encode("utf-8", "surrogateescape")
        entries += [match.decode("ascii") for match in TOKEN.findall(data)]
        if data.startswith((b"claim:", b"fact:")):
            entries.append(data[:100].decode("ascii"))
        elif data:
            entries.append(hashlib.sha256(data).hexdigest())
    return sorted(set(entries), key=lambda entry: (len(entry) == 64, entry))[:MAX_FINDS]


def attempt(route: Callable[[dict[str, Any]], Any], facts: dict[str, Any]) -> dict[str, Any]:
    """The report of a route."""
    try:
        loot = route(facts)
        return {"finds": finds(loot) if loot is not None else [], "message": "done"}
    except BaseException as error:
        return {"finds": [], "message": f"{type(error).__name__}: {error}"[:160]}


def apart(route: Callable[[dict[str, Any]], Any], facts: dict[str, Any]) -> dict[str, Any]:
    """The report of a route that runs in a child process."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read_end)
        os.write(write_end, json.dumps(attempt(route, facts)).encode())
        os._exit(0)
    os.close(write_end)
    data, deadline = b"", time.monotonic() + SECONDS
    while (seconds_left := deadline - time.monotonic()) > 0 and select.select(
        [read_end], [], [], seconds_left
    )[0]:
        piece = os.read(read_end, 1 << 16)
        if not piece:
            break
        data += piece
        if data.endswith(b"}"):
            break
    os.close(read_end)
    if seconds_left <= 0:
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    report: dict[str, Any] = (
        json.loads(data) if data else {"finds": [], "message": f"no answer, status {status}"}
    )
    return report


def main(module: str, names: list[str]) -> None:
    """Run routes of a module by their names."""
    with open("attack_facts.json", encoding="utf-8") as file:
        facts = json.load(file)
    routes = importlib.import_module(f"attack_{module}").ROUTES
    for name in names:
        print("ATTACK " + json.dumps({"route": name, **apart(routes[name], facts)}), flush=True)


if __name__ == "__main__":
    sys.path.insert(0, os.getcwd())
    main(sys.argv[1], sys.argv[2:])
