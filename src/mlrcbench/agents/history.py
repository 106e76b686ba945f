"""A conversation that is kept within a number of tokens.

It consists of the system's message, the first message, and turns. A turn is a message of the model
and the results that followed; turns are dropped as a whole, the oldest first, because servers do not
accept a tool's result without its call. Notes on the dropped turns are at the end of the first
message.

No tokenizer is used: tokens are estimated from bytes, and the estimate is corrected by what the
server reports. Texts that would fill a large part of the budget by themselves are cut.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from mlrcbench.agents.prompts import NO_ANSWER, with_notes
from mlrcbench.llm import Usage, estimate_tokens
from mlrcbench.llm.reply import BYTES_PER_TOKEN, extra_of
from mlrcbench.text import cut

_SMALLEST = 1_000
_PART = 4  # no text takes more than this part of the budget
_CORRECTIONS = (0.25, 4.0)
Message = dict[str, Any]


class History:
    """The conversation that is sent to the model.

    Args:
        system: The system's message.
        first: The first message.
        tokens: Largest number of tokens of the conversation, tools included.
        tools: The tools that are sent with it.
    """

    def __init__(self, system: str, first: str, tokens: int, tools: Sequence[Any] = ()) -> None:
        self.tokens = max(tokens, _SMALLEST)
        self.notes = ""
        self.turns: list[list[Message]] = []
        self._system, self._first, self._tools = system, first, tools
        self._correction = 1.0

    @property
    def messages(self) -> list[Message]:
        """All messages, as they are sent."""
        first = cut(self._first, 2 * self._longest_text)
        start: list[Message] = [
            {"role": "system", "content": self._system},
            {"role": "user", "content": with_notes(first, self.notes)},
        ]
        return [*start, *(message for turn in self.turns for message in turn)]

    def answer(self, message: Message) -> None:
        """Begin a turn with a message of the model; an empty one is marked, as servers refuse those."""
        if not message.get("content") and not message.get("tool_calls"):
            message = {**message, "content": NO_ANSWER}
        self.turns.append([self._short(message)])

    def result(self, text: str, call: str | None) -> None:
        """Add a result to the turn; `call` is the id of the tool call that it belongs to, if any."""
        message: Message = {"role": "user", "content": text}
        if call is not None:
            message = {"role": "tool", "tool_call_id": call, "content": text}
        self.turns[-1].append(self._short(message))

    def learn(self, usage: Usage) -> None:
        """Correct the estimate by the usage of the last call."""
        if not usage.estimated and usage.prompt:
            low, high = _CORRECTIONS
            self._correction = min(max(usage.prompt / self._raw_size(), low), high)

    def halve(self) -> bool:
        """Halve the budget, because the server takes less than expected; False if it is too small already."""
        if self.tokens // 2 < _SMALLEST:
            return False
        self.tokens //= 2
        self._shorten()
        return True

    def make_room(self) -> list[Message]:
        """If the conversation is too long, drop the oldest turns until half of the budget is free.

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
        """How many characters are surely within 1/`part` of the budget."""
        return int(self.tokens / part * BYTES_PER_TOKEN / self._correction)

    @property
    def _longest_text(self) -> int:
        return self.chars(_PART)

    def _size(self) -> int:
        return int(self._raw_size() * self._correction)

    def _raw_size(self) -> int:
        return estimate_tokens([self.messages, self._tools])

    def _shorten(self) -> None:
        self.notes = cut(self.notes, self._longest_text)
        self.turns = [[self._short(message) for message in turn] for turn in self.turns]

    def _short(self, message: Message) -> Message:
        """The message, with texts that are too long cut."""
        short = dict(message)
        if isinstance(short.get("content"), str):
            short["content"] = cut(short["content"], self._longest_text)
        if "tool_calls" in short:
            short["tool_calls"] = [self._short_call(call) for call in short["tool_calls"]]
        for name, value in extra_of(short).items():
            if len(json.dumps(value, ensure_ascii=False)) > self._longest_text:
                is_prose = isinstance(value, str) and any(char.isspace() for char in value)
                short[name] = cut(value, self._longest_text) if is_prose else None
        return {name: value for name, value in short.items() if value is not None or name == "content"}

    def _short_call(self, call: Message) -> Message:
        arguments = call["function"]["arguments"]
        if len(arguments) <= self._longest_text:
            return call
        arguments = json.dumps({"cut": cut(arguments, self._longest_text)})
        return {**call, "function": {**call["function"], "arguments": arguments}}


def as_text(messages: Sequence[Message]) -> str:
    """Messages as text for a reader, with the calls of tools."""
    lines = []
    for message in messages:
        content = message.get("content") or ""
        calls = "".join(
            f"\n{call['function']['name']} {call['function']['arguments']}"
            for call in message.get("tool_calls", ())
        )
        author = "researcher" if message["role"] == "assistant" else "result"
        lines.append(f"[{author}] {content}{calls}")
    return "\n\n".join(lines)
