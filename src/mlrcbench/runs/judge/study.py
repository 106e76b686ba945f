"""Episodes -> ratings: which episodes are judged, by which models, and what happens without an answer."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

from mlrcbench.catalog.registry import get_competition
from mlrcbench.errors import EndpointError, RecordError, RunError
from mlrcbench.llm import Endpoint
from mlrcbench.runs import Result
from mlrcbench.runs.changes import changes
from mlrcbench.runs.judge.calls import Calls
from mlrcbench.runs.judge.questions import dimension_order, explain_messages, parse_ratings, rate_messages
from mlrcbench.storage.record import read_record

TRIES = 3
VARIANTS = ("with code", "without code")
# Failures of a call that its text can cause; others are the caller's, and end the study.
_OF_THIS_TEXT = ("refusal", "context overflow", "malformed")


@dataclass(frozen=True, slots=True)
class Subject:
    """One episode to judge.

    Attributes:
        episode: The run's name and the episode's.
        agent: The name of the agent that played it.
        competition: The competition's id.
        improvement: The relative improvement on test.
        statement: The competition's statement.
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
        agent: See `Subject`.
        competition: See `Subject`.
        improvement: See `Subject`.
        code: SHA-256 of the code; episodes that end with the same code share their ratings.
        variant: One of `VARIANTS`.
        judge: The model's name.
        sample: Number of the answer to the same question, from 0.
        order: The dimensions in the order in which the question named them.
        ratings: Dimension -> 1 to 5; None if the judge gave no ratings.
        reason: Why the judge gave no ratings.
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
    """Episodes to judge, and how many are left out for each reason.

    As in the paper, only code with a valid score on test is judged. An episode that did not change the
    starter has no code to judge.

    Raises:
        RunError: Two runs have the same name.
    """
    subjects: list[Subject] = []
    left_out: Counter[str] = Counter()
    for result in results:
        code = _code(result)
        if result.test is None or result.test["value"] is None or result.record is None:
            left_out["no valid score on test"] += 1
        elif not code:
            left_out["nothing was changed"] += 1
        else:
            subjects.append(_subject(result, code))
    names = Counter(one.episode for one in subjects)
    if repeated := [name for name, count in names.items() if count > 1]:
        raise RunError(f"{repeated[0]} is there twice; runs that are judged together need different names")
    return subjects, dict(left_out)


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
        calls: The calls made so far, which are not made again.
        explainer: The model that explains the ideas.
        judges: The models that rate them.
        samples: How often each judge rates each variant.
        jobs: How many subjects are rated at a time.
        on_subject: Called after each subject with its ratings.

    Raises:
        EndpointError: A model cannot be called; the study can be continued.
    """
    done: dict[str, list[Rating]] = {}
    with ThreadPoolExecutor(jobs) as pool:
        futures = {
            pool.submit(_rate_one, subject, calls, explainer, judges, samples): subject
            for subject in subjects
        }
        try:
            for future in as_completed(futures):
                subject = futures[future]
                done[subject.episode] = future.result()
                if on_subject is not None:
                    on_subject(subject, done[subject.episode])
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return [rating for subject in subjects for rating in done[subject.episode]]


def _code(result: Result) -> str:
    if result.record is None:
        return ""
    try:
        return changes(read_record(result.folder / result.record))
    except RecordError:
        return ""


def _subject(result: Result, code: str) -> Subject:
    assignment = result.assignment
    return Subject(
        episode=f"{result.folder.parents[1].name}/{assignment.name}",
        agent=assignment.agent,
        competition=assignment.competition,
        improvement=result.improvement or 0.0,
        statement=get_competition(assignment.competition).statement,
        code=code,
    )


def _rate_one(
    subject: Subject, calls: Calls, explainer: Endpoint, judges: Sequence[Endpoint], samples: int
) -> list[Rating]:
    idea, reason = _explain(subject, calls, explainer)
    digest = hashlib.sha256(subject.code.encode("utf-8", "replace")).hexdigest()
    answers = []
    for judge in judges:
        for variant in VARIANTS:
            for sample in range(samples):
                order = dimension_order(f"{digest} {variant} {judge.model}", sample)
                ratings: dict[str, int] | None = None
                if idea:
                    code = subject.code if variant == "with code" else None
                    messages = rate_messages(subject.statement, idea, code, order)
                    ratings, reason = _rate(calls, judge, messages, sample)
                answers.append(
                    Rating(
                        subject.episode, subject.agent, subject.competition, subject.improvement, digest,
                        variant, judge.model, sample, order, ratings, reason,
                    )
                )  # fmt: skip
    return answers


def _explain(subject: Subject, calls: Calls, explainer: Endpoint) -> tuple[str, str]:
    """The idea, or an empty text and the reason."""
    for attempt in range(TRIES):
        try:
            text = calls.ask(
                explainer, explain_messages(subject.statement, subject.code), f"explain {attempt}"
            )
        except EndpointError as error:
            return "", _reason(error)
        if text.strip():
            return text, ""
    return "", "the explainer says nothing"


def _rate(
    calls: Calls, judge: Endpoint, messages: list[dict[str, object]], sample: int
) -> tuple[dict[str, int] | None, str]:
    """The ratings, or None and the reason."""
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
