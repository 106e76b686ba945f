"""What can go wrong with a call, as one `EndpointError` each: what happened, and what to do."""

from __future__ import annotations

import email.utils
import sys
import time
from collections.abc import Mapping
from typing import Any

from mlrcbench.errors import EndpointError
from mlrcbench.llm import wordings
from mlrcbench.text import read_json

# Temporary failures. A call that fails otherwise would fail again.
TEMPORARY = ("timeout", "connection", "rate limit", "server", "malformed")
_SHOWN_CHARS = 500
_PAYMENT, _TOO_LARGE, _MANY_REQUESTS, _SERVER = 402, 413, 429, 500
_LATER = (408, 409, 425, 498, 499)  # statuses of requests that may succeed later
_ADVICE = {
    401: "check the key in the environment variable",
    403: "the key may not use this model",
    404: "check the model's name and base_url",
}


class WaitError(EndpointError):
    """A failure after which one must wait, or waiting does not help, as the server said.

    Attributes:
        seconds: Shortest time to wait; infinite if waiting does not help.
    """

    def __init__(self, text: str, kind: str, seconds: float) -> None:
        super().__init__(text, kind)
        self.seconds = seconds


def call_errors() -> tuple[type[Exception], ...]:
    """The errors of the package that makes the calls, and those from below that it does not catch."""
    import openai

    below = [sys.modules[name] for name in ("httpx", "httpx2") if name in sys.modules]
    errors: list[type[Exception]] = [openai.OpenAIError, OSError]
    for module in below:
        errors += [module.RequestError, module.StreamError, module.InvalidURL]
    return tuple(errors)


def explain(error: Exception, *, model: str, timeout: float) -> EndpointError:
    """The failure that such an error stands for."""
    import openai

    if isinstance(error, openai.APITimeoutError) or "Timeout" in type(error).__name__:
        return EndpointError(f"{model} did not answer within {timeout:g} s; raise the timeout", "timeout")
    if isinstance(error, openai.APIStatusError):
        said = wordings.said(_text_of(error))
        return _failure(
            f"the server of {model} said {error.status_code}", said, error.status_code, error.response.headers
        )
    if isinstance(error, openai.APIConnectionError):
        cause = f": {error.__cause__}"[:_SHOWN_CHARS] if error.__cause__ else ""
        return EndpointError(
            f"the connection to the server of {model} failed{cause}; does it run, and is base_url right?",
            "connection",
        )
    return EndpointError(f"the connection broke off: {str(error)[:_SHOWN_CHARS]}; try again", "connection")


def failure_in(answer: Any, model: str) -> EndpointError | None:
    """The failure that an answer with the status 200 reports instead of a completion; None if it has none."""
    if not isinstance(answer, Mapping):
        return None
    error = wordings.error_of(answer)
    choices = answer.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    if isinstance(first, Mapping):
        finish = str(first.get("finish_reason"))
        error = (
            error or first.get("error") or ({"type": finish} if finish.lower() in wordings.FAILED else None)
        )
    if not error:
        return None
    said = wordings.said(error)
    return _failure(f"the server of {model} failed", said, said.status, {})


def _failure(what: str, said: wordings.Said, status: int | None, headers: Mapping[str, str]) -> EndpointError:
    """The failure that a status and the text that came with it stand for."""
    text = f"{what}: {said.text[:_SHOWN_CHARS]}" if said.text else what
    if status == _PAYMENT or said.is_payment:
        return WaitError(f"{text}; the account has nothing left to pay with", "rate limit", float("inf"))
    is_servers = status is not None and (status >= _SERVER or status in _LATER)
    if status == _MANY_REQUESTS or (said.is_rate and not is_servers):
        advice = "make fewer calls at a time, send fewer tokens, or raise retries"
        return WaitError(f"{text}; {advice}", "rate limit", _retry_after(headers))
    if status == _TOO_LARGE or (said.is_overflow and status not in _ADVICE):
        return EndpointError(
            f"the model cannot take so many tokens: {text}; shorten the messages", "context overflow"
        )
    if said.is_policy:
        return EndpointError(f"{text}; word the conversation differently", "refusal")
    if is_servers or status is None:
        return WaitError(f"{text}; try again later", "server", _retry_after(headers))
    return EndpointError(f"{text}; {_ADVICE.get(status, 'the call must be changed')}", "request")


def _text_of(error: Any) -> Any:
    """The body of an answer with the status of an error: JSON, or text."""
    try:
        text = error.response.text[: wordings.MAX_CHARS]
        try:
            return read_json(text)
        except ValueError:
            return text
    except Exception:  # the body was not read, or cannot be decoded
        return str(error.message)


def _retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that a `Retry-After` asks for, as a number or a date; 0 without one."""
    value = str(headers.get("retry-after") or "")
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError, OSError):
            return 0.0
    return seconds if seconds > 0 else 0.0
