"""Data: a shop in three locales, its visitors, and the law by which they move from product to product.

A world is a catalogue (categories, brands, prices, attributes, invented words) and a kernel over it. The
kernel has two parts. The *successor* part is specific: each product has followers that can only be learnt
by counting sessions. The *content* part is general: it leads to similar products. A visitor's next product
is drawn from the kernel rows of the latest products, tilted towards the brands, colours and prices of the
session so far. Content and tilt can be learnt from attributes, and also apply to products without a past.

Shortcuts that the generator rules out:

- There are few sessions for the number of products, so counts are sparse.
- Products are born and die, also between train, dev and test: the last popular products are not the next.
- Each locale has its own words: one locale's catalogue does not explain another's word by word.
- Ids are random, rows are shuffled, and the answer is never in its own session.

Catalogue, train, dev and test have separate random streams: nothing public helps to predict what is
hidden. The law is known here, so the best possible lists are stored with the answers.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

LOCALES = ("DE", "JP", "UK")
LOCALE_SHARES = (0.34, 0.28, 0.38)
SHARED = 0.20  # chance that a product of one locale is also sold in another
CURRENCY = {"DE": 1.0, "JP": 150.0, "UK": 0.9}

PRODUCTS, CATEGORIES, DEPARTMENTS, BRANDS = 3600, 48, 8, 220
SESSIONS = {"train": 9000, "dev": 3000, "test": 3000}
SPANS = {"train": (0.0, 1.0), "dev": (1.0, 1.06), "test": (1.06, 1.12)}
LISTED = 100

# The catalogue.
WIDTH = 12  # of the latent content vector
BORN, BIRTHS = 0.30, (0.75, 1.12)  # share of products that arrive late, and when
DIED, DEATHS = 0.10, (0.4, 1.12)  # share of the others that disappear, and when
NEW_BOOST, NEW_SPAN = 1.5, 0.12  # extra demand for a product this long after its birth
ATTRIBUTES = {"color": 12, "size": 6, "material": 15}
BLANK = {"brand": 0.1, "color": 0.2, "size": 0.4, "model": 0.4, "material": 0.4, "author": 0.5, "desc": 0.1}

# The law of a session.
FOLLOWERS, FOLLOWER_DECAY = 24, 1.2
ALIKE = 40
SUCCESSOR, POPULAR = 0.60, 0.03  # weights of the kernels; content has the rest
MEMORY, DECAY = 4, 0.5  # latest products that count, and the weight of each relative to the next
BRAND_TILT, COLOUR_TILT, PRICE_TILT = 1.4, 1.2, 1.5
LONGER, LONGEST = 0.56, 20  # chance of one more product; maximum number of previous products
REPEAT = 0.08  # chance that a previous product repeats the one before it

_CHUNK = 1000
_COLUMNS = ("id", "locale", "title", "price", "brand", "color", "size", "model", "material", "author", "desc")
_SYLLABLES = [a + b for a in "bdfghjklmnprstvwz" for b in ("a", "e", "i", "o", "u", "an", "er", "os")]


@dataclass(frozen=True)
class World:
    """The truth about a shop; products are numbered 0 to n - 1, in no order.

    Attributes:
        ids: Public id of each product.
        category, brand: (n,) number of each product's category and brand.
        attributes: For each column name the (n,) numbers of colours, sizes or materials.
        content: (n, WIDTH) latent content vectors.
        price: (n,) logarithms of prices.
        popularity: (locales, n) demand; zero where a product is not sold.
        born, dies: (n,) when a product arrives and when it disappears, in units of the time of train.
        kernel: (n, n) weights of the next product, by the present one.
    """

    ids: list[str]
    category: Ints
    brand: Ints
    attributes: dict[str, Ints]
    content: Floats
    price: Floats
    popularity: Floats
    born: Floats
    dies: Floats
    kernel: Floats


@dataclass(frozen=True)
class Sessions:
    """Sessions of one split.

    Attributes:
        locale: (m,) number of each session's locale.
        time: (m,) time of each session; never published.
        length: (m,) number of previous products.
        items: (m, LONGEST + 1) previous products, then the answer, then -1.
        best: (m, LISTED) the products that are most likely to be the answer, best first.
    """

    locale: Ints
    time: Floats
    length: Ints
    items: Ints
    best: Ints


def build(public: Path, private: Path, *, seed: int, tier: str) -> None:
    """Write the files of one instance.

    Args:
        public: Receives `products.csv`, `train.csv`, `dev_features.csv`.
        private: Receives for each split `inputs/features.csv` (`session_id`, `prev_items`, `locale`) and, in
            `answers/`, the arrays that the scorer reads, and `best.npy`.
        seed: Derived from the secret, 0 <= seed < 2**63; decides every byte.
        tier: Always "mini".
    """
    del tier
    streams = [np.random.default_rng([seed, part]) for part in range(5)]
    world = make_world(streams[0])
    rows = write_products(public / "products.csv", world, streams[1])
    print(f"product-recommendation: {len(world.ids)} products in {len(rows)} rows", flush=True)
    train = make_sessions(world, "train", streams[2])
    _write_table(public / "train.csv", ("prev_items", "next_item", "locale"), _texts(world, train))
    for number, split in enumerate(("dev", "test"), 3):
        numbers = streams[number].choice(10**6, SESSIONS[split], replace=False)
        sessions = make_sessions(world, split, streams[number])
        write_features(private / split / "inputs" / "features.csv", world, sessions, numbers)
        if split == "dev":
            write_features(public / "dev_features.csv", world, sessions, numbers)
        write_answers(private / split / "answers", sessions, numbers, rows)
        print(f"product-recommendation: {len(numbers)} sessions of {split}", flush=True)


def make_world(random: np.random.Generator) -> World:
    """Draw the catalogue and the kernels."""
    n = PRODUCTS
    department = random.normal(size=(DEPARTMENTS, WIDTH))
    centre = 0.8 * department[np.arange(CATEGORIES) % DEPARTMENTS] + random.normal(size=(CATEGORIES, WIDTH))
    category = random.choice(CATEGORIES, n, p=random.dirichlet(np.full(CATEGORIES, 6.0)))
    brand = _brands(random, category)
    character = random.normal(size=(BRANDS, WIDTH))
    content = (centre[category] + 0.55 * character[brand] + 0.6 * random.normal(size=(n, WIDTH))).astype("f4")
    level = random.normal(3.2, 0.7, CATEGORIES)[category] + 0.3 * random.normal(size=BRANDS)[brand]
    price = (level + 0.4 * random.normal(size=n)).astype("f4")
    attributes = {
        name: random.choice(count, n, p=random.dirichlet(np.full(count, 3.0)))
        for name, count in ATTRIBUTES.items()
    }
    late = random.random(n) < BORN
    born = np.where(late, random.uniform(*BIRTHS, n), -1.0)
    dies = np.where(~late & (random.random(n) < DIED), random.uniform(*DEATHS, n), 9.0)
    sold = random.random((len(LOCALES), n)) < SHARED
    sold[random.choice(len(LOCALES), n, p=LOCALE_SHARES), np.arange(n)] = True
    demand = np.exp(0.7 * random.normal(size=n) + 0.4 * random.normal(size=(len(LOCALES), n)))
    return World(
        ids=_ids(random, n),
        category=category,
        brand=brand,
        attributes=attributes,
        content=content,
        price=price,
        popularity=np.where(sold, demand, 0.0).astype("f4"),
        born=born.astype("f4"),
        dies=dies.astype("f4"),
        kernel=_kernel(random, content, price, category),
    )


def _brands(random: np.random.Generator, category: Ints) -> Ints:
    """Draw a brand for each product: some brands are large, and each keeps to two categories."""
    size = random.pareto(1.5, BRANDS) + 0.2
    home = random.integers(CATEGORIES, size=(BRANDS, 2))
    brand = np.zeros(len(category), dtype=np.int64)
    for number in range(CATEGORIES):
        share = size * (0.002 + (home == number).any(axis=1))
        places = np.flatnonzero(category == number)
        brand[places] = random.choice(BRANDS, len(places), p=share / share.sum())
    return brand


def _kernel(random: np.random.Generator, content: Floats, price: Floats, category: Ints) -> Floats:
    """Weights (n, n) of the next product by the present one; rows sum to one.

    Four things decide which followers a product has: nearness, a turn of the content space that is the same
    for all products (which products go together), whether the categories go together, and chance.
    """
    n = len(price)
    square = (content**2).sum(axis=1)
    distance = np.maximum(square[:, None] + square[None] - 2 * content @ content.T, 0.0)
    turn = random.normal(size=(WIDTH, WIDTH)).astype("f4") / np.float32(np.sqrt(WIDTH))
    partner = random.permutation(CATEGORIES)
    affinity = -distance / 9 + (content @ turn @ content.T) / 6
    affinity += 1.2 * (category[None] == partner[category][:, None])
    affinity += random.gumbel(0.0, 0.8, (n, n)).astype("f4")
    alike = -distance / 4 - np.abs(price[:, None] - price[None]) / 0.8
    kernel = np.zeros((n, n), dtype="f4")
    rows = np.arange(n)[:, None]
    for matrix, count, share in ((affinity, FOLLOWERS, SUCCESSOR), (alike, ALIKE, 1 - SUCCESSOR)):
        np.fill_diagonal(matrix, -np.inf)
        best = np.argsort(-matrix, axis=1)[:, :count]
        weight = np.arange(1, count + 1, dtype="f4") ** np.float32(-FOLLOWER_DECAY)
        if matrix is alike:
            weight = np.exp(matrix[rows, best] - matrix[rows, best[:, :1]])
        kernel[rows, best] += np.float32(share) * weight / weight.sum(axis=-1, keepdims=True)
    return kernel


def next_weights(world: World, latest: Ints, locale: Ints, time: Floats) -> Floats:
    """Probabilities (m, n) that each product is the next one; rows sum to one.

    Args:
        world: The shop.
        latest: (m, k) products of the session so far, latest first; -1 where the session has fewer.
        locale: (m,) number of each session's locale.
        time: (m,) time of each session.
    """
    known = latest >= 0
    memory = np.where(known, DECAY ** np.arange(latest.shape[1]), 0.0).astype("f4")
    chances = np.zeros((len(latest), len(world.ids)), dtype="f4")
    for place in range(latest.shape[1]):
        chances += memory[:, place, None] * world.kernel[latest[:, place]]
    count = known.sum(axis=1)
    price = np.where(known, world.price[latest], 0.0).sum(axis=1) / count
    tilt = -PRICE_TILT * np.abs(world.price[None] - price[:, None].astype("f4"))
    for strength, kinds in ((BRAND_TILT, world.brand), (COLOUR_TILT, world.attributes["color"])):
        seen = np.zeros((len(latest), kinds.max() + 2), dtype="f4")
        np.put_along_axis(seen, np.where(known, kinds[latest], kinds.max() + 1), np.float32(strength), axis=1)
        tilt += seen[:, kinds]
    chances *= np.exp(tilt)
    demand = _demand(world, locale, time)
    chances *= (demand > 0) * _boost(world, time)
    chances /= np.maximum(chances.sum(axis=1, keepdims=True), 1e-9)
    chances *= 1 - POPULAR
    chances += POPULAR * demand / demand.sum(axis=1, keepdims=True)
    return chances


def make_sessions(world: World, split: str, random: np.random.Generator) -> Sessions:
    """Draw the sessions of one split; each step draws one product for all of them."""
    count = SESSIONS[split]
    locale = random.choice(len(LOCALES), count, p=LOCALE_SHARES)
    time = random.uniform(*SPANS[split], count).astype("f4")
    length = np.minimum(1 + random.geometric(1 - LONGER, count), LONGEST)
    items = np.full((count, LONGEST + 1), -1, dtype=np.int64)
    best = np.zeros((count, LISTED), dtype=np.int64)
    for step in range(LONGEST + 1):
        for start in range(0, count, _CHUNK):
            part = np.arange(start, min(start + _CHUNK, count))
            part = part[length[part] >= step]
            if step == 0:
                items[part, 0] = _draw(_demand(world, locale[part], time[part]), random)
            if step == 0 or len(part) == 0:
                continue
            latest = items[part, :step][:, ::-1][:, :MEMORY]
            chances = next_weights(world, latest, locale[part], time[part])
            np.put_along_axis(chances, np.maximum(items[part, :step], 0), 0.0, axis=1)
            drawn = _draw(chances, random)
            last = length[part] == step
            again = ~last & (random.random(len(part)) < REPEAT)
            items[part, step] = np.where(again, items[part, step - 1], drawn)
            if split != "train" and last.any():
                best[part[last]] = np.argsort(-chances[last], axis=1, kind="stable")[:, :LISTED]
    return Sessions(locale, time, length, items, best)


def _demand(world: World, locale: Ints, time: Floats) -> Floats:
    """Popularity (m, n) of the products sold in a locale at a time; new products are in demand."""
    age = time[:, None] - world.born[None]
    alive = (age >= 0) & (time[:, None] < world.dies[None])
    return world.popularity[locale] * alive * _boost(world, time)


def _boost(world: World, time: Floats) -> Floats:
    """Factor (m, n) of demand: products that have just arrived are in higher demand."""
    age = time[:, None] - world.born[None]
    return np.where((age >= 0) & (age < NEW_SPAN), 1 + NEW_BOOST, 1.0).astype("f4")


def _draw(weights: Floats, random: np.random.Generator) -> Ints:
    """Draw one number for each row, with probabilities proportional to the row's weights."""
    sums = np.cumsum(weights, axis=1, dtype=np.float64)
    spots = random.random(len(weights)) * sums[:, -1]
    numbers: Ints = (sums <= spots[:, None]).sum(axis=1).astype(np.int64)
    return numbers


def write_products(path: Path, world: World, random: np.random.Generator) -> dict[tuple[int, int], int]:
    """Write the catalogue; return the row number for each (locale, product)."""
    places = [(int(a), int(b)) for a, b in np.argwhere(world.popularity > 0)]
    places = [places[i] for i in random.permutation(len(places))]
    text = _Text(world, random)
    _write_table(path, _COLUMNS, (text.row(*place) for place in places))
    return {place: row for row, place in enumerate(places)}


def write_features(path: Path, world: World, sessions: Sessions, numbers: Ints) -> None:
    """Write what a method sees of the sessions that it has to answer."""
    rows = zip(numbers.astype(str), _texts(world, sessions), strict=True)
    features = ((number, items, locale) for number, (items, _, locale) in rows)
    _write_table(path, ("session_id", "prev_items", "locale"), features)


def write_answers(folder: Path, sessions: Sessions, numbers: Ints, rows: dict[tuple[int, int], int]) -> None:
    """Write `truth.npy` and `row_locale.npy`, which the scorer reads, and `best.npy`, the best artefact."""
    folder.mkdir(parents=True, exist_ok=True)
    lookup = np.full((len(LOCALES), PRODUCTS), -1, dtype=np.int32)
    for place, row in rows.items():
        lookup[place] = row
    answer = lookup[sessions.locale, sessions.items[np.arange(len(numbers)), sessions.length]]
    best = lookup[sessions.locale[:, None], sessions.best]
    np.save(folder / "row_locale.npy", np.array([locale for locale, _ in rows], dtype=np.int8))
    np.save(folder / "truth.npy", np.column_stack([numbers, answer]).astype("<i4"))
    np.save(folder / "best.npy", np.column_stack([numbers, best]).astype("<i4"))


class _Text:
    """Texts of products: content decides what is said, the locale decides the words."""

    def __init__(self, world: World, random: np.random.Generator) -> None:
        self._world, self._random = world, random
        # Signs of content along planes of the category (title) and along common planes (desc).
        planes = random.normal(size=(CATEGORIES, WIDTH, 8))
        centre = np.stack([world.content[world.category == c].mean(axis=0) for c in range(CATEGORIES)])
        inner = np.einsum("nd,ndk->nk", world.content - centre[world.category], planes[world.category])
        self._title = (inner > 0) + 2 * np.arange(8) + 16 * world.category[:, None]
        outer = world.content @ random.normal(size=(WIDTH, 16))
        self._desc = (outer > np.median(outer, axis=0)) + 2 * np.arange(16)
        kinds = {"title": 16 * CATEGORIES, "noun": CATEGORIES, "desc": 32, "noise": 400, **ATTRIBUTES}
        draw = {kind: range(count) for kind, count in kinds.items()}
        self._words = [{kind: [_word(random) for _ in draw[kind]] for kind in kinds} for _ in LOCALES]
        self._brands = [_word(random).capitalize() for _ in range(BRANDS)]
        self._codes = [f"{_word(random)[:2].upper()}-{code}" for code in random.integers(100, 9999, PRODUCTS)]

    def row(self, locale: int, product: int) -> list[str]:
        """The cells of one row of the catalogue."""
        world, words, random = self._world, self._words[locale], self._random
        brand = self._brands[world.brand[product]]
        title = [brand, words["noun"][world.category[product]], *self._some("title", locale, product, 0.9)]
        cells = {
            "id": world.ids[product],
            "locale": LOCALES[locale],
            "title": " ".join(title),
            "price": f"{np.exp(world.price[product]) * CURRENCY[LOCALES[locale]]:.2f}",
            "brand": brand,
            "model": self._codes[product],
            "author": "",
            "desc": " ".join(self._some("desc", locale, product, 0.8)),
        }
        for kind, numbers in world.attributes.items():
            cells[kind] = words[kind][numbers[product]]
        return ["" if random.random() < BLANK.get(name, 0.0) else cells[name] for name in _COLUMNS]

    def _some(self, kind: str, locale: int, product: int, chance: float) -> list[str]:
        """The product's words of one kind, some omitted, and three without meaning, in random order."""
        words, random = self._words[locale], self._random
        numbers = (self._title if kind == "title" else self._desc)[product]
        text = [words[kind][i] for i in numbers[random.random(len(numbers)) < chance]]
        text += [words["noise"][i] for i in random.integers(400, size=3)]
        return [text[i] for i in random.permutation(len(text))]


def _texts(world: World, sessions: Sessions) -> Iterator[tuple[str, str, str]]:
    """For each session: previous products as the real files print them, next product, and locale."""
    for items, length, locale in zip(sessions.items, sessions.length, sessions.locale, strict=True):
        ids = [world.ids[i] for i in items[: length + 1]]
        yield "[" + " ".join(f"'{one}'" for one in ids[:-1]) + "]", ids[-1], LOCALES[locale]


def _ids(random: np.random.Generator, count: int) -> list[str]:
    """Different random ids of ten characters."""
    letters = np.array(list("0123456789ABCDEFGHJKLMNPQRSTUVWXYZ"))
    codes = letters[random.integers(len(letters), size=(2 * count, 8))]
    return list(dict.fromkeys("B0" + "".join(code) for code in codes))[:count]


def _word(random: np.random.Generator) -> str:
    """An invented word of two to four syllables."""
    return "".join(_SYLLABLES[i] for i in random.integers(len(_SYLLABLES), size=random.integers(2, 5)))


def _write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a CSV file with a header."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([columns, *rows])
