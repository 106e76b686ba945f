"""Counts of products that were seen near one another, and the best products for a session."""

import numpy as np

from shop import LISTED

DISTANCE = (1.0, 0.5, 0.3)  # weight of a pair, by the number of steps between them
BACKWARD = 0.5  # weight of the earlier product as seen from the later one
DECAY = 0.6  # weight of a session's product relative to the next one


def counts(paths, size, weight=1.0):
    """Weighted counts (size, size) of pairs: the row is the product seen, the column its companion."""
    table = np.zeros((size, size), dtype=np.float32)
    for step, near in enumerate(DISTANCE, 1):
        pairs = [
            pair for path in paths for pair in zip(path, path[step:], strict=False) if pair[0] != pair[1]
        ]
        before, after = np.array(pairs).T
        np.add.at(table, (before, after), weight * near)
        np.add.at(table, (after, before), weight * near * BACKWARD)
    return table


def best(catalogue, asked, table):
    """The products (n, 100) with the largest sums; popular ones where the counts are zero."""
    popular = table.sum(0) / table.sum()
    lists = np.zeros((len(asked), LISTED), dtype=np.int64)
    for locale, sold in catalogue.sold.items():
        small = table[:, sold]
        for i in np.flatnonzero(asked.locale == locale):
            latest = asked.items[i][::-1]
            sums = popular[sold] + DECAY ** np.arange(len(latest)) @ small[latest]
            sums[np.isin(sold, latest)] = -1.0
            lists[i] = sold[np.argsort(-sums, kind="stable")[:LISTED]]
    print(f"{int((table > 0).sum())} pairs of products were seen together", flush=True)
    return lists
