"""What can go wrong with a call, as one `EndpointError` each: what it was, and what to do."""

from __future__ import annotations

import email.utils
import json
import re
import sys
import time
from typing import Any

from mlrcbench.errors import EndpointError

# Failures of the moment. The others would be the same the next time.
PASSING = ("timeout", "connection", "rate limit", "server", "malformed")
_OVERFLOW = re.compile(
    r"context.{0,20}(length|window|size)|maximum context|prompt is too long|too many (input )?tokens", re.I
)
_POLICY = re.compile(r"content.{0,3}(policy|filter|management)", re.I)
_MANY_REQUESTS, _SERVER = 429, 500
_ADVICE = {
    401: "check the key in the environment variable",
    403: "the key may not use this model",
    404: "check the model's name and base_url",
}


class WaitError(EndpointError):
    """A failure whose server said how long to wait, or that waiting does not help.

    Attributes:
        seconds: To wait at least; infinite if waiting does not help.
    """

    def __init__(self, text: str, kind: str, seconds: float) -> None:
        super().__init__(text, kind)
        self.seconds = seconds


def carriers() -> tuple[type[Exception], ...]:
    """The errors that the library which carries the calls raises, and those below that it lets pass."""
    import openai

    below = [sys.modules[name] for name in ("httpx", "httpx2") if name in sys.modules]
    errors: list[type[Exception]] = [openai.OpenAIError, json.JSONDecodeError, UnicodeDecodeError, OSError]
    return (*errors, *(module.RequestError for module in below))


def explain(error: Exception, *, model: str, timeout: float) -> EndpointError:
    """The failure that an error of the carrier stands for."""
    import openai

    if isinstance(error, openai.APITimeoutError) or "Timeout" in type(error).__name__:
        return EndpointError(f"{model} did not answer within {timeout:g} s; raise the timeout", "timeout")
    if isinstance(error, openai.APIStatusError):
        return _by_status(error, model)
    if isinstance(error, openai.APIConnectionError):
        cause = f": {error.__cause__}" if error.__cause__ else ""
        return EndpointError(
            f"the connection to the server of {model} failed{cause}; does it run, and is base_url right?",
            "connection",
        )
    if isinstance(error, openai.APIError) and not _OVERFLOW.search(f"{error.code} {error.message}"):
        words, kind = f"the server broke the stream off: {error.message[:500]}", "server"
    elif isinstance(error, openai.APIError):
        return _overflow(model, error.message)
    elif isinstance(error, ValueError):
        words, kind = f"the server's answer is no JSON: {str(error)[:200]}", "malformed"
    else:
        words, kind = f"the connection broke off: {str(error)[:200]}", "connection"
    return EndpointError(f"{words}; try again", kind)


def _by_status(error: Any, model: str) -> EndpointError:
    """By the status, and by what was said beside it."""
    status, code = error.status_code, str(error.code)
    said = f"the server of {model} said {status}: {str(error.message)[:500]}"
    if status == _MANY_REQUESTS:
        if code == "insufficient_quota":
            return WaitError(f"{said}; the account has nothing left to pay with", "rate limit", float("inf"))
        advice = "make fewer calls at a time, or raise retries"
        return WaitError(f"{said}; {advice}", "rate limit", _retry_after(error.response.headers))
    if status >= _SERVER or status in (408, 409):
        return WaitError(f"{said}; try again later", "server", _retry_after(error.response.headers))
    if code == "context_length_exceeded" or _OVERFLOW.search(said):
        return _overflow(model, str(error.message))
    if _POLICY.search(code):
        return EndpointError(f"{said}; word the conversation differently", "refusal")
    return EndpointError(f"{said}; {_ADVICE.get(status, 'the call must be changed')}", "request")


def _overflow(model: str, message: str) -> EndpointError:
    said = message[:500]
    return EndpointError(
        f"{model} cannot take so many tokens: {said}; shorten the messages", "context overflow"
    )


def _retry_after(headers: Any) -> float:
    """Seconds that a `Retry-After` asks for, given as a number or as a date; 0 if there is none."""
    told = str(headers.get("retry-after") or "")
    try:
        seconds = float(told)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(told).timestamp() - time.time()
        except ValueError:
            return 0.0
    return seconds if seconds > 0 else 0.0
