"""Commands without a private tree reach no socket of the host, and can still talk to each other."""

from __future__ import annotations

import os
import socket
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlrcbench.sandbox import Policy
from tests.sandbox.conftest import LIMITS, Run, open_or_skip, text
from tests.sandbox.test_policy import script


@pytest.fixture
def server(folder: Path) -> Iterator[socket.socket]:
    """A server of the host that answers every user, as a container engine's does its group."""
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(str(folder / "server"))
        (folder / "server").chmod(0o777)
        opened.listen()
        opened.setblocking(False)
        yield opened


@pytest.mark.parametrize("way", ["path", "link", "relative", "magic link"])
def test_sockets_of_the_host(run: Run, server: socket.socket, space: Path, way: str) -> None:
    """Whatever leads to it, a socket outside the sandbox's folders is not connected to."""
    path = server.getsockname()
    os.symlink(path, space / "link")
    os.symlink("/", space / "root")
    address = {
        "path": path,
        "link": str(space / "link"),
        "relative": os.path.relpath(path, space),
        "magic link": f"/proc/self/cwd/root{path}",
    }[way]
    run(script(f"import socket; socket.socket(socket.AF_UNIX).connect({address!r})"))
    with pytest.raises(BlockingIOError):
        server.accept()


def test_datagrams_to_the_host(run: Run, folder: Path) -> None:
    """No socket that sends without connecting reaches the host, not even one half of a pair."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(folder / "server"))
        (folder / "server").chmod(0o777)
        server.setblocking(False)
        code = f"""
        import socket
        for make in (socket.socket, lambda *kind: socket.socketpair(*kind)[0]):
            for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET):
                try:
                    make(socket.AF_UNIX, kind).sendto(b"x", {server.getsockname()!r})
                except OSError:
                    pass
        """
        assert run(script(code)).exit_status == 0
        with pytest.raises(BlockingIOError):
            server.recv(1)


def test_own_sockets(run: Run) -> None:
    """Commands connect to their own sockets by path: absolute, relative, waiting or not."""
    code = """
    import os, socket
    os.mkdir("folder")
    server = socket.socket(socket.AF_UNIX); server.bind("folder/own"); server.listen()
    os.symlink("folder/own", "link")
    for path in ("folder/own", os.path.abspath("folder/own"), "link"):
        client = socket.socket(socket.AF_UNIX)
        client.setblocking(path != "link")
        os.set_inheritable(client.fileno(), path == "link")
        client.connect(path)
        server.accept()[0].sendall(b"hello")
        print(client.recv(9), client.getblocking(), os.get_inheritable(client.fileno()))
    for path in ("missing", "folder", "\\0abstract"):
        try:
            socket.socket(socket.AF_UNIX).connect(path)
        except OSError as error:
            print(type(error).__name__)
    """
    lines = text(run(script(code))).splitlines()
    assert lines[:3] == ["b'hello' True False"] * 2 + ["b'hello' False True"]
    assert lines[3] == "FileNotFoundError"
    assert lines[4:] in (["PermissionError"] * 2, ["ConnectionRefusedError"] * 2)


def test_multiprocessing(run: Run, space: Path) -> None:
    """Managers, pools and workers that pass tensors to each other work."""
    pytest.importorskip("torch")
    code = """
    import multiprocessing, torch
    from torch.utils.data import DataLoader, TensorDataset
    def square(x): return x * x
    with multiprocessing.Manager() as manager:
        numbers = manager.list([1, 2])
        with multiprocessing.Pool(2) as pool:
            print(pool.map(square, numbers))
    loader = DataLoader(TensorDataset(torch.ones(40, 2)), batch_size=10, num_workers=2)
    print(sum(batch.sum().item() for batch, in loader))
    """
    (space / "parallel.py").write_text(textwrap.dedent(code))
    assert text(run("python parallel.py")) == "[1, 4]\n80.0\n"


@pytest.mark.parametrize("tier", ["uid", "landlock"])
def test_with_a_network_there_are_only_pairs(tier: str, space: Path, server: socket.socket) -> None:
    """Where commands may connect to the network themselves, they get no unix socket that could connect."""
    with open_or_skip(tier, Policy(space, network=True)) as sandbox:
        code = f"""
        import socket
        ours, theirs = socket.socketpair()
        print(ours.send(b"x"))
        socket.socket(socket.AF_UNIX).connect({server.getsockname()!r})
        """
        result = sandbox.run(script(code), LIMITS)
    assert result.exit_status == 1
    assert "1" in text(result).splitlines()
    with pytest.raises(BlockingIOError):
        server.accept()
