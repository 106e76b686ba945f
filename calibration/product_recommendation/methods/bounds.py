"""Bounds that need no method: constants, ways around the research, and the generator's own law.

Each function takes (public, inputs, answers, artefacts) and writes `predictions.npy`. Only `oracle` and
`perfect` read the answers.
"""

# ruff: noqa: ARG001 (all writers have one signature)
from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

Writer = Callable[[Path, Path, Path, Path], None]
Sold = dict[str, dict[str, int]]
LISTED = 100


def oracle(public: Path, inputs: Path, answers: Path, artefacts: Path) -> None:
    """Write the lists that are best by the generator's law and the hidden times."""
    np.save(artefacts / "predictions.npy", np.load(answers / "best.npy"))


def perfect(public: Path, inputs: Path, answers: Path, artefacts: Path) -> None:
    """Write the answer first, then the law's list: the end of the scale."""
    lists, truth = np.load(answers / "best.npy"), np.load(answers / "truth.npy")
    for row, answer in zip(lists, truth[:, 1], strict=True):
        row[1:] = [answer, *row[1:][row[1:] != answer]][:LISTED]
    np.save(artefacts / "predictions.npy", lists)


def popular_in_train(public: Path, inputs: Path, answers: Path, artefacts: Path) -> None:
    """Write for all sessions the products that were the answer most often in their locale."""
    seen = {locale: Counter[str]() for locale in _sold(public)}
    for row in _rows(public / "train.csv"):
        seen[row["locale"]][row["next_item"]] += 1
    _write(public, inputs, artefacts, lambda _, locale: [one for one, _ in seen[locale].most_common()])


def popular_in_inputs(public: Path, inputs: Path, answers: Path, artefacts: Path) -> None:
    """Write for all sessions the products that the sessions to answer contain most often."""
    seen = {locale: Counter[str]() for locale in _sold(public)}
    for row in _rows(inputs / "features.csv"):
        seen[row["locale"]].update(_items(row))
    _write(public, inputs, artefacts, lambda _, locale: [one for one, _ in seen[locale].most_common()])


def only_in_inputs(public: Path, inputs: Path, answers: Path, artefacts: Path) -> None:
    """Write the products that are new in the sessions to answer, most frequent first."""
    old = {one for row in _rows(public / "train.csv") for one in (*_items(row), row["next_item"])}
    seen = {locale: Counter[str]() for locale in _sold(public)}
    for row in _rows(inputs / "features.csv"):
        seen[row["locale"]].update(one for one in _items(row) if one not in old)
    _write(public, inputs, artefacts, lambda _, locale: [one for one, _ in seen[locale].most_common()])


def own_products(public: Path, inputs: Path, answers: Path, artefacts: Path) -> None:
    """Write the session's own products, latest first; the answer is never among them."""
    _write(public, inputs, artefacts, lambda items, _: items[::-1])


def first_rows(public: Path, inputs: Path, answers: Path, artefacts: Path) -> None:
    """Write the first rows of the locale in the catalogue; their order carries no information."""
    _write(public, inputs, artefacts, lambda *_: [])


def row_neighbours(public: Path, inputs: Path, answers: Path, artefacts: Path) -> None:
    """Write the rows next to the last product in the catalogue; nearness carries no information."""
    sold = _sold(public)
    order = {locale: list(rows) for locale, rows in sold.items()}
    place = {locale: {one: i for i, one in enumerate(ids)} for locale, ids in order.items()}

    def around(items: Sequence[str], locale: str) -> Sequence[str]:
        middle = place[locale][items[-1]]
        near = sorted(range(len(order[locale])), key=lambda i: (abs(i - middle), i))
        return [order[locale][i] for i in near[1 : LISTED + 1]]

    _write(public, inputs, artefacts, around)


def _write(
    public: Path, inputs: Path, artefacts: Path, choose: Callable[[Sequence[str], str], Sequence[str]]
) -> None:
    """Write `choose(items, locale)` for each session, filled up with the locale's first rows."""
    sold, rows = _sold(public), []
    for row in _rows(inputs / "features.csv"):
        here = sold[row["locale"]]
        ids = dict.fromkeys([*(one for one in choose(_items(row), row["locale"]) if one in here), *here])
        rows.append([int(row["session_id"]), *(here[one] for one in list(ids)[:LISTED])])
    np.save(artefacts / "predictions.npy", np.array(rows, dtype="<i4"))


def _sold(public: Path) -> Sold:
    """The row number of each id in each locale, in the order of the rows."""
    rows: Sold = {}
    for number, row in enumerate(_rows(public / "products.csv")):
        rows.setdefault(row["locale"], {})[row["id"]] = number
    return rows


def _items(row: dict[str, str]) -> list[str]:
    return row["prev_items"][2:-2].split("' '")


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


BOUNDS: dict[str, Writer] = {
    "oracle": oracle,
    "perfect": perfect,
    "popular_in_train": popular_in_train,
    "popular_in_inputs": popular_in_inputs,
    "only_in_inputs": only_in_inputs,
    "own_products": own_products,
    "first_rows": first_rows,
    "row_neighbours": row_neighbours,
}
