"""Bounds that need no method: constants, ways around the research, and the truth itself.

Each function takes (public, inputs, answers, artefacts) and writes `segments.json`. The last
three read the answers and show how the metric falls when one part of the truth is removed.
"""

# ruff: noqa: ARG001, ARG005 (all writers have one signature)
from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Segment = dict[str, Any]
Writer = Callable[[Path, Path, Path, Path], None]

MOST = 200


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _segment(start: float, end: float, label: int, score: float, duration: float) -> Segment:
    """A segment, clipped at the ends of the video."""
    end = min(float(end), duration)
    return {
        "segment": [min(max(0.0, float(start)), end - 1e-3), end],
        "label": int(label),
        "score": float(score),
    }


def _constant(make: Callable[[Path, dict[str, Any], np.random.Generator], list[Segment]]) -> Writer:
    """Return a writer that calls `make(public, video, rng)` for each video."""

    def write(public: Path, inputs: Path, answers: Path, artefacts: Path) -> None:
        rng = np.random.default_rng(0)
        segments_of = {video["id"]: make(public, video, rng) for video in _read(inputs / "videos.json")}
        (artefacts / "segments.json").write_text(json.dumps(segments_of), encoding="utf-8")

    return write


def _training(public: Path) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """All training actions: (actions, 2) seconds and (actions,) labels."""
    actions = [action for group in _read(public / "annotations.json").values() for action in group]
    return np.array([one["segment"] for one in actions]), np.array([one["label"] for one in actions])


def priors(public: Path, video: dict[str, Any], _: np.random.Generator) -> list[Segment]:
    """One segment per class, with its median length and middle, and its frequency as score."""
    segments, labels = _training(public)
    rows = []
    for label in np.unique(labels):
        times = segments[labels == label]
        middle, half = np.median(times.mean(1)), np.median(times[:, 1] - times[:, 0]) / 2
        rows.append(
            _segment(middle - half, middle + half, label, (labels == label).mean(), video["duration"])
        )
    return rows


def whole(public: Path, video: dict[str, Any], _: np.random.Generator) -> list[Segment]:
    """One segment per class from the first to the last second."""
    classes = len(_read(public / "config.json")["classes"])
    return [_segment(0, video["duration"], label, 1.0, video["duration"]) for label in range(classes)]


def grid(public: Path, video: dict[str, Any], _: np.random.Generator) -> list[Segment]:
    """As many segments as the limit allows, for each class of its median length, next to each other."""
    segments, labels = _training(public)
    classes = np.unique(labels)
    rows = []
    for label in classes:
        times = segments[labels == label]
        length = float(np.median(times[:, 1] - times[:, 0]))
        starts = np.linspace(0, video["duration"] - length, MOST // len(classes))
        rows += [_segment(start, start + length, label, 1.0, video["duration"]) for start in starts]
    return rows


def random(public: Path, video: dict[str, Any], rng: np.random.Generator) -> list[Segment]:
    """As many segments as the limit allows, with length and class of random training actions."""
    segments, labels = _training(public)
    rows = []
    for which in rng.integers(len(labels), size=MOST):
        length = segments[which, 1] - segments[which, 0]
        start = rng.uniform(0, max(0.0, video["duration"] - length))
        rows.append(_segment(start, start + length, labels[which], rng.random(), video["duration"]))
    return rows


def _parts(folder: Path, kind: str) -> list[np.ndarray[Any, Any]]:
    """The features of each video."""
    rows = np.load(folder / f"{kind}_features.npy")
    return [rows[v["first_row"] : v["first_row"] + v["steps"]] for v in _read(folder / "videos.json")]


def nearest(public: Path, inputs: Path, answers: Path, artefacts: Path) -> None:
    """Copy the annotations of the training video with the most similar features."""
    summaries = [
        np.array(
            [
                np.concatenate([video.mean(0), video.std(0), audio.mean(0), audio.std(0)])
                for video, audio in zip(_parts(folder, "video"), _parts(folder, "audio"), strict=True)
            ]
        )
        for folder in (public, inputs)
    ]
    names, known = [v["id"] for v in _read(public / "videos.json")], _read(public / "annotations.json")
    segments_of = {}
    for video, summary in zip(_read(inputs / "videos.json"), summaries[1], strict=True):
        distance = ((summaries[0] - summary) ** 2).sum(1)
        which = int(distance.argmin())
        segments_of[video["id"]] = [
            _segment(one["segment"][0], one["segment"][1], one["label"], -distance[which], video["duration"])
            for one in known[names[which]]
            if one["segment"][0] < video["duration"]
        ]
    (artefacts / "segments.json").write_text(json.dumps(segments_of), encoding="utf-8")


def loud(public: Path, inputs: Path, answers: Path, artefacts: Path) -> None:
    """Find each class by its sound, the mean over the last steps of its training actions."""
    known, seconds = _read(public / "annotations.json"), _read(public / "config.json")["step_seconds"]
    classes = len(_read(public / "config.json")["classes"])
    heard: list[list[np.ndarray[Any, Any]]] = [[] for _ in range(classes)]
    for video, audio in zip(_read(public / "videos.json"), _parts(public, "audio"), strict=True):
        for one in known[video["id"]]:
            step = min(int(one["segment"][1] / seconds), len(audio) - 1)
            heard[one["label"]].append(audio[max(0, step - 1) : step + 1].mean(0))
    sounds = np.array([np.mean(rows, axis=0) for rows in heard])
    segments, labels = _training(public)
    lengths = [np.median(segments[labels == label] @ [-1.0, 1.0]) for label in range(classes)]
    segments_of: dict[str, list[Segment]] = {}
    for video, audio in zip(_read(inputs / "videos.json"), _parts(inputs, "audio"), strict=True):
        match = audio @ sounds.T
        rows = []
        for label in range(classes):
            for step in np.argsort(-match[:, label])[:3]:
                end = min((step + 1) * seconds, video["duration"])
                rows.append(_segment(end - lengths[label], end, label, match[step, label], video["duration"]))
        segments_of[video["id"]] = rows
    (artefacts / "segments.json").write_text(json.dumps(segments_of), encoding="utf-8")


def _from_truth(change: Callable[[list[float], int, np.random.Generator], tuple[list[float], int]]) -> Writer:
    """Return a writer of the true segments, each changed by `change`."""

    def write(public: Path, inputs: Path, answers: Path, artefacts: Path) -> None:
        rng = np.random.default_rng(0)
        segments_of: dict[str, list[Segment]] = {}
        for video in _read(answers / "truth.json")["videos"]:
            rows = [change(one["segment"], one["label"], rng) for one in video["actions"]]
            segments_of[video["id"]] = [
                _segment(times[0], times[1], label, 1.0, video["duration"]) for times, label in rows
            ]
        (artefacts / "segments.json").write_text(json.dumps(segments_of), encoding="utf-8")

    return write


def _shaken(times: list[float], label: int, rng: np.random.Generator) -> tuple[list[float], int]:
    """Move both ends by a normal error of a quarter of the length."""
    start, end = np.array(times) + rng.normal(size=2) * 0.25 * (times[1] - times[0])
    return [min(start, end - 0.05), end], label


BOUNDS: dict[str, Writer] = {
    "constant at class priors": _constant(priors),
    "one per class, whole video": _constant(whole),
    "a grid of 200": _constant(grid),
    "random": _constant(random),
    "nearest training video": nearest,
    "loud steps": loud,
    "oracle": _from_truth(lambda times, label, rng: (times, label)),
    "true classes, shaken times": _from_truth(_shaken),
    "true times, random class": _from_truth(lambda times, _, rng: (times, int(rng.integers(12)))),
}
