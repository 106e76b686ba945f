"""First stage: counts, content and attributes, which give candidates and the ranker's features."""

from dataclasses import dataclass

import numpy as np
import torch

import tower

DISTANCE = (1.0, 0.5, 0.3)  # weight of a pair of products, by the number of steps between them
BACKWARD, DECAY = 0.5, 0.6  # weight of the earlier product of a pair; of a product relative to the next
CANDIDATES = 120
LATER = 3.0  # weight of unlabeled sessions' counts when candidates are chosen
CONTENT = 0.12  # weight of the content model when candidates are chosen
ATTRIBUTES = ("brand", "color", "size", "material")


@dataclass
class Candidates:
    """Of n sessions: `features` (n, k, width), places of answers `right` (n,) or -1, `products` (n, k)."""

    features: torch.Tensor
    right: torch.Tensor
    products: torch.Tensor


class Shop:
    """What is known about the products."""

    def __init__(self, catalogue, known, hidden):
        self.sold, groups = catalogue.sold, (known, hidden)
        self.bags, self.words = tower.bags(catalogue)
        self.likeness = {locale: tower.likeness(bag) for locale, bag in self.bags.items()}
        self.near = [counts(paths, catalogue.count) for paths in groups]
        self.step = [counts(paths, catalogue.count, (1.0,), 0.0) for paths in groups]
        self.seen = [np.bincount(np.concatenate(paths), minlength=catalogue.count) for paths in groups]
        self.codes, self.prices = {}, {}
        for locale, sold in catalogue.sold.items():
            rows = [catalogue.row[locale][one] for one in sold.tolist()]
            texts = {name: [catalogue.table[name][row] for row in rows] for name in (*ATTRIBUTES, "price")}
            self.codes[locale] = [torch.from_numpy(codes(texts[name])) for name in ATTRIBUTES]
            self.prices[locale] = torch.tensor([float(text) for text in texts["price"]]).log()

    def examples(self, lessons):
        """Examples for a content model, from every step of each session: (last, mean, answer) by locale."""
        examples = {}
        for locale, sold in self.sold.items():
            paths = [[*one.items, one.answer] for one in lessons if one.locale == locale]
            cuts = [(path[:stop], path[stop]) for path in paths for stop in range(1, len(path))]
            cuts = [(before, after) for before, after in cuts if after not in before]
            answers = torch.from_numpy(np.searchsorted(sold, [after for _, after in cuts]))
            examples[locale] = (*self.sessions(locale, [before for before, _ in cuts]), answers)
        return examples

    def sessions(self, locale, paths):
        """Last products (n,), and shares (n, sold) of all products; both by place among the products sold."""
        sold = self.sold[locale]
        mean = np.zeros((len(paths), len(sold)), dtype=np.float32)
        for i, path in enumerate(paths):
            np.add.at(mean[i], np.searchsorted(sold, path), 1 / len(path))
        last = np.searchsorted(sold, [path[-1] for path in paths])
        return torch.from_numpy(last), torch.from_numpy(mean)

    def candidates(self, locale, lessons, towers):
        """Choose candidates for sessions of one locale, by counts and by content, and describe them."""
        sold, bag, likeness = self.sold[locale], self.bags[locale], self.likeness[locale]
        last, mean = self.sessions(locale, [one.items for one in lessons])
        sums = self.evidence(sold, lessons)
        content = sum(model(bag, last, mean).log_softmax(1) for model in towers) / len(towers)
        content -= content.amax(1, keepdim=True)
        mixed = sums[0] + LATER * sums[1]
        mixed = mixed / (mixed.amax(1, keepdim=True) + 1) + CONTENT * content
        mixed[mean > 0] = -torch.inf
        places = mixed.topk(CANDIDATES, dim=1).indices
        paths = [torch.from_numpy(np.searchsorted(sold, one.items)) for one in lessons]
        like_all = torch.stack([likeness[path].mean(0) for path in paths])
        columns = [table.gather(1, places) for table in (*sums, content, like_all)]
        columns += [columns[k] / (sums[k].sum(1, keepdim=True) + 1) for k in range(2)]
        columns[:4] = [part.log1p() for part in columns[:4]]
        columns += [likeness[last[:, None], places], *self.fit_of(locale, places, last, mean)]
        length = torch.tensor([float(len(one.items)) for one in lessons]).log()
        group = torch.tensor([float(one.group) for one in lessons])
        columns += [same[:, None].expand(places.shape) for same in (length, group)]
        hit = torch.from_numpy(sold)[places] == torch.tensor([one.answer for one in lessons])[:, None]
        for k, seen in enumerate(self.seen):
            own = (hit & (group == k)[:, None]).long()
            columns.append((torch.from_numpy(seen[sold])[places] - own).float().log1p())
        right = torch.where(hit.any(1), hit.int().argmax(1), -1)
        return Candidates(torch.stack(columns, -1), right, torch.from_numpy(sold)[places])

    def evidence(self, sold, lessons):
        """Counts that support each product, (4, n, sold): near and next, each of train and of unlabeled.

        The counts that a session's own last step has added are removed.
        """
        near, step = ([table[:, sold] for table in tables] for tables in (self.near, self.step))
        sums = np.zeros((4, len(lessons), len(sold)), dtype=np.float32)
        for i, one in enumerate(lessons):
            latest = np.array(one.items[::-1])
            weight = DECAY ** np.arange(len(latest), dtype=np.float32)
            for k in range(2):
                sums[k, i], sums[2 + k, i] = weight @ near[k][latest], step[k][latest[0]]
            if one.answer >= 0:
                place = np.searchsorted(sold, one.answer)
                for product, added in zip(latest, DISTANCE, strict=False):
                    sums[one.group, i, place] -= added * weight[latest == product].sum()
                sums[2 + one.group, i, place] -= 1
        return torch.from_numpy(sums).clamp(min=0)

    def fit_of(self, locale, places, last, mean):
        """How well attributes and prices of the candidates fit the session: a list of (n, CANDIDATES)."""
        columns = []
        for code in self.codes[locale]:
            known, number = code >= 0, code.clamp(min=0)
            shares = torch.zeros(len(last), int(number.max()) + 1).index_add_(1, number, mean * known)
            columns.append(((code[last][:, None] == code[places]) & known[places]).float())
            columns += [shares.gather(1, number[places]) * known[places], known[places].float()]
        price = self.prices[locale]
        return [*columns, *((price[places] - one[:, None]).abs() for one in (price[last], mean @ price))]


def counts(paths, size, distance=DISTANCE, backward=BACKWARD):
    """Weighted counts (size, size) of pairs of products that were seen near one another."""
    table = np.zeros((size, size), dtype=np.float32)
    for step, near in enumerate(distance, 1):
        pairs = [
            pair for path in paths for pair in zip(path, path[step:], strict=False) if pair[0] != pair[1]
        ]
        before, after = np.array(pairs).T
        np.add.at(table, (before, after), near)
        np.add.at(table, (after, before), near * backward)
    return table


def codes(texts):
    """A number for each different text, and -1 for a blank."""
    number = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    return np.array([number[text] if text else -1 for text in texts])
