"""The cost of scoring at the full tier's sizes, against the loop that one would write first.

    python benchmarks/full.py [--only product-recommendation] [--share 0.05]

Data is generated at the true sizes. Each measurement has a separate process: CPU seconds of `score` (or of
the loop, on a share of the data, scaled up), and the process's largest resident set, which includes the
interpreter and numpy. The loop reads prepared arrays; `score` also reads and checks the submission. Both give
the same value on the share, or this script fails.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlrcbench.catalog.competition import Competition
from mlrcbench.catalog.registry import get_competition
from mlrcbench.text import table

SESSIONS, PRODUCTS, LISTED = 316_972, 1_413_516, 100
VIDEOS, CLASSES, ACTIONS, SEGMENTS = 5_359, 63, 6, 100
SEQUENCES, FRAMES, SIDE = 60, 32, 252
TASKS, QUERIES = 6_000, 20


@dataclass(frozen=True)
class Case:
    """`write(folder, share)` makes artefacts and answers, `loop(folder)` scores them plainly."""

    write: Callable[[Path, float], None]
    loop: Callable[[Path], float]


def write_sessions(folder: Path, share: float) -> None:
    """Write lists of distinct products, with the answer in two thirds of them."""
    rng, count = np.random.default_rng(0), round(share * SESSIONS)
    answer = rng.integers(PRODUCTS, size=count)
    start = np.where(rng.random(count) < 0.67, answer - rng.integers(0, LISTED, count), answer + 7)
    locale = np.zeros(PRODUCTS, np.int8)
    lists = (start[:, None] + np.arange(LISTED)) % PRODUCTS
    ids = rng.permutation(count)
    np.save(folder / "artefacts" / "predictions.npy", np.column_stack([ids, lists]).astype("<i4"))
    np.save(folder / "answers" / "truth.npy", np.column_stack([ids, answer]).astype("<i4"))
    np.save(folder / "answers" / "row_locale.npy", locale)


def loop_sessions(folder: Path) -> float:
    """Score session by session, place by place."""
    predictions = np.load(folder / "artefacts" / "predictions.npy").tolist()
    lists = {row[0]: row[1:] for row in predictions}
    gains = []
    for session, answer in np.load(folder / "answers" / "truth.npy").tolist():
        products = lists[session]
        assert len(set(products)) == LISTED
        gains.append(1 / (1 + products.index(answer)) if answer in products else 0.0)
    return math.fsum(gains) / len(gains)


def write_videos(folder: Path, share: float) -> None:
    """Write segments of which half are near an action, the others anywhere."""
    rng, videos, segments = np.random.default_rng(0), [], {}
    for number in range(round(share * VIDEOS)):
        starts = rng.uniform(0, 28, ACTIONS)
        actions = [
            {"segment": [x, x + y], "label": int(z)}
            for x, y, z in zip(
                starts, rng.uniform(1, 5, ACTIONS), rng.integers(CLASSES, size=ACTIONS), strict=True
            )
        ]
        rows = []
        for place in range(SEGMENTS):
            near = actions[place % ACTIONS]
            start = near["segment"][0] + rng.normal() if place % 2 else rng.uniform(0, 28)
            start = min(max(start, 0.0), 30.0)
            label = near["label"] if place % 2 else int(rng.integers(CLASSES))
            rows.append(
                {"segment": [start, start + rng.uniform(1, 4)], "label": label, "score": rng.random()}
            )
        videos.append({"id": f"video_{number}", "duration": 35.0, "actions": actions})
        segments[f"video_{number}"] = rows
    (folder / "artefacts" / "segments.json").write_text(json.dumps(segments))
    (folder / "answers" / "truth.json").write_text(json.dumps({"classes": CLASSES, "videos": videos}))


def loop_videos(folder: Path) -> float:
    """Read the segments, and score them one by one."""
    segments = json.loads((folder / "artefacts" / "segments.json").read_text())
    return plain_map(segments, json.loads((folder / "answers" / "truth.json").read_text())["videos"])


def plain_map(segments: dict[str, Any], videos: list[dict[str, Any]]) -> float:
    """Class by class, threshold by threshold, segment by segment, as the statement words it."""
    precisions = []
    for label in range(CLASSES):
        truth = {v["id"]: sorted(a["segment"] for a in v["actions"] if a["label"] == label) for v in videos}
        positives = sum(map(len, truth.values()))
        if not positives:
            continue
        ours = [
            (row["score"], v["id"], row["segment"])
            for v in videos
            for row in segments[v["id"]]
            if row["label"] == label
        ]
        ours.sort(key=lambda segment: -segment[0])
        precisions.append(
            [_average_precision(ours, truth, positives, limit) for limit in (0.1, 0.2, 0.3, 0.4, 0.5)]
        )
    return float(np.mean(precisions))


def _average_precision(ours: list[Any], truth: dict[str, Any], positives: int, limit: float) -> float:
    free = {name: [True] * len(segments) for name, segments in truth.items()}
    hits = []
    for _, name, (start, end) in ours:
        best, place = 0.0, -1
        for other, (low, high) in enumerate(truth[name]):
            inner = max(0.0, min(end, high) - max(start, low))
            tiou = inner / (end - start + high - low - inner)
            if free[name][other] and tiou >= limit and tiou > best:
                best, place = tiou, other
        if place >= 0:
            free[name][place] = False
        hits.append(place >= 0)
    precision, total, area = [], 0, 0.0
    for rank, hit in enumerate(hits, 1):
        total += hit
        precision.append(total / rank)
    best = 0.0
    for hit, value in zip(reversed(hits), reversed(precision), strict=True):
        best = max(best, value)
        area += best * hit
    return area / positives


def write_rain(folder: Path, share: float) -> None:
    """Write rates that sometimes exceed each threshold; a few pixels are not measured."""
    rng = np.random.default_rng(0)
    shape = (max(1, round(share * SEQUENCES)), FRAMES, SIDE, SIDE)
    truth = rng.exponential(0.8, shape).astype("<f4") ** 2
    np.save(folder / "artefacts" / "rates.npy", (truth * rng.uniform(0.2, 2, shape)).astype("<f4"))
    truth[:, :, :3] = np.nan
    np.save(folder / "answers" / "rates.npy", truth)


def loop_rain(folder: Path) -> float:
    """Score pixel by pixel."""
    truth = np.load(folder / "answers" / "rates.npy").ravel().tolist()
    rates = np.load(folder / "artefacts" / "rates.npy").ravel().tolist()
    values = []
    for threshold in (0.2, 1.0, 5.0, 10.0, 15.0):
        limit, hits, others = float(np.float32(threshold)), 0, 0
        for rain, guess in zip(truth, rates, strict=True):
            if not math.isnan(rain):
                both = (rain >= limit) + (guess >= limit)
                hits += both == 2
                others += both == 1
        values.append(hits / (hits + others))
    return float(np.mean(values))


CASES = {
    "product-recommendation": Case(write_sessions, loop_sessions),
    "temporal-action-localization": Case(write_videos, loop_videos),
    "rainfall-prediction": Case(write_rain, loop_rain),
}


def formula_of_videos(folder: Path) -> list[float]:
    """CPU seconds of the formula alone, on what has been read: the loop's, and the scorer's."""
    competition = get_competition("temporal-action-localization")
    sys.path.insert(0, str(competition.folder))
    import scorer

    write_videos(folder, 1.0)
    segments = json.loads((folder / "artefacts" / "segments.json").read_text())
    videos = json.loads((folder / "answers" / "truth.json").read_text())["videos"]
    actions = [
        (place, action["label"], *action["segment"], 0.0)
        for place, video in enumerate(videos)
        for action in video["actions"]
    ]
    ours, truth = scorer.check(segments, videos, CLASSES), scorer.Segments.from_rows(actions)
    seconds, values = [], []
    for formula in (
        lambda: plain_map(segments, videos),
        lambda: float(scorer.mean_average_precisions(ours, truth, len(videos)).mean()),
    ):
        before = time.process_time()
        values.append(formula())
        seconds.append(time.process_time() - before)
    if not math.isclose(*values, abs_tol=1e-9):
        sys.exit(f"the loop gives {values[0]}, the scorer {values[1]}")
    return seconds


def measure(name: str, folder: Path, which: str) -> None:
    """Print value, CPU seconds and peak memory; for a separate process."""
    competition: Competition = get_competition(name)
    sys.path.insert(0, str(competition.folder))
    scorer = importlib.import_module(competition.scorer_of("full").stem)
    before = time.process_time()
    if which == "loop":
        value = CASES[name].loop(folder)
    else:
        value = scorer.score(folder / "artefacts", folder / "answers").value
    seconds = time.process_time() - before
    # Not ru_maxrss, which a process inherits from the one that started it.
    peak = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text("ascii"))
    assert peak is not None
    print(json.dumps([value, seconds, int(peak[1]) / 1024]))


def run(name: str, share: float, which: str, scratch: Path) -> tuple[float, float, float]:
    """Write the data, and measure in another process: value, CPU seconds, MiB."""
    folder = scratch / f"{name}-{share}"
    if not folder.exists():
        for part in ("artefacts", "answers"):
            (folder / part).mkdir(parents=True)
        CASES[name].write(folder, share)
    command = [sys.executable, __file__, "--measure", name, str(folder), which]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    value, seconds, memory = json.loads(done.stdout)
    return value, seconds, memory


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=CASES, help="one competition (default: all)")
    parser.add_argument("--share", type=float, default=0.05, help="of the data, for the loop (default 0.05)")
    parser.add_argument("--measure", nargs=3, metavar=("NAME", "FOLDER", "WHICH"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        name, folder, which = options.measure
        measure(name, Path(folder), which)
        return
    rows = []
    for name in [options.only] if options.only else CASES:
        with tempfile.TemporaryDirectory() as scratch:
            plain, part_seconds, _ = run(name, options.share, "loop", Path(scratch))
            again, _, _ = run(name, options.share, "score", Path(scratch))
            if not math.isclose(plain, again, abs_tol=1e-9):
                sys.exit(f"{name}: the loop gives {plain}, the scorer {again}")
            _, seconds, memory = run(name, 1.0, "score", Path(scratch))
        loop = part_seconds / options.share
        rows.append([name, f"{seconds:.1f}", f"{loop:.0f}", f"{loop / seconds:.1f}", f"{memory:.0f}"])
    print(table(["scorer", "CPU s", "loop, CPU s", "times", "peak MiB"], rows))
    with tempfile.TemporaryDirectory() as scratch:
        for part in ("artefacts", "answers"):
            (Path(scratch) / part).mkdir()
        plain, seconds = formula_of_videos(Path(scratch))
    summary = f"{seconds:.2f} CPU s, the loop's {plain:.1f}: {plain / seconds:.0f} times"
    print(f"temporal-action-localization, the formula alone: {summary}")


if __name__ == "__main__":
    main()
