"""Checks of a competition, for its author: each says what it checked, and what is wrong."""

from __future__ import annotations

import fnmatch
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mlrcbench.catalog.competition import BUILD_SECONDS, Competition
from mlrcbench.catalog.instances import instance_folders
from mlrcbench.catalog.scale import better
from mlrcbench.catalog.trusted import ChildError, call
from mlrcbench.errors import MlrcbenchError
from mlrcbench.score import SPLITS, Score, Split
from mlrcbench.storage.layout import RESERVED, STATEMENT
from mlrcbench.storage.trees import hash_file, hash_tree, remove_tree, walk
from mlrcbench.testing.calibration import evaluate_files
from mlrcbench.testing.extreme_answers import oracle_faults

# How far the starter's score may be from the card's baseline: so many spreads, or this part of the scale.
_SPREADS = 5.0
_SCALE = 0.25
_MIN_ANSWER_BYTES = 16  # smaller files could be in another one by chance
_MAX_SEARCHED_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Attributes:
        name: What should hold, in words.
        passed: Whether it holds.
        detail: What was checked, or what is wrong and how to fix it.
    """

    name: str
    passed: bool
    detail: str


class _WrongError(Exception):
    """A check failed; the text says what is wrong."""


def check_competition(
    competition: Competition,
    *,
    sandbox: str = "auto",
    on_finding: Callable[[Finding], None] | None = None,
) -> list[Finding]:
    """Check a competition: its folder, card, statement, generator, starter, reference.

    Args:
        competition: The competition, of which the tier mini is checked.
        sandbox: The sandbox in which its code is run; see `open_sandbox`.
        on_finding: Called with each finding.

    Returns:
        All findings; the competition is complete if all have passed.
    """
    findings = []
    for name, check in _CHECKS:
        try:
            finding = Finding(name, True, check(competition, sandbox))
        except (_WrongError, MlrcbenchError, ChildError, OSError) as error:
            finding = Finding(name, False, str(error))
        findings.append(finding)
        if on_finding is not None:
            on_finding(finding)
    return findings


def format_findings(findings: list[Finding]) -> str:
    """Findings for a terminal, one line for each."""
    lines = [f"{'ok   ' if each.passed else 'WRONG'} {each.name}: {each.detail}" for each in findings]
    wrong = sum(not each.passed for each in findings)
    return "\n".join([*lines, f"{len(findings)} checks, {wrong or 'nothing'} wrong"])


def _folder(competition: Competition, _: str) -> str:
    starter = [entry.path for entry in walk(competition.starter) if entry.is_file]
    if not starter:
        raise _WrongError(f"{competition.starter} is empty; it is the repository that an agent sees")
    for path in starter:
        if path.split("/")[0] in (*RESERVED, STATEMENT):
            raise _WrongError(f"starter/{path} has a reserved name; choose another")
    for overlay in ("baseline", "reference"):
        for path in competition.overlay(overlay):
            if path in starter and not _editable(competition, path):
                raise _WrongError(f"{overlay}/{path} replaces a protected file of starter/; agents cannot")
    if not competition.overlay("reference"):
        raise _WrongError("reference/ is empty; put a solution there that beats the baseline")
    return f"{len(starter)} files in starter/"


def _card(competition: Competition, _: str) -> str:
    card = competition.card
    if "mini" not in card.tiers:
        raise _WrongError("the card has no tier 'mini', which everybody can run")
    if not (competition.starter / card.method_file).is_file():
        raise _WrongError(f"method_file {card.method_file!r} is not in starter/")
    if not _editable(competition, card.method_file):
        raise _WrongError(f"method_file {card.method_file!r} is not among the editable files {card.editable}")
    for split, anchors in card.tier("mini").anchors.items():
        if not better(anchors.target.value, anchors.baseline.value, card.metric.direction):
            raise _WrongError(f"on {split} the {anchors.target_kind} is not better than the baseline")
        for anchor in (anchors.baseline, anchors.target):
            if not card.metric.lower <= anchor.value <= card.metric.upper:
                raise _WrongError(f"on {split} the anchor {anchor.value} is outside the metric's bounds")
            if not anchor.source.strip():
                raise _WrongError(f"on {split} the anchor {anchor.value} has no source")
    return f"version {card.version}, {', '.join(card.tiers)}"


def _statement(competition: Competition, _: str) -> str:
    text = competition.statement
    card = competition.card
    names = [
        card.method_file,
        "inputs/",
        "data/",
        *(spec.pattern.split("*")[0] for spec in card.artefacts_of("mini")),
    ]
    missing = [name for name in names if name and name not in text]
    if missing:
        raise _WrongError(f"the statement does not mention {', '.join(missing)}")
    if not text.startswith("# "):
        raise _WrongError("the statement does not begin with a title ('# ...')")
    return f"{len(text.split()):,} words"


def _build(competition: Competition, _: str) -> str:
    with _Builds(competition) as builds:
        first, again, other = builds.make(1), builds.make(1), builds.make(2)
        if hash_tree(first) != hash_tree(again):
            raise _WrongError(
                "two builds with the same seed differ; draw everything from the seed, write no times"
            )
        for part in ("public", *(f"private/{split}/answers" for split in SPLITS)):
            if not any(entry.is_file for entry in walk(first / part)):
                raise _WrongError(f"build writes nothing into {part}")
            if hash_tree(first / part) == hash_tree(other / part):
                raise _WrongError(f"two seeds give the same {part}; draw it from the seed")
    return "the same seed gives the same files, another seed others"


def _answers(competition: Competition, _: str) -> str:
    instance = competition.instance(0)
    readable = [instance.public, competition.starter, *(instance.inputs(split) for split in SPLITS)]
    files = [folder / entry.path for folder in readable for entry in walk(folder) if entry.is_file]
    for split in SPLITS:
        for entry in walk(instance.answers(split)):
            if not entry.is_file or entry.info.st_size < _MIN_ANSWER_BYTES:
                continue
            answer = instance.answers(split) / entry.path
            for path in files:
                if _holds(path, answer):
                    raise _WrongError(
                        f"{path} holds the answers {split}/{entry.path}, and agents can read it"
                    )
    return f"not in {len(files)} files that agents can read"


def _starter(competition: Competition, sandbox: str) -> str:
    results = []
    for split, score in _scores(competition, sandbox, {}):
        anchors = competition.card.tier("mini").anchors[split]
        assert score.value is not None
        tolerance = max(
            _SPREADS * anchors.baseline.spread, _SCALE * abs(anchors.target.value - anchors.baseline.value)
        )
        if abs(score.value - anchors.baseline.value) > tolerance:
            raise _WrongError(
                f"the starter gets {score.value:g} on {split}, far from the card's {anchors.baseline.value:g}"
            )
        limits = competition.card.tier("mini").limits
        limit = min(limits.evaluation_seconds, limits.evaluation_cpu_seconds)
        if score.cpu_seconds > limit / 2:
            raise _WrongError(
                f"the starter takes {score.cpu_seconds:.0f} of {limit:g} CPU s; leave methods more room"
            )
        results.append(f"{split} {score.value:.4g} in {score.wall_seconds:.1f} s")
    return ", ".join(results)


def _repeated(competition: Competition, sandbox: str) -> str:
    first, second = (dict(_scores(competition, sandbox, {})) for _ in range(2))
    for split in SPLITS:
        if first[split].value != second[split].value:
            raise _WrongError(
                f"the starter gets {first[split].value} and then {second[split].value} on {split}; seed it"
            )
    return "two evaluations give the same digits"


def _reference(competition: Competition, sandbox: str) -> str:
    baseline_scores = dict(_scores(competition, sandbox, competition.overlay("baseline")))
    reference_scores = dict(_scores(competition, sandbox, competition.overlay("reference")))
    results = []
    for split in SPLITS:
        reference, baseline = reference_scores[split].value, baseline_scores[split].value
        assert reference is not None
        assert baseline is not None
        if not better(reference, baseline, competition.card.metric.direction):
            raise _WrongError(f"on {split} the reference gets {reference:g}, the baseline {baseline:g}")
        results.append(f"{split} {reference:.4g} against {baseline:.4g}")
    return ", ".join(results)


def _oracle(competition: Competition, sandbox: str) -> str:
    if competition.oracle is None:
        return "evaluations are not played"
    faults, count = oracle_faults(competition, sandbox)
    if faults:
        raise _WrongError(
            "an answer makes oracle.py fail, which would count as the library's failure; have it raise a "
            f"SubmissionError instead: {'; '.join(faults)}"
        )
    return f"{count} games with extreme answers end with a score or a SubmissionError"


def _scores(competition: Competition, sandbox: str, files: dict[str, str]) -> Iterator[tuple[Split, Score]]:
    """The scores of the starter with some files replaced; each must have a value."""
    for split, score in evaluate_files(competition, files, sandbox=sandbox):
        if score.value is None:
            raise _WrongError(f"on {split}: {score.outcome}: {score.reason}")
        yield split, score


class _Builds:
    """Instances that are built in a scratch folder."""

    def __init__(self, competition: Competition) -> None:
        self._competition = competition
        self._folder = Path(tempfile.mkdtemp(prefix="mlrcbench-check-"))
        self._count = 0

    def make(self, seed: int) -> Path:
        """Build the instance of a seed and return its folder."""
        self._count += 1
        root = self._folder / str(self._count)
        for folder in instance_folders(root):
            folder.mkdir(parents=True)
        folders = {"public": str(root / "public"), "private": str(root / "private")}
        arguments = {**folders, "seed": seed, "tier": "mini"}
        threads = self._competition.card.tier("mini").limits.threads
        call("build", self._competition.folder / "data.py", arguments, seconds=BUILD_SECONDS, threads=threads)
        return root

    def __enter__(self) -> _Builds:
        return self

    def __exit__(self, *_: object) -> None:
        remove_tree(self._folder)


def _editable(competition: Competition, path: str) -> bool:
    """Whether the card lets agents change a file, as `Workspace.is_editable` decides it."""
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in competition.card.editable)


def _holds(path: Path, answer: Path) -> bool:
    """Whether a file is a copy of an answer file, or contains one."""
    size = path.stat().st_size
    if size == answer.stat().st_size:
        return hash_file(path) == hash_file(answer)
    return answer.stat().st_size < size <= _MAX_SEARCHED_BYTES and answer.read_bytes() in path.read_bytes()


_CHECKS: tuple[tuple[str, Callable[[Competition, str], str]], ...] = (
    ("the card is consistent", _card),
    ("the folder is complete", _folder),
    ("the statement is complete", _statement),
    ("the build depends on its seed alone", _build),
    ("answers are not in public files", _answers),
    ("the starter runs, and scores as the card says", _starter),
    ("scores can be repeated", _repeated),
    ("the reference beats the baseline", _reference),
    ("the oracle withstands every answer", _oracle),
)
