"""Co-visitation in train and in the unlabeled sessions, which are later and count three times as much."""

from pairs import best, counts

UNLABELED = 3.0  # weight of an unlabeled session relative to one of train


def recommend(catalogue, train, asked, unlabeled):
    """The 100 products of each session's locale with the largest sums; see starter/method.py."""
    paths = [[*items, answer] for items, answer in zip(train.items, train.answer.tolist(), strict=True)]
    table = counts(paths, catalogue.count)
    table += counts(unlabeled.items, catalogue.count, UNLABELED)
    return best(catalogue, asked, table)
