"""Played evaluations: real agents in real sandboxes against the oracle of the template."""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path

import pytest

import mlrcbench
from mlrcbench.artefacts.transcript import read_transcript
from mlrcbench.catalog.competition import Competition
from mlrcbench.errors import CardError, ScoringError
from mlrcbench.sandbox.probe import probe_tier
from tests.conftest import SANDBOX, copy_of_template

REFERENCE = mlrcbench.get_competition("_played").overlay("reference")["method.py"]
# The reference plays, with something before it and something in each turn.
HOSTILE = """
{before}

{reference}

def guess(self, signs, really=Method.guess):
    {during}
    return really(self, signs)

Method.guess = guess
"""


def copy_of_played(folder: Path, changes: dict[str, str], file: str = "card.toml") -> Competition:
    """A copy of the template in which some texts of a file are replaced."""
    path = copy_of_template(folder, "_played")
    text = (path / file).read_text()
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    (path / file).write_text(text)
    return Competition(path)


@pytest.fixture
def quick(tmp_path: Path) -> Competition:
    """The template with less time for an answer."""
    return copy_of_played(tmp_path / "quick", {"think_seconds = 2": "think_seconds = 1"})


def evaluate(
    competition: Competition, folder: Path, method: str = REFERENCE, sandbox: str = SANDBOX
) -> mlrcbench.Score:
    """The score of a method on dev."""
    with mlrcbench.make(competition, sandbox=sandbox, records=folder / "records") as env:
        env.reset(seed=0)
        env.step(mlrcbench.WriteFile("method.py", method))
        return env.evaluate("dev")


def hostile(before: str = "", during: str = "pass") -> str:
    """The reference with other code at its import, and in each turn."""
    before = "import os, sys, time\nturn = 0\n" + before
    during = "global turn; turn += 1\n    " + during
    return HOSTILE.format(before=before, reference=REFERENCE, during=during)


@pytest.mark.parametrize("kind", ["strong", "uid", "landlock", "process"])
def test_every_sandbox_plays(kind: str, tmp_path: Path) -> None:
    """The reference scores as its anchor says, in each kind."""
    if kind != "process" and not probe_tier(kind).works:
        pytest.skip(f"{kind} does not work here")
    score = evaluate(mlrcbench.get_competition("_played"), tmp_path, sandbox=kind)
    assert score.value is not None, score.reason
    assert 1.2 < score.value < 1.8
    assert 0 < score.wall_seconds < 20
    assert score.cpu_seconds > 0


HOLD = """
import atexit; atexit.register(time.sleep, 60)
try: again = os.open('/proc/self/fd/3', os.O_WRONLY)
except OSError: pass
"""
# What the agent does at its import and in each turn, and the reason in its score; empty if it is scored.
PLAYERS: dict[str, tuple[str, str, str]] = {
    "prints": ("", "print('x' * 100_000, flush=True)", ""),
    "continues after the game": ("import atexit; atexit.register(time.sleep, 60)", "pass", ""),
    "holds the channel after the game": (
        HOLD,
        "pass",
        "",
    ),
    "forges the transcript": (
        "os.makedirs('artefacts', exist_ok=True); open('artefacts/transcript', 'wb').write(b'N')",
        "pass",
        "",
    ),
    "shrinks its pipes": ("import fcntl; fcntl.fcntl(3, 1031, 4096); fcntl.fcntl(4, 1031, 4096)", "pass", ""),
    "does not block": ("os.set_blocking(4, False)", "pass", ""),
    "sleeps": ("", "time.sleep(5 * (turn == 3))", "exchange 3: .*in time"),
    "ends": ("", "turn == 4 and os._exit(0)", "exchange 4: the program ended"),
    "fails": ("", "1 // (turn - 2)", "exit status 1.*exchange 2"),
    "never starts": ("raise SystemExit(7)", "pass", "exit status 7.*exchange 1"),
    "leaves a child with the channel": (
        "",
        "turn == 2 and (os.fork() and os._exit(0) or os.setsid() or time.sleep(30))",
        "exchange 2: the program ended",
    ),
    "closes its pipe": ("", "turn == 2 and os.close(4)", "exchange 2"),
    "answers twice": (
        "once = os.write\nos.write = lambda end, data: once(end, bytes(data) * 2) // 2",
        "pass",
        "exchange 1: .*nobody asked for",
    ),
    "writes text": ("", "os.write(4, b'hello world, this is text')", "exchange 1: .*too long"),
    "writes from two processes": (
        "if os.fork() == 0:\n    while True: os.write(4, bytes(64))",
        "time.sleep(0.1)",
        "exchange 1: .*(nobody asked for|malformed)",
    ),
    "takes memory": ("", "turn == 2 and bytearray(b'1') * (4 << 30)", "exchange 2"),
    "leaves the range": ("", "self.guesses = self.guesses + 5000 * (turn == 2)", "round 1: a guess lies"),
}  # fmt: skip


@pytest.mark.parametrize("name", PLAYERS)
def test_players(name: str, quick: Competition, tmp_path: Path) -> None:
    """Whatever an agent does, its score is that of its guesses, or says which exchange it lost."""
    before, during, reason = PLAYERS[name]
    score = evaluate(quick, tmp_path, hostile(before, during))
    if reason:
        assert score.value is None
        assert re.search(reason, score.reason, re.DOTALL), score.reason
    else:
        assert score.value is not None, score.reason
        assert 1.2 < score.value < 1.8


ORACLES = {
    "divides by zero": "signs = np.sign(numbers - guesses) // 0 if turn > 5 else 1 // 0",
    "hangs": "import time; time.sleep(60)",
    "ends": "import os; os._exit(0)",
    "asks too much": "[agent.ask({'round': 0}, {'signs': signs}) for _ in range(20)]",
    "sends what is not a number": "agent.note({'value': float('nan')})",
}


@pytest.mark.parametrize("name", ORACLES)
def test_a_fault_of_the_oracle_is_never_the_agents(name: str, tmp_path: Path) -> None:
    """It is a `ScoringError`, and comes soon."""
    competition = copy_of_played(
        tmp_path, {"signs = np.sign(numbers - guesses)": ORACLES[name]}, file="oracle.py"
    )
    card = competition.folder / "card.toml"
    card.write_text(
        card.read_text()
        .replace("oracle_seconds = 10", "oracle_seconds = 2")
        .replace("evaluation_seconds = 60", "evaluation_seconds = 6")
    )
    started = time.monotonic()
    with pytest.raises(ScoringError, match="_played's oracle failed on dev"):
        evaluate(competition, tmp_path)
    assert time.monotonic() - started < 30


def test_a_game_is_scored_and_replayed_from_its_record(tmp_path: Path) -> None:
    """The transcript stands in the record: a score needs no other game, and another game leaves the same."""
    competition = mlrcbench.get_competition("_played")
    with mlrcbench.make(competition, records=tmp_path / "records") as env:
        env.reset(seed=0)
        env.step(mlrcbench.WriteFile("method.py", REFERENCE))
        env.step(mlrcbench.Evaluate())
        env.step(mlrcbench.Submit())
        assert env.record is not None
        record = env.record
    assert [entry.matches for entry in mlrcbench.rescore(record)] == [True, True]
    replayed = mlrcbench.replay(record, records=tmp_path / "again")
    assert replayed.difference is None
    paths = sorted(tmp_path.rglob("transcript"))
    assert len(paths) == 4
    assert len({path.read_bytes() for path in paths}) == 2  # dev and test
    entries = list(read_transcript(paths[0]))
    assert [entry.kind for entry in entries] == ["question", "answer"] * 8 + ["note"]


def test_games_run_side_by_side(tmp_path: Path) -> None:
    """Channels of one environment do not reach into another one."""
    scores: list[mlrcbench.Score] = []
    competition = mlrcbench.get_competition("_played")
    threads = [
        threading.Thread(
            target=lambda place: scores.append(evaluate(competition, place)), args=(tmp_path / name,)
        )
        for name in ("one", "two", "three")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({score.value for score in scores}) == 1
    assert len(scores) == 3


def test_an_interruption_ends_a_game(quick: Competition, tmp_path: Path) -> None:
    """Neither side waits for the other one."""
    with mlrcbench.make(quick, sandbox=SANDBOX, records=tmp_path / "records") as env:
        env.reset(seed=0)
        env.step(mlrcbench.WriteFile("method.py", hostile("time.sleep(60)")))
        timer = threading.Timer(1.5, env.interrupt, ("the host ends",))
        timer.start()
        started = time.monotonic()
        with pytest.raises(mlrcbench.MlrcbenchError, match="the sandbox"):
            env.evaluate("dev")
        assert time.monotonic() - started < 6
        timer.join()


def test_an_oracle_needs_limits_and_limits_need_an_oracle(tmp_path: Path) -> None:
    """The error names what is missing."""
    without_oracle = copy_of_played(tmp_path / "a", {})
    (without_oracle.folder / "oracle.py").unlink()
    with pytest.raises(CardError, match=r"has \[tiers.mini.play\] and no oracle.py"):
        _ = without_oracle.card
    text = mlrcbench.get_competition("_played").folder.joinpath("card.toml").read_text()
    start = text.index("[tiers.mini.play]")
    table = text[start : text.index("[tiers.mini.budget]")]
    artefacts = '[[artefacts]]\npattern = "x"\nmax_bytes = 1\n\n[tiers.mini]\n'
    with pytest.raises(CardError, match=r"has oracle.py and no \[tiers.mini.play\]"):
        _ = copy_of_played(tmp_path / "b", {table: "", "[tiers.mini]\n": artefacts}).card
    with pytest.raises(CardError, match=r"no .*artefacts.* but its transcript"):
        _ = copy_of_played(tmp_path / "c", {"[tiers.mini]\n": artefacts}).card
    with pytest.raises(CardError, match=r"declares no \[\[artefacts\]\]"):
        _ = copy_of_played(tmp_path / "d", {table: ""}).card
