"""Games in which one answer is extreme: an oracle must refuse it, or continue.

The starter plays first. Then its answers are played again, without agent code, and in each game one answer
is replaced: by empty ones, by the largest and the smallest numbers, by NaN, by other types and shapes.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlrcbench.artefacts.frames import LENGTHS, pack
from mlrcbench.artefacts.transcript import TRANSCRIPT, TranscriptEntry, read_transcript
from mlrcbench.catalog.competition import Competition
from mlrcbench.catalog.instances import Instance
from mlrcbench.catalog.trusted import ChildError, call
from mlrcbench.env.evaluation import score_artefacts
from mlrcbench.env.research_env import ResearchEnv
from mlrcbench.errors import DataError, ScoringError, SubmissionError

Answer = tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]
_SECONDS = 120.0
_FIELDS: tuple[Any, ...] = (None, "text", [], {}, True, -1, 0, 2**62, -(2**62), 1e308, -1e308)


def oracle_faults(competition: Competition, sandbox: str) -> tuple[list[str], int]:
    """Extreme answers with which the oracle or the scorer fails, in words, and how many were tried.

    Raises:
        DataError: The starter does not play a whole game.
    """
    with tempfile.TemporaryDirectory(prefix="mlrcbench-check-") as name:
        folder = Path(name)
        honest = _play_starter(competition, sandbox, folder)
        instance = competition.instance(0)
        faults, count = [], 0
        for place in dict.fromkeys((0, len(honest) - 1)):
            for what, answer in _extreme(honest[place]):
                answers = [*honest[:place], answer, *honest[place + 1 :]]
                count += 1
                if fault := _fault(competition, instance, answers, folder / f"game-{count}"):
                    faults.append(f"exchange {place + 1}, {what}: {fault}")
        return faults, count


def _play_starter(competition: Competition, sandbox: str, folder: Path) -> list[Answer]:
    """The answers of the starter on dev."""
    with ResearchEnv(competition, sandbox=sandbox, records=folder / "records") as env:
        env.reset(seed=0)
        score = env.evaluate("dev")
    if not score.valid:
        raise DataError(f"the starter does not play: {score.reason}")
    path = next(folder.rglob(TRANSCRIPT))
    return [_answer(entry) for entry in read_transcript(path) if entry.kind == "answer"]


def _answer(entry: TranscriptEntry) -> Answer:
    """An answer; arrays that were not kept are zeros."""
    arrays = {name: np.zeros(shape, dtype) for name, (dtype, shape) in entry.layout.items()}
    return dict(entry.message.fields), {**arrays, **entry.message.arrays}


def _extreme(honest: Answer) -> Iterator[tuple[str, Answer]]:
    """Answers that an agent could send in place of an honest one, each with what is changed in it."""
    fields, arrays = honest
    yield "nothing", ({}, {})
    yield "other names", ({"other": 1}, {"other": np.zeros(3)})
    for name in fields:
        for value in _FIELDS:
            yield f"{name} = {value!r}", ({**fields, name: value}, arrays)
    for name, array in arrays.items():
        for what, value in _arrays(array):
            yield f"{name} {what}", (fields, {**arrays, name: value})


def _arrays(array: npt.NDArray[Any]) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    yield "empty", array[:0] if array.ndim else np.zeros(0, array.dtype)
    yield "with one more side", array[..., None]
    yield "of bytes", array.astype("|u1")
    yield "of doubles", array.astype("<f8") if array.dtype.kind != "f" else array.astype("<i8")
    if array.dtype.kind == "f":
        numbers = [0.0, np.nan, np.inf, -np.inf, np.finfo(array.dtype).max, np.finfo(array.dtype).min]
    elif array.dtype.kind == "b":
        numbers = [False, True]
    else:
        numbers = [0, np.iinfo(array.dtype).max, np.iinfo(array.dtype).min]
    for number in numbers:
        yield f"of {number}", np.full_like(array, number)


def _fault(competition: Competition, instance: Instance, answers: list[Answer], folder: Path) -> str:
    """How a game with given answers fails; empty if it ends with a score or is refused."""
    tier = competition.card.tier("mini")
    assert tier.play is not None
    assert competition.oracle is not None
    folder.mkdir()
    down_read, down_write = os.pipe()
    up_read, up_write = os.pipe()
    speaker = threading.Thread(target=_speak, args=(answers, down_read, up_write))
    speaker.start()
    arguments: Mapping[str, Any] = {
        "answers": str(instance.answers("dev")),
        "transcript": str(folder / TRANSCRIPT),
        "limits": dataclasses.asdict(tier.play),
        "seconds": tier.limits.evaluation_seconds,
    }
    try:
        seconds = _SECONDS + tier.play.oracle_seconds
        threads = tier.limits.threads
        call(
            "play", competition.oracle, arguments,
            seconds=seconds, threads=threads, channel=(down_write, up_read),
        )  # fmt: skip
        score_artefacts(folder, competition, instance, "dev")
    except SubmissionError:
        return ""
    except (ChildError, ScoringError) as error:
        return str(error).splitlines()[-1]
    finally:
        speaker.join()
    return ""


def _speak(answers: list[Answer], questions: int, out: int) -> None:
    """Answer each question with the next answer, until the game is over."""
    with (
        suppress(OSError),
        open(questions, "rb", buffering=0) as source,
        open(out, "wb", buffering=0) as sink,
    ):
        for fields, arrays in answers:
            if not _skip(source.fileno()):
                return
            header, body = pack(fields, arrays)
            data = memoryview(LENGTHS.pack(len(header), len(body)) + header + body)
            while data:
                data = data[sink.write(data) :]
        while os.read(questions, 1 << 16):
            pass


def _skip(questions: int) -> bool:
    """Read one question; False if the game is over."""
    lengths = os.read(questions, LENGTHS.size)
    if len(lengths) < LENGTHS.size:
        return False
    remaining = sum(LENGTHS.unpack(lengths))
    while remaining:
        part = os.read(questions, min(remaining, 1 << 16))
        if not part:
            return False
        remaining -= len(part)
    return True
