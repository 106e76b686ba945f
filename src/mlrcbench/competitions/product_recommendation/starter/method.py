"""The method: change this file.

The method given here lists the products that followed the last product most often, in train and in the
unlabeled sessions, then the products that follow any product most often. It looks only at the last product.
"""

from collections import Counter, defaultdict
from itertools import pairwise

FOLLOWERS = 100  # kept for each product


def recommend(catalogue, train, asked, unlabeled):
    """For each session, list the 100 products that are most likely to come next.

    Args:
        catalogue: A `shop.Catalogue`.
        train: `shop.Sessions` with answers.
        asked: The `shop.Sessions` to answer.
        unlabeled: All known `shop.Sessions` without answers, including those of `asked`.

    Returns:
        For each session of `asked`, 100 different products of its locale, best first.
    """
    following = defaultdict(Counter)
    for items, answer in zip(train.items, train.answer.tolist(), strict=True):
        count(following, [*items, answer])
    for items in unlabeled.items:
        count(following, items)
    total = Counter()
    for counter in following.values():
        total.update(counter)
    popular = [product for product, _ in total.most_common()] + list(range(catalogue.count))
    best = {a: [b for b, _ in counter.most_common(FOLLOWERS)] for a, counter in following.items()}
    print(f"followers of {len(best)} products are known", flush=True)
    return [
        fill(best.get(items[-1], []), popular, items, catalogue.row[locale])
        for items, locale in zip(asked.items, asked.locale, strict=True)
    ]


def count(following, items):
    """Add the steps of one session."""
    for a, b in pairwise(items):
        following[a][b] += 1


def fill(first, then, items, sold, length=100):
    """`first`, then `then` without the session's own products; only products that are sold, each once."""
    products = dict.fromkeys(product for product in first if product in sold)
    for product in then:
        if len(products) >= length:
            break
        if product in sold and product not in items:
            products.setdefault(product)
    return list(products)[:length]
