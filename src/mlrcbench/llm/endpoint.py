"""The client: one call at a time, tried again where that helps, counted, and written down.

Retries are ours, not those of the `openai` package, which cannot try a stream again that broke
off and does not say what each try cost. A failure of the moment is tried again after
0.5, 1, 2, ... seconds, at most 30, drawn from the upper half of each; or after what the server's
`Retry-After` asks for. One that asks for more than two minutes is passed on.

Budgets are looked at before a call: the last one may overdraw them, by at most its own size.
The log has one line per try. No key is in it, nor in any error.
"""

from __future__ import annotations

import json
import os
import random
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from mlrcbench.errors import EndpointError
from mlrcbench.llm.failures import PASSING, WaitError, carriers, explain
from mlrcbench.llm.prices import Price, price_of, read_prices
from mlrcbench.llm.reply import Reply, Usage, malformed, read_reply, read_usage
from mlrcbench.llm.stream import assemble

_FIRST_SECONDS, _MOST_SECONDS, _MOST_ASKED = 0.5, 30.0, 120.0
_KEY_CHARS = 8  # shorter ones are placeholders, such as "none"
_NO_KEY = "none"  # what a server without keys is sent, since the header cannot be empty


class ChatModel(Protocol):
    """Whatever completes a conversation: an `Endpoint`, or a stand-in for one."""

    def complete(self, messages: Sequence[dict[str, Any]], tools: Sequence[dict[str, Any]] = ()) -> Reply:
        """The model's next message."""
        ...


class Endpoint:
    """A model behind an OpenAI-compatible chat-completions API. May be shared by threads.

    Args:
        model: Its name, as the server knows it.
        base_url: Of the API, such as "http://localhost:8000/v1"; by default OpenAI's own, or what
            the environment variable OPENAI_BASE_URL says.
        key_variable: Name of the environment variable that holds the key. Servers of one's own
            may need none.
        temperature: Of the sampling; by default the server's.
        max_tokens: The most that one reply may have; by default the server's.
        timeout: Seconds without a byte of the answer; for a stream, of the whole.
        retries: How often a call is tried again.
        token_budget: Tokens, sent and written, that all calls together may use.
        money_budget: US dollars that all calls together may cost; needs a price.
        prices: A file of prices, or prices by model, before the shipped ones; see `read_prices`.
        log: A file to which each try is appended, as a line of JSON.
        stream: Whether to have replies streamed, for servers that cut long silences off.

    Raises:
        EndpointError: "setup": the URL is none, or the money budget has no price to count with.
    """

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        key_variable: str = "OPENAI_API_KEY",
        *,
        temperature: float | None = None,
        max_tokens: int | None = None,
        timeout: float = 120.0,
        retries: int = 6,
        token_budget: int | None = None,
        money_budget: float | None = None,
        prices: str | Path | Mapping[str, Price] | None = None,
        log: str | Path | None = None,
        stream: bool = False,
    ) -> None:
        self.model, self.key_variable = model, key_variable
        self.base_url = base_url or os.environ.get("OPENAI_BASE_URL") or None
        _check_url(self.base_url)
        self.temperature, self.max_tokens = temperature, max_tokens
        self.timeout, self.retries, self.stream = timeout, retries, stream
        self.token_budget, self.money_budget = token_budget, money_budget
        table = read_prices() | dict(prices) if isinstance(prices, Mapping) else read_prices(prices)
        self.price = price_of(model, table)
        if money_budget is not None and self.price is None:
            raise EndpointError(
                f"{model} has no price, so a money budget cannot be kept: add one to a file of prices, "
                "or use a token budget",
                "setup",
            )
        self.log = Path(log) if log is not None else None
        self._spent = Usage()
        self._lock = threading.Lock()
        self._client: Any = None

    @property
    def spent(self) -> Usage:
        """What all calls so far have used."""
        return self._spent

    def complete(self, messages: Sequence[dict[str, Any]], tools: Sequence[dict[str, Any]] = ()) -> Reply:
        """The model's next message.

        Args:
            messages: The conversation, as the chat-completions API has it.
            tools: Likewise; for example `mlrcbench.tool_specs("openai")`.

        Raises:
            EndpointError: There is none, after all retries; its `kind` says why.
        """
        request = self._request(messages, tools)
        for attempt in range(self.retries + 1):
            self._check_budget()
            try:
                return self._try(request)
            except EndpointError as error:
                seconds = _delay(error, attempt)
                if error.kind not in PASSING or attempt == self.retries or seconds is None:
                    raise
                time.sleep(seconds)
        raise AssertionError("the last try returns or raises")

    def _request(self, messages: Sequence[Any], tools: Sequence[Any]) -> dict[str, Any]:
        request: dict[str, Any] = {"model": self.model, "messages": list(messages)}
        if tools:
            request["tools"] = list(tools)
        if self.temperature is not None:
            request["temperature"] = self.temperature
        if self.max_tokens is not None:
            request["max_completion_tokens" if _is_openai(self.base_url) else "max_tokens"] = self.max_tokens
        if self.stream:
            request |= {"stream": True, "stream_options": {"include_usage": True}}
        return request

    def _try(self, request: dict[str, Any]) -> Reply:
        """One try: sent, counted, read, and written down, whatever comes of it."""
        self.connect()
        started = time.monotonic()
        entry: dict[str, Any] = {"time": round(time.time(), 3), "request": request}
        try:
            data = self._send(request)
            usage = read_usage(data, [request["messages"], request.get("tools", [])], self.price)
            with self._lock:
                self._spent = self._spent + usage
            entry["usage"] = {"prompt": usage.prompt, "completion": usage.completion}
            entry |= {"estimated": usage.estimated, "money": usage.money}
            reply = read_reply(data, usage)
            entry |= {"reply": reply.message, "finish": reply.finish}
        except EndpointError as error:
            entry["error"] = {"kind": error.kind, "text": str(error)}
            raise
        finally:
            self._write(entry | {"seconds": round(time.monotonic() - started, 3)})
        return reply

    def _send(self, request: dict[str, Any]) -> Any:
        """The completion's JSON, by way of the library's transport alone."""
        from openai import Stream

        try:
            if self.stream:
                with self._client.post(
                    "/chat/completions", cast_to=object, body=request, stream=True, stream_cls=Stream[object]
                ) as pieces:
                    return assemble(pieces, self.timeout)
            return self._client.post("/chat/completions", cast_to=object, body=request)
        except carriers() as error:
            failure = explain(error, model=self.model, timeout=self.timeout)
            raise _without(failure, self._key()) from None
        except RecursionError:
            raise malformed("its JSON is nested too deeply") from None

    def connect(self) -> None:
        """Make ready for calls, without making one; the first call does it otherwise.

        Raises:
            EndpointError: "setup": the package `openai` or the key is missing.
        """
        if self._client is not None:
            return
        try:
            import openai
        except ImportError:
            raise EndpointError(
                "language models are called by the package openai: pip install 'mlrcbench[agents]'", "setup"
            ) from None
        key = self._key()
        if not key and self.base_url is None:
            raise EndpointError(
                f"there is no key in the environment variable {self.key_variable}: set it, or name a server "
                "of your own by base_url",
                "setup",
            )
        self._client = openai.OpenAI(
            api_key=key or _NO_KEY, base_url=self.base_url, timeout=self.timeout, max_retries=0
        )
        weakref.finalize(self, self._client.close)  # its connections go with this object

    def _key(self) -> str:
        return os.environ.get(self.key_variable, "").strip()

    def _check_budget(self) -> None:
        spent = self._spent
        if self.token_budget is not None and spent.tokens >= self.token_budget:
            raise EndpointError(
                f"the budget of {self.token_budget:,} tokens is spent ({spent.tokens:,}); raise token_budget",
                "budget",
            )
        if self.money_budget is not None and (spent.money or 0.0) >= self.money_budget:
            raise EndpointError(
                f"the budget of {self.money_budget:g} US dollars is spent ({spent.money:.4f}); "
                "raise money_budget",
                "budget",
            )

    def _write(self, entry: Mapping[str, Any]) -> None:
        """Append a line to the log, in a single write."""
        if self.log is None:
            return
        line, key = json.dumps(entry, default=str), self._key()
        if len(key) >= _KEY_CHARS:
            line = line.replace(json.dumps(key)[1:-1], "[key]")
        with self._lock:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            with self.log.open("ab", buffering=0) as file:
                file.write(f"{line}\n".encode("utf-8", "replace"))


def _check_url(url: str | None) -> None:
    parts = urlsplit(url) if url else None
    if parts is not None and (parts.scheme not in ("http", "https") or not parts.netloc):
        raise EndpointError(f"base_url {url!r} is no URL, such as http://localhost:8000/v1", "setup")
    if parts is not None and parts.username is not None:
        raise EndpointError("base_url must hold no password: put it into the key's variable", "setup")


def _is_openai(url: str | None) -> bool:
    """Whether it is OpenAI's own API, whose names of arguments have moved on from those of other servers."""
    return url is None or (urlsplit(url).hostname or "").endswith((".openai.com", ".openai.azure.com"))


def _delay(error: EndpointError, attempt: int) -> float | None:
    """Seconds until the next try; None if there is none to be made."""
    asked = error.seconds if isinstance(error, WaitError) else 0.0
    if asked > _MOST_ASKED:
        return None
    if asked:
        return asked
    return min(_FIRST_SECONDS * 2.0**attempt, _MOST_SECONDS) * random.uniform(0.5, 1.0)


def _without(failure: EndpointError, key: str) -> EndpointError:
    """A failure whose text does not hold the key, should the server have repeated it."""
    if len(key) >= _KEY_CHARS and key in str(failure):
        failure.args = (str(failure).replace(key, "[key]"),)
    return failure
