"""Scorer: mean average precision of temporal segments, as ActivityNet's evaluation computes it.

For each class and each threshold of temporal overlap, the segments of all videos are visited by
falling score. A segment is right if at least one true segment of its class in its video that it
overlaps enough is still unmatched; it then takes that one. Average precision is the area under
the interpolated precision-recall curve. The value is the mean over the classes that occur, then
over the thresholds.

Two choices that the official code leaves to its sorting routine are fixed here. Segments of
equal score are sorted by the order of `videos.json`, then by their order in the list. True segments
of equal overlap are sorted by their start. So the order of the keys in the file changes nothing.
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

from mlrcbench.aggregates import jackknife
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
        score: Confidence; not used for true segments.
    """

    video: Integers
    label: Integers
    start: Floats
    end: Floats
    score: Floats

    @classmethod
    def from_rows(cls, rows: Sequence[tuple[int, int, float, float, float]]) -> Segments:
        """Build the columns from rows (video, label, start, end, score)."""
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
        hits: (segments,), whether each segment is right, by falling score.
        positives: Number of true segments, at least one.
    """
    right = np.cumsum(hits)
    precision = right / np.arange(1, len(hits) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    # Recall grows by 1 / positives at each hit and nowhere else.
    return float(best[hits].sum() / positives)


def overlapping(
    guess: Segments, truth: Segments, videos: int, least: float
) -> tuple[Integers, Integers, Floats]:
    """Pairs of a submitted and a true segment of the same class and video, with their temporal overlap.

    Returns:
        Places in `guess`, places in `truth`, and intersection over union of the pairs that overlap by at
        least `least`. For each submitted segment the best pairs come first, equal ones by place in `truth`.
    """
    ours, theirs = guess.label * videos + guess.video, truth.label * videos + truth.video
    order = np.argsort(theirs, kind="stable")
    low, high = np.searchsorted(theirs[order], ours), np.searchsorted(theirs[order], ours, side="right")
    counts = high - low
    mine = np.repeat(np.arange(len(ours)), counts)
    true = order[np.arange(len(mine)) + np.repeat(low - (np.cumsum(counts) - counts), counts)]
    inner = np.minimum(guess.end[mine], truth.end[true]) - np.maximum(guess.start[mine], truth.start[true])
    inner = np.maximum(inner, 0.0)
    tiou = inner / (guess.end[mine] - guess.start[mine] + truth.end[true] - truth.start[true] - inner)
    pairs = np.flatnonzero(tiou >= least)
    pairs = pairs[np.lexsort((true[pairs], -tiou[pairs], mine[pairs]))]
    return mine[pairs], true[pairs], tiou[pairs]


def match(
    guess: Segments, truth: Segments, videos: int, thresholds: Sequence[float]
) -> npt.NDArray[np.bool_]:
    """Decide which segments are right.

    At each threshold, a segment takes the unmatched true segment of its class and video that it
    overlaps most, if the overlap reaches the threshold. Segments of different videos or classes do not
    compete, so the first pairs of all videos and classes are decided at once, then the second, and so on.

    Args:
        guess: Submitted segments, by falling score.
        truth: True segments, by start.
        videos: Number of videos.
        thresholds: Smallest overlaps that count.

    Returns:
        Whether each segment is right at each threshold, (thresholds, segments).
    """
    limits = np.array(thresholds)[:, None]
    mine, true, tiou = overlapping(guess, truth, videos, min(thresholds))
    group = guess.label[mine] * videos + guess.video[mine]
    order = np.argsort(group, kind="stable")
    first = np.searchsorted(group[order], group[order])
    turn = np.arange(len(order)) - first  # number of earlier pairs of the same video and class
    order = order[np.argsort(turn, kind="stable")]
    hits = np.zeros((len(limits), len(guess.video)), dtype=bool)
    free = np.ones((len(limits), len(truth.video)), dtype=bool)
    for pairs in np.split(order, np.cumsum(np.bincount(turn))[:-1]):
        ours, theirs = mine[pairs], true[pairs]
        taken = ~hits[:, ours] & free[:, theirs] & (tiou[pairs] >= limits)
        hits[:, ours] |= taken
        free[:, theirs] &= ~taken
    return hits


def mean_average_precisions(
    guess: Segments, truth: Segments, videos: int, thresholds: Sequence[float] = THRESHOLDS
) -> Floats:
    """Mean over classes of the average precision, (thresholds,).

    Args:
        guess: Submitted segments; equal scores keep their order.
        truth: True segments, at least one.
        videos: Number of videos.
        thresholds: Smallest temporal overlaps that count.
    """
    guess = guess.take(np.argsort(-guess.score, kind="stable"))
    truth = truth.take(np.lexsort((truth.end, truth.start)))
    hits = match(guess, truth, videos, thresholds)
    labels, positives = np.unique(truth.label, return_counts=True)
    table = np.zeros((len(labels), len(thresholds)))
    for row, (label, count) in enumerate(zip(labels, positives, strict=True)):
        table[row] = [average_precision(hit, int(count)) for hit in hits[:, guess.label == label]]
    means: Floats = table.mean(0)
    return means


def check(value: object, videos: Sequence[Mapping[str, Any]], classes: int) -> Segments:
    """The submitted segments, if they keep every rule.

    Args:
        value: The content of `segments.json`.
        videos: The split's videos, in the order of `videos.json`, with `id` and `duration`.
        classes: Number of classes.

    Raises:
        SubmissionError: The submission breaks a rule; the message says which, and how to keep it.
    """
    if not isinstance(value, dict):
        raise SubmissionError(f"{_FILE} must be an object {{video id: [segment, ...]}}, not a {_kind(value)}")
    names = {video["id"] for video in videos}
    missing, extra = [v["id"] for v in videos if v["id"] not in value], [k for k in value if k not in names]
    if missing or extra:
        examples = ", ".join(repr(name[:40]) for name in (missing or extra)[:3])
        raise SubmissionError(
            f"{_FILE} must have one entry for each video of inputs/videos.json and no others (an empty list "
            f"is allowed): {len(missing)} are missing, {len(extra)} are unknown, for example {examples}"
        )
    rows: list[tuple[int, int, float, float, float]] = []
    for place, video in enumerate(videos):
        name, segments = video["id"], value[video["id"]]
        if not isinstance(segments, list):
            raise SubmissionError(f"{_FILE}: {name} must map to a list of segments, not a {_kind(segments)}")
        if len(segments) > MAX_SEGMENTS:
            raise SubmissionError(
                f"{_FILE}: {name} has {len(segments)} segments; at most {MAX_SEGMENTS} are allowed: "
                "keep those with the highest scores"
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
        Value: mAP in [0, 1], the mean over THRESHOLDS. The details hold the mAP at each of them.

    Raises:
        SubmissionError: The submission breaks a rule.
    """
    hidden = json.loads((answers / "truth.json").read_text(encoding="utf-8"))
    videos = hidden["videos"]
    guess = check(read_json(artefacts / _FILE), videos, hidden["classes"])
    truth = Segments.from_rows(
        [
            (place, one["label"], *one["segment"], 0.0)
            for place, video in enumerate(videos)
            for one in video["actions"]
        ]
    )
    means = mean_average_precisions(guess, truth, len(videos))
    details = {f"mAP@{limit}": float(value) for limit, value in zip(THRESHOLDS, means, strict=True)}
    return Score(
        value=float(means.mean()),
        details={**details, "segments": float(len(guess.video))},
        error=standard_error(guess, truth, len(videos)),
    )


def standard_error(guess: Segments, truth: Segments, videos: int) -> float | None:
    """The standard error of the mAP, over the draw of videos.

    A video is what is drawn; its segments compete for one ranking and are not independent. Every fortieth
    video is left out together, because the ranking must be judged again each time.

    Args:
        guess: Submitted segments.
        truth: True segments.
        videos: Number of videos; fewer than two for each group give None.
    """
    groups = 40
    if videos < 2 * groups:
        return None
    guess = guess.take(np.argsort(-guess.score, kind="stable"))
    truth = truth.take(np.lexsort((truth.end, truth.start)))
    hits = match(guess, truth, videos, THRESHOLDS)
    group = np.full(videos, -1)  # those that do not fill a group are never left out
    group[: videos - videos % groups] = np.arange(videos - videos % groups) % groups
    totals, classes = np.zeros((2, groups))
    for label in np.unique(truth.label):
        mine = guess.label == label
        kept = group[guess.video[mine]] != np.arange(groups)[:, None]  # (groups, segments)
        places, left = kept.cumsum(1), group[truth.video[truth.label == label]] != np.arange(groups)[:, None]
        for row in hits[:, mine]:  # average_precision of what is left; precision only rises at hits
            right = kept[:, row]
            precision = right.cumsum(1) / np.maximum(places[:, row], 1)
            best = np.maximum.accumulate((precision * right)[:, ::-1], axis=1)[:, ::-1]
            totals += (best * right).sum(1) / np.maximum(left.sum(1), 1)
        classes += len(THRESHOLDS) * left.any(1)
    return jackknife(totals / classes) if classes.all() else None


def _check_segment(
    segment: object, where: str, duration: float, classes: int
) -> tuple[int, float, float, float]:
    """Label, start, end and score of one submitted segment; SubmissionError if the segment breaks a rule."""
    if not isinstance(segment, dict) or segment.keys() != _KEYS:
        raise SubmissionError(f"{where} must be {_SHAPE}, with exactly these three keys")
    label, times, score_ = segment["label"], segment["segment"], segment["score"]
    if type(label) is not int or not 0 <= label < classes:
        raise SubmissionError(f"{where} has a label that is not an integer from 0 to {classes - 1}")
    if not isinstance(times, list) or len(times) != 2 or not all(_is_number(time) for time in times):
        raise SubmissionError(f"{where}: 'segment' must be a list of two finite numbers [start, end]")
    start, end = float(times[0]), float(times[1])
    if not 0 <= start < end <= duration:
        raise SubmissionError(
            f"{where} is [{start:g}, {end:g}]; times must satisfy 0 <= start < end <= {duration:g}, "
            "the duration of the video in seconds"
        )
    if not _is_number(score_):
        raise SubmissionError(f"{where} has a score that is not a finite number")
    return label, start, end, float(score_)


def _is_number(value: object) -> bool:
    """Whether `value` is a finite JSON number; booleans and integers too large for a float are not."""
    if type(value) is int:
        return abs(value) < 2**53
    return type(value) is float and math.isfinite(value)


def _kind(value: object) -> str:
    """The name of a JSON value's type."""
    return {dict: "object", list: "list", str: "string", bool: "boolean", type(None): "null"}.get(
        type(value), "number"
    )
