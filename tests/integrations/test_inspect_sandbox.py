"""Our sandboxes as Inspect's: its own conformance suite, and what hostile commands try."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("inspect_ai")

import anyio
from inspect_ai.util import SandboxUserUnsupportedError
from inspect_ai.util._sandbox.self_check import *  # noqa: F403

from mlrcbench.integrations.inspect_sandbox import MlrcbenchSandbox

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("default")]
# Commands run as one user, who is not root; Inspect's own `local` sandbox fails this, too.
IMPOSSIBLE = ("test_exec_as_user",)


@pytest.fixture
def anyio_backend() -> str:
    """As Inspect itself."""
    return "asyncio"


@pytest.fixture
async def sandbox_env(request: pytest.FixtureRequest, anyio_backend: str) -> AsyncIterator[MlrcbenchSandbox]:
    """A sandbox of the kind that users get."""
    if request.node.originalname in IMPOSSIBLE:
        request.applymarker(pytest.mark.xfail(raises=SandboxUserUnsupportedError, strict=True))
    made = (await MlrcbenchSandbox.sample_init("a task", None, {}))["default"]
    assert isinstance(made, MlrcbenchSandbox)
    yield made
    await MlrcbenchSandbox.sample_cleanup("a task", None, {"default": made}, False)


async def test_our_outputs_cannot_be_redirected(sandbox_env: MlrcbenchSandbox, tmp_path: Path) -> None:
    """A command that replaces the files of its call by links shows and writes nothing of the host."""
    secret = tmp_path / "secret"
    secret.write_text("secret")
    steal = f"cd ../calls && for f in *.out *.err; do rm $f; ln -s {secret} $f; done; echo overwritten"
    done = await sandbox_env.exec(["sh", "-c", steal])
    assert "secret" not in done.stdout + done.stderr
    again = await sandbox_env.exec(["sh", "-c", f"mv ../calls ../x; ln -s {tmp_path} ../calls; cat {secret}"])
    assert again.stdout == ""
    await sandbox_env.exec(["echo", "overwritten"])
    assert sorted(os.listdir(tmp_path)) == ["secret"]
    assert secret.read_text() == "secret"


async def test_our_host_is_out_of_reach(sandbox_env: MlrcbenchSandbox, tmp_path: Path) -> None:
    """Files of the host and the network; by tools and by Inspect's own reading and writing."""
    secret = tmp_path / "secret"
    secret.write_text("secret")
    with pytest.raises(OSError, match="secret"):
        await sandbox_env.read_file(str(secret))
    with contextlib.suppress(PermissionError):  # else it wrote to a file tree of its own
        await sandbox_env.write_file(str(secret), "mine")
    assert secret.read_text() == "secret"
    with socket.create_server(("127.0.0.1", 0)) as server:
        python = f"import socket; socket.create_connection(('127.0.0.1', {server.getsockname()[1]}))"
        done = await sandbox_env.exec(["python3", "-c", python])
    assert "Traceback" in done.stderr


async def test_a_cancelled_command_ends(sandbox_env: MlrcbenchSandbox) -> None:
    """And the sandbox goes on."""
    with anyio.move_on_after(1) as scope:
        await sandbox_env.exec(["sh", "-c", "echo begun > mark; sleep 600"])
    assert scope.cancelled_caught
    left: Any = await sandbox_env.exec(["sh", "-c", "cat mark; ps aux | grep -c '[s]leep 600'"])
    assert left.stdout == "begun\n0\n"
