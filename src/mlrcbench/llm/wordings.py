"""How servers word their errors: the text of any body, and what the text is about.

No two servers send the same: an object, a list, a string, nested objects, a web page. The text is
looked for under the names that are in use, and then judged by its words, since statuses and codes do
not tell a conversation that is too long from one that comes too often. `tests/llm/errors.toml` has the
wordings of the servers; add a row there before you change a pattern.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

MAX_CHARS = 20_000
_MAX_DEPTH = 8
_MAX_TEXTS = 20

# Reasons for the end of a reply that stand for a failure of the server.
FAILED = frozenset({"error", "network_error", "insufficient_system_resource", "abort"})

_TEXTS = ("message", "msg", "detail", "details", "error", "errors", "reason", "title", "description")
_MORE_TEXTS = (
    *("error_message", "error_msg", "errormessage", "status_msg", "base_resp"),
    *("fault", "faultstring", "raw"),
)
_WRAPPED = ("metadata", "body", "cause", "object", "data", "response")
_CODES = ("code", "type", "status", "status_code", "error_code", "error_type", "err_code", "__type")
_PAGE = re.compile(r"\s*<(!doctype|html|\?xml|head|body|center|h\d|p|title|div)\b", re.I)
_HIDDEN = re.compile(r"<(script|style)\b[^>]*>.*?(</\1\s*>|\Z)", re.I | re.S)
_TAG = re.compile(r"<[^<>]*>")

_PAYMENT = re.compile(
    r"insufficient.{0,3}(quota|balance|credit|funds)|exceeded_current_quota|billing_(not_active|hard_limit)"
    r"|credit balance is too low|requires more credits|余额不足|欠费",
    re.I,
)
_RATE = re.compile(
    r"rate.{0,2}limit|too many requests|throttl|overloaded|resource.?exhausted|try again in \d|please wait"
    r"|(tokens?|requests?|calls?)[ _-](per|/)[ _-]?(second|sec|minute|min|hour|day|month)\b|\b[TR]P[MDSH]\b"
    r"|(current|usage|daily|monthly) (quota|limit)|quota exceeded|at capacity|速率|频率",
    re.I,
)
_POLICY = re.compile(
    r"content.{0,3}(policy|filter|management|exists risk|violat)|data_?inspection|inappropriate content"
    r"|usage guidelines|safety (system|filter|check)|responsible ?ai|敏感",
    re.I,
)
# Wordings that stand for too long a conversation by themselves.
_OVERFLOW = re.compile(
    r"context[ _-]?(length|window|size|limit)?[ _-]?(exceeded|overflow)|exceed[a-z_ ]{0,30}context"
    r"|(prompt|input|request|message|conversation|query)s?\b.{0,60}?(?<!took)(?<!taking)(?<!taken)(?<!waited)(?<!running)(?<!for)"
    r"[ _-]too[ _-](long|large)"
    r"|(prompt|input|request|messages)_too_(long|large)|string too long|reduce the length|middle-out"
    r"|(prompt|input|sequence|session|total|tokens?)[ _-]?(len|length)\b.{0,60}"
    r"(exceed|larger|greater|longer|more than)"
    r"|(prompt|input|inputs|request|query|conversation)\b.{0,40}"
    r"\b(exceeds?|exceeded|longer than|larger than)\b.{0,40}\b(length|size|limit|tokens?)\b"
    r"|maximum (prompt|model|input|sequence|context) length"
    r"|max_(model|input|seq|prompt|context|num_tok|total_tok)"
    r"|range of input length|input[ _]length[ _]error|model token limit|total message size"
    r"|max_tokens must be at least 1, got -"
    r"|inputs?`? (tokens )?(\+|must have (less|fewer) than)"
    r"|上下文.{0,10}(超|长|限)|(输入|长度|prompt).{0,10}(超长|过长|超过|超出)|超过.{0,10}(长度|上下文)",
    re.I | re.S,
)
# Wordings that do so only if they speak of more than there may be.
_SUBJECT = re.compile(r"\btokens?\b|context.{0,20}(length|window|size|limit)|\bn_ctx\b|\bsession_len\b", re.I)
_EXCESS = re.compile(
    r"exceed|too (many|long|large|big)|(more|larger|greater|longer|bigger) than|at most|maximum"
    r"|\bover\b|above|beyond"
    r"|only (has|supports|takes|accepts|allows)|no more than|fit|reduce|shorten|overflow"
    r"|but (the|this|it)\b|> ?\d|limit of|limited to|超",
    re.I,
)
# The tokens of the reply, of a key, or of a price are not those of the conversation.
_OTHER = re.compile(
    r"max_(completion_|output_|new_)?tokens|maxoutputtokens|(completion|output|generated|new|budget|thinking"
    r"|reasoning|stop|access|auth\w*|api|bearer|refresh|special|csrf|id)[ _]tokens?|budget_tokens"
    r"|token (is |has |was )?(invalid|expired|missing|revoked)|(invalid|expired|missing) token|logprobs",
    re.I,
)


@dataclass(frozen=True, slots=True)
class Said:
    """What a server said about a failure.

    Attributes:
        text: Its text on one line; empty if it said nothing.
        codes: Its codes, types and statuses.
        status: The HTTP status that the body names; None if it names none.
    """

    text: str
    codes: str
    status: int | None

    @property
    def is_payment(self) -> bool:
        """Whether the account has nothing left to pay with."""
        return bool(_PAYMENT.search(self._all))

    @property
    def is_rate(self) -> bool:
        """Whether there are too many calls, or too many tokens in some time."""
        return bool(_RATE.search(self._all)) and "context_length_exceeded" not in self.codes

    @property
    def is_overflow(self) -> bool:
        """Whether the conversation has more tokens than the model takes."""
        if _OVERFLOW.search(self._all):
            return True
        is_excess = bool(_SUBJECT.search(self._all)) and bool(_EXCESS.search(self.text))
        return is_excess and not _OTHER.search(self._all)

    @property
    def is_policy(self) -> bool:
        """Whether a rule about contents forbids the conversation."""
        return bool(_POLICY.search(self._all))

    @property
    def _all(self) -> str:
        return f"{self.codes} {self.text}"


def said(body: Any) -> Said:
    """What the body of an error says.

    Args:
        body: A JSON value of any shape, or text that is not JSON.
    """
    if isinstance(body, str):
        return Said(_line(_page(body) if _PAGE.match(body) else body), "", None)
    texts = list(dict.fromkeys(_walk(body, (*_TEXTS, *_MORE_TEXTS), 0)))[:_MAX_TEXTS]
    codes = list(dict.fromkeys(_walk(body, _CODES, 0)))[:_MAX_TEXTS]
    text = "; ".join(texts)
    if not text:
        text = json.dumps(body, ensure_ascii=False, default=str)[:MAX_CHARS] if body else ""
    statuses = [int(code) for code in codes if re.fullmatch(r"[1-5]\d\d", code)]
    return Said(_line(text), _line(" ".join(codes)), statuses[0] if statuses else None)


def error_of(answer: Mapping[str, Any]) -> Any:
    """The error that an answer, or a piece of one, reports with the status 200; None if it reports none."""
    if answer.get("error"):
        return answer["error"]
    if answer.get("choices") or "usage" in answer:
        return None
    names = ("message", "detail", "msg")
    is_error = answer.get("object") == "error" or isinstance(answer.get("base_resp"), Mapping)
    return answer if is_error or any(isinstance(answer.get(name), str) for name in names) else None


def _walk(value: Any, names: tuple[str, ...], depth: int) -> Iterator[str]:
    """The texts and numbers under some names, anywhere below; a string in a list counts as well."""
    if depth > _MAX_DEPTH:
        return
    if isinstance(value, list):
        for entry in value[:_MAX_TEXTS]:
            yield from [entry] if isinstance(entry, str) else _walk(entry, names, depth + 1)
    if not isinstance(value, Mapping):
        return
    place = value.get("loc")  # FastAPI names the place of a fault
    prefix = f"{'.'.join(map(str, place[:9]))}: " if isinstance(place, list) else ""
    by_name = {str(name).lower(): inner for name, inner in value.items()}
    for name in (*names, *_TEXTS, *_MORE_TEXTS, *_WRAPPED):
        inner = by_name.pop(name, None)
        if isinstance(inner, str | int) and not isinstance(inner, bool):
            if name in names and str(inner).strip():
                yield f"{prefix}{inner}"
        elif isinstance(inner, Mapping | list):
            yield from _walk(inner, names, depth + 1)


def _page(text: str) -> str:
    """The text of a web page."""
    return html.unescape(_TAG.sub(" ", _HIDDEN.sub(" ", text[:MAX_CHARS])))


def _line(text: str) -> str:
    """A text on one line, without control characters."""
    shown = "".join(char if char.isprintable() else " " for char in text[:MAX_CHARS])
    return " ".join(shown.split())
