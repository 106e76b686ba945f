"""Scorer: mean average precision of temporal segments, as ActivityNet's evaluation computes it.

For each class and each threshold of temporal overlap, the segments of all videos are gone
through by falling score. A segment is right if, of the true segments of its class in its
video that it overlaps enough, one is still unmatched; that one is then taken. Average precision
is the area under the interpolated precision-recall curve. The value is the mean over the
classes that occur, then over the thresholds.

Two choices that the official code leaves to its sorting routine are fixed here: segments of
equal score go by the order of `videos.json`, then by their order in the list; true segments of
equal overlap go by their start. So the order of the keys in the file changes nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlrcbench.artefacts import read_json
from mlrcbench.errors import SubmissionError
from mlrcbench.score import Score

THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5)
MAX_SEGMENTS = 200  # per video
_FILE = "segments.json"
_KEYS = {"segment", "label", "score"}
_SHAPE = '{"segment": [start, end], "label": number, "score": number}'

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Segments:
    """Segments as columns of one length.

    Attributes:
        video: Place of the video in `videos.json`.
        label: Class, 0 <= label < classes.
        start: Seconds.
        end: Seconds.
        score: Confidence; for true segments it is not used.
    """

    video: Integers
    label: Integers
    start: Floats
    end: Floats
    score: Floats

    @classmethod
    def from_rows(cls, rows: Sequence[tuple[int, int, float, float, float]]) -> Segments:
        """Columns from rows (video, label, start, end, score)."""
        table = np.array(rows, dtype=np.float64).reshape(-1, 5)
        video, label = table[:, 0].astype(np.int64), table[:, 1].astype(np.int64)
        return cls(video, label, table[:, 2], table[:, 3], table[:, 4])

    def take(self, order: Integers) -> Segments:
        """The segments at these places."""
        return Segments(
            self.video[order], self.label[order], self.start[order], self.end[order], self.score[order]
        )


def average_precision(hits: npt.NDArray[np.bool_], positives: int) -> float:
    """Area under the interpolated precision-recall curve.

    Precision at a recall is the largest precision at that recall or beyond it (Everingham et
    al., The PASCAL VOC Challenge 2010, section 3.4.1; ActivityNet's `interpolated_prec_rec`).

    Args:
        hits: (segments,), whether each is right, by falling score.
        positives: Number of true segments, at least one.
    """
    found = np.cumsum(hits)
    precision = found / np.arange(1, len(hits) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    # Recall grows by 1 / positives at each hit and nowhere else.
    return float(best[hits].sum() / positives)


def overlapping(
    found: Segments, truth: Segments, videos: int, least: float
) -> tuple[Integers, Integers, Floats]:
    """Pairs of a found and a true segment of one class in one video, with their temporal overlap.

    Returns:
        Places in `found`, places in `truth`, and intersection over union, of the pairs that overlap by
        `least` or more; a found segment's best first, equal ones by the true segment's place.
    """
    ours, theirs = found.label * videos + found.video, truth.label * videos + truth.video
    order = np.argsort(theirs, kind="stable")
    low, high = np.searchsorted(theirs[order], ours), np.searchsorted(theirs[order], ours, side="right")
    counts = high - low
    mine = np.repeat(np.arange(len(ours)), counts)
    true = order[np.arange(len(mine)) + np.repeat(low - (np.cumsum(counts) - counts), counts)]
    inner = np.minimum(found.end[mine], truth.end[true]) - np.maximum(found.start[mine], truth.start[true])
    inner = np.maximum(inner, 0.0)
    tiou = inner / (found.end[mine] - found.start[mine] + truth.end[true] - truth.start[true] - inner)
    kept = np.flatnonzero(tiou >= least)
    kept = kept[np.lexsort((true[kept], -tiou[kept], mine[kept]))]
    return mine[kept], true[kept], tiou[kept]


def match(
    found: Segments, truth: Segments, videos: int, thresholds: Sequence[float]
) -> npt.NDArray[np.bool_]:
    """Which segments are right.

    At each threshold, a segment takes the unmatched true segment of its class and video that it
    overlaps most, if by the threshold or more. Segments of different videos or classes do not
    meet, so that the first pair of every video and class is decided at once, then the second, ...

    Args:
        found: By falling score.
        truth: By start.
        videos: Number of videos.
        thresholds: Least overlap.

    Returns:
        (thresholds, segments).
    """
    limits = np.array(thresholds)[:, None]
    mine, true, tiou = overlapping(found, truth, videos, min(thresholds))
    group = found.label[mine] * videos + found.video[mine]
    order = np.argsort(group, kind="stable")
    first = np.searchsorted(group[order], group[order])
    turn = np.arange(len(order)) - first  # how many pairs of its video and class come before
    order = order[np.argsort(turn, kind="stable")]
    hits = np.zeros((len(limits), len(found.video)), dtype=bool)
    free = np.ones((len(limits), len(truth.video)), dtype=bool)
    for pairs in np.split(order, np.cumsum(np.bincount(turn))[:-1]):
        ours, theirs = mine[pairs], true[pairs]
        taken = ~hits[:, ours] & free[:, theirs] & (tiou[pairs] >= limits)
        hits[:, ours] |= taken
        free[:, theirs] &= ~taken
    return hits


def mean_average_precisions(
    found: Segments, truth: Segments, videos: int, thresholds: Sequence[float] = THRESHOLDS
) -> Floats:
    """Mean over classes of the average precision, (thresholds,).

    Args:
        found: Submitted segments; equal scores keep their order.
        truth: True segments, at least one.
        videos: Number of videos.
        thresholds: Least temporal overlap.
    """
    found = found.take(np.argsort(-found.score, kind="stable"))
    truth = truth.take(np.lexsort((truth.end, truth.start)))
    hits = match(found, truth, videos, thresholds)
    labels, positives = np.unique(truth.label, return_counts=True)
    table = np.zeros((len(labels), len(thresholds)))
    for row, (label, count) in enumerate(zip(labels, positives, strict=True)):
        table[row] = [average_precision(hit, int(count)) for hit in hits[:, found.label == label]]
    means: Floats = table.mean(0)
    return means


def check(found: object, videos: Sequence[Mapping[str, Any]], classes: int) -> Segments:
    """The submission, if it keeps every rule.

    Args:
        found: What `segments.json` holds.
        videos: The split's videos, in the order of `videos.json`, with `id` and `duration`.
        classes: Number of classes.

    Raises:
        SubmissionError: It breaks a rule; the text says which, and how to keep it.
    """
    if not isinstance(found, dict):
        raise SubmissionError(f"{_FILE} must be an object {{video id: [segment, ...]}}, not a {_kind(found)}")
    names = {video["id"] for video in videos}
    missing, extra = [v["id"] for v in videos if v["id"] not in found], [k for k in found if k not in names]
    if missing or extra:
        shown = ", ".join(repr(name[:40]) for name in (missing or extra)[:3])
        raise SubmissionError(
            f"{_FILE} must have one entry for each video of inputs/videos.json and no other (an empty list "
            f"is allowed): {len(missing)} are missing, {len(extra)} are unknown, among them {shown}"
        )
    rows: list[tuple[int, int, float, float, float]] = []
    for place, video in enumerate(videos):
        name, segments = video["id"], found[video["id"]]
        if not isinstance(segments, list):
            raise SubmissionError(f"{_FILE}: {name} must map to a list of segments, not a {_kind(segments)}")
        if len(segments) > MAX_SEGMENTS:
            raise SubmissionError(
                f"{_FILE}: {name} has {len(segments)} segments; at most {MAX_SEGMENTS} are allowed: "
                "keep those of the highest score"
            )
        for number, segment in enumerate(segments):
            where = f"{_FILE}: segment {number} of {name}"
            rows.append((place, *_check_segment(segment, where, float(video["duration"]), classes)))
    return Segments.from_rows(rows)


def score(artefacts: Path, answers: Path) -> Score:
    """Judge the segments of one split.

    Args:
        artefacts: Holds `segments.json`, `{video id: [{"segment", "label", "score"}, ...]}`.
        answers: Holds `truth.json`, `{"classes": number, "videos": [{"id", "duration", "actions"}, ...]}`.

    Returns:
        Value: mAP in [0, 1], the mean over THRESHOLDS; each of them is in the details.

    Raises:
        SubmissionError: The submission breaks a rule.
    """
    hidden = json.loads((answers / "truth.json").read_text(encoding="utf-8"))
    videos = hidden["videos"]
    found = check(read_json(artefacts / _FILE), videos, hidden["classes"])
    truth = Segments.from_rows(
        [
            (place, one["label"], *one["segment"], 0.0)
            for place, video in enumerate(videos)
            for one in video["actions"]
        ]
    )
    means = mean_average_precisions(found, truth, len(videos))
    details = {f"mAP@{limit}": float(value) for limit, value in zip(THRESHOLDS, means, strict=True)}
    return Score(value=float(means.mean()), details={**details, "segments": float(len(found.video))})


def _check_segment(
    segment: object, where: str, duration: float, classes: int
) -> tuple[int, float, float, float]:
    """Label, start, end and score of one submitted segment; SubmissionError if it breaks a rule."""
    if not isinstance(segment, dict) or segment.keys() != _KEYS:
        raise SubmissionError(f"{where} must be {_SHAPE}, with these three keys")
    label, times, score_ = segment["label"], segment["segment"], segment["score"]
    if type(label) is not int or not 0 <= label < classes:
        raise SubmissionError(f"{where} has a label that is no integer from 0 to {classes - 1}")
    if not isinstance(times, list) or len(times) != 2 or not all(_is_number(time) for time in times):
        raise SubmissionError(f"{where}: its times must be a list of two finite numbers [start, end]")
    start, end = float(times[0]), float(times[1])
    if not 0 <= start < end <= duration:
        raise SubmissionError(
            f"{where} is [{start:g}, {end:g}]; seconds must keep 0 <= start < end <= {duration:g}, "
            "the video's duration"
        )
    if not _is_number(score_):
        raise SubmissionError(f"{where} has a score that is no finite number")
    return label, start, end, float(score_)


def _is_number(value: object) -> bool:
    """Whether this is a finite JSON number; booleans are none, nor are integers beyond a float."""
    if type(value) is int:
        return abs(value) < 2**53
    return type(value) is float and math.isfinite(value)


def _kind(value: object) -> str:
    """The name of a JSON value's type."""
    return {dict: "object", list: "list", str: "string", bool: "boolean", type(None): "null"}.get(
        type(value), "number"
    )
