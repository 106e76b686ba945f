"""Our sandboxes as Inspect's: its own conformance suite, and hostile commands."""

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
from mlrcbench.sandbox import isolation_report

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("default")]
# Commands run as one user, who is not root; Inspect's own `local` sandbox fails this test too.
IMPOSSIBLE = ("test_exec_as_user",)


@pytest.fixture
def anyio_backend() -> str:
    """The backend that Inspect uses."""
    return "asyncio"


@pytest.fixture
async def sandbox_env(request: pytest.FixtureRequest, anyio_backend: str) -> AsyncIterator[MlrcbenchSandbox]:
    """The sandbox that users get."""
    if request.node.originalname in IMPOSSIBLE:
        request.applymarker(pytest.mark.xfail(raises=SandboxUserUnsupportedError, strict=True))
    sandbox = (await MlrcbenchSandbox.sample_init("a task", None, {}))["default"]
    assert isinstance(sandbox, MlrcbenchSandbox)
    yield sandbox
    await MlrcbenchSandbox.sample_cleanup("a task", None, {"default": sandbox}, False)


DAMAGE = {
    "removed": "rm -rf .. ; rm -rf ../* ../.*",
    "links": "cd ..; rm -rf files tmp; ln -s /etc files; ln -s /nowhere tmp; ln -s /etc calls",
    "files": "cd ..; rm -rf files tmp; touch files tmp",
    "locked": "mkdir -p a/b; touch a/b/c; chmod 000 a/b; chmod 000 a . ../tmp ..",
    "swapped": "cd ..; for f in .call-*; do rm -f $f; mkdir -p $f/deep; done",
    "moved": "cd ..; mv files other; mkfifo files",
}


@pytest.mark.parametrize("kind", ["strong", "uid", "landlock"])
@pytest.mark.parametrize("damage", DAMAGE)
async def test_what_an_agent_does_to_its_folders_is_repaired(kind: str, damage: str) -> None:
    """The next calls work, or fail in the ways that Inspect tells its model; nothing stays on the disk."""
    if not isolation_report()[kind]["works"]:
        pytest.skip(f"{kind} does not work here")
    sandbox = MlrcbenchSandbox(kind)
    try:
        await sandbox.exec(["bash", "-c", DAMAGE[damage]])
        for _ in range(2):
            with contextlib.suppress(PermissionError, FileNotFoundError):
                await sandbox.read_file("a/b/c")
            await sandbox.write_file("new", "content")
            assert await sandbox.read_file("new") == "content"
            assert (await sandbox.exec(["cat", "new"], input="x")).stdout == "content"
            await sandbox.exec(["bash", "-c", DAMAGE[damage]])
    finally:
        sandbox.close()
    assert not sandbox._top.exists()


async def test_a_command_cannot_change_the_next_ones_script(sandbox_env: MlrcbenchSandbox) -> None:
    """It sees the files of its own call only, and cannot write where scripts and inputs lie."""
    loop = f"while true; do for f in {sandbox_env._calls}/*; do echo 'echo forged' > $f; done; ls -A ..; done"
    async with anyio.create_task_group() as group:
        group.start_soon(sandbox_env.exec, ["timeout", "2", "bash", "-c", f"({loop}) | head -c 1000000"])
        await anyio.sleep(0.5)
        done = await sandbox_env.exec(["cat"], input="input")
    assert (done.stdout, done.stderr) == ("input", "")


async def test_a_command_that_is_no_unicode(sandbox_env: MlrcbenchSandbox) -> None:
    """What a model wrote is never an exception that ends its sample."""
    assert (await sandbox_env.exec(["echo", "a\ud800b"])).stdout == "a?b\n"
    await sandbox_env.write_file("x", "\udcff")
    await sandbox_env.exec(["echo", "x" * 300_000, "\0"], cwd="\0")


async def test_our_outputs_cannot_be_redirected(sandbox_env: MlrcbenchSandbox, tmp_path: Path) -> None:
    """A command that replaces the files of its call by links neither reads nor writes files of the host."""
    secret = tmp_path / "secret"
    secret.write_text("secret")
    steal = f"cd .. && for f in .call-*; do rm $f; ln -s {secret} $f; done; echo overwritten"
    done = await sandbox_env.exec(["sh", "-c", steal])
    assert "secret" not in done.stdout + done.stderr
    again = await sandbox_env.exec(["sh", "-c", f"cd ..; mv files x; ln -s {tmp_path} files; cat {secret}"])
    assert again.stdout == ""
    await sandbox_env.exec(["sh", "-c", "echo overwritten | tee secret"])
    assert sorted(os.listdir(tmp_path)) == ["secret"]
    assert secret.read_text() == "secret"


async def test_our_host_is_out_of_reach(sandbox_env: MlrcbenchSandbox, tmp_path: Path) -> None:
    """Neither tools nor Inspect's reading and writing reach the host's files and the network."""
    secret = tmp_path / "secret"
    secret.write_text("secret")
    with pytest.raises(OSError, match="secret"):
        await sandbox_env.read_file(str(secret))
    with contextlib.suppress(PermissionError):  # otherwise it wrote into the sandbox's own file tree
        await sandbox_env.write_file(str(secret), "mine")
    assert secret.read_text() == "secret"
    with socket.create_server(("127.0.0.1", 0)) as server:
        python = f"import socket; socket.create_connection(('127.0.0.1', {server.getsockname()[1]}))"
        done = await sandbox_env.exec(["python3", "-c", python])
    assert "Traceback" in done.stderr


async def test_a_cancelled_command_ends(sandbox_env: MlrcbenchSandbox) -> None:
    """The sandbox continues to work."""
    with anyio.move_on_after(1) as scope:
        await sandbox_env.exec(["sh", "-c", "echo begun > mark; sleep 600"])
    assert scope.cancelled_caught
    after: Any = await sandbox_env.exec(["sh", "-c", "cat mark; ps aux | grep -c '[s]leep 600'"])
    assert after.stdout == "begun\n0\n"
