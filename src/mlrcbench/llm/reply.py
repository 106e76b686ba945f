"""Replies of a model, read from a server's JSON.

A server can send anything, so nothing of its JSON is trusted: an answer that does not have the
form of a chat completion is a `malformed` failure, and the call is tried again. What a *model* can
get wrong, such as the JSON of a tool call's arguments, is passed on as the model wrote it.

Fields of a message and of its calls that this library does not know are kept and sent back with the
conversation, because some servers demand it: thoughts, and signatures of thoughts.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlrcbench.errors import EndpointError
from mlrcbench.llm.prices import Price
from mlrcbench.text import plain

BYTES_PER_TOKEN = 4  # roughly, for English text and code and the tokenizers in use
MAX_CHARS = 4_000_000
_MAX_TOKENS = 10**12
_READ = (
    "role",
    "content",
    "tool_calls",
    "function_call",
    "refusal",
)  # keys that are not sent back as they came
_READ_OF_CALL = ("id", "type", "index", "function")
# Words of servers for a reply that reached its limit of tokens, and for one that was withheld.
_CUT_OFF = frozenset(
    {"length", "max_tokens", "max_output_tokens", "max_completion_tokens", "model_length", "token_limit"}
    | {"model_context_window_exceeded", "context_length_exceeded"}
)
_WITHHELD = frozenset(
    {"content_filter", "content_filtered", "contentfilter", "safety", "prohibited_content", "blocklist"}
    | {"recitation", "sensitive", "refusal", "guardrail_intervened", "error_toxic", "spii"}
)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a function that the model asks for.

    Attributes:
        id: Name of the call, which its result must repeat.
        name: Name of the function.
        arguments: JSON as the model wrote it, which may be invalid.
        extra: Further fields, which are sent back as they came; those of the function are in "function".
    """

    id: str
    name: str
    arguments: str
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Usage:
    """The tokens and money that one or more calls used.

    Attributes:
        prompt: Number of tokens sent.
        completion: Number of tokens written.
        money: US dollars; None if the model has no price.
        estimated: Whether the server did not report tokens, so that they are estimated from the
            length of the text.
    """

    prompt: int = 0
    completion: int = 0
    money: float | None = 0.0
    estimated: bool = False

    @property
    def tokens(self) -> int:
        """Number of tokens sent and written."""
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
    """One answer of a model.

    Attributes:
        text: Its text; empty if the model only called tools.
        tool_calls: The tool calls that the model asks for.
        usage: The tokens and money that the call used.
        finish: Why the model stopped: "stop", "tool_calls", "length", or another word of the server.
        message: The message to add to the conversation.
    """

    text: str
    tool_calls: tuple[ToolCall, ...]
    usage: Usage
    finish: str
    message: dict[str, Any]


def estimate_tokens(value: Any) -> int:
    """An estimate of the tokens in text, messages or tools: a quarter of their bytes as JSON."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return len(text.encode("utf-8", "replace")) // BYTES_PER_TOKEN + 1


def read_usage(data: Any, sent: Sequence[Any], price: Price | None) -> Usage:
    """The usage of a completion, as reported by the server, or else as estimated.

    Args:
        data: The completion as a JSON value.
        sent: Messages and tools of the call.
        price: Price of the model; None if it has none.
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
    """The reply that a chat completion holds.

    Raises:
        EndpointError: "malformed": the JSON has another form; "refusal": the model declined.
    """
    if not (isinstance(data, Mapping) and isinstance(data.get("choices"), list) and data["choices"]):
        raise malformed(f"it has no choices: {_excerpt(data)}")
    choice = data["choices"][0]
    message = choice.get("message") if isinstance(choice, Mapping) else None
    if not isinstance(message, Mapping):
        raise malformed(f"its first choice has no message: {_excerpt(choice)}")
    finish = choice.get("finish_reason")
    word = finish.lower() if isinstance(finish, str) else ""
    refusal = message.get("refusal")
    if refusal or word in _WITHHELD:
        quoted = f": {_excerpt(refusal)}" if refusal else ""
        raise EndpointError(f"the model refused{quoted}; word the conversation differently", "refusal")
    text, calls = _clean(_content(message.get("content"))), _calls(message)
    finish = "length" if word in _CUT_OFF else finish if isinstance(finish, str) else ""
    return Reply(text, calls, usage, finish, to_message(text, calls, _extra(message, _READ)))


def to_message(
    text: str, calls: Sequence[ToolCall], extra: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The assistant's message for the conversation.

    Args:
        text: Its text.
        calls: Its tool calls.
        extra: Further fields of the message.
    """
    content = text if text or not calls else None
    message: dict[str, Any] = {**(extra or {}), "role": "assistant", "content": content}
    if calls:
        message["tool_calls"] = [
            {
                **call.extra,
                "id": call.id,
                "type": "function",
                "function": {
                    **call.extra.get("function", {}),
                    "name": call.name,
                    "arguments": call.arguments,
                },
            }
            for call in calls
        ]
    return message


def extra_of(message: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an assistant's message that this library does not know, such as thoughts."""
    return {name: value for name, value in message.items() if name not in _READ}


def malformed(fault: str) -> EndpointError:
    """The failure for an answer that does not have the form of a chat completion."""
    return EndpointError(
        f"the server's answer is not a chat completion: {fault}; is base_url that of a chat-completions API, "
        "such as http://localhost:8000/v1?",
        "malformed",
    )


def text_of(content: Any) -> str:
    """The text of a content: a string, a part, a list of which some are text, or nothing."""
    parts = content if isinstance(content, list) else [content]
    texts = [part.get("text") if isinstance(part, Mapping) else part for part in parts]
    return "".join(text for text in texts if isinstance(text, str))


def _content(content: Any) -> str:
    if content is not None and not isinstance(content, str | list | Mapping):
        raise malformed(f"its content is {_excerpt(content)}")
    return text_of(content)


def _calls(message: Mapping[str, Any]) -> tuple[ToolCall, ...]:
    entries = message.get("tool_calls")
    if not entries and isinstance(message.get("function_call"), Mapping):
        entries = [{"function": message["function_call"]}]  # the API's first form of a call
    if not entries:
        return ()
    if not isinstance(entries, list):
        raise malformed(f"its tool calls are {_excerpt(entries)}")
    calls: dict[str, ToolCall] = {}
    for entry in entries:
        call = _call(entry, calls)
        calls[call.id] = call
    return tuple(calls.values())


def _call(entry: Any, taken: Container[str]) -> ToolCall:
    """One tool call, with an id that no other call of the reply has."""
    function = entry.get("function") if isinstance(entry, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(name, str):
        raise malformed(f"a tool call has no name: {_excerpt(entry)}")
    arguments, identifier = function.get("arguments"), entry.get("id")
    if not isinstance(arguments, str):  # some servers send the object itself
        arguments = json.dumps(arguments or {})
    if not (isinstance(identifier, str) and identifier) or _clean(identifier) in taken:
        identifier = f"call_{secrets.token_hex(6)}"
    extra = _extra(entry, _READ_OF_CALL)
    if of_function := _extra(function, ("name", "arguments")):
        extra["function"] = of_function
    return ToolCall(_clean(identifier), _clean(name), _clean(arguments), extra)


def _extra(mapping: Mapping[str, Any], known: Container[str]) -> dict[str, Any]:
    """The other fields of a message or a call, in a form that can be sent back."""
    others = {name: value for name, value in mapping.items() if name not in known and value is not None}
    extra: dict[str, Any] = plain(others)
    size = len(json.dumps(extra))
    if size > MAX_CHARS:
        raise malformed(f"its further fields have {size:,} characters")
    return extra


def _clean(text: str) -> str:
    """Text that can be sent back: without halves of surrogate pairs, and not longer than `MAX_CHARS`."""
    if len(text) > MAX_CHARS:
        raise malformed(f"it has {len(text):,} characters")
    return text.encode("utf-8", "replace").decode("utf-8")


def _count(value: Any) -> int | None:
    """A number of tokens, which some servers send as text or as a float; None if it is not plausible."""
    if isinstance(value, str) and value.isdecimal() and len(value) < 20:
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_TOKENS
    return value if is_count else None


def _excerpt(value: Any) -> str:
    return repr(value)[:200]
