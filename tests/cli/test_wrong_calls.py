"""The command line where something is wrong: one sentence and a status, never a traceback or a raw text."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import mlrcbench
from mlrcbench.agents.scripted import ScriptedAgent
from mlrcbench.cli import main
from mlrcbench.runs import read_results, run
from mlrcbench.text import one_line, printable, table
from tests.runs.exports.test_exports import played


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit status, output and error of one command."""
    try:
        status = main(arguments)
    except SystemExit as exit_:
        status = int(exit_.code or 0)
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return status, captured.out, captured.err


@pytest.fixture(scope="module")
def played_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one episode."""
    folder = tmp_path_factory.mktemp("run")
    run(["baseline"], ["_template"], directory=folder)
    return folder


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("run _template --agent external:", "has no command"),
        ("run _template --agent external: --out {tmp}/run", "has no command"),
        ("run _template --agent external:''", "has no command"),
        ("run _template --agent external:no-such-program", "'no-such-program' of an agent cannot be found"),
        ("run _template --agent external:{tmp}/file --out {tmp}/run", "may not be run"),
        ("run _template --out {tmp}/run --instances 99999999999", "at most 1,000,000 episodes"),
        ("run _template --agent react:m --timeout nan", "timeout must be a finite number above 0, not nan"),
        ("run _template --agent react:m --timeout 0", "timeout must be a finite number above 0, not 0.0"),
        ("run _template --agent react:m --temperature inf", "temperature must be a finite number"),
        ("run _template --agent react:m --money-budget -1", "money_budget must be a finite number above 0"),
        ("run _template --out {tmp}/file/run", "{tmp}/file/run of the run cannot be written"),
        ("run _template --out {tmp}/file", "{tmp}/file of the run cannot be written"),
        ("run _template --records {tmp}/file/x", "{tmp}/file/x"),
        ("run _template --instances 3", "--instances needs a directory for the results; give one with --out"),
        ("run _template --trials 3", "--trials needs a directory"),
        ("run _template --jobs 2", "--jobs needs a directory"),
        ("run _template --ray-address auto", "--ray-address needs a directory"),
        ("run _template --instance 1 --out {tmp}/run", "--instance is for one episode"),
        ("run _template --records x --out {tmp}/run", "--records is for one episode"),
        ("run _template --instances 0 --out {tmp}/run", "at least 1"),
        ("run _template --jobs -1 --out {tmp}/run", "at least 1"),
        ("run _template --instance -1", "at least 0"),
        ("run _template --seed -1", "at least 0"),
        ("run _template --executor local --agent baseline", "--executor needs a directory"),
        ("run _template --agent react --model gpt-5-mini --idea {tmp}/missing", "cannot be read"),
        ("run _template --agent baseline --model m", "--model has no effect without --agent react"),
        ("run _template --agent react:m --style text", "--style has no effect without --agent react"),
        (
            "run _template --agent nobody_has:This --timeout 3",
            "--timeout has no effect without --agent react",
        ),
        ("run _template --ray-address auto --out {tmp}/run", "no effect with the executor 'local'"),
        ("run _template --steps 3 --budget steps=4", "--steps and --budget steps=... differ"),
        ("run _template --evaluations 0", "at least 1"),
        ("run _template --agent nobody_has:This", "No module named 'nobody_has'"),
        ("run _template --agent json:decoder --out {tmp}/run", "name a class"),
        ("run _template --agent json:JSONDecoder --out {tmp}/run", "no method `act`"),
        ("run _template --agent json:JSONDecoder+x --out {tmp}/run", "give the object itself"),
        ("prepare _template --instances -3", "at least 1"),
        ("prepare _template --instances many", "at least 1 is expected, not 'many'"),
        ("prepare _template --first -1", "at least 0"),
        ("calibrate _template --instances 0", "at least 1"),
        ("calibrate _template --repeats 0", "at least 1"),
        ("calibrate _template --methods {tmp}/missing", "{tmp}/missing"),
        ("show _template --tier ful", "no tier 'ful'"),
        ("replay {tmp}/missing", "No such file or directory"),
        ("replay {run}", "is a run; name one of its records"),
        ("score {run}", "is a run; name one of its records"),
        ("report {tmp}/missing", "holds no run"),
        ("report {run} --csv {tmp}/missing/x.csv", "{tmp}/missing"),
        ("report {run} --json {tmp}/file/x.json", "{tmp}/file"),
        ("report {run} --markdown {tmp}", "{tmp}"),
        ("report {run} --html {tmp}/missing/x.html", "{tmp}/missing"),
        ("report {run} --html .", "."),
        ("report {run} --html /", "/"),
        ("export chat {run} --out {tmp}/file/x", "{tmp}/file"),
        ("export inspect {run} --out {tmp}/file", "{tmp}/file"),
        ("export harbor _template {tmp}/file/x", "{tmp}/file"),
        ("prepare _template --secret-file {tmp}/missing", "{tmp}/missing: No such file"),
        ("prepare _template --secret-file {tmp}", "{tmp}: Is a directory"),
        ("prepare _template --secret short", "at least 8 characters"),
        ("run _template --secret short", "at least 8 characters"),
    ],
)
def test_a_wrong_call_gets_a_sentence(
    line: str, message: str, played_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It names what is wrong, once, and exits with 2."""
    (tmp_path / "file").touch()
    places = {"tmp": str(tmp_path), "run": str(played_run)}
    status, out, err = call(capsys, *line.format(**places).split())
    assert status == 2, err
    assert message.format(**places) in err
    assert err.count("No such file") <= 1
    assert "[Errno" not in err
    if line.startswith("show"):
        assert out == ""
    assert not (tmp_path / "missing").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "_template", "--out", ""], "--out: a path is expected"),
        (["run", "_template", "--records", ""], "--records: a path is expected"),
        (["report", ""], "a path is expected"),
        (["export", "chat", "x", "--out", ""], "a path is expected"),
        (["run", "_template", "--agent", "react:m", "--base-url", ""], "base_url (--base-url) is empty"),
    ],
)
def test_an_empty_value_is_refused(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It comes from a variable of a shell that is not set, and means neither this folder nor a default."""
    monkeypatch.chdir(tmp_path)
    status, _, err = call(capsys, *arguments)
    assert status == 2, err
    assert message in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("streams", [">&- 2>&-", "<&- >&- 2>&-", ">/dev/null 2>/dev/full"])
def test_a_run_needs_no_stream(streams: str, tmp_path: Path) -> None:
    """Where the caller has closed them, or what shows progress cannot be written, the episodes are played."""
    command = f"{sys.executable} -m mlrcbench run _template --agent baseline --out {tmp_path}/run {streams}"
    assert subprocess.run(["bash", "-c", command], check=False).returncode == 0
    (result,) = read_results(tmp_path / "run")
    assert (result.outcome, result.attempts) == ("played", ())


def test_a_missing_key_is_said_before_an_instance_is_built(
    fresh: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Building one may take minutes."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    status, _, err = call(capsys, "run", "_template", "--agent", "react", "--model", "gpt-5-mini")
    assert status == 2
    assert "OPENAI_API_KEY" in err
    assert not (fresh / "instances").exists()


def test_a_secret_is_read_from_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file of its owner's, with more than a word in it."""
    path = tmp_path / "secret"
    path.write_text("0123456789abcdef\n")
    command = ("prepare", "_template", "--secret-file", str(path))
    path.chmod(0o644)
    assert "chmod 600" in call(capsys, *command)[2]
    path.chmod(0o600)
    status, out, _ = call(capsys, *command)
    assert status == 0
    instance = mlrcbench.get_competition("_template").instance(0, secret="0123456789abcdef")
    assert str(instance.root) in out
    assert "exclude each other" in call(capsys, *command, "--secret", "public")[2]
    path.write_text("sunshine\n")
    assert "can be guessed" in call(capsys, *command)[2]
    path.write_bytes(b"\xff" * 40)
    assert "not a text" in call(capsys, *command)[2]
    empty = call(capsys, "prepare", "_template", "--secret-file", os.devnull)
    assert "can be guessed" in empty[2]


def program(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command line in its own process."""
    return subprocess.run(
        [sys.executable, "-m", "mlrcbench", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


def test_a_secret_in_a_command_line_is_refused() -> None:
    """Every process can read it there; the public secret is known to everybody."""
    done = program("prepare", "_template", "--secret", "a long secret of mine")
    assert done.returncode == 2
    assert "--secret-file" in done.stderr
    assert program("prepare", "_template", "--secret", "public").returncode == 0


def test_a_terminal_of_ascii_is_enough() -> None:
    """Other characters are escaped."""
    done = program("show", "_template", "--statement", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\xb1" in done.stdout


def test_a_grid_writes_lines_where_there_is_no_terminal(tmp_path: Path) -> None:
    """One for each episode, and no bar."""
    done = program("run", "_template", "--agent", "baseline", "--out", str(tmp_path))
    assert done.returncode == 0
    assert done.stderr.splitlines() == ["_template-baseline-i0-t0: played"]
    assert "\r" not in done.stderr


HOSTILE = "\x1b]0;owned\x07\x1b[2J\rstep 99: submitted\nstep 99: submitted\x9b\u202e\u2028"


def test_what_an_agent_writes_does_not_command_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Commands, outputs, names of files and of agents are shown, and take one line."""
    program = tmp_path / "agent.py"
    actions = [
        {"action": "run", "command": f"printf '{HOSTILE}'"},
        {"action": "read_file", "path": HOSTILE},
        {"action": "submit"},
    ]
    program.write_text(
        f"import sys\nfor line in {list(map(json.dumps, actions))!r}:\n  sys.stdin.readline()\n"
        "  print(line, flush=True)\n"
    )
    agent = f"external:{sys.executable} {program} '{HOSTILE}'"
    status, out, err = call(capsys, "run", "_template", "--agent", agent, "--records", str(tmp_path / "r"))
    assert status == 0
    shown = out + err
    assert "\\x1b]0;owned\\x07" in shown
    assert not any(character in shown for character in "\x1b\x07\r\x9b\u202e\u2028")
    assert "step 99" not in [line[:7] for line in shown.splitlines()]
    call(capsys, "run", "_template", "--agent", f"external:false '{HOSTILE}'", "--out", str(tmp_path / "run"))
    out = call(capsys, "report", str(tmp_path / "run"))[1]
    assert not any(character in out for character in "\x1b\x07\r\x9b\u202e\u2028")
    assert len(out.splitlines()) == 2


def test_texts_for_terminals() -> None:
    """What is harmless stays as it is."""
    assert printable("ä ± 漢\t1\n2") == "ä ± 漢\t1\n2"
    assert one_line("a\nb\x1b\ud800") == "a\\nb\\x1b\\ud800"
    assert table(["a"], [["1\n2"]]) == "a\n1\\n2"


def test_strings_where_paths_and_lists_are_wanted(tmp_path: Path) -> None:
    """A path may be a text; a text is not a list."""
    record = played(tmp_path, ScriptedAgent([]))
    assert mlrcbench.read_record(str(record)).steps
    for seeds in ("0", [1.5], ["a"], 1.5, -1):
        with pytest.raises(mlrcbench.MlrcbenchError, match=r"seed"):
            mlrcbench.prepare("_template", seeds)  # type: ignore[arg-type]
