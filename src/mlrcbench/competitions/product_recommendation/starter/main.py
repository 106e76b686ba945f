"""Entry point. Protected: this file is restored before every evaluation.

python main.py            try the method on sessions held out of data/train.csv
python main.py predict    what an evaluation runs: inputs/ -> artefacts/predictions.npy
"""

import sys

import numpy as np
import torch

from method import recommend
from shop import LISTED, LOCALES, join, read_catalogue, read_sessions

SEED = 20
HELD_OUT = 1500


def run(catalogue, train, asked, unlabeled):
    """Call the method with a fixed seed, and check that it returns (n, 100) products."""
    torch.manual_seed(SEED)
    lists = np.asarray(recommend(catalogue, train, asked, unlabeled))
    if lists.shape != (len(asked), LISTED) or lists.dtype.kind not in "iu":
        sys.exit(f"recommend() returned {lists.dtype} {lists.shape}; it must be int ({len(asked)}, {LISTED})")
    return lists


def experiment():
    """Answer sessions that are held out of train, and print how well that works."""
    catalogue = read_catalogue()
    train, dev = read_sessions("data/train.csv", catalogue), read_sessions("data/dev_features.csv", catalogue)
    order = np.random.default_rng(SEED).permutation(len(train))
    held_out, rest = train.take(order[:HELD_OUT]), train.take(order[HELD_OUT:])
    asked = held_out.take(np.arange(HELD_OUT), answers=False)
    print(f"{len(rest)} sessions to learn from, {HELD_OUT} held out, {len(dev)} more unlabeled", flush=True)
    hits = run(catalogue, rest, asked, join(asked, dev)) == held_out.answer[:, None]
    gains = np.where(hits.any(1), 1 / (1 + hits.argmax(1)), 0.0)
    known = np.isin(held_out.answer, rest.answer)
    for locale in LOCALES:
        print(f"  {locale}: MRR@100 {gains[held_out.locale == locale].mean():.4f}")
    print(
        f"  answers that were an answer before: {gains[known].mean():.4f}, others {gains[~known].mean():.4f}"
    )
    print(f"all: MRR@100 {gains.mean():.4f}, found in {100 * hits.any(1).mean():.1f} %", flush=True)


def predict():
    """Answer the split that is evaluated; a row is a session's id and 100 row numbers of products.csv."""
    catalogue = read_catalogue()
    train, dev = read_sessions("data/train.csv", catalogue), read_sessions("data/dev_features.csv", catalogue)
    asked = read_sessions("inputs/features.csv", catalogue)
    same = np.array_equal(asked.session_id, dev.session_id)
    lists = run(catalogue, train, asked, asked if same else join(asked, dev))
    rows = np.empty((len(asked), 1 + LISTED), dtype="<i4")
    rows[:, 0] = asked.session_id
    for i, (locale, products) in enumerate(zip(asked.locale, lists.tolist(), strict=True)):
        rows[i, 1:] = [catalogue.row[locale].get(one, -1) for one in products]
    np.save("artefacts/predictions.npy", rows)
    print(f"wrote artefacts/predictions.npy with {len(rows)} sessions", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1:] == ["predict"]:
        predict()
    elif not sys.argv[1:]:
        experiment()
    else:
        sys.exit("usage: python main.py [predict]")
