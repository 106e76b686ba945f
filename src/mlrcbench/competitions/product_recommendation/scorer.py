"""Scorer: how high is the answer in its session's list?

The artefact is one array with a row per session: the session's id, then 100 row numbers of
`products.csv`. Sessions are matched by id, never by order. A plain int32 array is used because it scales:
317,000 sessions of the real data take 128 MB, the size is known before a byte is read, and ids as JSON text
would take three times as much. A row number identifies a product and a locale, so the scorer can check that
a list keeps to the locale of its session.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from mlrcbench.aggregates import error_of_mean
from mlrcbench.artefacts import read_npy
from mlrcbench.errors import SubmissionError
from mlrcbench.score import Score

LISTED = 100
LOCALES = ("DE", "JP", "UK")
_FILE = "predictions.npy"
_CHUNK = 8192
Ints = npt.NDArray[np.int64]


def score(artefacts: Path, answers: Path) -> Score:
    """Mean reciprocal rank of the answer among 100 products, over all sessions.

    Args:
        artefacts: Holds `predictions.npy`, int32 (m, 101): session id, then rows of the catalogue.
        answers: Holds `truth.npy`, int32 (m, 2): session id and the answer's row; and
            `row_locale.npy`, int8 (rows,): the number of each row's locale.

    Returns:
        Value: MRR@100. Details: `recall` (the share of answers that are in their list), the MRR of each
        locale, and `mrr_character_offset` (see `character_offset`).

    Raises:
        SubmissionError: The artefact breaks a rule; the text says which.
    """
    truth = np.load(answers / "truth.npy", allow_pickle=False).astype(np.int64)
    row_locale = np.load(answers / "row_locale.npy", allow_pickle=False)
    shape = (len(truth), 1 + LISTED)
    table = read_npy(artefacts / _FILE, shape=shape, dtype="<i4").astype(np.int32, copy=False)
    lists = table[match(table[:, 0].astype(np.int64), truth[:, 0]), 1:]
    locale = row_locale[truth[:, 1]]
    ranks = np.zeros(len(truth), dtype=np.int64)
    for start in range(0, len(truth), _CHUNK):
        part = slice(start, start + _CHUNK)
        check_lists(lists[part], truth[part, 0], locale[part], row_locale)
        hits = lists[part] == truth[part, 1:]
        ranks[part] = np.where(hits.any(axis=1), 1 + hits.argmax(axis=1), 0)
    gains = reciprocal(ranks)
    details = {
        "recall": float((ranks > 0).mean()),
        "mrr_character_offset": float(character_offset(ranks).mean()),
    }
    for number, name in enumerate(LOCALES):
        if (locale == number).any():
            details[f"mrr_{name}"] = float(gains[locale == number].mean())
    return Score(value=float(gains.mean()), details=details, error=standard_error(gains))


def standard_error(gains: npt.NDArray[np.float64]) -> float | None:
    """The standard error of the mean over sessions, which are independent and have one answer each."""
    return error_of_mean(gains)


def reciprocal(ranks: Ints) -> npt.NDArray[np.float64]:
    """1 / rank of each answer; 0 where the rank is 0, which means absent."""
    gains: npt.NDArray[np.float64] = np.where(ranks > 0, 1.0 / np.maximum(ranks, 1), 0.0)
    return gains


def character_offset(ranks: Ints) -> npt.NDArray[np.float64]:
    """The result of an evaluator that looks for the answer in the printed text of the list.

    The reference code of the benchmark writes lists to CSV, reads them back as text
    `['B012345678', 'B0...', ...]`, and takes the position of the answer's first character for its rank. With
    ids of ten characters this is 3 + 14 (rank - 1). Published baselines are on that scale. It is reported
    for comparison and does not count.
    """
    gains: npt.NDArray[np.float64] = np.where(ranks > 0, 1.0 / (14 * np.maximum(ranks, 1) - 11), 0.0)
    return gains


def match(submitted: Ints, asked: Ints) -> Ints:
    """For each session of `asked`, the row of the artefact that has its id.

    Raises:
        SubmissionError: The artefact does not have each id of the features file exactly once.
    """
    order = np.argsort(submitted, kind="stable")
    ids = submitted[order]
    twice = ids[1:][ids[1:] == ids[:-1]]
    if len(twice):
        raise SubmissionError(
            f"{_FILE}: session {twice[0]} has more than one row; write one for each session"
        )
    places = np.minimum(np.searchsorted(ids, asked), len(ids) - 1)
    missing = asked[ids[places] != asked]
    if len(missing):
        raise SubmissionError(
            f"{_FILE}: {len(missing)} sessions of inputs/features.csv have no row, among them {missing[0]}; "
            "the first column must be session_id"
        )
    return order[places]


def check_lists(
    lists: npt.NDArray[np.int32],
    sessions: Ints,
    locale: npt.NDArray[np.int8],
    row_locale: npt.NDArray[np.int8],
) -> None:
    """Raise SubmissionError unless each list (m, 100) has different rows, all of its session's locale."""
    outside = (lists < 0) | (lists >= len(row_locale))
    if outside.any():
        row, column = np.argwhere(outside)[0]
        raise SubmissionError(
            f"{_FILE}: place {column + 1} of session {sessions[row]} is {lists[row, column]}; products are "
            f"rows 0 to {len(row_locale) - 1} of products.csv"
        )
    abroad = row_locale[lists] != locale[:, None]
    if abroad.any():
        row, column = np.argwhere(abroad)[0]
        raise SubmissionError(
            f"{_FILE}: place {column + 1} of session {sessions[row]} is row {lists[row, column]}, which is "
            f"sold in {LOCALES[row_locale[lists[row, column]]]}; the session is in {LOCALES[locale[row]]}"
        )
    ordered = np.sort(lists, axis=1)
    again = ordered[:, 1:] == ordered[:, :-1]
    if again.any():
        row, column = np.argwhere(again)[0]
        raise SubmissionError(
            f"{_FILE}: session {sessions[row]} lists row {ordered[row, column]} more than once; "
            f"give {LISTED} different products"
        )
