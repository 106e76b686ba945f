"""Measure methods by the real evaluation, one line of JSON for each.

A line has the digest of everything that it depends on (generator, scorer, starter, the method's own
files). A method with a line of the same digest is not measured again, so a calibration continues where
it was stopped, and a changed method is measured again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from mlrcbench.artefacts import collect
from mlrcbench.catalog.code_digest import code_digest
from mlrcbench.catalog.competition import Competition
from mlrcbench.catalog.installation import PUBLIC_SECRET
from mlrcbench.catalog.instances import Instance, build_cpu_seconds
from mlrcbench.env.evaluation import score_artefacts
from mlrcbench.env.research_env import ResearchEnv
from mlrcbench.errors import WorkspaceError
from mlrcbench.protocol.actions import WriteFile
from mlrcbench.score import SPLITS, Score, Split
from mlrcbench.storage.durable import replace_text
from mlrcbench.storage.temporary import scratch
from mlrcbench.testing.calibration.methods import Method

# On how many instances the same code is run again, to measure its noise.
REPEATED_INSTANCES = 2
_BUDGET = {"steps": 1_000, "seconds": 86_400.0, "evaluations": 1_000}


@dataclass(frozen=True, slots=True)
class Measurement:
    """One evaluation.

    Attributes:
        method: The method's name.
        instance: Seed of the instance.
        split: "dev" or "test".
        repeat: The number of the run of the same code, from 0.
        value: The score; None if the evaluation failed.
        reason: Why the evaluation failed.
        details: Parts of the metric.
        cpu_seconds: CPU time of the entry point; 0 for a writer of artefacts.
        peak_memory_bytes: Memory of the entry point; 0 for a writer of artefacts.
        build_cpu_seconds: CPU time of building the instance, both splits together.
        digest: Digest of everything that the value depends on.
        error: Standard error of the value over the draw of items; None if it is not known, as in lines
            that are older than the scorers' standard errors.
        day: The day of the measurement, as an ISO date; empty in lines that were written before it was noted.
    """

    method: str
    instance: int
    split: Split
    repeat: int
    value: float | None
    reason: str = ""
    details: Mapping[str, float] = field(default_factory=dict)
    cpu_seconds: float = 0.0
    peak_memory_bytes: int = 0
    build_cpu_seconds: float = 0.0
    digest: str = ""
    error: float | None = None
    day: str = ""


def measure(
    competition: Competition,
    methods: Sequence[Method],
    *,
    instances: int = 10,
    ladder_instances: int | None = None,
    repeats: int = 2,
    sandbox: str = "auto",
    log: Path | None = None,
    on_work: Callable[[str], None] | None = None,
) -> list[Measurement]:
    """Measure methods on the first instances of the public secret.

    Args:
        competition: The competition, of which the tier mini is measured.
        methods: See `read_methods`.
        instances: How many instances, from 0, the baseline and the reference are measured on.
        ladder_instances: How many instances all others are measured on; by default as many.
        repeats: How often baseline and reference are run on each of the first two instances.
        sandbox: See `open_sandbox`.
        log: File of measurements: those in it are used if nothing that they depend on has changed; at the
            end it holds what is returned.
        on_work: Called with a description of the next measurement.

    Returns:
        All measurements that were asked for, in order.
    """
    known = {_key(one): one for one in (read_measurements(log) if log and log.exists() else [])}
    digests = {method.name: _digest(competition, method) for method in methods}
    _replace(log, list(known.values()))  # without a torn last line
    measurements: list[Measurement] = []
    for number, method, repeat in _plan(methods, instances, ladder_instances, repeats):
        digest = digests[method.name]
        keys = [(method.name, number, split, repeat, digest) for split in SPLITS]
        if all(key in known for key in keys):
            measurements += [known[key] for key in keys]
            continue
        if on_work is not None:
            on_work(f"instance {number}: {method.label}{f', run {repeat + 1}' if repeat else ''}")
        new = list(_measure_one(competition, method, number, repeat, sandbox=sandbox, digest=digest))
        if log is not None:
            with log.open("a", encoding="utf-8") as file:
                file.write(_lines(new))
        measurements += new
    _replace(log, measurements)
    return measurements


def _plan(
    methods: Sequence[Method], instances: int, ladder_instances: int | None, repeats: int
) -> Iterator[tuple[int, Method, int]]:
    """The runs to make: instance, method, number of the run."""
    for number in range(instances):
        for method in methods:
            anchor = method.kind in ("baseline", "reference")
            if anchor or ladder_instances is None or number < ladder_instances:
                for repeat in range(repeats if anchor and number < REPEATED_INSTANCES else 1):
                    yield number, method, repeat


def evaluate_files(
    competition: Competition,
    files: Mapping[str, str],
    *,
    instance: int = 0,
    secret: str | None = None,
    sandbox: str = "auto",
) -> Iterator[tuple[Split, Score]]:
    """The scores of the starter with some files replaced, split by split.

    Args:
        competition: The competition whose starter is evaluated.
        files: The replaced files: path -> text.
        instance: Seed of the instance.
        secret: The instance's secret; see `Competition.instance`.
        sandbox: See `open_sandbox`.

    Raises:
        WorkspaceError: A file cannot be written into the workspace.
    """
    with (
        scratch("measure") as records,
        ResearchEnv(competition, sandbox=sandbox, secret=secret, records=records, budget=_BUDGET) as env,
    ):
        env.reset(options={"instance": instance})
        for path, text in sorted(files.items()):
            *_, info = env.step(WriteFile(path, text))
            if info["error"]:
                raise WorkspaceError(f"{path} of an overlay cannot be written: {info['error']}")
        for split in SPLITS:
            yield split, env.evaluate(split)


def read_measurements(log: Path) -> list[Measurement]:
    """The measurements in a file, without a torn last line."""
    lines = log.read_text("utf-8").split("\n")[:-1]
    return [Measurement(**json.loads(line)) for line in lines]


def _measure_one(
    competition: Competition, method: Method, number: int, repeat: int, *, sandbox: str, digest: str
) -> Iterator[Measurement]:
    """The measurements of one method on one instance, on both splits."""
    instance = competition.instance(number, secret=PUBLIC_SECRET)
    if method.write is not None:
        scores: Iterable[tuple[Split, Score]] = (
            (split, _score_written(competition, method, instance, split)) for split in SPLITS
        )
    else:
        scores = evaluate_files(
            competition, method.files, instance=number, secret=PUBLIC_SECRET, sandbox=sandbox
        )
    for split, score in scores:
        yield Measurement(
            method=method.name,
            instance=number,
            split=split,
            repeat=repeat,
            value=score.value,
            reason=score.reason,
            details=dict(score.details),
            cpu_seconds=round(score.cpu_seconds, 2),
            peak_memory_bytes=score.peak_memory_bytes,
            build_cpu_seconds=build_cpu_seconds(instance),
            digest=digest,
            error=score.error,
            day=datetime.now(UTC).date().isoformat(),
        )


def _score_written(competition: Competition, method: Method, instance: Instance, split: Split) -> Score:
    """The score of the artefacts that a writer makes."""
    assert method.write is not None
    with scratch("measure") as folder:
        written, collected = folder / "written", folder / "collected"
        written.mkdir()
        method.write(instance.public, instance.inputs(split), instance.answers(split), written)
        collect(written, collected, competition.card.artefacts)
        return score_artefacts(collected, competition, instance, split)


def _digest(competition: Competition, method: Method) -> str:
    """Digest of what a score depends on: generator, scorer, starter, the method's files or code."""
    parts = (
        competition.digest,
        code_digest(competition.overlay("starter")),
        code_digest(method.files),
        code_digest({"bounds.py": method.code}),
    )
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]


def _key(one: Measurement) -> tuple[str, int, Split, int, str]:
    return (one.method, one.instance, one.split, one.repeat, one.digest)


def _lines(measurements: Sequence[Measurement]) -> str:
    return "".join(json.dumps(dataclasses.asdict(one)) + "\n" for one in measurements)


def _replace(log: Path | None, measurements: Sequence[Measurement]) -> None:
    if log is not None:
        log.parent.mkdir(parents=True, exist_ok=True)
        replace_text(log, _lines(measurements))
