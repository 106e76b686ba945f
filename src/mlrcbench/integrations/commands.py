"""The commands that serve episodes: words -> servers."""

from __future__ import annotations

import argparse
import importlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlrcbench
from mlrcbench.integrations.hosting import Limits, SessionTable

TOKEN, CONTROL_TOKEN = "MLRCBENCH_TOKEN", "MLRCBENCH_CONTROL_TOKEN"


def add_server_commands(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Add `mcp`, `openenv` and `openreward`."""
    mcp = add("mcp", _mcp, "Serve episodes to clients of the Model Context Protocol.")
    _add_options(mcp)
    mcp.add_argument(
        "--http", type=int, metavar="PORT", help="over HTTP (default: standard input and output)"
    )
    mcp.add_argument(
        "--episodes", type=int, default=1, help="opened at the start, with --http; the control opens more"
    )
    openenv = add("openenv", _openenv, "Serve episodes to training programs that speak OpenEnv.")
    _add_options(openenv)
    openenv.add_argument("--port", type=int, default=8000, help="(default 8000)")
    openreward = add("openreward", _openreward, "Serve episodes by the Open Reward Standard.")
    _add_options(openreward)
    openreward.add_argument("--port", type=int, default=8000, help="(default 8000)")
    openreward.add_argument("--tasks", type=int, default=1000, help="instances in each split (default 1000)")


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", help="a competition's id")
    parser.add_argument("--instance", type=int, default=0, help="its seed (default 0)")
    parser.add_argument("--tier", default="mini", help="mini or full (default: mini)")
    parser.add_argument("--sandbox", default="auto", help="see mlrcbench doctor (default: auto)")
    parser.add_argument("--reward", default="sparse", help="sparse or shaped (default: sparse)")
    parser.add_argument("--steps", type=int, help="of an episode (default: the card's)")
    parser.add_argument("--secret", help="of the instances (default: this installation's)")
    parser.add_argument("--records", type=Path, help="folder for the records")
    parser.add_argument("--host", default="127.0.0.1", help="address to bind to (default: this machine only)")
    limits = Limits()
    parser.add_argument("--sessions", type=int, default=limits.sessions, help="open at once, at most")
    parser.add_argument("--idle", type=float, default=limits.idle_seconds, help="seconds until one is ended")
    parser.add_argument("--lifetime", type=float, default=limits.lifetime_seconds, help="seconds, at most")


def _table(options: argparse.Namespace) -> SessionTable:
    """Of environments as the options have it; a wrong one is found now, and the instance built."""
    made: dict[str, Any] = {
        "tier": options.tier,
        "sandbox": options.sandbox,
        "reward": options.reward,
        "instances": [options.instance],
        "budget": {"steps": options.steps} if options.steps else None,
        "secret": options.secret,
        "records": options.records,
    }
    mlrcbench.make(options.id, **made).close()
    mlrcbench.prepare(options.id, [options.instance], tier=options.tier, secret=options.secret)
    limits = Limits(options.sessions, options.idle, options.lifetime)
    return SessionTable(lambda: mlrcbench.make(options.id, **made), limits)


def _control_token() -> str:
    return os.environ.get(CONTROL_TOKEN) or secrets.token_urlsafe(24)


def _adapter(name: str) -> Any:
    try:
        return importlib.import_module(f"mlrcbench.integrations.{name}")
    except ImportError as error:
        words = f"{error}. Install it: pip install 'mlrcbench[{name}]'"
        raise mlrcbench.MlrcbenchError(words) from None


def _mcp(options: argparse.Namespace) -> int:
    mcp = _adapter("mcp")
    table, words = _table(options), mcp.instructions(options.id)
    if options.http is None:
        mcp.serve_stdio(table, words)
        return 0
    mcp.serve_http(
        table, words, _control_token(), host=options.host, port=options.http, episodes=options.episodes
    )
    return 0


def _openenv(options: argparse.Namespace) -> int:
    openenv = _adapter("openenv")
    token = os.environ.get(TOKEN, "")
    openenv.serve(_table(options), _control_token(), token=token, host=options.host, port=options.port)
    return 0


def _openreward(options: argparse.Namespace) -> int:
    openreward = _adapter("openreward")
    openreward.serve(
        _table(options),
        _control_token(),
        competition=options.id,
        tasks=options.tasks,
        token=os.environ.get(TOKEN, ""),
        host=options.host,
        port=options.port,
    )
    return 0
