"""The metric, as an evaluation computes it. Protected: this file is restored before every evaluation."""

import numpy as np

THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5)


def mean_average_precisions(lists, videos):
    """mAP at each of THRESHOLDS.

    Args:
        lists: For each video a list of (start, end, label, score).
        videos: The same videos, with their true `segments` and `labels`.
    """
    labels = sorted({int(label) for video in videos for label in video.labels})
    return np.mean([average_precisions(lists, videos, label) for label in labels], axis=0)


def average_precisions(lists, videos, label):
    """Average precision of one class at each of THRESHOLDS."""
    truth = [sorted(video.segments[video.labels == label].tolist()) for video in videos]
    ours = [(row[3], place, row[:2]) for place, rows in enumerate(lists) for row in rows if row[2] == label]
    ours.sort(key=lambda one: -one[0])  # stable: equal scores keep their order
    table = []
    for threshold in THRESHOLDS:
        free, hits = [[True] * len(segments) for segments in truth], []
        for _, place, segment in ours:
            tious = [tiou(segment, other) for other in truth[place]]
            fits = [i for i, value in enumerate(tious) if free[place][i] and value >= threshold]
            if fits:
                free[place][max(fits, key=tious.__getitem__)] = False
            hits.append(bool(fits))
        table.append(area(np.array(hits, dtype=bool), sum(map(len, truth))))
    return table


def tiou(one, two):
    """Temporal intersection over union of two segments."""
    inner = max(0.0, min(one[1], two[1]) - max(one[0], two[0]))
    return inner / (one[1] - one[0] + two[1] - two[0] - inner)


def area(hits, positives):
    """Area under the interpolated precision-recall curve of segments by falling score."""
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return best[hits].sum() / positives
