"""Candidates from counts and content, ordered by a learnt ranker.

Own implementation of what leading teams of the KDD Cup 2023 had in common. Co-visitation counts, of
train and of the unlabeled sessions apart, and a content model propose candidates; a ranker orders them by
the scores of both and by how well brand, colour, price and the like fit the session. It learns on train
and on unlabeled sessions whose last product is hidden, so that it sees the time that is asked about. What
a session itself adds to the counts is taken away from its features, and it is scored by the content model
of the other half of the data.
"""

from dataclasses import dataclass

import numpy as np
import torch

import ranker
import tower
from features import Shop
from shop import LISTED

LESSONS = 5000  # sessions that the ranker learns from, unlabeled ones first


@dataclass
class Lesson:
    """A session: its products, the next one (-1: not known), its locale, 0 for train and 1 for unlabeled."""

    items: list
    answer: int
    locale: str
    group: int


def recommend(catalogue, train, asked, unlabeled):
    """The 100 best candidates of each session; see the module's text."""
    hidden = [Lesson(items[:-1], items[-1], where, 1) for items, where in pairs(unlabeled)]
    known = [
        Lesson(items, answer, where, 0)
        for (items, where), answer in zip(pairs(train), train.answer.tolist(), strict=True)
    ]
    shop = Shop(catalogue, *([[*one.items, one.answer] for one in group] for group in (known, hidden)))
    lessons = [one for one in hidden + known if one.items and one.answer not in one.items]
    halves = [lessons[::2], lessons[1::2]]
    towers = [tower.fit(shop.bags, shop.words, shop.examples(half)) for half in halves]
    found = []
    with torch.no_grad():
        for half, other in zip(halves, towers[::-1], strict=True):
            for locale in catalogue.sold:
                mine = [one for one in half[: LESSONS // 2] if one.locale == locale]
                found.append(shop.candidates(locale, mine, [other]))
    x, right = torch.cat([one.features for one in found]), torch.cat([one.right for one in found])
    print(f"{len(right)} lessons, {int((right >= 0).sum())} with the answer among candidates", flush=True)
    model = ranker.fit(x[right >= 0], right[right >= 0])
    lists = np.zeros((len(asked), LISTED), dtype=np.int64)
    with torch.no_grad():
        for locale in catalogue.sold:
            places = np.flatnonzero(asked.locale == locale)
            mine = [Lesson(asked.items[i], -1, locale, 1) for i in places]
            found = shop.candidates(locale, mine, towers)
            order = model(found.features).argsort(dim=1, descending=True, stable=True)[:, :LISTED]
            lists[places] = found.products.gather(1, order).numpy()
    return lists


def pairs(sessions):
    """Products and locale of each session."""
    return zip(sessions.items, sessions.locale.tolist(), strict=True)
