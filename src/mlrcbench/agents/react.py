"""`react`: a language model that reasons, acts, and reads what came of it, until it submits.

The loop of ReAct (Yao et al., 2023), in the form of MLAgentBench's agent that the paper used or
with native tool calls. Whatever a model writes leads to an action, a reminder, or in the end to a
submission; whatever its server does is handled by the endpoint, except for three failures: a
context that is too long is halved, a refusal is answered like an answer without an action, and a
spent budget ends the episode by submitting what stands. What remains is a failure of
infrastructure: it is raised, and never scored as the agent's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlrcbench.actions import Action, Submit
from mlrcbench.agents.history import History, as_text
from mlrcbench.agents.prompts import CUT_OFF, LOST, REFUSED, REMINDERS, SUMMARY, SYSTEMS, with_idea
from mlrcbench.agents.styles import Style, Wish, read_wishes
from mlrcbench.errors import EndpointError
from mlrcbench.llm import ChatModel, Endpoint, Reply, Usage
from mlrcbench.llm.reply import to_message
from mlrcbench.observation import cut
from mlrcbench.tools import tool_specs
from mlrcbench.wording import without_actions

CALLS = "calls.jsonl"


class ReactAgent:
    """Plays episodes, one after the other.

    Args:
        model: Who decides.
        style: "tools", "text" or "mlab"; see `styles`.
        idea: A research idea to try; none if empty.
        context: Tokens that the conversation may have. Less than the model takes, since they are
            estimated, and the reply needs room too.
        patience: How many answers in a row without an action until the agent submits.
    """

    def __init__(
        self,
        model: ChatModel,
        *,
        style: Style = "tools",
        idea: str = "",
        context: int = 60_000,
        patience: int = 3,
    ) -> None:
        self.model, self.style, self.idea = model, style, idea
        self.context, self.patience = context, patience
        self._tools = tool_specs("openai") if style == "tools" else []
        self._keeps_log = isinstance(model, Endpoint) and model.log is not None
        self._spent = Usage()
        self._history: History | None = None
        self._wishes: list[Wish] = []
        self._last: Wish | None = None

    @property
    def spent(self) -> Usage:
        """What the model has used so far, in all episodes."""
        return self.model.spent if isinstance(self.model, Endpoint) else self._spent

    def begin(self, record: Path) -> None:
        """A new episode: nothing is remembered, and calls are written down beside its record."""
        self._history, self._wishes, self._last = None, [], None
        if isinstance(self.model, Endpoint) and not self._keeps_log:
            self.model.log = record / CALLS

    def act(self, observation: dict[str, Any], info: dict[str, Any]) -> Action | dict[str, Any] | str:
        """The next action.

        Raises:
            EndpointError: The model gives no answer, after all retries.
        """
        text = str(observation["text"])
        if self._history is None:
            self._history = self._start(text)
        else:
            self._history.result(text, self._last.call if self._last else None)
        if not self._wishes:
            self._wishes = self._decide(self._history)
        if not self._wishes:
            return Submit()
        self._last = self._wishes.pop(0)
        form = self._last.form
        return form if isinstance(form, str) else dict(form)

    def _start(self, briefing: str) -> History:
        if self.style == "tools":
            briefing = without_actions(briefing)
        return History(SYSTEMS[self.style], with_idea(briefing, self.idea), self.context, self._tools)

    def _decide(self, history: History) -> list[Wish]:
        """What the model wants done next; nothing if it is to end here."""
        for _ in range(self.patience):
            reminder = REMINDERS[self.style]
            try:
                reply = self._complete(history)
            except EndpointError as error:
                if error.kind == "budget":
                    return []
                if error.kind != "refusal":
                    raise
                history.answer(to_message(REFUSED, ()))
            else:
                wishes, message = read_wishes(self.style, reply)
                history.answer(message)
                if wishes:
                    return wishes
                reminder += CUT_OFF if reply.finish == "length" else ""
            history.result(reminder, None)
        return []

    def _complete(self, history: History) -> Reply:
        """The model's reply to the conversation, which is made to fit."""
        while True:
            dropped = history.make_room()
            if dropped:
                history.notes = self._summarise(history, as_text(dropped))
            try:
                reply = self.model.complete(history.messages, self._tools)
            except EndpointError as error:
                if error.kind != "context overflow" or not history.halve():
                    raise
                continue
            history.learn(reply.usage)
            self._spent = self._spent + reply.usage
            return reply

    def _summarise(self, history: History, dropped: str) -> str:
        """Notes on what was dropped, and on what the notes so far say.

        Raises:
            EndpointError: As for `act`, or the budget is spent. If the model merely declines, the
                conversation goes on without notes.
        """
        said = cut(f"{history.notes}\n\n{dropped}".strip(), history.chars(2))
        messages = [{"role": "system", "content": SUMMARY}, {"role": "user", "content": said}]
        try:
            reply = self.model.complete(messages)
        except EndpointError as error:
            if error.kind not in ("refusal", "context overflow"):
                raise
            kept = history.notes.removesuffix(LOST).strip()
            return cut(f"{kept}\n\n{LOST}".strip(), history.chars(8))
        self._spent = self._spent + reply.usage
        return cut(reply.text or LOST, history.chars(8))
