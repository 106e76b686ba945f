"""OpenEnv: its own client and checker succeed; attackers with sockets do not."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("openenv.core.env_server.http_server")

from openenv.core.generic_client import GenericEnvClient

import mlrcbench
from mlrcbench.integrations import openenv
from mlrcbench.integrations.serving.episodes import SessionTable
from tests.integrations.attacker import (
    CONTROL,
    NONSENSE,
    Served,
    abandoned,
    answer_to,
    frame,
    free_port,
    next_frame,
    until,
    websocket,
)

SESSIONS = 3
IDLE = 4.0
TOKEN = "the training program's secret"
RESET = {"type": "reset", "data": {}}


def _step(action: str, **arguments: Any) -> dict[str, Any]:
    return {"type": "step", "data": {"action": action, **arguments}}


def _serve(folder: Path, *options: str) -> Served:
    port = free_port()
    command = ["openenv", "_template", "--port", str(port), "--records", str(folder / "records"), *options]
    return Served(command, folder / "tmp", port, "the host")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server of few episodes, with a short idle limit and a token."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLRCBENCH_TOKEN", TOKEN)
        served = _serve(tmp_path_factory.mktemp("openenv"), "--sessions", str(SESSIONS), "--idle", str(IDLE))
    with _client(served) as client:  # loads what a server needs once and keeps
        client.reset()
        client.step({"action": "evaluate"})
    until(lambda: _all_ended(served))
    yield served
    served.stop()


def _client(server: Served) -> Any:
    url, headers = f"http://127.0.0.1:{server.port}", {"Authorization": f"Bearer {TOKEN}"}
    return GenericEnvClient(base_url=url, headers=headers).sync()


def _episodes(server: Served) -> list[dict[str, Any]]:
    episodes: list[dict[str, Any]] = server.request("GET", "/control/episodes", token=CONTROL)[1]
    return episodes


def _all_ended(server: Served) -> bool:
    return all(one["ended"] for one in _episodes(server))


def test_the_checker_passes(tmp_path: Path) -> None:
    """OpenEnv's own checker, on a server without a token, which serves its own machine."""
    served = _serve(tmp_path)
    try:
        program = Path(sys.executable).with_name("openenv")
        done = subprocess.run(
            [str(program), "validate", "--url", f"http://127.0.0.1:{served.port}"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Verdict: PASS" in done.stdout, done.stdout + done.stderr
        with pytest.raises(OSError, match="403"):
            websocket(served, origin="http://evil.example")
    finally:
        served.stop()


def test_clients_play_episodes_that_do_not_see_each_other(server: Served) -> None:
    """They get the score on test at the end and not earlier."""
    with _client(server) as one, _client(server) as two:
        assert "hidden line" in one.reset(seed=0).observation["text"]
        two.reset(seed=0)
        one.step({"action": "write_file", "path": "mine.txt", "text": "1"})
        assert "mine.txt" in one.step({"action": "run", "command": "ls"}).observation["text"]
        assert "mine.txt" not in two.step({"action": "run", "command": "ls"}).observation["text"]
        bad = one.step({"action": "dance", "metadata": {"split": "test"}})
        assert (bad.observation["is_error"], bad.done, bad.reward) == (True, False, 0.0)
        dev = one.step({"action": "evaluate"}).observation
        assert (dev["score"]["outcome"], dev["test_score"]) == ("scored", None)
        assert one.step({"action": "evaluate", "split": "test"}).observation["is_error"]
        end = one.step({"action": "submit"})
        assert (end.done, end.observation["terminated"]) == (True, True)
        assert end.reward == end.observation["test_score"]["improvement"]
        assert one.step({"action": "evaluate"}).observation["is_error"]
    until(lambda: _all_ended(server))


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_the_clients_token_does_not_open_the_operators_side(server: Served, method: str) -> None:
    """No token does not either, and the operator's token does not open the clients' side."""
    for token in (TOKEN, "", "x"):
        assert server.request(method, "/control/episodes", token=token)[0] == 401
    for path in ("/reset", "/step", "/state", "/mcp", "/docs"):
        assert server.request(method, path, {}, token=CONTROL)[0] == 401
        assert server.request(method, path, {})[0] == 401
    for path in ("/ws", "/mcp"):
        with pytest.raises(OSError, match="403"):
            websocket(server, path)


def test_a_pool_is_a_split_of_tasks(tmp_path: Path) -> None:
    """A seed draws an instance, an index chooses one, and the server says what it has and what is played."""
    served = _serve(tmp_path, "--instance", "5", "--instances", "3")
    try:
        with GenericEnvClient(base_url=f"http://127.0.0.1:{served.port}").sync() as client:
            drawn: list[int] = []
            for seed in (0, 1, 2, 3, 0):
                client.reset(seed=seed)
                drawn.append(client.state()["instance"])
            assert drawn[-1] == drawn[0], "a seed draws the same again"
            assert len(set(drawn)) > 1
            assert set(drawn) <= {5, 6, 7}
            client.reset(split="train", index=2)
            state = client.state()
            assert (state["competition"], state["tier"], state["instance"]) == ("_template", "mini", 7)
            for wrong in ({"index": 3}, {"index": -1}, {"index": True}, {"split": "test", "index": 0}):
                with pytest.raises(RuntimeError, match=r"must be a whole number|does not exist"):
                    client.reset(**wrong)
        tasks = served.request("POST", "/mlrcbench/tasks", {"split": "train"})
        assert served.request("POST", "/mlrcbench/num_tasks", {"split": "train"}) == (200, {"num_tasks": 3})
        _, answer = served.request("POST", "/mlrcbench/task", {"split": "train", "index": 1})
        assert answer["task"]["id"] == "_template-6"
        assert [one["instance"] for one in tasks[1]["tasks"]] == [5, 6, 7]
        assert served.request("GET", "/mlrcbench/splits")[1] == [{"name": "train", "type": "train"}]
        metadata = served.request("GET", "/metadata")[1]
        assert metadata["name"] == "mlrcbench/_template"
        assert "Root mean squared error" in metadata["readme_content"]
    finally:
        served.stop()


def test_other_machines_need_a_token() -> None:
    """The application does not start without one."""
    table = SessionTable(lambda: mlrcbench.make("_template"))
    with pytest.raises(mlrcbench.MlrcbenchError, match="needs a token"):
        openenv.http_app(table, CONTROL, loopback=False)


def test_a_client_that_disconnects_during_a_command(server: Served) -> None:
    """Its episode and the command end with it."""
    before = server.holds()
    one = websocket(server, token=TOKEN)
    one.sendall(frame(RESET))
    assert next_frame(one)[0] == 1
    one.sendall(frame(_step("run", command="sleep 1000")))
    until(lambda: not _all_ended(server))
    one.close()
    until(lambda: _all_ended(server))
    until(lambda: server.holds_at_most(before))


def test_an_idle_one_is_closed_and_a_working_one_is_not(server: Served) -> None:
    """A call that takes longer than the idle limit gets its answer."""
    with (
        contextlib.closing(websocket(server, token=TOKEN)) as idle,
        contextlib.closing(websocket(server, token=TOKEN)) as working,
    ):
        for one in (idle, working):
            one.sendall(frame(RESET))
            assert next_frame(one)[0] == 1
        working.sendall(frame(_step("run", command=f"sleep {2 * IDLE}; echo finished")))
        kind, data = next_frame(working)
        assert (kind, b"finished" in data) == (1, True), data
        assert next_frame(idle)[0] == 8
        assert next_frame(working)[0] == 8, "now it has been idle, too"
    until(lambda: _all_ended(server))


def test_nonsense_is_answered_and_leaves_nothing(server: Served) -> None:
    """Malformed, cut, too large and too many messages; afterwards the server holds no more, and answers."""
    before = server.holds()
    nested = b"[" * 100_000
    with abandoned(server, 30, b"GET /ws HTTP/1.1\r\nHost: local"):
        for data in NONSENSE:
            answer_to(server, data)
        for message in (
            b"",
            b"{",
            b"[]",
            b"null",
            b"1",
            nested,
            b'{"type": 1}',
            {"type": "step"},
            {"type": "mcp"},
        ):
            with contextlib.closing(websocket(server, token=TOKEN)) as one:
                one.sendall(frame(message))
                assert next_frame(one)[0] in (1, 8)
        seeds: list[Any] = [-1, 1 << 200, "x", [], 1.5, None]
        for seed in seeds:
            with contextlib.closing(websocket(server, token=TOKEN)) as one:
                one.sendall(frame({"type": "reset", "data": {"seed": seed, "episode_id": [seed]}}))
                assert next_frame(one)[0] in (1, 8)
        for flood in ([b"\x81\xff" + b"\xff" * 8], [frame(b"1" * 5_000_001)], [frame(_step("x"))] * 5_000):
            with contextlib.closing(websocket(server, token=TOKEN)) as one, contextlib.suppress(OSError):
                for data in flood:
                    one.sendall(data)
                while next_frame(one)[0] != 8:
                    pass
    with _client(server) as client:
        assert "hidden line" in client.reset().observation["text"]
    until(lambda: server.holds_at_most(before))


def test_two_hundred_sessions_opened_and_abandoned(server: Served) -> None:
    """No more than the limits allow begin; afterwards there is room for clients again."""
    before = server.holds()
    for wave in range(4):
        sockets = []
        for _ in range(50):
            with contextlib.suppress(OSError):
                one = websocket(server, token=TOKEN)
                one.sendall(frame(RESET) + (frame(_step("run", command="sleep 1000")) if wave % 2 else b""))
                sockets.append(one)
        assert sum(not one["ended"] for one in _episodes(server)) <= SESSIONS
        for one in sockets:
            one.close()
    until(lambda: _all_ended(server))
    with _client(server) as client:
        assert "hidden line" in client.reset().observation["text"]
    until(lambda: server.holds_at_most(before))
