"""V-SKNN (Ludewig and Jannach 2018): products of those sessions of train that are most similar to this one.

Similarity is the dot product of a session, whose later products have larger weights (linear decay), with the
set of products of another. The 100 nearest sessions vote for their products. Each vote is discounted by the
distance of the latest shared product from the end. Rare products count more (inverse document frequency).
"""

from collections import defaultdict

import numpy as np
from shop import LISTED

NEIGHBOURS = 100


def recommend(catalogue, train, asked, unlabeled):
    """The 100 products of each session's locale with the most votes; see starter/method.py."""
    paths = [[*items, answer] for items, answer in zip(train.items, train.answer.tolist(), strict=True)]
    where, seen = defaultdict(list), np.zeros(catalogue.count)
    for number, path in enumerate(paths):
        for product in dict.fromkeys(path):
            where[product].append(number)
            seen[product] += 1
    rarity = np.log(len(paths) / np.maximum(seen, 1)) * (seen > 0)
    print(f"{len(paths)} sessions to be neighbours", flush=True)
    lists = np.zeros((len(asked), LISTED), dtype=np.int64)
    for i, (items, locale) in enumerate(zip(asked.items, asked.locale.tolist(), strict=True)):
        weight = {product: (place + 1) / len(items) for place, product in enumerate(items)}
        likeness = defaultdict(float)
        for product, one in weight.items():
            for number in where[product]:
                likeness[number] += one
        votes = seen / seen.sum() * 1e-3
        for number in sorted(likeness, key=lambda n: (-likeness[n], n))[:NEIGHBOURS]:
            shared = max(weight.get(product, 0.0) for product in paths[number])
            for product in paths[number]:
                votes[product] += likeness[number] * shared * rarity[product]
        votes[items] = -1.0
        sold = catalogue.sold[locale]
        lists[i] = sold[np.argsort(-votes[sold], kind="stable")[:LISTED]]
    return lists
