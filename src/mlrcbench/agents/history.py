"""A conversation that is kept within a number of tokens.

It consists of the system's message, the first message, and turns. A turn is what the model said
and what came of it; turns are dropped whole, the oldest first, since no server takes a tool's
result without its call. Notes on what was dropped stand at the end of the first message.

No tokenizer is asked: tokens are estimated from bytes, and the estimate is corrected by what the
server reports. Texts that would fill a large part of the budget by themselves are cut.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from mlrcbench.agents.prompts import with_notes
from mlrcbench.llm import Usage, estimate_tokens
from mlrcbench.llm.reply import BYTES_PER_TOKEN
from mlrcbench.observation import cut

_SMALLEST = 1_000
_PART = 4  # no text takes more than this part of the budget
_CORRECTIONS = (0.25, 4.0)
Message = dict[str, Any]


class History:
    """What the model is shown.

    Args:
        system: The system's message.
        first: The first message.
        tokens: That all of it may have, tools included.
        tools: Which go along with it.
    """

    def __init__(self, system: str, first: str, tokens: int, tools: Sequence[Any] = ()) -> None:
        self.tokens = max(tokens, _SMALLEST)
        self.notes = ""
        self.turns: list[list[Message]] = []
        self._system, self._first, self._tools = system, first, tools
        self._correction = 1.0

    @property
    def messages(self) -> list[Message]:
        """As they are sent."""
        first = cut(self._first, 2 * self._most_chars)
        start: list[Message] = [
            {"role": "system", "content": self._system},
            {"role": "user", "content": with_notes(first, self.notes)},
        ]
        return [*start, *(message for turn in self.turns for message in turn)]

    def answer(self, message: Message) -> None:
        """A turn begins: what the model said."""
        self.turns.append([self._short(message)])

    def result(self, text: str, call: str | None) -> None:
        """What came of it: a tool's result, if it was a tool's call."""
        message: Message = {"role": "user", "content": text}
        if call is not None:
            message = {"role": "tool", "tool_call_id": call, "content": text}
        self.turns[-1].append(self._short(message))

    def learn(self, usage: Usage) -> None:
        """Correct the estimate by what the last call used."""
        if not usage.estimated and usage.prompt:
            low, high = _CORRECTIONS
            self._correction = min(max(usage.prompt / self._raw_size(), low), high)

    def halve(self) -> bool:
        """The server takes less than was thought; False if there is nothing left to give."""
        if self.tokens // 2 < _SMALLEST:
            return False
        self.tokens //= 2
        self._shorten()
        return True

    def make_room(self) -> list[Message]:
        """Drop the oldest turns, if it is too long, until half of the room is free.

        Returns:
            The messages that were dropped.
        """
        if self._size() <= self.tokens:
            return []
        dropped: list[Message] = []
        while len(self.turns) > 1 and self._size() > self.tokens // 2:
            dropped += self.turns.pop(0)
        return dropped

    def chars(self, part: int) -> int:
        """How many characters a part (a half, a third, ...) of the budget is, at least."""
        return int(self.tokens / part * BYTES_PER_TOKEN / self._correction)

    @property
    def _most_chars(self) -> int:
        return self.chars(_PART)

    def _size(self) -> int:
        return int(self._raw_size() * self._correction)

    def _raw_size(self) -> int:
        return estimate_tokens([self.messages, self._tools])

    def _shorten(self) -> None:
        self.notes = cut(self.notes, self._most_chars)
        self.turns = [[self._short(message) for message in turn] for turn in self.turns]

    def _short(self, message: Message) -> Message:
        """A message none of whose texts is too long."""
        found = dict(message)
        if isinstance(found.get("content"), str):
            found["content"] = cut(found["content"], self._most_chars)
        if "tool_calls" in found:
            found["tool_calls"] = [self._short_call(call) for call in found["tool_calls"]]
        return found

    def _short_call(self, call: Message) -> Message:
        arguments = call["function"]["arguments"]
        if len(arguments) <= self._most_chars:
            return call
        kept = json.dumps({"cut": cut(arguments, self._most_chars)})
        return {**call, "function": {**call["function"], "arguments": kept}}


def as_text(messages: Sequence[Message]) -> str:
    """Messages for a reader: who said what, and which tools were called how."""
    lines = []
    for message in messages:
        said = message.get("content") or ""
        calls = "".join(
            f"\n{call['function']['name']} {call['function']['arguments']}"
            for call in message.get("tool_calls", ())
        )
        who = "researcher" if message["role"] == "assistant" else "result"
        lines.append(f"[{who}] {said}{calls}")
    return "\n\n".join(lines)
