"""An episode as an exporter needs it: what was said, what came of it, what it cost.

What a language model was shown and what it said are the calls that lie beside its record. Each
context is taken as it was sent: while one call's messages go on from those of the call before, they
are one conversation; where older messages were left out, or notes on them were asked for, another
begins. Of all other agents, the conversation is made from the record, as if its actions had been
native tool calls.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlrcbench.actions import ACTIONS
from mlrcbench.agents.prompts import SUMMARY
from mlrcbench.agents.react import CALLS
from mlrcbench.errors import RecordError, RunError
from mlrcbench.llm import Usage
from mlrcbench.record import Record, read_record
from mlrcbench.runs.plan import EPISODES
from mlrcbench.runs.results import RESULT, read_results
from mlrcbench.tools import tool_specs
from mlrcbench.wording import without_actions

Message = dict[str, Any]
_START = 2  # the system's message and the first one, with which every context begins
_HEAD = 100


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages and tools of the chat-completions API; the last message is the model's."""

    messages: list[Message]
    tools: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Episode:
    """One record, read for export.

    Attributes:
        record: All of it.
        agent: Its name in the run, or else its model's; empty if neither is known.
        conversations: What was said, in the contexts in which it was said.
        usage: What the language model used; None if there was none.
    """

    record: Record
    agent: str
    conversations: list[Conversation]
    usage: Usage | None

    @property
    def reward(self) -> float:
        """Sum of the steps' rewards."""
        return float(sum(entry["reward"] for entry in self.record.steps))

    @property
    def dev(self) -> list[dict[str, Any]]:
        """The scores that the agent asked for, in order."""
        found = [entry for entry in self.record.evaluations if entry["split"] == "dev"]
        return [entry["score"] for entry in found if entry["by"] == "agent"]

    @property
    def test(self) -> dict[str, Any] | None:
        """The final score; None if the episode did not get that far."""
        found = [entry for entry in self.record.evaluations if entry["split"] == "test"]
        return next((entry["score"] for entry in found if entry["by"] != "host"), None)

    @property
    def whole(self) -> list[Message]:
        """All conversations as one, each message once, without those about notes."""
        found: list[Message] = []
        for one in self.conversations:
            if one.messages[0].get("content") != SUMMARY:
                found = _join(found, one.messages)
        return found


def read_episodes(paths: Iterable[Path]) -> list[Episode]:
    """The episodes of records, or of all results of runs.

    Raises:
        RecordError: A path is neither.
    """
    return [_read(directory) for path in paths for directory in _records(path)]


def _records(path: Path) -> list[Path]:
    if not (path / EPISODES).is_dir():
        return [path]
    found = [one.folder / one.record for one in read_results(path) if one.record is not None]
    if not found:
        raise RunError(f"{path} is a run without a finished episode; let it play at least one")
    return found


def _read(directory: Path) -> Episode:
    record, calls = read_record(directory), _calls(directory)
    done = [entry for entry in calls if "reply" in entry]
    model = str(calls[0]["request"]["model"]) if calls else ""
    spent = [entry for entry in calls if "usage" in entry]
    usage = sum((_usage(entry) for entry in spent), Usage()) if calls else None
    conversations = _contexts(done) or [_from_record(record)]
    return Episode(record, _agent(directory) or model, conversations, usage)


def _calls(directory: Path) -> list[dict[str, Any]]:
    """The calls beside a record; a torn last line is left out."""
    path = directory / CALLS
    if not path.exists():
        return []
    try:
        lines = path.read_text("utf-8").split("\n")[:-1]
        found = [json.loads(line) for line in lines]
        if not all(isinstance(entry["request"]["messages"], list) for entry in found):
            raise TypeError("a request has no list of messages")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecordError(
            f"{path} is no log of calls: {error!r}; move it away to export the record"
        ) from None
    return found


def _usage(entry: dict[str, Any]) -> Usage:
    used = entry["usage"]
    return Usage(used["prompt"], used["completion"], entry["money"], entry["estimated"])


def _agent(directory: Path) -> str:
    """The agent's name in the run that the record is of, if it is of one."""
    path = directory.parent.parent / RESULT
    try:
        return str(json.loads(path.read_text("utf-8"))["assignment"]["agent"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _contexts(calls: Sequence[dict[str, Any]]) -> list[Conversation]:
    """Calls that go on from one another, as one conversation each."""
    found: list[Conversation] = []
    sent: list[Message] = []
    for entry in calls:
        request = entry["request"]
        goes_on = bool(sent) and request["messages"][: len(sent)] == sent
        sent = request["messages"]
        now = Conversation([*sent, entry["reply"]], request.get("tools", []))
        found[-1:] = [now] if goes_on else [*found[-1:], now]
    return found


def _join(before: list[Message], after: list[Message]) -> list[Message]:
    """What was said in two contexts, of which the second begins with the last turns of the first."""
    if not before:
        return list(after)
    kept = after[_START:]
    ends = range(min(len(before), len(kept)), 0, -1)
    shared = next((end for end in ends if all(map(_alike, before[-end:], kept))), 0)
    return [*before, *kept[shared:]]


def _alike(one: Message, other: Message) -> bool:
    """Whether two messages are the same, of which one may have been cut."""
    heads = [str(message.get("content") or "")[:_HEAD] for message in (one, other)]
    return one["role"] == other["role"] and heads[0] == heads[1] and _names(one) == _names(other)


def _names(message: Message) -> list[str]:
    return [call["id"] for call in message.get("tool_calls", ())] + [message.get("tool_call_id", "")]


def _from_record(record: Record) -> Conversation:
    """Actions as native tool calls, observations as their results."""
    messages: list[Message] = [
        {"role": "user", "content": without_actions(record.header["statement"] + "\n")}
    ]
    for entry in record.steps:
        shown = "\n".join(part for part in (entry["body"], entry.get("aside"), entry.get("status")) if part)
        messages += _step(entry["action"], entry["step"], shown)
    if messages[-1]["role"] != "assistant":
        messages.pop()  # what came of the last action was never shown
    return Conversation(messages, tool_specs("openai"))


def _step(action: Any, number: int, shown: str) -> list[Message]:
    """An action and its result; what is no action stands as it was written."""
    said = action if isinstance(action, str) else json.dumps(action)
    try:
        action = json.loads(said)  # programs write the text of an action
    except (ValueError, RecursionError):
        action = None
    if not (isinstance(action, dict) and action.get("action") in tuple(ACTIONS)):
        return [{"role": "assistant", "content": said}, {"role": "user", "content": shown}]
    arguments = json.dumps({name: value for name, value in action.items() if name != "action"})
    call = {
        "id": f"call_{number}",
        "type": "function",
        "function": {"name": action["action"], "arguments": arguments},
    }
    return [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call["id"], "content": shown},
    ]
