"""The full tier: Amazon-M2 as KDD Cup 2023 used it for its first task, in the mini tier's files.

The organisers' tables print sessions as numpy does, with line breaks in long ones. Here every session is
on one line, because the starter reads nothing else. Dev is the competition's first phase and test its second,
with the organisers' own answers, as in the paper. Sessions of ES, FR and IT, which the task does not score,
and their products are written to separate files.

Sessions that cannot be scored are left out and counted: those whose answer is not sold in their locale, and
those without any product in the catalogue. Nothing is drawn at random.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from mlrcbench.errors import DataError
from mlrcbench.sources.raw import find

LOCALES = ("DE", "JP", "UK")
COLUMNS = ("id", "locale", "title", "price", "brand", "color", "size", "model", "material", "author", "desc")
LONGEST_CELL = 100_000  # characters; by default, Python's csv module does not read longer cells
FIRST_ID = {"dev": 0, "test": 10_000_000}  # of the sessions; they are numbered in the organisers' order
FEATURES = {
    "dev": "sessions_test_task1_phase1.csv",
    "test": "sessions_test_task1.csv|sessions_test_task1_phase2.csv",
}
ANSWERS = {
    "dev": "phase1/gt_task1.csv|gt_task1_phase1.csv",
    "test": "phase2/gt_task1.csv|gt_task1_phase2.csv",
}
_ID = re.compile(r"[A-Za-z0-9]{10}")
# Locale -> id -> row of products.csv; -1 if the locale is not scored.
Catalogue = dict[str, dict[str, int]]


def convert(raw: Path, public: Path, private: Path) -> None:
    """Write the files of the instance.

    Args:
        raw: Holds `amazon-m2/` with `products_train.csv`, `sessions_train.csv`, and the sessions and answers
            of both phases.
        public: Receives `products.csv`, `train.csv`, `dev_features.csv`, and `other_products.csv` and
            `other_train.csv` for the locales that are not scored.
        private: Receives for each split `inputs/features.csv`, and in `answers/` `truth.npy` and
            `row_locale.npy`, as the scorer reads them.

    Raises:
        DataError: A file is missing or malformed.
    """
    folder = raw / "amazon-m2"
    csv.field_size_limit(1 << 30)
    sold = write_products(find(folder, "products_train.csv"), public)
    write_train(find(folder, "sessions_train.csv"), public, sold)
    row_locale = np.array([LOCALES.index(name) for name in LOCALES for _ in sold[name]], dtype=np.int8)
    for split in ("dev", "test"):
        files = find(folder, FEATURES[split]), find(folder, ANSWERS[split])
        truth = write_features(split, *files, private / split / "inputs" / "features.csv", sold)
        np.save(private / split / "answers" / "truth.npy", truth)
        np.save(private / split / "answers" / "row_locale.npy", row_locale)
    (public / "dev_features.csv").write_bytes((private / "dev" / "inputs" / "features.csv").read_bytes())


def rows_of(path: Path, *columns: str) -> Iterator[dict[str, str]]:
    """The rows of a table.

    Raises:
        DataError: The table lacks a column.
    """
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        missing = [name for name in columns if name not in (reader.fieldnames or ())]
        if missing:
            raise DataError(f"{path} lacks the columns {', '.join(missing)}; is it the right file?")
        yield from reader


def write_products(path: Path, public: Path) -> Catalogue:
    """Write the catalogue; return the row of each product.

    Rows are grouped by locale, in the order of LOCALES, so that a row number determines its locale.
    """
    sold: Catalogue = {name: {} for name in LOCALES}
    with ExitStack() as stack:
        names = (*LOCALES, "other")
        parts = {name: public / f".{name}.csv" for name in names}
        files = {
            name: stack.enter_context(part.open("w", encoding="utf-8", newline=""))
            for name, part in parts.items()
        }
        writers = {name: csv.writer(file, lineterminator="\n") for name, file in files.items()}
        for row in rows_of(path, *COLUMNS):
            locale, one = row["locale"], row["id"]
            ours = sold.setdefault(locale, {})
            if one in ours:
                continue  # a second row of a product in its locale adds nothing to a list of ids
            ours[one] = len(ours) if locale in LOCALES else -1
            cells = [(row[name] or "")[:LONGEST_CELL] for name in COLUMNS]
            writers[locale if locale in LOCALES else "other"].writerow(cells)
    _join([parts[name] for name in LOCALES], public / "products.csv")
    _join([parts["other"]], public / "other_products.csv")
    first = 0
    for name in LOCALES:
        for one in sold[name]:
            sold[name][one] += first
        first += len(sold[name])
    print(f"product-recommendation: {first} rows of products", flush=True)
    return sold


def _join(parts: list[Path], target: Path) -> None:
    """Join tables without headers below one header, and delete the parts."""
    with target.open("wb") as file:
        file.write((",".join(COLUMNS) + "\n").encode())
        for part in parts:
            with part.open("rb") as reader:
                while chunk := reader.read(1 << 20):
                    file.write(chunk)
            part.unlink()


def write_train(path: Path, public: Path, sold: Catalogue) -> None:
    """Write the sessions with answers, those of scored locales and others in separate files."""
    written = left_out = 0
    with ExitStack() as stack:
        writers = []
        for name in ("train.csv", "other_train.csv"):
            file = stack.enter_context((public / name).open("w", encoding="utf-8", newline=""))
            writers.append(csv.writer(file, lineterminator="\n"))
            writers[-1].writerow(["prev_items", "next_item", "locale"])
        for row in rows_of(path, "prev_items", "next_item", "locale"):
            locale, answer = row["locale"], row["next_item"]
            items = known(row["prev_items"], sold.get(locale, {}))
            if not items or answer not in sold.get(locale, {}):
                left_out += 1
                continue
            written += 1
            writers[locale not in LOCALES].writerow([printed(items), answer, locale])
    print(f"product-recommendation: {written} sessions of train, {left_out} left out", flush=True)


def write_features(split: str, sessions: Path, answers: Path, target: Path, sold: Catalogue) -> np.ndarray:
    """Write what a method sees of a phase; return int32 (sessions, 2): session id and row of the answer.

    Raises:
        DataError: Sessions and answers do not match.
    """
    truth = []
    total = 0
    with target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["session_id", "prev_items", "locale"])
        asked = rows_of(sessions, "prev_items", "locale")
        try:
            for row, solution in zip(asked, rows_of(answers, "next_item"), strict=True):
                total += 1
                locale, answer = row["locale"], solution["next_item"]
                if solution.get("locale", locale) != locale:
                    raise DataError(f"row {total} has another locale in {answers} than in {sessions}")
                if locale not in LOCALES:
                    raise DataError(
                        f"row {total} of {sessions} has the locale {locale!r}, which is not scored"
                    )
                items = known(row["prev_items"], sold[locale])
                if items and answer in sold[locale]:
                    truth.append((FIRST_ID[split] + total - 1, sold[locale][answer]))
                    writer.writerow([truth[-1][0], printed(items), locale])
        except ValueError:
            raise DataError(f"{sessions} and {answers} have different numbers of rows") from None
    if not truth:
        raise DataError(f"no answer of {answers} is in the catalogue; do the files belong together?")
    print(f"product-recommendation: {len(truth)} of {total} sessions of {split}", flush=True)
    return np.array(truth, dtype="<i4")


def known(text: str, sold: dict[str, int]) -> list[str]:
    """The ids in a printed numpy array, first to last, without those that are not in the catalogue."""
    return [one for one in _ID.findall(text) if one in sold]


def printed(items: list[str]) -> str:
    """A session as the starter reads it: `['A' 'B']`."""
    return "[" + " ".join(f"'{one}'" for one in items) + "]"
