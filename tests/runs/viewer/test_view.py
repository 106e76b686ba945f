"""The page of `mlrcbench view`: what it serves to whom, and what it shows while episodes are played."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import mlrcbench
from mlrcbench.errors import RunError
from mlrcbench.runs.viewer import PageServer, Watched
from mlrcbench.storage.layout import RECORD_FILE

HOSTILE = "</pre><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">\x1b[2J"
AGENT = '''
    import json, sys, time

    SLOW = """import time
    import numpy as np

    def predict(train, x):
        print("epoch 1 of 9", flush=True)
        time.sleep(2)
        return np.zeros(len(x))
    """
    actions = [
        {"action": "write_file", "path": "method.py", "text": SLOW},
        {"action": "evaluate"},
        {"action": "submit"},
    ]
    for number, line in enumerate(sys.stdin):
        print(json.dumps(actions[number]), flush=True)
'''


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The record of an episode with hostile text in names, actions and outputs."""
    folder = tmp_path_factory.mktemp("records")
    with mlrcbench.make("_template", records=folder) as env:
        env.reset(seed=0)
        env.step(mlrcbench.WriteFile("notes.md", HOSTILE))
        env.step('{"action": "run", "command": "cat notes.md"}')
        env.step(mlrcbench.EditFile("method.py", "the mean height", "a height"))
        env.step(mlrcbench.Evaluate())
        env.step(HOSTILE)
        env.step(mlrcbench.Submit())
    assert env.record is not None
    return env.record


@pytest.fixture
def serve() -> Iterator[Callable[[Path], PageServer]]:
    """Serves a folder until the test has ended."""
    servers = []

    def start(folder: Path) -> PageServer:
        server = PageServer(Watched(folder))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def get(server: PageServer, path: str, host: str = "localhost:9") -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    connection.request("GET", path, headers={"Host": host})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, dict(answer.getheaders()), body


def test_only_who_has_the_address_is_answered(record: Path, serve: Callable[[Path], PageServer]) -> None:
    """The token opens the page under a local name, also through a forwarded port, and nothing else does."""
    server = serve(record.parent)
    status, headers, body = get(server, f"/{server.token}/")
    assert (status, b"mlrcbench view" in body) == (200, True)
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["Referrer-Policy"] == "no-referrer"
    for path, host in (
        ("/", "localhost"),
        ("/wrong/episodes", "localhost"),
        (f"/{server.token}/episodes", "rebound.example"),
        (f"/{server.token}/../../etc/passwd", "localhost"),
        (f"/{server.token}/page_server.py", "localhost"),
    ):
        status, _, body = get(server, path, host)
        assert status == 404, path
        assert server.token.encode() not in body
    status, _, body = get(server, f"/{server.token}/episode?name=../../etc&from=-1")
    assert json.loads(body)["trouble"] == "there is no such episode"
    many = [http.client.HTTPConnection("127.0.0.1", server.server_port) for _ in range(80)]
    for connection in many:
        connection.connect()
    for connection in many:
        connection.close()
    time.sleep(0.2)
    assert get(server, f"/{server.token}/")[0] == 200


def test_a_place_without_a_folder_or_port_is_named(tmp_path: Path, record: Path) -> None:
    """Each is one sentence."""
    with pytest.raises(RunError, match="is not a folder"):
        Watched(tmp_path / "missing")
    with PageServer(Watched(record)) as server, pytest.raises(RunError, match="cannot be used"):
        PageServer(Watched(record), server.server_port)


def test_the_command_prints_the_address_and_ends_with_ctrl_c(record: Path) -> None:
    """A person opens the printed address; Ctrl-C is the normal end."""
    command = [sys.executable, "-m", "mlrcbench", "view", str(record.parent)]
    program = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert program.stdout is not None
    address = program.stdout.readline().strip()
    with urllib.request.urlopen(f"{address}episodes", timeout=20) as answer:
        (row,) = json.load(answer)["episodes"]
    assert (row["name"], row["state"]) == (record.name, "submitted")
    program.send_signal(signal.SIGINT)
    assert program.wait(20) == 0
    program.stdout.close()


def test_new_lines_come_once(record: Path, tmp_path: Path) -> None:
    """A reader who asks again from the last position gets what was written since; a torn line waits."""
    copy = tmp_path / "20260101-000000-1-aa"
    copy.mkdir()
    lines = (record / RECORD_FILE).read_bytes().splitlines(keepends=True)
    (copy / RECORD_FILE).write_bytes(b"".join(lines[:2]) + lines[2][:20])
    watched = Watched(tmp_path)
    first = watched.episode(copy.name, 0)
    assert [row["kind"] for row in first["rows"]] == ["header", "step"]
    assert watched.episode(copy.name, first["position"])["rows"] == []
    assert watched.episodes()[0]["state"] == "playing"
    os.utime(copy / RECORD_FILE, (time.time() - 7200, time.time() - 7200))
    assert watched.episodes()[0]["state"] == "playing, or broken off"
    (copy / RECORD_FILE).write_bytes(b"".join(lines))
    rest = watched.episode(copy.name, first["position"])
    assert [row["kind"] for row in rest["rows"]].count("step") == 5
    assert rest["rows"][-1]["kind"] == "footer"
    (row,) = watched.episodes()
    assert (row["state"], row["steps"], row["test"] is None) == ("submitted", 6, False)


def test_damaged_and_foreign_files_are_said(record: Path, tmp_path: Path) -> None:
    """A link in the place of a record is not followed, and a line that is not JSON is named."""
    for number, name in enumerate(("a", "b")):
        (tmp_path / name).mkdir()
        if number:
            (tmp_path / name / RECORD_FILE).write_text("not JSON\n")
        else:
            (tmp_path / name / RECORD_FILE).symlink_to(record / RECORD_FILE)
    watched = Watched(tmp_path)
    assert watched.episode("a", 0)["trouble"]
    assert "not a JSON object" in watched.episode("b", 0)["trouble"]
    assert {row["name"] for row in watched.episodes()} == {"a", "b"}


@pytest.mark.slow
def test_a_run_is_seen_while_it_is_played(tmp_path: Path) -> None:
    """Its episodes wait, are played, with what the evaluation prints, and have results."""
    program = tmp_path / "agent.py"
    program.write_text(textwrap.dedent(AGENT).replace("\n    \n", "\n\n"))
    agent = f"external:{sys.executable} {program}"
    command = [sys.executable, "-m", "mlrcbench", "run", "_template", "--agent", agent, "--trials", "2"]
    run = subprocess.Popen([*command, "--quiet", "--out", str(tmp_path / "run")])
    states, outputs = set(), set()
    watched = None
    while run.poll() is None:
        if watched is None:
            if not (tmp_path / "run" / "run.json").exists():
                continue
            watched = Watched(tmp_path / "run")
        rows = watched.episodes()
        states.add(tuple(row["state"] for row in rows))
        outputs |= {watched.episode(row["name"], 0)["output"].strip() for row in rows}
        time.sleep(0.1)
    assert run.returncode == 0
    assert watched is not None
    assert ("playing", "waiting") in states
    assert ("played", "playing") in states
    assert any("epoch 1 of 9" in output for output in outputs)
    assert [row["state"] for row in watched.episodes()] == ["played", "played"]


def wait_for(browser: Any, script: str) -> None:
    """Wait until a script returns something true."""
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 20).until(lambda driver: driver.execute_script(f"return {script}"))


def test_a_reader_opens_an_episode_and_sees_what_comes(
    browser: Any, record: Path, tmp_path: Path, serve: Callable[[Path], PageServer]
) -> None:
    """Steps appear without a reload; hostile text is shown and does nothing; a phone needs no scrolling."""
    copy = tmp_path / "20260101-000000-1-aa"
    copy.mkdir()
    lines = (record / RECORD_FILE).read_bytes().splitlines(keepends=True)
    (copy / RECORD_FILE).write_bytes(b"".join(lines[:3]))
    (copy / "outputs").mkdir()
    (copy / "outputs" / "step-0003.txt").write_text("epoch 7\n")
    server = serve(tmp_path)
    browser.set_window_size(390, 844)
    browser.get(server.address)
    wait_for(browser, "document.querySelectorAll('#episodes tr').length === 1")
    assert "playing" in browser.find_element("id", "episodes").text
    browser.find_element("css selector", "#episodes a").click()
    wait_for(browser, "document.querySelectorAll('.step').length === 2")
    wait_for(browser, "document.getElementById('output').textContent.includes('epoch 7')")
    (copy / RECORD_FILE).write_bytes(b"".join(lines))
    wait_for(browser, "document.querySelectorAll('.step').length === 6")
    wait_for(browser, "document.body.textContent.includes('The end: submitted')")
    text = browser.execute_script("return document.getElementById('rows').textContent")
    assert "<script>document.title='owned'</script>" in text
    assert "of the gap" in text
    titles = [element.text for element in browser.find_elements("css selector", ".step > p")]
    names = [title.split()[1] for title in titles]
    assert names == ["write_file", "run", "edit_file", "evaluate", "not", "submit"]
    assert browser.find_elements("css selector", ".step .added")
    assert browser.title == "mlrcbench view"
    assert browser.execute_script("return document.querySelector('#rows script, #rows img')") is None
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    browser.set_window_size(1280, 900)
    assert browser.get_log("browser") == []
    browser.get("about:blank")  # so that it does not ask a server that has ended


@pytest.mark.slow
def test_a_thousand_episodes_stay_usable(
    browser: Any, record: Path, tmp_path: Path, serve: Callable[[Path], PageServer]
) -> None:
    """A hundred are shown at a time, and can be filtered."""
    for number in range(1000):
        folder = tmp_path / f"20260101-000000-1-{number:04}"
        folder.mkdir()
        shutil.copy(record / RECORD_FILE, folder)
    server = serve(tmp_path)
    browser.get(server.address)
    wait_for(browser, "document.querySelectorAll('#episodes tr').length === 100")
    browser.find_element("id", "filter").send_keys("0777")
    wait_for(browser, "document.querySelectorAll('#episodes tr').length === 1")
    assert browser.get_log("browser") == []
    browser.get("about:blank")
