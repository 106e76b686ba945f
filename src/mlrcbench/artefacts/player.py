"""The trusted side of a played evaluation: what an oracle asks the agent through.

An oracle runs in a trusted process; the agent's process is confined, and the two are joined by two pipes
and nothing else. The oracle asks, the agent answers, in turns, one answer to each question. Whatever the
agent does with its ends of the pipes, a call of `ask` returns one well-formed answer, or ends the game with
a sentence that names the exchange.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from mlrcbench.artefacts.frames import HEADER_BYTES, LENGTHS, GameMessage, check_lengths, pack, unpack
from mlrcbench.artefacts.transcript import TranscriptWriter
from mlrcbench.errors import SubmissionError, TooSlowError

if TYPE_CHECKING:
    import numpy.typing as npt

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class PlayLimits:
    """The limits of a game.

    Attributes:
        exchanges: How many questions the oracle may ask.
        message_bytes: Size of one answer.
        total_bytes: Size of all answers together.
        start_seconds: Wall time until the first answer, in which the agent's program starts.
        think_seconds: Wall time for each other answer. The evaluation's time bounds all of them together.
        oracle_seconds: Wall time that the oracle itself may take.
        keep_bytes: Size of a message's arrays above which the transcript keeps their SHA-256 only.
    """

    exchanges: int
    message_bytes: int
    total_bytes: int
    start_seconds: float
    think_seconds: float
    oracle_seconds: float
    keep_bytes: int

    @property
    def transcript_bytes(self) -> int:
        """Size that a transcript may have: a question, an answer and notes for each exchange."""
        return 3 * (self.exchanges + 1) * (2 * HEADER_BYTES + self.keep_bytes)


class Player:
    """The agent, as an oracle sees it; an oracle gets one as its argument `agent`.

    Args:
        down: The pipe to the agent, to write to.
        up: The pipe from the agent, to read from.
        limits: The limits of the game.
        seconds: Wall time for all answers together.
        transcript: The new file for everything that passes.
    """

    def __init__(self, down: int, up: int, *, limits: PlayLimits, seconds: float, transcript: Path) -> None:
        os.set_blocking(down, False)
        os.set_blocking(up, False)
        self._down, self._up = down, up
        self._limits = limits
        self._seconds = seconds
        self._bytes = limits.total_bytes
        self._transcript = TranscriptWriter(
            transcript, keep_bytes=limits.keep_bytes, max_bytes=limits.transcript_bytes
        )
        self.exchange = 0
        self.spent = 0.0

    def ask(
        self, fields: Mapping[str, Any] | None = None, arrays: Mapping[str, npt.NDArray[Any]] | None = None
    ) -> GameMessage:
        """Ask a question, and wait for the answer.

        The agent's time runs from here until its answer is complete.

        Args:
            fields: A JSON object, without an entry `arrays`.
            arrays: Arrays by name, of 32 or 64 bits, bytes or booleans.

        Raises:
            SubmissionError: The agent gave no answer that is well-formed and in time; the game is over.
            ValueError: The question cannot be asked: a fault of the oracle.
        """
        if self.exchange == self._limits.exchanges:
            raise ValueError(f"the oracle asks more than the {self.exchange} questions of its card")
        self.exchange += 1
        header, body = pack(fields or {}, arrays or {})
        self._transcript.write("question", header, body)
        started = time.monotonic()
        try:
            self._refuse_unasked()
            answer = self._exchange(LENGTHS.pack(len(header), len(body)) + header + body, started)
            self._refuse_unasked()
        except SubmissionError as error:
            raise type(error)(f"exchange {self.exchange}: {error}") from None
        finally:
            self.spent += time.monotonic() - started
        return answer

    def note(
        self, fields: Mapping[str, Any] | None = None, arrays: Mapping[str, npt.NDArray[Any]] | None = None
    ) -> None:
        """Write something into the transcript that the agent is not told, for the scorer.

        Raises:
            ValueError: It cannot be written.
        """
        self._transcript.write("note", *pack(fields or {}, arrays or {}))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the pipes, by which the agent sees that the game is over, and the transcript."""
        self._transcript.close()
        os.close(self._down)
        os.close(self._up)

    def _exchange(self, question: bytes, started: float) -> GameMessage:
        """Send a question and read the frame that answers it."""
        allowed = self._limits.think_seconds if self.exchange > 1 else self._limits.start_seconds
        deadline = started + min(allowed, self._seconds - self.spent)
        self._send(question, deadline)
        header, body = LENGTHS.unpack(self._receive(LENGTHS.size, deadline))
        try:
            check_lengths(header, body, min(self._limits.message_bytes, self._bytes))
        except SubmissionError as error:
            raise SubmissionError(f"the answer is too long: {error}") from None
        self._bytes -= header + body
        head, tail = self._receive(header, deadline), self._receive(body, deadline)
        self._transcript.write("answer", head, tail)
        try:
            return unpack(head, tail)
        except SubmissionError as error:
            raise SubmissionError(f"the answer is malformed: {error}") from None

    def _refuse_unasked(self) -> None:
        """Raise if the agent has written something that no question asked for."""
        poll = select.poll()
        poll.register(self._up, select.POLLIN)
        if any(events & select.POLLIN for _, events in poll.poll(0)):
            raise SubmissionError("an answer that nobody asked for; write one answer to each question")

    def _send(self, data: bytes, deadline: float) -> None:
        unsent = memoryview(data)
        while unsent:
            self._wait(self._down, select.POLLOUT, deadline, "did not read its question")
            try:
                unsent = unsent[os.write(self._down, unsent[:_CHUNK]) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                raise self._gone() from None

    def _receive(self, count: int, deadline: float) -> bytes:
        parts = bytearray()
        while len(parts) < count:
            self._wait(self._up, select.POLLIN, deadline, "did not answer")
            try:
                part = os.read(self._up, min(count - len(parts), _CHUNK))
            except BlockingIOError:
                continue
            if not part:
                raise self._gone()
            parts += part
        return bytes(parts)

    def _wait(self, descriptor: int, event: int, deadline: float, fault: str) -> None:
        """Wait until a pipe is ready."""
        poll = select.poll()
        poll.register(descriptor, event)
        remaining = deadline - time.monotonic()
        if remaining <= 0 or not poll.poll(remaining * 1000):
            raise TooSlowError(f"the program {fault} in time")

    def _gone(self) -> SubmissionError:
        return SubmissionError("the program ended, or closed its pipe, before it answered")
