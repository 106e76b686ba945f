"""`react`: a language model that reasons, acts, and reads the results, until it submits.

This is the loop of ReAct (Yao et al., 2023), in the form of the MLAgentBench agent that the paper
used, or with native tool calls. Whatever a model writes leads to an action, a reminder, or at last a
submission. The endpoint handles what its server does, except for three failures: if the context is
too long, its budget is halved; a refusal is treated as an answer without an action; and a spent
budget ends the episode with a submission of the files as they are. Every other failure is one of the
infrastructure: it is raised, and never scored as the agent's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlrcbench.agents.history import History, as_text
from mlrcbench.agents.prompts import (
    CALL_CUT_OFF,
    CUT_OFF,
    LOST,
    NO_ANSWER,
    REMINDERS,
    SUMMARY,
    SYSTEMS,
    with_idea,
)
from mlrcbench.agents.styles import Style, Wish, read_wishes
from mlrcbench.errors import EndpointError
from mlrcbench.llm import ChatModel, Endpoint, Reply, Usage
from mlrcbench.llm.reply import to_message
from mlrcbench.protocol.actions import Action, Submit
from mlrcbench.protocol.tools import tool_specs
from mlrcbench.protocol.wording import without_actions
from mlrcbench.text import cut

CALLS = "calls.jsonl"


class ReactAgent:
    """Plays episodes, one after the other.

    Args:
        model: The language model.
        style: "tools", "text" or "mlab"; see `styles`.
        idea: A research idea to try; empty for none.
        context: Largest number of tokens of the conversation. It must be less than the model takes,
            because tokens are estimated, and the reply needs room too.
        patience: Number of answers in a row without an action after which the agent submits.
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
        """The tokens and money that the model has used so far, in all episodes."""
        return self.model.spent if isinstance(self.model, Endpoint) else self._spent

    def begin(self, record: Path) -> None:
        """Begin an episode: forget the last one, and log calls in the episode's record directory."""
        self._history, self._wishes, self._last = None, [], None
        if isinstance(self.model, Endpoint) and not self._keeps_log:
            self.model.log = record / CALLS

    def act(self, observation: dict[str, Any], info: dict[str, Any]) -> Action | dict[str, Any] | str:
        """The next action.

        Raises:
            EndpointError: The model gave no answer, after all retries.
        """
        text = str(observation["text"])
        if self._history is None:
            self._history = self._start(text)
        else:
            if self._last is not None and self._last.cut_off and info.get("error"):
                text = _of_cut_off(self._last, text)
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
        """The actions that the model asks for next; an empty list if the agent should submit."""
        for _ in range(self.patience):
            reminder = REMINDERS[self.style]
            try:
                reply = self._complete(history)
            except EndpointError as error:
                if error.kind == "budget":
                    return []
                if error.kind != "refusal":
                    raise
                history.answer(to_message(NO_ANSWER, ()))
            else:
                wishes, message = read_wishes(self.style, reply)
                history.answer(message)
                if wishes:
                    return wishes
                reminder += CUT_OFF if reply.finish == "length" else ""
            history.result(reminder, None)
        return []

    def _complete(self, history: History) -> Reply:
        """The model's reply to the conversation, which is shortened until it fits."""
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
        """New notes, from the notes so far and the messages that were dropped.

        Raises:
            EndpointError: As for `act`, or the budget is spent. If the model only declines, the
                conversation continues without new notes.
        """
        older = cut(f"{history.notes}\n\n{dropped}".strip(), history.chars(2))
        messages = [{"role": "system", "content": SUMMARY}, {"role": "user", "content": older}]
        try:
            reply = self.model.complete(messages)
        except EndpointError as error:
            if error.kind not in ("refusal", "context overflow"):
                raise
            notes = history.notes.removesuffix(LOST).strip()
            return cut(f"{notes}\n\n{LOST}".strip(), history.chars(8))
        self._spent = self._spent + reply.usage
        return cut(reply.text or LOST, history.chars(8))


def _of_cut_off(wish: Wish, text: str) -> str:
    """What the model reads about an action that failed, if its answer reached the limit of its length.

    A call that was cut off in the middle is no longer JSON; to say only that would mislead.
    """
    if not isinstance(wish.form, str):
        return f"{text}\n{CUT_OFF.strip()}"
    status = text.splitlines()[-1] if text else ""
    return f"{CALL_CUT_OFF}\n{status}"
