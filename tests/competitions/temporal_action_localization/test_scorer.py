"""temporal-action-localization, the scorer: the metric is ActivityNet's, and every rule is checked."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlrcbench.competitions.temporal_action_localization import scorer
from mlrcbench.errors import SubmissionError
from mlrcbench.score import Score
from tests.competitions.conftest import load_module

HOME = Path(scorer.__file__).parent
VIDEOS = [{"id": "a", "duration": 20.0}, {"id": "b", "duration": 30.0}]
CLASSES = 3

# (video, label, start, end, score)
Row = tuple[int, int, float, float, float]
QUARTERS = st.integers(0, 40).map(lambda n: n / 4)
ROWS = st.lists(
    st.tuples(
        st.integers(0, 2), st.integers(0, 2), QUARTERS, QUARTERS, st.sampled_from([0.1, 0.2, 0.3, 0.4])
    ).map(lambda r: (r[0], r[1], min(r[2], r[3]), max(r[2], r[3]) + 0.25, r[4])),
    max_size=14,
)


def maps(rows: list[Row], truth: list[Row], videos: int = 3) -> list[float]:
    """The scorer's mAP at each threshold."""
    ours, theirs = scorer.Segments.from_rows(rows), scorer.Segments.from_rows(truth)
    means: list[float] = scorer.mean_average_precisions(ours, theirs, videos).tolist()
    return means


def slow_tiou(one: Row, two: Row) -> float:
    """Intersection over union, as lengths of sets of quarter seconds."""
    a, b = (set(range(round(4 * row[2]), round(4 * row[3]))) for row in (one, two))
    return len(a & b) / len(a | b)


def slow_map(rows: list[Row], truth: list[Row], threshold: float) -> float:
    """The mAP at one threshold, written from the official description, loop by loop."""
    values = []
    for label in {row[1] for row in truth}:
        true = sorted(row for row in truth if row[1] == label)
        ranked = sorted(
            (row for row in rows if row[1] == label), key=lambda row: (-row[4], row[0])
        )  # sorted() is stable: the order in the list decides the rest
        matched: set[int] = set()
        precisions, recalls = [], []
        for count, row in enumerate(ranked, 1):
            order = sorted(
                (place for place, other in enumerate(true) if other[0] == row[0]),
                key=lambda place, row=row: -slow_tiou(row, true[place]),  # type: ignore[misc]
            )
            for place in order:
                if slow_tiou(row, true[place]) < threshold:
                    break
                if place not in matched:
                    matched.add(place)
                    break
            precisions.append(len(matched) / count)
            recalls.append(len(matched) / len(true))
        area, before = 0.0, 0.0
        for k, recall in enumerate(recalls):
            area += (recall - before) * max(precisions[k:])
            before = recall
        values.append(area)
    return sum(values) / len(values)


class TestMetric:
    """The metric, compared with hand calculations and a slow twin."""

    def test_area_by_hand(self) -> None:
        """Right, wrong, right, of two: recall 1/2 at precision 1, recall 1 at precision 2/3."""
        assert scorer.average_precision(np.array([True, False, True]), 2) == pytest.approx(0.5 + 0.5 * 2 / 3)

    def test_area_is_interpolated(self) -> None:
        """Wrong, right, right, of three: both hits count with the best later precision, 2/3."""
        hits = np.array([False, True, True])
        assert scorer.average_precision(hits, 3) == pytest.approx(2 / 3 * 2 / 3)

    def test_nothing_found(self) -> None:
        """Without segments, precision is 0."""
        assert scorer.average_precision(np.zeros(0, dtype=bool), 3) == 0.0
        assert maps([], [(0, 0, 0.0, 1.0, 0.0)]) == [0.0] * 5

    def test_truth_has_one(self) -> None:
        """The true segments have mAP one."""
        truth: list[Row] = [(0, 0, 0.0, 4.0, 0.5), (0, 1, 1.0, 3.0, 0.5), (2, 0, 5.0, 6.0, 0.5)]
        assert maps(truth, truth) == [1.0] * 5

    def test_threshold_is_included(self) -> None:
        """[0, 2] has a tIoU of exactly 0.5 with [0, 4], which is enough at 0.5; [0, 1.75] has less."""
        truth: list[Row] = [(0, 0, 0.0, 4.0, 0.0)]
        assert maps([(0, 0, 0.0, 2.0, 1.0)], truth) == [1.0] * 5
        assert maps([(0, 0, 0.0, 1.75, 1.0)], truth) == [1.0, 1.0, 1.0, 1.0, 0.0]

    def test_a_second_hit_is_wrong(self) -> None:
        """The first of two true segments twice, then the second: hits 1, 0, 1."""
        truth: list[Row] = [(0, 0, 0.0, 4.0, 0.0), (0, 0, 10.0, 14.0, 0.0)]
        rows: list[Row] = [(0, 0, 0.0, 4.0, 0.9), (0, 0, 0.0, 4.0, 0.8), (0, 0, 10.0, 14.0, 0.7)]
        assert maps(rows, truth) == pytest.approx([0.5 + 0.5 * 2 / 3] * 5)

    def test_the_next_best_is_taken_if_the_best_is_matched(self) -> None:
        """Both segments overlap the first truth most (0.8, 0.6); the second also has 1/3 with the other.

        So up to 0.3 both are right; from 0.4 the second is wrong, and recall is one half.
        """
        truth: list[Row] = [(0, 0, 0.0, 5.0, 0.0), (0, 0, 3.0, 6.0, 0.0)]
        rows: list[Row] = [(0, 0, 0.0, 4.0, 0.9), (0, 0, 1.0, 5.0, 0.8)]
        # tIoU of the second with [3, 6]: 2 / 5.
        assert maps(rows, truth) == pytest.approx([1.0, 1.0, 1.0, 1.0, 0.5])

    def test_classes_and_videos_are_apart(self) -> None:
        """A class without truth does not count; a segment in a video without truth of its class is wrong."""
        truth: list[Row] = [(0, 0, 0.0, 4.0, 0.0)]
        right: Row = (0, 0, 0.0, 4.0, 0.5)
        assert maps([right, (0, 1, 0.0, 4.0, 0.9)], truth) == [1.0] * 5
        assert maps([right, (1, 0, 0.0, 4.0, 0.9)], truth) == [0.5] * 5

    def test_mean_is_over_classes_not_segments(self) -> None:
        """All three segments of class 0 and none of class 1 give one half."""
        truth: list[Row] = [(0, 0, s, s + 1.0, 0.0) for s in (0.0, 2.0, 4.0)] + [(0, 1, 0.0, 1.0, 0.0)]
        assert maps(truth[:3], truth) == [0.5] * 5

    def test_equal_scores_keep_their_order(self) -> None:
        """Among equal scores the earlier video comes first, then the earlier row."""
        truth: list[Row] = [(1, 0, 0.0, 4.0, 0.0)]
        right, wrong = (1, 0, 0.0, 4.0, 0.5), (1, 0, 8.0, 9.0, 0.5)
        assert maps([right, wrong], truth) == [1.0] * 5
        assert maps([wrong, right], truth) == [0.5] * 5
        # The segments of a submission are rows in the order of the videos, whatever the file's order.
        assert maps([(0, 0, 0.0, 4.0, 0.5), right], truth) == [0.5] * 5

    @settings(max_examples=60, deadline=None)
    @given(rows=ROWS, truth=ROWS.filter(bool))
    def test_against_a_slow_twin(self, rows: list[Row], truth: list[Row]) -> None:
        """Loops that follow the official description give the same digits, also with ties."""
        rows = sorted(rows, key=lambda row: row[0])
        expected = [slow_map(rows, truth, threshold) for threshold in scorer.THRESHOLDS]
        assert maps(rows, truth) == pytest.approx(expected)

    @settings(max_examples=20, deadline=None)
    @given(rows=ROWS, truth=ROWS.filter(bool))
    def test_the_starter_has_the_same(self, rows: list[Row], truth: list[Row]) -> None:
        """`python main.py` prints what an evaluation would say."""
        theirs = load_module(HOME / "starter/evaluation.py")
        rows = sorted(rows, key=lambda row: row[0])
        lists = [[(r[2], r[3], r[1], r[4]) for r in rows if r[0] == video] for video in range(3)]
        videos = [
            SimpleNamespace(
                segments=np.array([r[2:4] for r in truth if r[0] == video]).reshape(-1, 2),
                labels=np.array([r[1] for r in truth if r[0] == video], dtype=np.int64),
            )
            for video in range(3)
        ]
        assert maps(rows, truth) == pytest.approx(theirs.mean_average_precisions(lists, videos).tolist())
        assert theirs.THRESHOLDS == scorer.THRESHOLDS

    @settings(max_examples=30, deadline=None)
    @given(rows=ROWS, truth=ROWS.filter(bool))
    def test_properties(self, rows: list[Row], truth: list[Row]) -> None:
        """Values are in [0, 1]; only the order of scores matters; extra segments at the end do no harm."""
        before = maps(rows, truth)
        assert all(0 <= value <= 1 for value in before)
        assert maps([(*row[:4], math.exp(9 * row[4])) for row in rows], truth) == before
        longer = rows + [(*row[:4], -1.0) for row in truth]
        assert all(new >= old - 1e-12 for new, old in zip(maps(longer, truth), before, strict=True))


class TestCheck:
    """Every rule of a submission is checked, and its error says what to write instead."""

    def good(self, **changes: object) -> dict[str, object]:
        """A submission whose first segment is changed."""
        first = {"segment": [1.0, 2], "label": 0, "score": 0.5, **changes}
        return {"b": [], "a": [first, {"segment": [0, 20.0], "label": 2, "score": -1e300}]}

    def test_good(self) -> None:
        """Rows are in the order of the videos; integers are accepted as numbers."""
        segments = scorer.check({"b": [], **self.good()}, VIDEOS, CLASSES)
        assert segments.video.tolist() == [0, 0]
        assert segments.label.tolist() == [0, 2]
        assert segments.start.tolist() == [1.0, 0.0]
        assert segments.end.tolist() == [2.0, 20.0]

    @pytest.mark.parametrize("content", [[], "x", 3, 2.5, None, True])
    def test_not_an_object(self, content: object) -> None:
        """The file must be an object."""
        with pytest.raises(SubmissionError, match="must be an object"):
            scorer.check(content, VIDEOS, CLASSES)

    def test_every_video_and_no_other(self) -> None:
        """Each video has its entry."""
        with pytest.raises(SubmissionError, match=r"1 are missing.*'b'"):
            scorer.check({"a": []}, VIDEOS, CLASSES)
        with pytest.raises(SubmissionError, match=r"1 are unknown.*'c'"):
            scorer.check({"a": [], "b": [], "c": []}, VIDEOS, CLASSES)

    @pytest.mark.parametrize("entry", [None, {}, "x", 1])
    def test_entry_is_a_list(self, entry: object) -> None:
        """A video maps to a list."""
        with pytest.raises(SubmissionError, match="b must map to a list"):
            scorer.check({"a": [], "b": entry}, VIDEOS, CLASSES)

    def test_cap(self) -> None:
        """At most 200 segments in a video; 200 are allowed."""
        one = {"segment": [0, 1], "label": 0, "score": 0}
        assert len(scorer.check({"a": [one] * 200, "b": []}, VIDEOS, CLASSES).score) == 200
        with pytest.raises(SubmissionError, match=r"a has 201 segments; at most 200"):
            scorer.check({"a": [one] * 201, "b": []}, VIDEOS, CLASSES)

    @pytest.mark.parametrize("segment", [[], [0, 1, 0, 1], None, {"segment": [0, 1], "label": 0}])
    def test_not_three_keys(self, segment: object) -> None:
        """A segment is an object with three keys."""
        with pytest.raises(SubmissionError, match="segment 0 of a must be"):
            scorer.check({"a": [segment], "b": []}, VIDEOS, CLASSES)

    def test_extra_key(self) -> None:
        """A segment has no other key."""
        with pytest.raises(SubmissionError, match="with exactly these three keys"):
            scorer.check(self.good(name="x"), VIDEOS, CLASSES)

    @pytest.mark.parametrize("label", [-1, 3, 1.0, "0", True, None, 10**30])
    def test_bad_label(self, label: object) -> None:
        """A label is an integer below the number of classes."""
        with pytest.raises(SubmissionError, match="not an integer from 0 to 2"):
            scorer.check(self.good(label=label), VIDEOS, CLASSES)

    @pytest.mark.parametrize(
        "times", [None, [], [1.0], [1, 2, 3], ["1", 2], [True, 2], [math.nan, 2], [0, math.inf], [0, 10**400]]
    )
    def test_bad_times(self, times: object) -> None:
        """Times are two finite numbers."""
        with pytest.raises(SubmissionError, match="two finite numbers"):
            scorer.check(self.good(segment=times), VIDEOS, CLASSES)

    @pytest.mark.parametrize("times", [[2, 1], [1, 1], [-0.1, 1], [19, 20.001], [30, 40]])
    def test_outside_of_the_video(self, times: object) -> None:
        """A segment has a length and lies within its video."""
        with pytest.raises(SubmissionError, match=r"0 <= start < end <= 20"):
            scorer.check(self.good(segment=times), VIDEOS, CLASSES)

    @pytest.mark.parametrize("value", [None, "1", True, math.nan, math.inf, 10**400, [1]])
    def test_bad_score(self, value: object) -> None:
        """A score is a finite number."""
        with pytest.raises(SubmissionError, match="score that is not a finite number"):
            scorer.check(self.good(score=value), VIDEOS, CLASSES)


class TestScore:
    """The scorer, from file to value."""

    def judge(self, folder: Path, content: object) -> Score:
        """Score a submission against two videos with one action each."""
        for name in ("answers", "artefacts"):
            (folder / name).mkdir(exist_ok=True)
        actions = [
            [{"segment": [0.0, 4.0], "label": 0}],
            [{"segment": [10.0, 12.0], "label": 2}],
        ]
        truth = [{**video, "actions": listed} for video, listed in zip(VIDEOS, actions, strict=True)]
        (folder / "answers/truth.json").write_text(json.dumps({"classes": CLASSES, "videos": truth}))
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / "artefacts/segments.json").write_text(text)
        return scorer.score(folder / "artefacts", folder / "answers")

    def test_by_hand(self, tmp_path: Path) -> None:
        """Class 0 is found with tIoU 0.25, class 2 exactly: 1, 1, and three times one half."""
        content = {
            "a": [{"segment": [0, 1], "label": 0, "score": 0.1}],
            "b": [{"segment": [10, 12], "label": 2, "score": 0.1}],
        }
        judged = self.judge(tmp_path, content)
        assert judged.value == pytest.approx((1 + 1 + 0.5 + 0.5 + 0.5) / 5)
        assert judged.details["mAP@0.2"] == 1.0
        assert judged.details["mAP@0.3"] == 0.5
        assert judged.details["segments"] == 2

    def test_the_order_of_the_keys_changes_nothing(self, tmp_path: Path) -> None:
        """Equal scores are sorted by the order of the videos, not of the file."""
        right, wrong = (
            {"segment": [10, 12], "label": 2, "score": 0.5},
            {"segment": [0, 4], "label": 2, "score": 0.5},
        )
        one = self.judge(tmp_path, {"a": [wrong], "b": [right]})
        two = self.judge(tmp_path, {"b": [right], "a": [wrong]})
        assert one.value == two.value == pytest.approx(0.25)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "not valid JSON"),
            ("{", "not valid JSON"),
            ('{"a": [], "a": [], "b": []}', "'a' stands twice"),
            ('{"a": [{"segment": [0, 1], "label": 0, "score": NaN}], "b": []}', "NaN is not a JSON number"),
            ('{"a": [{"segment": [0, 1e999], "label": 0, "score": 1}], "b": []}', "not a JSON number"),
            ("[" * 100, "nests deeper"),
        ],
    )
    def test_bad_files(self, text: str, message: str, tmp_path: Path) -> None:
        """A file that is not strict JSON is refused, with the reason."""
        with pytest.raises(SubmissionError, match=message):
            self.judge(tmp_path, text)
