"""Read the catalogue and the sessions, and number the products. Protected: restored before every evaluation.

A *product* is an id; products are numbered 0, 1, ... in the order in which their ids first appear in
`data/products.csv`. A product that is sold in several locales has one number and several rows.
"""

import csv
from dataclasses import dataclass

import numpy as np

LOCALES = ("DE", "JP", "UK")
LISTED = 100


@dataclass
class Catalogue:
    """The products. `table[column]` is a list of texts (blank where unknown), one per row of products.csv.

    `product` (rows,) is the product of each row, and `count` is the number of products. `sold[locale]` holds
    the products of a locale in ascending order, `row[locale][product]` is the row of a product in a locale,
    and `number[id]` is the product with an id.
    """

    table: dict
    product: np.ndarray
    count: int
    sold: dict
    row: dict
    number: dict


@dataclass
class Sessions:
    """Sessions. `items[i]` holds the products of session i, first to last; `locale[i]` is its locale.

    `answer` (n,) holds the products that came next; it is None if they are not known.
    """

    session_id: np.ndarray
    locale: np.ndarray
    items: list
    answer: np.ndarray | None = None

    def __len__(self):
        return len(self.items)

    def take(self, places, answers=True):
        """The sessions at `places`, with or without their answers."""
        answer = self.answer[places] if answers and self.answer is not None else None
        return Sessions(self.session_id[places], self.locale[places], [self.items[i] for i in places], answer)


def read_catalogue(path="data/products.csv"):
    """Read products.csv."""
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    table = {name: [row[name] for row in rows] for name in rows[0]}
    number = {text: i for i, text in enumerate(dict.fromkeys(table["id"]))}
    product = np.array([number[text] for text in table["id"]])
    row = {locale: {} for locale in LOCALES}
    for place, (locale, one) in enumerate(zip(table["locale"], product.tolist(), strict=True)):
        row[locale][one] = place
    sold = {locale: np.array(sorted(row[locale])) for locale in LOCALES}
    return Catalogue(table, product, len(number), sold, row, number)


def read_sessions(path, catalogue):
    """Read train.csv, which has answers, or a features file, which has none."""
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    items = [[catalogue.number[text] for text in row["prev_items"][2:-2].split("' '")] for row in rows]
    locale = np.array([row["locale"] for row in rows])
    if "next_item" in rows[0]:
        answer = np.array([catalogue.number[row["next_item"]] for row in rows])
        return Sessions(np.arange(len(rows)), locale, items, answer)
    return Sessions(np.array([int(row["session_id"]) for row in rows]), locale, items)


def join(first, second):
    """The sessions of both, without answers."""
    return Sessions(
        np.concatenate([first.session_id, second.session_id]),
        np.concatenate([first.locale, second.locale]),
        first.items + second.items,
    )
