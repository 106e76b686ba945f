"""The commands `mcp`, `openenv` and `openreward`, which serve episodes."""

from __future__ import annotations

import argparse
import functools
import importlib
import os
import secrets
import threading
from typing import Any

import mlrcbench
from mlrcbench.cli.options import AddCommand, a_path, add_settings, count, natural, read_settings
from mlrcbench.integrations.serving.episodes import ServerLimits, SessionTable

TOKEN, CONTROL_TOKEN = "MLRCBENCH_TOKEN", "MLRCBENCH_CONTROL_TOKEN"


def add_server_commands(add: AddCommand) -> None:
    """Add `mcp`, `openenv` and `openreward`."""
    mcp = add("mcp", _mcp, "Serve episodes to clients of the Model Context Protocol.")
    _add_options(mcp)
    mcp.add_argument(
        "--http", type=int, metavar="PORT", help="serve over HTTP (default: standard input and output)"
    )
    mcp.add_argument(
        "--episodes",
        type=natural,
        default=1,
        help="with --http: episodes to open at the start; the control endpoint opens more",
    )
    openenv = add("openenv", _openenv, "Serve episodes to training programs that speak OpenEnv.")
    _add_options(openenv)
    openenv.add_argument("--port", type=int, default=8000, help="port to listen on (default 8000)")
    openenv.add_argument(
        "--instances", type=count, default=1, help="size of the pool, from --instance on (default 1)"
    )
    openreward = add("openreward", _openreward, "Serve episodes by the Open Reward Standard.")
    _add_options(openreward)
    openreward.add_argument("--port", type=int, default=8000, help="port to listen on (default 8000)")
    openreward.add_argument(
        "--tasks", type=count, default=1000, help="number of instances in each split (default 1000)"
    )


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", help="a competition's id")
    parser.add_argument("--instance", type=natural, default=0, help="seed of the instance (default 0)")
    add_settings(parser)
    parser.add_argument("--records", type=a_path, help="folder for the records")
    parser.add_argument("--host", default="127.0.0.1", help="address to bind to (default: this machine only)")
    limits = ServerLimits()
    parser.add_argument(
        "--sessions", type=count, default=limits.sessions, help="largest number of open sessions"
    )
    parser.add_argument(
        "--idle",
        type=float,
        default=limits.idle_seconds,
        help="seconds without a call until a session is ended",
    )
    parser.add_argument(
        "--lifetime",
        type=float,
        default=limits.lifetime_seconds,
        help="largest number of seconds of a session",
    )


def _table(options: argparse.Namespace) -> SessionTable:
    """The table of sessions; wrong options raise an error now."""
    pool = range(options.instance, options.instance + getattr(options, "instances", 1))
    settings = {**read_settings(options), "instances": pool, "records": options.records}
    mlrcbench.make(options.id, **settings).close()
    limits = ServerLimits(options.sessions, options.idle, options.lifetime)
    return SessionTable(lambda: mlrcbench.make(options.id, **settings), limits)


def _prepare(options: argparse.Namespace, stop: threading.Event | None = None) -> None:
    """Build the instance of a server's episodes, of a pool the first one."""
    mlrcbench.prepare(options.id, [options.instance], tier=options.tier, secret=options.secret, stop=stop)


def _control_token() -> str:
    return os.environ.get(CONTROL_TOKEN) or secrets.token_urlsafe(24)


def _adapter(name: str) -> Any:
    try:
        return importlib.import_module(f"mlrcbench.integrations.{name}")
    except ImportError as error:
        message = f"{error}. Install it: pip install 'mlrcbench[{name}]'"
        raise mlrcbench.MlrcbenchError(message) from None


def _mcp(options: argparse.Namespace) -> int:
    mcp = _adapter("mcp")
    table, about = _table(options), _adapter("mcp_server").introduction(options.id, options.tier)
    if options.http is None:
        mcp.serve_stdio(table, about, functools.partial(_prepare, options))
        return 0
    _prepare(options)
    mcp.serve_http(
        table, about, _control_token(), host=options.host, port=options.http, episodes=options.episodes
    )
    return 0


def _openenv(options: argparse.Namespace) -> int:
    openenv = _adapter("openenv")
    token = os.environ.get(TOKEN, "")
    _prepare(options)
    openenv.serve(_table(options), _control_token(), token=token, host=options.host, port=options.port)
    return 0


def _openreward(options: argparse.Namespace) -> int:
    openreward = _adapter("openreward")
    _prepare(options)
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
