"""Scorer: the balanced accuracy of each task, scaled by chance, and its mean over tasks.

For a task with N classes and recalls r_1 to r_N among its queries, the normalised accuracy is
(mean(r) - 1/N) / (1 - 1/N): guessing scores 0 in expectation, and no error scores 1, for every N. All
tasks count equally, and so do all domains, which have equally many tasks (NeurIPS 2022 Cross-Domain MetaDL).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from mlrcbench.aggregates import error_of_mean
from mlrcbench.artefacts import read_npy
from mlrcbench.errors import SubmissionError
from mlrcbench.score import Score

_FILE = "predictions.npy"


def score(artefacts: Path, answers: Path) -> Score:
    """Compare `predictions.npy` with the true class ids.

    Args:
        artefacts: Holds `predictions.npy`, int64 (queries,), one task after the other.
        answers: Holds `labels.npy`, int64 (queries,), and `tasks.npy`, int64 (tasks, 3): number of
            the domain, ways, queries of each class.

    Returns:
        The mean normalised accuracy. The details hold half the width of its 95 % interval over tasks,
        and the mean of each domain.

    Raises:
        SubmissionError: The file is not int64 of the right length, or a value is not a class id.
    """
    labels = np.load(answers / "labels.npy", allow_pickle=False)
    table = np.load(answers / "tasks.npy", allow_pickle=False)
    domains, ways, queries = table.T
    task_of = np.repeat(np.arange(len(table)), ways * queries)
    predictions = read_npy(artefacts / _FILE, shape=labels.shape, dtype="<i8").astype(np.int64)
    _check(predictions, ways, task_of)
    values = normalised_accuracies(labels, predictions, ways, task_of)
    details = {"confidence_95": float(1.96 * values.std(ddof=1) / np.sqrt(len(values)))}
    for domain in np.unique(domains):
        details[f"domain_{domain}"] = float(values[domains == domain].mean())
    return Score(value=float(values.mean()), details=details, error=standard_error(values, domains))


def standard_error(values: npt.NDArray[np.float64], domains: npt.NDArray[np.int64]) -> float | None:
    """The standard error of the mean over tasks, drawn again within each domain.

    The domains are those of the competition and not a draw, so their differences are no noise.

    Args:
        values: Normalised accuracies, (tasks,).
        domains: Number of each task's domain, (tasks,).
    """
    return error_of_mean(*(values[domains == domain] for domain in np.unique(domains)))


def normalised_accuracies(
    labels: npt.NDArray[np.int64],
    predictions: npt.NDArray[np.int64],
    ways: npt.NDArray[np.int64],
    task_of: npt.NDArray[np.int64],
) -> npt.NDArray[np.float64]:
    """The balanced accuracy of each task, scaled so that guessing scores 0 and no error scores 1.

    Args:
        labels: True class ids, (queries,); every class of a task has at least one query.
        predictions: Submitted class ids, (queries,).
        ways: Number of classes of each task, (tasks,).
        task_of: Task of each query, (queries,).

    Returns:
        One value for each task, (tasks,), in [-1 / (ways - 1), 1].
    """
    first = np.concatenate([[0], np.cumsum(ways)])  # classes are numbered consecutively over all tasks
    classes = first[task_of] + labels
    counts = np.bincount(classes, minlength=first[-1])
    hits = np.bincount(classes, weights=labels == predictions, minlength=first[-1])
    balanced = np.add.reduceat(hits / counts, first[:-1]) / ways
    return np.asarray((balanced - 1 / ways) / (1 - 1 / ways))


def _check(
    predictions: npt.NDArray[np.int64], ways: npt.NDArray[np.int64], task_of: npt.NDArray[np.int64]
) -> None:
    """Raise SubmissionError unless every prediction is a class id of its task."""
    wrong = np.flatnonzero((predictions < 0) | (predictions >= ways[task_of]))
    if len(wrong):
        task = int(task_of[wrong[0]])
        raise SubmissionError(
            f"{_FILE} has {predictions[wrong[0]]} in place {wrong[0]}, which is a query of task {task}: "
            f"write one of its task's class ids, 0 to {ways[task] - 1}"
        )
