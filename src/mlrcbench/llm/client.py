"""The client: makes calls, tries them again where that helps, counts and logs them.

The client does not use the retries of the `openai` package, which cannot repeat a broken stream and
does not say what each try cost. After a temporary failure it tries again in 0.5, 1, 2, ...
seconds, at most 30, drawn from the upper half of each; or when the server's `Retry-After` says. If
that asks for more than two minutes, the failure is raised.

Budgets are checked before a call, so the last call may overdraw them, by at most its own size. The
log has one line for each try. No key is in it, nor in any error.
"""

from __future__ import annotations

import json
import math
import os
import random
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from mlrcbench.errors import EndpointError, shown
from mlrcbench.llm.answer import read_answer
from mlrcbench.llm.failures import TEMPORARY, WaitError, call_errors, explain, failure_in
from mlrcbench.llm.prices import Price, price_of, read_prices
from mlrcbench.llm.reply import Reply, Usage, extra_of, malformed, read_reply, read_usage

_FIRST_DELAY, _LONGEST_DELAY, _LONGEST_RETRY_AFTER = 0.5, 30.0, 120.0  # seconds
_KEY_CHARS = 8  # shorter keys are placeholders, such as "none"
_NO_KEY = "none"  # sent to servers without keys, because the header cannot be empty


class ChatModel(Protocol):
    """Anything that completes a conversation: an `Endpoint`, or an object that takes its place."""

    def complete(self, messages: Sequence[dict[str, Any]], tools: Sequence[dict[str, Any]] = ()) -> Reply:
        """The model's next message."""
        ...


class Endpoint:
    """A model behind an OpenAI-compatible chat-completions API. Threads may share it.

    Args:
        model: Name of the model, as the server knows it.
        base_url: URL of the API, such as "http://localhost:8000/v1"; by default the value of the
            environment variable OPENAI_BASE_URL, or else OpenAI's own URL.
        key_variable: Name of the environment variable that holds the key. A server that you run
            yourself may need no key.
        temperature: Temperature of the sampling; by default the server's.
        max_tokens: Largest number of tokens in one reply; by default the server's.
        timeout: Seconds that may pass without a byte of the answer; for a stream, seconds that
            the whole answer may take.
        retries: How often a call is tried again.
        token_budget: Tokens, sent and written, that all calls together may use.
        money_budget: US dollars that all calls together may cost; the model must have a price.
        prices: A file of prices, or prices by model, which replace shipped ones; see `read_prices`.
        log: A file to which each try is appended, as a line of JSON.
        stream: Whether to have replies streamed, for servers that end long silent connections.

    Raises:
        EndpointError: "setup": the URL or a number is invalid, or a money budget is given for a model
            without a price.
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
        if base_url is not None and not base_url:
            raise EndpointError(
                "base_url (--base-url) is empty; leave it out to call OpenAI's own API, or give a URL, such "
                "as http://localhost:8000/v1",
                "setup",
            )
        self.base_url = base_url or os.environ.get("OPENAI_BASE_URL") or None
        _check_url(self.base_url)
        _check_number("temperature", temperature, 0.0)
        for name, value in (("timeout", timeout), ("money_budget", money_budget)):
            _check_number(name, value, 0.0, above=True)
        for name, value in (("max_tokens", max_tokens), ("token_budget", token_budget)):
            _check_number(name, value, 1)
        _check_number("retries", retries, 0)
        self.temperature, self.max_tokens = temperature, max_tokens
        self.timeout, self.retries, self.stream = timeout, retries, stream
        self.token_budget, self.money_budget = token_budget, money_budget
        table = read_prices() | dict(prices) if isinstance(prices, Mapping) else read_prices(prices)
        self.price = price_of(model, table)
        if money_budget is not None and self.price is None:
            raise EndpointError(
                f"{model} has no price, so a money budget cannot be kept: add a price to a file of prices, "
                "or use a token budget",
                "setup",
            )
        self.log = Path(log) if log is not None else None
        self._spent = Usage()
        self._unwanted: frozenset[str] = frozenset()
        self._lock = threading.Lock()
        self._client: Any = None

    @property
    def spent(self) -> Usage:
        """The tokens and money that all calls so far have used."""
        return self._spent

    def complete(self, messages: Sequence[dict[str, Any]], tools: Sequence[dict[str, Any]] = ()) -> Reply:
        """The model's next message.

        Args:
            messages: The conversation, in the form of the chat-completions API.
            tools: The tools, in the same form; for example `mlrcbench.tool_specs("openai")`.

        Raises:
            EndpointError: The model gave no reply, after all retries; its `kind` says why.
        """
        attempt = 0
        while True:
            self._check_budget()
            request = self._request(messages, tools)
            try:
                return self._try(request)
            except EndpointError as error:
                if self._leave_out(error, request["messages"]):
                    continue
                seconds = _delay(error, attempt)
                if error.kind not in TEMPORARY or attempt >= self.retries or seconds is None:
                    raise
            attempt += 1
            time.sleep(seconds)

    def _leave_out(self, error: EndpointError, messages: Sequence[dict[str, Any]]) -> bool:
        """Whether a server refuses a field that came from a server; if so, no later call sends it."""
        extra = {
            name for message in messages if message.get("role") == "assistant" for name in extra_of(message)
        }
        named = {name for name in extra if name in str(error)} if error.kind == "request" else set()
        self._unwanted |= named
        return bool(named)

    def _request(self, messages: Sequence[Any], tools: Sequence[Any]) -> dict[str, Any]:
        """The JSON of a request.

        Raises:
            EndpointError: "request": messages or tools cannot be written as JSON.
        """
        request: dict[str, Any] = {"model": self.model}
        request["messages"] = [
            {name: value for name, value in message.items() if name not in self._unwanted}
            if self._unwanted and message.get("role") == "assistant"
            else message
            for message in messages
        ]
        if tools:
            request["tools"] = list(tools)
        if self.temperature is not None:
            request["temperature"] = self.temperature
        if self.max_tokens is not None:
            request["max_completion_tokens" if _is_openai(self.base_url) else "max_tokens"] = self.max_tokens
        if self.stream:
            request |= {"stream": True, "stream_options": {"include_usage": True}}
        try:
            json.dumps(request, ensure_ascii=False, allow_nan=False).encode("utf-8")
        except (TypeError, ValueError, RecursionError) as error:
            raise EndpointError(f"the conversation cannot be written as JSON: {error}", "request") from None
        return request

    def _try(self, request: dict[str, Any]) -> Reply:
        """One try: send the request, count the usage, read the reply, and log the try in any case."""
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
        except Exception as error:
            failure = error if isinstance(error, EndpointError) else _unforeseen(error)
            failure = _without(failure, self._key())
            entry["error"] = {"kind": failure.kind, "text": str(failure)}
            raise failure from None
        finally:
            self._write(entry | {"seconds": round(time.monotonic() - started, 3)})
        return reply

    def _send(self, request: dict[str, Any]) -> Any:
        """The completion's JSON; of the package `openai`, only the transport is used."""
        from openai import Stream

        broken = call_errors()
        try:
            with self._client.post(
                "/chat/completions", cast_to=object, body=request, stream=True, stream_cls=Stream[object]
            ) as answer:
                seconds = self.timeout if self.stream else float("inf")
                data = read_answer(answer.response.iter_bytes(), seconds, broken)
            failure = failure_in(data, self.model)
        except broken as error:
            failure = explain(error, model=self.model, timeout=self.timeout)
        if failure is not None:
            raise failure
        return data

    def connect(self) -> None:
        """Prepare for calls now, rather than at the first one.

        Raises:
            EndpointError: "setup": the package `openai` or the key is missing, or the key cannot be sent.
        """
        if self._client is not None:
            return
        try:
            import openai
        except ImportError:
            raise EndpointError(
                "calling language models needs the package openai: pip install 'mlrcbench[agents]'", "setup"
            ) from None
        key = self._key()
        if not key and self.base_url is None:
            raise EndpointError(
                f"no key in the environment variable {self.key_variable}: set it, or give the URL of "
                "your own server as base_url (--base-url)",
                "setup",
            )
        _check_key(key, self.key_variable)
        try:
            self._client = openai.OpenAI(
                api_key=key or _NO_KEY, base_url=self.base_url, timeout=self.timeout, max_retries=0
            )
        except Exception as error:  # whatever the package dislikes about the URL or its own variables
            raise EndpointError(f"the client cannot be set up: {error}", "setup") from None
        weakref.finalize(self, self._client.close)  # its connections are closed with this object

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
        """Append a line to the log with a single write."""
        if self.log is None:
            return
        line, key = json.dumps(entry, default=str), self._key()
        if len(key) >= _KEY_CHARS:
            line = line.replace(json.dumps(key)[1:-1], "[key]")
        try:
            with self._lock:
                self.log.parent.mkdir(parents=True, exist_ok=True)
                with self.log.open("ab", buffering=0) as file:
                    file.write(f"{line}\n".encode("utf-8", "replace"))
        except OSError as error:
            raise EndpointError(f"the log of calls {self.log} cannot be written: {error}", "setup") from None


def _check_key(key: str, variable: str) -> None:
    """Refuse a key that no header can hold, as when it was copied with typographic quotation marks."""
    strange = next((place for place, char in enumerate(key) if not "!" <= char <= "~"), None)
    if strange is not None:
        raise EndpointError(
            f"the key in the environment variable {variable} has {key[strange]!a} as its character "
            f"{strange + 1}, and keys have only plain letters, digits and signs: copy it again, without "
            "quotation marks",
            "setup",
        )


def _check_url(url: str | None) -> None:
    try:
        parts = urlsplit(url) if url else None
        _ = parts.port if parts is not None else None
    except ValueError as error:
        raise EndpointError(
            f"base_url {url!r} is not a URL ({error}), such as http://localhost:8000/v1", "setup"
        ) from None
    if parts is not None and (parts.scheme not in ("http", "https") or not parts.netloc):
        raise EndpointError(f"base_url {url!r} is not a URL, such as http://localhost:8000/v1", "setup")
    if parts is not None and parts.username is not None:
        raise EndpointError("base_url must not hold a password: put it into the key's variable", "setup")


def _check_number(name: str, value: float | None, least: float, *, above: bool = False) -> None:
    """Check an option that is a finite number, or None.

    Raises:
        EndpointError: It is not one, or less than `least`, or with `above` not greater.
    """
    if value is None:
        return
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or value < least or (above and value == least):
        bound = "above" if above else "of at least"
        raise EndpointError(f"{name} must be a finite number {bound} {least:g}, not {shown(value)}", "setup")


def _is_openai(url: str | None) -> bool:
    """Whether a URL is that of OpenAI's own API, which has renamed an argument that other servers know."""
    return url is None or (urlsplit(url).hostname or "").endswith((".openai.com", ".openai.azure.com"))


def _delay(error: EndpointError, attempt: int) -> float | None:
    """Seconds until the next try; None if it should not be tried again."""
    retry_after = error.seconds if isinstance(error, WaitError) else 0.0
    if retry_after > _LONGEST_RETRY_AFTER:
        return None
    if retry_after:
        return retry_after
    return min(_FIRST_DELAY * 2.0**attempt, _LONGEST_DELAY) * random.uniform(0.5, 1.0)


def _unforeseen(error: Exception) -> EndpointError:
    """The failure for an answer of a form that nobody has foreseen."""
    return malformed(f"it cannot be read ({type(error).__name__}: {str(error)[:200]})")


def _without(failure: EndpointError, key: str) -> EndpointError:
    """The failure, with the key removed from its text in case the server has repeated it."""
    if len(key) >= _KEY_CHARS and key in str(failure):
        failure.args = (str(failure).replace(key, "[key]"),)
    return failure
