"""Co-visitation: products seen near one another in a session of train, forward and backward.

The rules that teams of the KDD Cup started from: each pair of products up to three steps apart counts,
nearer ones more, and more for the later product than for the earlier; a session's products add up what
they were seen with, the latest ones most; its own products are left out.
"""

from pairs import best, counts


def recommend(catalogue, train, asked, unlabeled):
    """The 100 products of each session's locale with the largest sums; see starter/method.py."""
    paths = [[*items, answer] for items, answer in zip(train.items, train.answer.tolist(), strict=True)]
    return best(catalogue, asked, counts(paths, catalogue.count))
