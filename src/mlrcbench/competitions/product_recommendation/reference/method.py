"""Candidates from counts and content, ordered by a learnt ranker.

This is an independent implementation of what leading teams of the KDD Cup 2023 had in common. Co-visitation
counts, separately for train and for the unlabeled sessions, and a content model propose candidates. A ranker
orders them by the scores of both and by how well brand, colour, price and other attributes fit the session.
It learns from train and from unlabeled sessions whose last product is hidden, so that it sees the time of
the sessions to answer. The counts that a session itself adds are removed from its features, and it is scored
by the content model of the other half of the data.
"""

from dataclasses import dataclass

import numpy as np
import torch

import ranker
import tower
from features import Shop
from shop import LISTED

LESSONS = 5000  # sessions that the ranker learns from; unlabeled ones come first


@dataclass
class Lesson:
    """A session: products, next product (-1 if unknown), locale, and group (0: train, 1: unlabeled)."""

    items: list
    answer: int
    locale: str
    group: int


def recommend(catalogue, train, asked, unlabeled):
    """The 100 best candidates of each session; see the docstring of the module."""
    hidden = [Lesson(items[:-1], items[-1], where, 1) for items, where in pairs(unlabeled)]
    known = [
        Lesson(items, answer, where, 0)
        for (items, where), answer in zip(pairs(train), train.answer.tolist(), strict=True)
    ]
    shop = Shop(catalogue, *([[*one.items, one.answer] for one in group] for group in (known, hidden)))
    lessons = [one for one in hidden + known if one.items and one.answer not in one.items]
    halves = [lessons[::2], lessons[1::2]]
    towers = [tower.fit(shop.bags, shop.words, shop.examples(half)) for half in halves]
    candidates = []
    with torch.no_grad():
        for half, other in zip(halves, towers[::-1], strict=True):
            for locale in catalogue.sold:
                local = [one for one in half[: LESSONS // 2] if one.locale == locale]
                candidates.append(shop.candidates(locale, local, [other]))
    x, right = torch.cat([one.features for one in candidates]), torch.cat([one.right for one in candidates])
    print(f"{len(right)} lessons, {int((right >= 0).sum())} with the answer among candidates", flush=True)
    model = ranker.fit(x[right >= 0], right[right >= 0])
    lists = np.zeros((len(asked), LISTED), dtype=np.int64)
    with torch.no_grad():
        for locale in catalogue.sold:
            places = np.flatnonzero(asked.locale == locale)
            local = [Lesson(asked.items[i], -1, locale, 1) for i in places]
            candidates = shop.candidates(locale, local, towers)
            order = model(candidates.features).argsort(dim=1, descending=True, stable=True)[:, :LISTED]
            lists[places] = candidates.products.gather(1, order).numpy()
    return lists


def pairs(sessions):
    """Products and locale of each session."""
    return zip(sessions.items, sessions.locale.tolist(), strict=True)
