"""What a model answered.

A server can send anything, so nothing of its JSON is taken on trust: whatever does not have the
form of a chat completion is a `malformed` failure, which is tried again. What a *model* can get
wrong, such as the JSON of a tool call's arguments, is passed on as it wrote it.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlrcbench.errors import EndpointError
from mlrcbench.llm.prices import Price

BYTES_PER_TOKEN = 4  # of English text and code, roughly, with the tokenizers in use
MAX_CHARS = 4_000_000


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function that the model wants called.

    Attributes:
        id: By which the answer names it.
        name: Of the function.
        arguments: JSON, as the model wrote it: perhaps none.
    """

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Usage:
    """What a call used, or several together.

    Attributes:
        prompt: Tokens sent.
        completion: Tokens written.
        money: US dollars; None if the model has no price.
        estimated: Whether the server did not report tokens, so that they are guessed from the
            length of the text.
    """

    prompt: int = 0
    completion: int = 0
    money: float | None = 0.0
    estimated: bool = False

    @property
    def tokens(self) -> int:
        """Sent and written."""
        return self.prompt + self.completion

    def __add__(self, other: Usage) -> Usage:
        unknown = self.money is None or other.money is None
        money = None if unknown else (self.money or 0.0) + (other.money or 0.0)
        return Usage(
            self.prompt + other.prompt,
            self.completion + other.completion,
            money,
            self.estimated or other.estimated,
        )


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model answered.

    Attributes:
        text: What it said; empty if it only called tools.
        tool_calls: What it wants called.
        usage: What the call used.
        finish: Why it stopped: "stop", "tool_calls", "length", or another word of the server's.
        message: What goes back into the conversation.
    """

    text: str
    tool_calls: tuple[ToolCall, ...]
    usage: Usage
    finish: str
    message: dict[str, Any]


def estimate_tokens(value: Any) -> int:
    """About how many tokens text, messages or tools are: a quarter of their bytes as JSON."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return len(text.encode("utf-8", "replace")) // BYTES_PER_TOKEN + 1


def read_usage(data: Any, sent: Sequence[Any], price: Price | None) -> Usage:
    """What a completion used: as reported, or else as estimated.

    Args:
        data: The completion, as JSON.
        sent: Messages and tools of the call.
        price: Of the model.
    """
    reported = data.get("usage") if isinstance(data, Mapping) else None
    if isinstance(reported, Mapping):
        prompt, completion = _count(reported.get("prompt_tokens")), _count(reported.get("completion_tokens"))
        details = reported.get("prompt_tokens_details")
        cached = _count(details.get("cached_tokens")) if isinstance(details, Mapping) else None
        if prompt is not None and completion is not None:
            money = price.money(prompt, completion, cached or 0) if price else None
            return Usage(prompt, completion, money)
    prompt, completion = estimate_tokens(sent), estimate_tokens(data)
    return Usage(prompt, completion, price.money(prompt, completion) if price else None, estimated=True)


def read_reply(data: Any, usage: Usage) -> Reply:
    """A chat completion from its JSON.

    Raises:
        EndpointError: "malformed": it is none; "refusal": the model declined.
    """
    if not (isinstance(data, Mapping) and isinstance(data.get("choices"), list) and data["choices"]):
        raise malformed(f"it has no choices: {_shown(data)}")
    choice = data["choices"][0]
    message = choice.get("message") if isinstance(choice, Mapping) else None
    if not isinstance(message, Mapping):
        raise malformed(f"its first choice has no message: {_shown(choice)}")
    finish = choice.get("finish_reason")
    refusal = message.get("refusal")
    if refusal or finish == "content_filter":
        words = f": {_shown(refusal)}" if refusal else ""
        raise EndpointError(f"the model refused{words}; word the conversation differently", "refusal")
    text, calls = _text(message.get("content")), _calls(message.get("tool_calls"))
    return Reply(text, calls, usage, finish if isinstance(finish, str) else "", to_message(text, calls))


def to_message(text: str, calls: Sequence[ToolCall]) -> dict[str, Any]:
    """An assistant's message for the conversation."""
    message: dict[str, Any] = {"role": "assistant", "content": text or None}
    if calls:
        message["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in calls
        ]
    elif not text:
        message["content"] = ""
    return message


def malformed(what: str) -> EndpointError:
    """The failure for an answer that has not the form of one."""
    return EndpointError(
        f"the server's answer is no chat completion: {what}; is base_url that of a chat-completions API, "
        "such as http://localhost:8000/v1?",
        "malformed",
    )


def _text(content: Any) -> str:
    """The text of a message: a string, nothing, or parts of which some are text."""
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, Mapping)]
        content = "".join(part for part in parts if isinstance(part, str))
    if content is None:
        return ""
    if not isinstance(content, str):
        raise malformed(f"its content is {_shown(content)}")
    return _clean(content)


def _calls(found: Any) -> tuple[ToolCall, ...]:
    if found is None:
        return ()
    if not isinstance(found, list):
        raise malformed(f"its tool calls are {_shown(found)}")
    return tuple(_call(one) for one in found)


def _call(one: Any) -> ToolCall:
    function = one.get("function") if isinstance(one, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(name, str):
        raise malformed(f"a tool call has no name: {_shown(one)}")
    arguments, identifier = function.get("arguments"), one.get("id")
    if not isinstance(arguments, str):  # some servers send the object itself
        arguments = json.dumps(arguments or {})
    if not (isinstance(identifier, str) and identifier):
        identifier = f"call_{secrets.token_hex(6)}"
    return ToolCall(_clean(identifier), _clean(name), _clean(arguments))


def _clean(text: str) -> str:
    """Text that can be sent back: no half of a surrogate pair, and no more than is ever of use."""
    if len(text) > MAX_CHARS:
        raise malformed(f"it has {len(text):,} characters")
    return text.encode("utf-8", "replace").decode("utf-8")


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _shown(value: Any) -> str:
    return repr(value)[:200]
