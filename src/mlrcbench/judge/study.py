"""Episodes -> ratings: who is judged, by whom, and what a judge that does not answer is worth."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

from mlrcbench.errors import EndpointError, RecordError, RunError
from mlrcbench.judge.calls import Calls
from mlrcbench.judge.prompts import dimension_order, explain_messages, parse_ratings, rate_messages
from mlrcbench.llm import Endpoint
from mlrcbench.record import read_record
from mlrcbench.registry import get_competition
from mlrcbench.runs import Result
from mlrcbench.runs.changes import changes

TRIES = 3
VARIANTS = ("with code", "without code")
# What one text can do to a call; other failures are the caller's, and end the study.
_OF_THIS_TEXT = ("refusal", "context overflow", "malformed")


@dataclass(frozen=True, slots=True)
class Subject:
    """What is judged.

    Attributes:
        episode: The run's name and the episode's.
        agent: Who played it.
        competition: Its id.
        improvement: On test.
        statement: Of the competition.
        code: The final code, as a diff against the starter.
    """

    episode: str
    agent: str
    competition: str
    improvement: float
    statement: str
    code: str


@dataclass(frozen=True, slots=True)
class Rating:
    """One answer of a judge.

    Attributes:
        episode: See `Subject`.
        agent: Likewise.
        competition: Likewise.
        improvement: Likewise.
        code: Its SHA-256; episodes that end with the same code share their ratings.
        variant: One of `VARIANTS`.
        judge: The model.
        sample: Which of several answers to the same question, from 0.
        order: In which the dimensions were named.
        ratings: Dimension -> 1 to 5; None if the judge gave none.
        reason: Why not.
    """

    episode: str
    agent: str
    competition: str
    improvement: float
    code: str
    variant: str
    judge: str
    sample: int
    order: list[str]
    ratings: dict[str, int] | None
    reason: str = ""


def subjects_of(results: Iterable[Result]) -> tuple[list[Subject], dict[str, int]]:
    """Episodes to judge, and how many are left out for which reason.

    As in the paper, only code with a valid score on test is judged; there must be some, so an
    episode that left the starter as it was has nothing to judge.

    Raises:
        RunError: Two runs have the same name.
    """
    found: list[Subject] = []
    left_out: Counter[str] = Counter()
    for result in results:
        code = _code(result)
        if result.test is None or result.test["value"] is None or result.record is None:
            left_out["no valid score on test"] += 1
        elif not code:
            left_out["nothing was changed"] += 1
        else:
            found.append(_subject(result, code))
    names = Counter(one.episode for one in found)
    if twice := [name for name, count in names.items() if count > 1]:
        raise RunError(f"{twice[0]} is there twice; runs that are judged together need different names")
    return found, dict(left_out)


def rate_all(
    subjects: Sequence[Subject],
    calls: Calls,
    explainer: Endpoint,
    judges: Sequence[Endpoint],
    *,
    samples: int = 3,
    jobs: int = 1,
    on_subject: Callable[[Subject, list[Rating]], None] | None = None,
) -> list[Rating]:
    """Ratings of all subjects: by each judge, with code and without, several times each.

    Args:
        subjects: See `subjects_of`.
        calls: Those made already are not made again.
        explainer: Writes down the ideas.
        judges: Rate them.
        samples: Ratings by each judge of each variant.
        jobs: Subjects at a time.
        on_subject: Called when one has been rated.

    Raises:
        EndpointError: A model cannot be called; the study can be gone on with.
    """
    done: dict[str, list[Rating]] = {}
    with ThreadPoolExecutor(jobs) as pool:
        futures = {pool.submit(_rate_one, one, calls, explainer, judges, samples): one for one in subjects}
        try:
            for future in as_completed(futures):
                one = futures[future]
                done[one.episode] = future.result()
                if on_subject is not None:
                    on_subject(one, done[one.episode])
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return [rating for one in subjects for rating in done[one.episode]]


def _code(result: Result) -> str:
    if result.record is None:
        return ""
    try:
        return changes(read_record(result.folder / result.record))
    except RecordError:
        return ""


def _subject(result: Result, code: str) -> Subject:
    one = result.assignment
    return Subject(
        episode=f"{result.folder.parents[1].name}/{one.name}",
        agent=one.agent,
        competition=one.competition,
        improvement=result.improvement or 0.0,
        statement=get_competition(one.competition).statement,
        code=code,
    )


def _rate_one(
    one: Subject, calls: Calls, explainer: Endpoint, judges: Sequence[Endpoint], samples: int
) -> list[Rating]:
    idea, reason = _explain(one, calls, explainer)
    digest = hashlib.sha256(one.code.encode("utf-8", "replace")).hexdigest()
    found = []
    for judge in judges:
        for variant in VARIANTS:
            for sample in range(samples):
                order = dimension_order(f"{digest} {variant} {judge.model}", sample)
                ratings: dict[str, int] | None = None
                if idea:
                    shown = one.code if variant == "with code" else None
                    messages = rate_messages(one.statement, idea, shown, order)
                    ratings, reason = _rate(calls, judge, messages, sample)
                found.append(
                    Rating(
                        one.episode, one.agent, one.competition, one.improvement, digest,
                        variant, judge.model, sample, order, ratings, reason,
                    )
                )  # fmt: skip
    return found


def _explain(one: Subject, calls: Calls, explainer: Endpoint) -> tuple[str, str]:
    """The idea, or no text and why."""
    for attempt in range(TRIES):
        try:
            text = calls.ask(explainer, explain_messages(one.statement, one.code), f"explain {attempt}")
        except EndpointError as error:
            return "", _reason(error)
        if text.strip():
            return text, ""
    return "", "the explainer says nothing"


def _rate(
    calls: Calls, judge: Endpoint, messages: list[dict[str, object]], sample: int
) -> tuple[dict[str, int] | None, str]:
    """Ratings, or None and why."""
    reason = ""
    for attempt in range(TRIES):
        try:
            return parse_ratings(calls.ask(judge, messages, f"rate {sample} {attempt}")), ""
        except EndpointError as error:
            return None, _reason(error)
        except ValueError as error:
            reason = str(error)
    return None, reason


def _reason(error: EndpointError) -> str:
    if error.kind not in _OF_THIS_TEXT:
        raise error
    return str(error)
