"""An episode as an exporter needs it: its conversations, its scores, its costs.

What a language model read and wrote is in the log of calls next to its record. Each context is taken as
it was sent: while a call's messages continue those of the previous call, they are one conversation; where
older messages were left out, or notes on them were requested, another begins. The conversation of any
other agent is made from the record, as if its actions had been native tool calls.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlrcbench.agents.prompts import SUMMARY
from mlrcbench.agents.react import CALLS
from mlrcbench.errors import RecordError, RunError
from mlrcbench.llm import Usage
from mlrcbench.protocol.actions import ACTIONS
from mlrcbench.protocol.tools import tool_specs
from mlrcbench.protocol.wording import without_actions
from mlrcbench.runs.plan import EPISODES
from mlrcbench.runs.results import read_result, read_results
from mlrcbench.score import Score
from mlrcbench.storage.record import Record, read_record
from mlrcbench.storage.strict import (
    json_list,
    json_object,
    json_text,
    open_regular,
    parse_object,
    read_dataclass,
)

Message = dict[str, Any]
_START = 2  # every context begins with the system's message and the first one
_HEAD = 100
_MAX_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages and tools of the chat-completions API; the last message is the model's."""

    messages: list[Message]
    tools: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class ExportedEpisode:
    """One record, read for export.

    Attributes:
        record: The whole record.
        agent: The agent's name in the run, or else its model's; empty if neither is known.
        conversations: The messages, one conversation for each context.
        usage: What the language model used; None for an agent without one.
    """

    record: Record
    agent: str
    conversations: list[Conversation]
    usage: Usage | None

    @property
    def reward(self) -> float:
        """Sum of the steps' rewards."""
        return float(sum(row.reward for row in self.record.steps))

    @property
    def dev(self) -> list[Score]:
        """The scores that the agent asked for, in order."""
        rows = self.record.evaluations
        return [row.score for row in rows if row.split == "dev" and row.by == "agent"]

    @property
    def test(self) -> Score | None:
        """The final score; None if the episode did not get that far."""
        rows = self.record.evaluations
        return next((row.score for row in rows if row.split == "test" and row.by != "host"), None)

    @property
    def whole(self) -> list[Message]:
        """All conversations as one, each message once, without those about notes."""
        messages: list[Message] = []
        for conversation in self.conversations:
            if conversation.messages[0].get("content") != SUMMARY:
                messages = _join(messages, conversation.messages)
        return messages


def read_episodes(
    paths: Iterable[Path], on_error: Callable[[str], None] | None = None
) -> list[ExportedEpisode]:
    """The episodes of records, or of all results of runs.

    Args:
        paths: Records and runs.
        on_error: Called with the reason for each record that cannot be read, which is then left out.

    Raises:
        RecordError: A path is not a record, and there is no `on_error`.
        RunError: A run has no finished episode.
    """
    episodes = []
    for directory in [record for path in paths for record in _records(path)]:
        try:
            episodes.append(_read(directory))
        except RecordError as error:
            if on_error is None:
                raise
            on_error(str(error))
    return episodes


def _records(path: Path) -> list[Path]:
    if not (path / EPISODES).is_dir():
        return [path]
    records = [result.folder / result.record for result in read_results(path) if result.record is not None]
    if not records:
        raise RunError(f"{path} is a run without a finished episode; let it play at least one")
    return records


def _read(directory: Path) -> ExportedEpisode:
    record, calls = read_record(directory), _calls(directory)
    done = [entry for entry in calls if "reply" in entry]
    model = str(calls[0]["request"].get("model", "")) if calls else ""
    paid = [entry["usage"] for entry in calls if "usage" in entry]
    usage = sum(paid, Usage()) if calls else None
    conversations = _contexts(done) or [_from_record(record)]
    return ExportedEpisode(record, _agent(directory) or model, conversations, usage)


def _calls(directory: Path) -> list[dict[str, Any]]:
    """The calls in the log next to a record; a torn last line is left out."""
    path = directory / CALLS
    try:
        with open_regular(path, _MAX_BYTES) as file:
            lines = file.read().split(b"\n")[:-1]
        calls = [_call(parse_object(line)) for line in lines]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecordError(
            f"{path} is not a log of calls: {error!r}; move it away to export the record"
        ) from None
    return calls


def _call(entry: dict[str, Any]) -> dict[str, Any]:
    """An entry of the log of calls, whose parts have the types that the rest of this module needs.

    Raises:
        KeyError, TypeError, ValueError: It has not.
    """
    request = json_object(entry["request"])
    for message in [*json_list(request["messages"]), *([entry["reply"]] if "reply" in entry else [])]:
        json_text(json_object(message)["role"])
        for call in json_list(message.get("tool_calls") or []):
            json_text(json_object(call)["id"])
    json_list(request.get("tools", []))
    if "usage" not in entry:
        return entry
    costs = {"money": entry["money"], "estimated": entry["estimated"]}
    return {**entry, "usage": read_dataclass(Usage, {**json_object(entry["usage"]), **costs})}


def _agent(directory: Path) -> str:
    """The agent's name in the record's run; empty if the record belongs to no run."""
    result = read_result(directory.absolute().parent.parent)
    return "" if result is None else result.assignment.agent


def _contexts(calls: Sequence[dict[str, Any]]) -> list[Conversation]:
    """Conversations of calls, each with all calls that continue one another."""
    conversations: list[Conversation] = []
    sent: list[Message] = []
    for entry in calls:
        request = entry["request"]
        continues = bool(sent) and request["messages"][: len(sent)] == sent
        sent = request["messages"]
        conversation = Conversation([*sent, entry["reply"]], request.get("tools", []))
        if continues:
            conversations.pop()
        conversations.append(conversation)
    return conversations


def _join(before: list[Message], after: list[Message]) -> list[Message]:
    """The messages of two contexts, of which the second begins with the last turns of the first."""
    if not before:
        return list(after)
    turns = after[_START:]
    lengths = range(min(len(before), len(turns)), 0, -1)
    shared = next((length for length in lengths if all(map(_alike, before[-length:], turns))), 0)
    return [*before, *turns[shared:]]


def _alike(one: Message, other: Message) -> bool:
    """Whether two messages are the same; one of them may have been cut."""
    heads = [str(message.get("content") or "")[:_HEAD] for message in (one, other)]
    return one["role"] == other["role"] and heads[0] == heads[1] and _call_ids(one) == _call_ids(other)


def _call_ids(message: Message) -> list[str]:
    return [call["id"] for call in message.get("tool_calls", ())] + [message.get("tool_call_id", "")]


def _from_record(record: Record) -> Conversation:
    """Actions as native tool calls, observations as their results."""
    messages: list[Message] = [{"role": "user", "content": without_actions(record.header.statement + "\n")}]
    for row in record.steps:
        observation = "\n".join(part for part in (row.body, row.aside, row.status) if part)
        messages += _step(row.action, row.step, observation)
    if messages[-1]["role"] != "assistant":
        messages.pop()  # the agent never read the last observation
    return Conversation(messages, tool_specs("openai"))


def _step(action: Any, number: int, observation: str) -> list[Message]:
    """An action and its result; text that is not an action stays as it was written."""
    text = action if isinstance(action, str) else json.dumps(action)
    try:
        action = json.loads(text)  # programs write the text of an action
    except (ValueError, RecursionError):
        action = None
    if not (isinstance(action, dict) and action.get("action") in tuple(ACTIONS)):
        return [{"role": "assistant", "content": text}, {"role": "user", "content": observation}]
    arguments = json.dumps({name: value for name, value in action.items() if name != "action"})
    call = {
        "id": f"call_{number}",
        "type": "function",
        "function": {"name": action["action"], "arguments": arguments},
    }
    return [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call["id"], "content": observation},
    ]
