"""The trusted side of a played evaluation, against agents that write what they like into a real pipe."""

from __future__ import annotations

import os
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from mlrcbench.artefacts.frames import pack
from mlrcbench.artefacts.player import Player, PlayLimits
from mlrcbench.artefacts.transcript import read_transcript
from mlrcbench.errors import SubmissionError, TooSlowError

LIMITS = PlayLimits(
    exchanges=3,
    message_bytes=100_000,
    total_bytes=250_000,
    start_seconds=0.6,
    think_seconds=0.3,
    oracle_seconds=5,
    keep_bytes=1000,
)
Agent = Callable[[int, int], None]


def frame(header: bytes, body: bytes = b"") -> bytes:
    """A frame on the wire."""
    return struct.pack("<II", len(header), len(body)) + header + body


ANSWER = frame(*pack({"a": 1}, {"x": np.arange(3)}))


@contextmanager
def game(agent: Agent, path: Path, seconds: float = 5.0, limits: PlayLimits = LIMITS) -> Iterator[Player]:
    """A player whose other side is a function of the two descriptors that an agent has."""
    down_read, down_write = os.pipe()
    up_read, up_write = os.pipe()

    def run() -> None:
        with suppress(OSError):  # the game may be over while it writes
            agent(down_read, up_write)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        with Player(down_write, up_read, limits=limits, seconds=seconds, transcript=path) as player:
            yield player
    finally:
        thread.join()
        for end in (down_read, up_write):
            with suppress(OSError):  # an agent may have closed it
                os.close(end)


def writes(*answers: bytes, before: float = 0.0) -> Agent:
    """An agent that waits for each question, and then writes something."""

    def agent(questions: int, out: int) -> None:
        for answer in answers:
            os.read(questions, 1 << 16)
            time.sleep(before)
            os.write(out, answer)
        while os.read(questions, 1 << 16):
            pass

    return agent


def test_an_exchange(tmp_path: Path) -> None:
    """Each answer comes back as it was sent; the time of the agent is counted; all is in the transcript."""
    with game(writes(ANSWER, ANSWER, before=0.1), tmp_path / "t") as player:
        first = player.ask({"round": 0}, {"y": np.zeros(2)})
        time.sleep(0.2)  # the oracle's own time
        second = player.ask({"round": 1})
        player.note({"secret": 3})
        assert first.fields == second.fields == {"a": 1}
        assert first.array("x", shape=(3,), dtype="<i8").tolist() == [0, 1, 2]
        assert 0.2 <= player.spent < 0.4
        assert player.exchange == 2
    entries = list(read_transcript(tmp_path / "t"))
    assert [entry.kind for entry in entries] == ["question", "answer", "question", "answer", "note"]
    assert entries[0].message.fields == {"round": 0}
    assert entries[4].message.fields == {"secret": 3}


def test_two_games_leave_the_same_transcript(tmp_path: Path) -> None:
    """Times are not in it."""
    for name, pause in (("one", 0.0), ("two", 0.05)):
        with game(writes(ANSWER, before=pause), tmp_path / name) as player:
            player.ask({"round": 0})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def ends(questions: int, out: int) -> None:
    """An agent that closes its pipe."""
    os.close(out)
    os.read(questions, 1)


def trickles(questions: int, out: int) -> None:
    """An agent that writes one byte at a time, each soon after the last one."""
    os.read(questions, 1 << 16)
    for byte in ANSWER:
        os.write(out, bytes([byte]))
        time.sleep(0.05)


def floods(questions: int, out: int) -> None:
    """An agent that writes without end."""
    while os.write(out, bytes(1 << 16)):
        pass


REFUSED: list[tuple[str, str, Agent]] = [
    ("silence", "did not answer in time", writes(b"")),
    ("half a frame", "did not answer in time", writes(ANSWER[:-1])),
    ("half of the lengths", "did not answer in time", writes(ANSWER[:5])),
    ("a byte at a time", "did not answer in time", trickles),
    ("a closed pipe", "ended, or closed its pipe", ends),
    ("two answers", "nobody asked for", writes(ANSWER * 2)),
    ("an answer and a byte", "nobody asked for", writes(ANSWER + b"x")),
    ("a giant header", "too long", writes(struct.pack("<II", 1 << 31, 0))),
    ("a giant body", "too long", writes(struct.pack("<II", 2, 1 << 31) + b"{}")),
    ("the largest lengths", "too long", writes(b"\xff" * 8)),
    ("text", "too long", writes(b"the answer is 42\n")),
    ("no JSON", "malformed", writes(frame(b"{'a': 1}"))),
    ("a wrong sum", "malformed", writes(frame(b'{"arrays": {"x": ["<f8", [2]]}}', bytes(8)))),
    ("no object", "malformed", writes(frame(b"[]"))),
    ("a deep header", "malformed", writes(frame(b"[" * 60_000))),
    ("an empty frame", "malformed", writes(frame(b""))),
    ("zeros", "malformed", writes(bytes(8))),
    ("a flood", "nobody asked for|too long|malformed", floods),
]


@pytest.mark.parametrize(("reason", "agent"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_what_ends_the_game(reason: str, agent: Agent, tmp_path: Path) -> None:
    """The sentence names the exchange; the game ends soon, whatever the agent does."""
    started = time.monotonic()
    with (
        pytest.raises(SubmissionError, match=rf"^exchange 1: .*({reason})"),
        game(agent, tmp_path / "t") as player,
    ):
        player.ask({"round": 0})
    assert time.monotonic() - started < 3


def test_an_answer_before_its_question(tmp_path: Path) -> None:
    """An agent cannot answer ahead."""

    def agent(questions: int, out: int) -> None:
        os.read(questions, 1 << 16)
        os.write(out, ANSWER)
        time.sleep(0.1)
        os.write(out, ANSWER)

    with game(agent, tmp_path / "t") as player:
        player.ask()
        time.sleep(0.3)
        with pytest.raises(SubmissionError, match="exchange 2: an answer that nobody asked for"):
            player.ask()


def test_time_is_counted(tmp_path: Path) -> None:
    """There are limits for the first answer, for each other one, and for all together."""
    slow = writes(ANSWER, ANSWER, before=0.45)
    with game(slow, tmp_path / "a") as player:
        player.ask()  # its program may have to start
        with pytest.raises(TooSlowError, match="exchange 2"):
            player.ask()
    with game(slow, tmp_path / "b", seconds=0.2) as player, pytest.raises(TooSlowError, match="exchange 1"):
        player.ask()


def test_a_question_that_nobody_reads(tmp_path: Path) -> None:
    """A full pipe is the agent's time."""

    def agent(_: int, out: int) -> None:
        time.sleep(1.0)
        os.write(out, ANSWER)

    large = {"x": np.zeros(1 << 20)}
    with game(agent, tmp_path / "t") as player, pytest.raises(TooSlowError, match="did not read"):
        player.ask({}, large)


def test_bytes_of_all_answers_are_counted(tmp_path: Path) -> None:
    """Together they have a limit, too."""
    large = frame(*pack({}, {"x": np.zeros(12_000)}))

    def agent(questions: int, out: int) -> None:
        for _ in range(3):
            os.read(questions, 1 << 16)
            unsent = memoryview(large)
            while unsent:
                unsent = unsent[os.write(out, unsent) :]

    with game(agent, tmp_path / "t") as player:
        player.ask()
        player.ask()
        with pytest.raises(SubmissionError, match="exchange 3: the answer is too long"):
            player.ask()


def test_an_oracle_that_asks_too_much(tmp_path: Path) -> None:
    """That is its own fault, and not the agent's."""
    with game(writes(*[ANSWER] * 4), tmp_path / "t") as player:
        for _ in range(3):
            player.ask()
        with pytest.raises(ValueError, match="more than the 3 questions"):
            player.ask()
