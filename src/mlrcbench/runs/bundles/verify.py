"""Verification: whether a bundle is complete and keeps the rules, each failure in a sentence.

What a record says of itself, such as its isolation, is its author's word. Scoring again and replaying
check the scores; only a retest says what a method is worth on instances that its agent has never seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mlrcbench.env.replay import replay, rescore
from mlrcbench.errors import MlrcbenchError, RecordError
from mlrcbench.runs.bundles.episode_rules import rules_of_episode
from mlrcbench.runs.bundles.opened import Bundle
from mlrcbench.runs.bundles.policy import AcceptancePolicy
from mlrcbench.runs.results import Result, what_was_recorded
from mlrcbench.storage.record import Record, read_record
from mlrcbench.storage.temporary import scratch

BUNDLE = "bundle"
_SHOWN = 5
_BOUNDS = ("version", "budget", "order")


@dataclass(frozen=True, slots=True)
class Check:
    """One check of a bundle.

    Attributes:
        subject: "bundle", or the name of an episode.
        name: What was checked, for example "budget".
        passed: Whether it passed; None if it cannot be checked here, which a policy may accept.
        sentence: What is wrong, or why it cannot be checked; empty if it passed.
    """

    subject: str
    name: str
    passed: bool | None
    sentence: str = ""


def verify(
    bundle: Bundle, policy: AcceptancePolicy | None = None, *, secret: str | None = None
) -> list[Check]:
    """Check a bundle.

    Args:
        bundle: See `open_bundle`, which has compared the files with the manifest.
        policy: What is accepted; None for the default policy.
        secret: Secret of the instances, if it was a text of the user's.

    Returns:
        All checks; the bundle is accepted if none of them failed, that is, if `passed` is never False.
    """
    policy = policy or AcceptancePolicy()
    checks = [Check(BUNDLE, name, not wrong, wrong) for name, wrong in _rules_of_bundle(bundle, policy)]
    for result in bundle.results:
        checks += _check_episode(bundle, result, policy, secret)
    return checks


def _rules_of_bundle(bundle: Bundle, policy: AcceptancePolicy) -> Iterator[tuple[str, str]]:
    """Name of each rule, and how the bundle breaks it; empty if it keeps the rule."""
    planned, results = bundle.planned, bundle.results
    names = {one.name for one in planned}
    missing = [one.assignment.name for one in results if one.outcome == "missing"]
    further = [one.assignment.name for one in results if one.assignment.name not in names]
    yield "complete", _listed("these episodes of the plan have no result that can be read", missing)
    yield "complete", "" if planned else "the plan has no episode"
    yield "plan", _listed("these episodes are not in the plan", further)
    others = [one.agent for one in planned if one.agent != bundle.manifest.agent]
    yield "agent", _listed(f"the bundle is of {bundle.manifest.agent!r}, and its plan has", others)
    wrong_competitions = {one.competition for one in planned} - set(policy.competitions)
    yield (
        "competitions",
        _listed("the board does not have these competitions", wrong_competitions)
        if policy.competitions
        else "",
    )
    for name, least in (("instance", policy.instances), ("trial", policy.trials)):
        count = len({getattr(one, name) for one in planned})
        yield (
            f"{name}s",
            "" if count >= least else f"there are {count} {name}s, and the board asks for {least}",
        )
    card = bundle.manifest.card
    yield "card", "" if card or not policy.card else "the agent has no card, and the board asks for one"
    left_out = [] if policy.left_out else bundle.manifest.left_out
    yield "left out", _listed("these files are not in the bundle", left_out)
    share = sum(one.infrastructure_failed for one in results) / max(1, len(results))
    failed = f"the infrastructure failed in {100 * share:.0f} % of the episodes, and the board accepts"
    yield "failures", "" if share <= policy.failures else f"{failed} {100 * policy.failures:.0f} %"


def _listed(what: str, names: object) -> str:
    """A sentence that lists names; empty without any."""
    items = sorted(map(str, names))  # type: ignore[call-overload]
    if not items:
        return ""
    further = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return f"{what}: {', '.join(item[:200] for item in items[:_SHOWN])}{further}"


def _check_episode(
    bundle: Bundle, result: Result, policy: AcceptancePolicy, secret: str | None
) -> Iterator[Check]:
    """The checks of one episode; one without a record counts as the baseline, and needs no proof."""
    name = result.assignment.name
    if result.record is None:
        claims = result.test is not None or result.dev or result.outcome == "played"
        wrong = "it has scores, but no record that proves them" if claims else ""
        yield Check(name, "record", not wrong, wrong)
        return
    try:
        record = read_record(result.folder / result.record)
    except RecordError as error:
        place = str(bundle.root)
        yield Check(name, "record", False, f"its record cannot be read: {error}".replace(f"{place}/", ""))
        return
    yield Check(name, "record", True)
    wrong = _disagreement(result)
    yield Check(name, "result", not wrong, wrong)
    broken = []
    for rule, wrong in rules_of_episode(result, record, policy):
        yield Check(name, rule, not wrong, wrong)
        broken += [rule] if wrong else []
    costly = [rule for rule in broken if rule in _BOUNDS]
    if costly:  # nothing bounds the time that scoring and playing again would take
        why = f"it was not scored and played again, since it breaks the rule {costly[0]!r}"
        yield Check(name, "rescore and replay", None, why)
        return
    yield from _scored_again(name, record, policy, secret)
    yield from _played_again(name, record, policy, secret)


def _disagreement(result: Result) -> str:
    """How a result differs from what its record shows; empty if it does not."""
    for attempt in (result, *result.attempts):
        if attempt.record is None:
            continue
        record, failed = attempt.folder / attempt.record, attempt.outcome == "infrastructure failed"
        recorded = what_was_recorded(attempt.folder, record, failed=failed)
        for name in ("test", "dev", "steps"):
            if getattr(attempt, name) != recorded[name]:
                return f"the result's entry {name!r} is not what the record shows"
    return ""


def _scored_again(name: str, record: Record, policy: AcceptancePolicy, secret: str | None) -> Iterator[Check]:
    if policy.rescore == "off":
        return
    try:
        scores = rescore(record.directory, secret=secret)
    except MlrcbenchError as error:
        yield _unchecked(name, "rescore", policy.rescore == "required", "scored again", error)
        return
    without = [one.folder for one in scores if one.again is None and one.recorded.valid]
    others = [one.folder for one in scores if not one.matches]
    wrong = _listed("these evaluations have a score, but no artefacts", without) or _listed(
        "scored again, these evaluations have other scores", others
    )
    yield Check(name, "rescore", not wrong, wrong)


def _played_again(name: str, record: Record, policy: AcceptancePolicy, secret: str | None) -> Iterator[Check]:
    if policy.replay == "off":
        return
    try:
        with scratch("replay") as folder:
            difference = replay(record.directory, secret=secret, records=folder).difference
    except MlrcbenchError as error:
        yield _unchecked(name, "replay", policy.replay == "required", "played again", error)
        return
    # Output may depend on the clock, so a difference proves nothing unless the policy says so.
    passed = True if difference is None else False if policy.replay == "required" else None
    yield Check(name, "replay", passed, "" if passed else f"played again, it differs at {difference}")


def _unchecked(name: str, rule: str, required: bool, what: str, error: MlrcbenchError) -> Check:
    """A check for which this machine lacks something."""
    return Check(name, rule, False if required else None, f"it cannot be {what} here: {str(error)[:500]}")
