"""Co-visitation: products seen near one another in a session of train, forward and backward.

Teams of the KDD Cup started from such rules. Each pair of products up to three steps apart counts, near pairs
more, and more for the later product than for the earlier one. The counts of all products of a session are
added, with the largest weight on the latest ones. The session's own products are left out.
"""

from pairs import best, counts


def recommend(catalogue, train, asked, unlabeled):
    """The 100 products of each session's locale with the largest sums; see starter/method.py."""
    paths = [[*items, answer] for items, answer in zip(train.items, train.answer.tolist(), strict=True)]
    return best(catalogue, asked, counts(paths, catalogue.count))
