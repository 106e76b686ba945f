"""A build says that it runs: on a terminal, and in the log."""

from __future__ import annotations

import io
import logging
import os
import pty
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from mlrcbench.catalog.competition import Competition
from tests.conftest import copy_of_template

SLOW = """
import sys
from pathlib import Path
from mlrcbench.catalog.competition import Competition
Competition(Path(sys.argv[1])).instance(0, secret="public")
"""


def slow_template(tmp_path: Path) -> Path:
    """The template, whose build takes over two seconds and prints how far it is."""
    folder = copy_of_template(tmp_path)
    text = (folder / "data.py").read_text()
    wait = "    import time\n    print('half done', flush=True)\n    time.sleep(2.5)\n    world ="
    (folder / "data.py").write_text(text.replace("    world =", wait))
    return folder


def test_a_line_on_a_terminal(tmp_path: Path, fresh: Path) -> None:
    """It names what is built, the time, and the build's last line; elsewhere nothing is printed."""
    command = [sys.executable, "-c", SLOW, str(slow_template(tmp_path))]
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    process = subprocess.Popen(command, stderr=theirs, stdout=theirs)
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 1 << 16):
            shown += part
    except OSError:  # the terminal's other end is closed
        pass
    os.close(ours)
    assert process.wait() == 0
    assert b"building _template (mini), once on this machine [00:0" in shown
    assert b"half done" in shown
    for instance in fresh.glob("instances/*/*/manifest.json"):
        instance.unlink()
    done = subprocess.run(command, check=True, capture_output=True)
    assert (done.stdout, done.stderr) == (b"", b"")


def test_lines_in_the_log(
    fresh: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The beginning and the end of a build; the second one on a machine says how long it will take."""
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    competition = Competition(copy_of_template(tmp_path))
    with caplog.at_level(logging.INFO, "mlrcbench"):
        for seed in (0, 0, 1):
            competition.instance(seed, secret="public")
    assert {record.name for record in caplog.records} == {"mlrcbench"}
    first, built, second, _ = [record.getMessage() for record in caplog.records]
    assert first == "building _template (mini), once on this machine"
    assert built.startswith("built _template (mini) in ")
    assert second.startswith("building _template (mini), once on this machine, in about ")
