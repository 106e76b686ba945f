"""black-box-optimization: scores by hand, refused points, problems worth solving, and both sides agree."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from mlrcbench.artefacts.frames import LENGTHS, GameMessage, pack, unpack
from mlrcbench.artefacts.player import Player, PlayLimits
from mlrcbench.artefacts.transcript import TranscriptWriter
from mlrcbench.competitions.black_box_optimization import data, oracle, scorer
from mlrcbench.errors import SubmissionError
from mlrcbench.score import Score
from tests.competitions.conftest import load_module

HOME = Path(data.__file__).parent
STARTER = HOME / "starter"
LIMITS = PlayLimits(
    exchanges=oracle.ROUNDS,
    message_bytes=65_536,
    total_bytes=1_048_576,
    start_seconds=5,
    think_seconds=5,
    oracle_seconds=60,
    keep_bytes=65_536,
)
KINDS = ("formula", *oracle.MODELS)
SPACE: list[Mapping[str, Any]] = [
    {"name": "p0", "type": "real", "space": "log", "low": 0.001, "high": 10.0},
    {"name": "p1", "type": "real", "space": "logit", "low": 0.01, "high": 0.99},
    {"name": "p2", "type": "int", "space": "log", "low": 1, "high": 150},
    {"name": "p3", "type": "cat", "count": 3},
    {"name": "p4", "type": "bool", "count": 2},
    {"name": "p5", "type": "real", "space": "linear", "low": -2.0, "high": 1.0},
]
Agent = Callable[[GameMessage], np.ndarray]


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small instance: three formulas and one model of each kind in a split."""
    return build(tmp_path_factory.mktemp("optimisation"), seed=5)


@pytest.fixture(scope="module")
def starter() -> Iterator[dict[str, ModuleType]]:
    """The starter's modules."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(STARTER))
        space = load_module(STARTER / "space.py")
        patch.setitem(sys.modules, "space", space)
        yield {"space": space, "practice": load_module(STARTER / "practice.py")}


def build(root: Path, seed: int, formulas: int = 3, models: int = 4) -> Path:
    """Build a small instance, and return its folder."""
    for split in ("dev", "test"):
        for part in ("inputs", "answers"):
            (root / "private" / split / part).mkdir(parents=True)
    (root / "public").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("FORMULAS", formulas), ("MODELS", models), ("PRACTICE", 2)):
            patch.setattr(data, name, value)
        data.build(root / "public", root / "private", seed=seed, tier="mini")
    return root


def problems_of(root: Path, split: str = "dev") -> list[dict[str, Any]]:
    """The problems of a split."""
    problems: list[dict[str, Any]] = json.loads(
        (root / "private" / split / "answers" / "problems.json").read_text("utf-8")
    )
    return problems


def play(answers: Path, transcript: Path, agent: Agent) -> None:
    """Play a game against an agent that runs in a thread, at the ends of real pipes."""
    down_read, down_write = os.pipe()
    up_read, up_write = os.pipe()

    def receive(count: int) -> bytes:
        part = b""
        while len(part) < count and (more := os.read(down_read, count - len(part))):
            part += more
        return part

    def run() -> None:
        with suppress(OSError):
            while lengths := receive(LENGTHS.size):
                header, body = LENGTHS.unpack(lengths)
                points = agent(unpack(receive(header), receive(body)))
                head, tail = pack({}, {"points": points})
                os.write(up_write, LENGTHS.pack(len(head), len(tail)) + head + tail)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        with Player(down_write, up_read, limits=LIMITS, seconds=60, transcript=transcript) as player:
            oracle.play(player, answers)
    finally:
        thread.join()
        os.close(down_read)
        os.close(up_write)


def random_agent(problems: list[dict[str, Any]], seen: list[GameMessage]) -> Agent:
    """An agent that draws points at random, and keeps the questions."""
    random = np.random.default_rng(3)

    def answer(question: GameMessage) -> np.ndarray:
        seen.append(question)
        points = np.zeros((len(problems), oracle.BATCH, oracle.MAX_PARAMETERS))
        for rows, problem in zip(points, problems, strict=True):
            size = len(problem["space"])
            rows[:, :size] = oracle.Scales(problem["space"]).values(random.random((oracle.BATCH, size)))
        return points

    return answer


class TestScore:
    """The score, from the oracle's note."""

    def scored(self, folder: Path, losses: list[list[float]], rounds: int) -> Score:
        """The score of two problems with clip 3 and best 1, and the given losses."""
        problems = [{"kind": kind, "clip": 3.0, "best": 1.0} for kind in ("formula", "network")]
        (folder / "problems.json").write_text(json.dumps(problems))
        transcript = TranscriptWriter(folder / "transcript", keep_bytes=65_536, max_bytes=1 << 20)
        transcript.write("note", *pack({"rounds": rounds}, {"losses": np.array(losses).reshape(2, -1)}))
        transcript.close()
        return scorer.score(folder, folder)

    def test_by_hand(self, tmp_path: Path) -> None:
        """The smallest loss counts: one problem stops halfway (n = 1/2), the other has n = 1/4."""
        score = self.scored(tmp_path, [[4, 2, 5, 4, 4, 4], [4, 4, 4, 4, 4, 1.5]], 1)
        assert score.value == pytest.approx(62.5)
        assert score.details == {"rounds": 1.0, "formulas": 50.0, "models": 75.0}

    def test_bounded(self, tmp_path: Path) -> None:
        """No loss is worse than `clip`; a loss far below `best` earns n = -0.05 and no more."""
        score = self.scored(tmp_path, [[9.0] * 6, [-100.0] * 6], 1)
        assert score.details["formulas"] == 0.0
        assert score.details["models"] == pytest.approx(105.0)

    def test_a_game_without_a_round_is_worth_nothing(self, tmp_path: Path) -> None:
        """Who never answers in time has the score of one random point."""
        assert self.scored(tmp_path, [], 0).value == 0.0

    def test_a_transcript_without_a_note_is_refused(self, tmp_path: Path) -> None:
        """The oracle leaves one note; an agent cannot write any."""
        (tmp_path / "problems.json").write_text("[]")
        TranscriptWriter(tmp_path / "transcript", keep_bytes=10, max_bytes=100).close()
        with pytest.raises(SubmissionError, match="0 notes"):
            scorer.score(tmp_path, tmp_path)


class TestGame:
    """The oracle, at the other end of real pipes."""

    def test_a_whole_game(self, instance: Path, tmp_path: Path) -> None:
        """Each question has the losses of the last points only; the score is what they earned."""
        problems = problems_of(instance)
        seen: list[GameMessage] = []
        answers = instance / "private" / "dev" / "answers"
        play(answers, tmp_path / "transcript", random_agent(problems, seen))
        assert [question.value("round", int) for question in seen] == list(range(oracle.ROUNDS))
        assert seen[0].arrays["losses"].shape == (len(problems), 0)
        assert all(one.arrays["losses"].shape == (len(problems), oracle.BATCH) for one in seen[1:])
        assert 20 < (scorer.score(tmp_path, answers).value or 0) < 100

    def test_the_same_points_have_the_same_losses(self, instance: Path, tmp_path: Path) -> None:
        """A game can be repeated, byte by byte."""
        answers = instance / "private" / "test" / "answers"
        for name in ("first", "second"):
            play(answers, tmp_path / name, random_agent(problems_of(instance, "test"), []))
        assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()

    @pytest.mark.parametrize("value", [-1e300, 1e300, 0.5])
    def test_points_outside_of_the_space_are_refused(self, value: float) -> None:
        """The message names the parameter; whole numbers must be whole."""
        points = oracle.Scales(SPACE).values(np.full((6, len(SPACE)), 0.5))
        oracle.check_points(SPACE, points, "round 1")
        points[4, 2] = value
        with pytest.raises(
            SubmissionError, match=r"round 1: parameter 2 \(p2\) must be a whole number from 1"
        ):
            oracle.check_points(SPACE, points, "round 1")

    def test_every_corner_has_a_loss(self, instance: Path) -> None:
        """Losses are finite wherever a point may lie, also where a model diverges."""
        for problem in problems_of(instance):
            size = len(problem["space"])
            corners = np.random.default_rng(0).integers(2, size=(60, size)).astype(float) * (1 - 1e-12)
            losses = oracle.loss(problem, oracle.Scales(problem["space"]).values(corners))
            assert np.isfinite(losses).all()
            assert losses.max() <= oracle.WORST

    @pytest.mark.parametrize("kind", KINDS)
    def test_points_do_not_change_each_other(self, instance: Path, kind: str) -> None:
        """A point's loss does not depend on the other points of its batch."""
        problem = next(one for one in problems_of(instance) if one["kind"] == kind)
        fractions = np.random.default_rng(1).random((7, len(problem["space"])))
        points = oracle.Scales(problem["space"]).values(fractions)
        alone = [oracle.loss(problem, point[None])[0] for point in points]
        assert oracle.loss(problem, points) == pytest.approx(alone, rel=1e-6)


class TestInstance:
    """What `build` writes."""

    def test_the_seed_decides_every_byte(self, tmp_path: Path) -> None:
        """The same seed gives the same files; another seed, and another split, other problems."""
        first, again, other = (
            build(tmp_path / name, seed, formulas=1, models=1)
            for name, seed in (("first", 5), ("again", 5), ("other", 6))
        )
        assert problems_of(first) == problems_of(again)
        assert problems_of(first) != problems_of(other)
        assert problems_of(first) != problems_of(first, "test")

    def test_an_agent_sees_search_spaces_only(self, instance: Path) -> None:
        """Names are numbered, and no entry tells a model from a formula."""
        spaces = json.loads((instance / "private" / "dev" / "inputs" / "spaces.json").read_text("utf-8"))
        assert spaces == [problem["space"] for problem in problems_of(instance)]
        for space in spaces:
            assert len(space) <= oracle.MAX_PARAMETERS
            assert [one["name"] for one in space] == [f"p{number}" for number in range(len(space))]
            assert {key for one in space for key in one} <= {"name", "type", "space", "low", "high", "count"}

    @pytest.mark.parametrize("kind", KINDS)
    def test_random_search_leaves_a_part(self, instance: Path, kind: str) -> None:
        """Forty fresh random searches leave about as much as the generator promises, on average."""
        problem = next(one for one in problems_of(instance) if one["kind"] == kind)
        random = np.random.default_rng(9)
        fractions = random.random((40 * data.TRIALS, len(problem["space"])))
        losses = oracle.loss(problem, oracle.Scales(problem["space"]).values(fractions))
        left = (losses.reshape(40, -1).min(axis=1) - problem["best"]) / (problem["clip"] - problem["best"])
        assert 0.1 < left.mean() < 0.5
        assert left.std() < 0.25


class TestStarter:
    """The agent's side says the same as the trusted side."""

    def test_spaces_agree(self, starter: dict[str, ModuleType]) -> None:
        """Values are those of the generator's scales; the way back leads to where it began."""
        fractions = np.random.default_rng(2).random((50, len(SPACE)))
        space = starter["space"].Space(SPACE)
        values = space.values(fractions)
        assert values == pytest.approx(oracle.Scales(SPACE).values(fractions))
        assert space.unit(values)[:, [0, 1, 5]] == pytest.approx(fractions[:, [0, 1, 5]])
        assert space.values(space.unit(values)) == pytest.approx(values)
        oracle.check_points(SPACE, values, "here")

    def test_practice_has_the_losses_of_the_oracle(
        self, instance: Path, starter: dict[str, ModuleType]
    ) -> None:
        """The formula is written twice, and is the same."""
        for problem in json.loads((instance / "public" / "practice.json").read_text("utf-8")):
            space = starter["space"].Space(problem["space"])
            points = space.values(np.random.default_rng(4).random((30, space.size)))
            expected = oracle.loss(problem, points)
            assert starter["practice"].loss(problem, space, points) == pytest.approx(expected)

    def test_messages_are_those_of_the_template(self) -> None:
        """The agent's side of the channel is one file in all played competitions."""
        template = HOME.parent / "_played" / "starter" / "game.py"
        assert (STARTER / "game.py").read_text() == template.read_text()
