"""The table of a server's episodes: limited, with idle ones ended, each separate; without any framework."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import mlrcbench
from mlrcbench.integrations.serving.episodes import Full, ServerLimits, SessionTable
from tests.integrations.attacker import until


@pytest.fixture
def table_of(tmp_path: Path) -> Iterator[Callable[..., SessionTable]]:
    """A function that makes tables with limits; they are closed afterwards."""
    tables: list[SessionTable] = []

    def make(**limits: Any) -> SessionTable:
        table = SessionTable(lambda: mlrcbench.make("_template", records=tmp_path), ServerLimits(**limits))
        tables.append(table)
        return table

    yield make
    for table in tables:
        table.close()
    assert not [one for one in threading.enumerate() if one.name.startswith("mlrcbench-")]


def test_no_more_are_opened_than_the_limits_allow(table_of: Callable[..., SessionTable]) -> None:
    """Two hundred attempts fill the table; a place that becomes free can be taken again."""
    table = table_of(sessions=2)
    opened = []
    for _ in range(200):
        try:
            opened.append(table.open())
        except Full as error:
            assert "try again later" in str(error)
    assert len(opened) == 2
    opened[0].end("ended by a test")
    assert table.open().id not in {one.id for one in opened}


def test_tokens_lead_to_their_own_episode(table_of: Callable[..., SessionTable]) -> None:
    """They lead to nothing else; ids are not tokens."""
    table = table_of()
    one, two = table.open(), table.open()
    assert (table.find(one.token), table.find(two.token)) == (one, two)
    for wrong in ("", one.id, one.token[:-1], one.token + "=", "\udcff"):
        assert table.find(wrong) is None


def test_an_episode_begins_once(table_of: Callable[..., SessionTable]) -> None:
    """Its first call or the host begins it; its score is there at its end, even if it is closed by then."""
    hosted = table_of().open()
    assert "hidden line" in hosted.begin()
    with pytest.raises(Full, match="begins once"):
        hosted.begin()
    assert hosted.call("reset").is_error
    assert hosted.summary()["test_score"] is None
    assert hosted.call("submit").done
    assert hosted.summary()["test_score"]["outcome"] == "scored"
    assert "the episode is over" in hosted.call("evaluate").text
    with pytest.raises(Full, match="begins once"):
        hosted.begin()


def test_calls_are_limited(table_of: Callable[..., SessionTable]) -> None:
    """A call over the rate is refused, and costs no step."""
    hosted = table_of(calls_per_minute=2).open()
    assert [hosted.call("dance").text[:22] for _ in range(2)] == ["error: unknown action "] * 2
    assert "more than 2 calls a minute" in hosted.call("dance").text
    assert hosted.summary()["calls"] == 2


def test_idle_and_old_ones_are_ended_and_working_ones_are_not(table_of: Callable[..., SessionTable]) -> None:
    """An episode that has not begun may wait; a command may take longer than the idle limit."""
    table = table_of(idle_seconds=0.5)
    waiting, idle, working = table.open(), table.open(), table.open()
    idle.call("dance")
    assert "finished" in working.call("run", {"command": "sleep 2; echo finished"}).text
    until(lambda: idle.ended != "" and working.ended != "")
    assert "idle" in idle.ended
    assert "the episode is over: it was idle" in idle.call("dance").text
    assert waiting.ended == ""
    old = table_of(lifetime_seconds=0.2).open()
    until(lambda: "lasted" in old.ended)


def test_an_end_does_not_wait_for_a_command(table_of: Callable[..., SessionTable]) -> None:
    """The call fails, a second one meanwhile is refused, and the table can be closed."""
    table = table_of()
    hosted = table.open()
    answers: list[str] = []
    caller = threading.Thread(
        target=lambda: answers.append(hosted.call("run", {"command": "touch begun; sleep 1000"}).text)
    )
    caller.start()
    until(hosted._busy.locked)  # otherwise the next call would be the first
    assert "still running" in hosted.call("dance").text
    until(lambda: any(hosted.session.env._keeper._folder.path.rglob("begun")))
    table.close()
    caller.join()
    assert "the episode is over" in answers[0]
    with pytest.raises(Full, match="stopping"):
        table.open()
