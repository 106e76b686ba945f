"""The full tier: Meta-Album, whose sets each have one dataset from each of ten domains.

Set 0 is published, the dev tasks come from set 1 and the test tasks from set 2, so every split has the
ten domains with different classes. The paper meta-trains on sets 0 and 1 before it tests on set 2. Here set 1
stays hidden, because dev is scored on it, and this makes test harder.

Ways, shots and queries are drawn as in the competition: 2 to 20 ways, 1 to 20 shots, and 20 queries of each
class, from classes of 40 images. The competition tests on 600 tasks of each domain. Here there are 30,
drawn once, so that the images of a split's tasks, which overlap, stay below six gigabytes.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from mlrcbench.errors import DataError
from mlrcbench.sources.raw import find, listing, matches

SETS = {
    "train": ("BRD", "PLK", "FLW", "PLT_VIL", "BCT", "RESISC", "CRS", "TEX", "SPT", "MD_MIX"),
    "dev": ("DOG", "INS_2", "PLT_NET", "MED_LF", "PNU", "RSICB", "APL", "TEX_DTD", "ACT_40", "MD_5_BIS"),
    "test": ("AWA", "INS", "FNG", "PLT_DOC", "PRT", "RSD", "BTS", "TEX_ALOT", "ACT_410", "MD_6"),
}
SIDE = 128  # pixels
TASKS = 30  # of each dataset, in each split
WAYS, SHOTS, QUERIES = (2, 20), (1, 20), 20
SEED = 20
Images = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.int64]
Rows = list[tuple[Path, str]]  # image and category


def convert(raw: Path, public: Path, private: Path) -> None:
    """Write the files of the instance.

    Args:
        raw: Holds `meta-album/`. It has a folder for each dataset of SETS, named after it, with or without
            the ending `_Mini`, that contains `labels.csv`, `info.json` and `images/`.
        public: Receives `images.npy`, uint8 (n, 3, SIDE, SIDE), `labels.npy` and `domains.npy`, int64 (n,).
        private: Receives for each split `inputs/` and `answers/`, as in the mini tier.

    Raises:
        DataError: A dataset is missing or malformed.
    """
    folder = raw / "meta-album"
    paths = listing(folder)
    tables = {name: read_table(folder, paths, name) for part in SETS.values() for name in part}
    write_training([tables[name] for name in SETS["train"]], public)
    for stream, split in enumerate(("dev", "test"), 1):
        random = np.random.default_rng([SEED, stream])
        write_tasks([tables[name] for name in SETS[split]], private / split, random)


def read_table(folder: Path, paths: list[str], name: str) -> Rows:
    """The images of a dataset with their categories, in the table's order.

    Raises:
        DataError: A column or an image is missing.
    """
    info = json.loads(find(folder, f"{name}_Mini/info.json|{name}/info.json").read_text("utf-8"))
    table = find(folder, f"{name}_Mini/labels.csv|{name}/labels.csv")
    images = {Path(path).name: folder / path for path in matches(paths, f"{table.parent.name}/images/*")}
    rows: Rows = []
    with table.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            try:
                rows.append((images[row[info["image_column_name"]]], row[info["category_column_name"]]))
            except KeyError as error:
                raise DataError(f"{table}: column or image {error} is missing") from None
    counts = np.unique([category for _, category in rows], return_counts=True)[1]
    if len(counts) < WAYS[0] or counts.min() < QUERIES + SHOTS[1]:
        raise DataError(
            f"{table} must have at least {WAYS[0]} classes, with at least {QUERIES + SHOTS[1]} images each"
        )
    return rows


def load(path: Path) -> Images:
    """Read one image, uint8 (3, SIDE, SIDE).

    Raises:
        DataError: The file is not an image.
    """
    try:
        with Image.open(path) as image:
            plain = image.convert("RGB")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} is not an image: {error}") from error
    if plain.size != (SIDE, SIDE):
        plain = plain.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return np.asarray(plain, dtype=np.uint8).transpose(2, 0, 1)


def write_training(tables: list[Rows], public: Path) -> None:
    """Write the published images in random order, with numbers for classes and domains."""
    labels, domains, sources = [], [], []
    classes = 0
    for domain, rows in enumerate(tables):
        names, numbers = np.unique([category for _, category in rows], return_inverse=True)
        labels.append(classes + numbers)
        domains.append(np.full(len(rows), domain))
        sources += [path for path, _ in rows]
        classes += len(names)
    order = np.random.default_rng([SEED, 0]).permutation(len(sources))
    np.save(public / "labels.npy", np.concatenate(labels)[order].astype(np.int64))
    np.save(public / "domains.npy", np.concatenate(domains)[order].astype(np.int64))
    images = _array(public / "images.npy", len(sources))
    for row, place in enumerate(order):
        images[row] = load(sources[place])
    print(f"meta-learning: {len(sources)} images of {classes} classes for meta-training", flush=True)


def write_tasks(tables: list[Rows], folder: Path, random: np.random.Generator) -> None:
    """Write tasks of some datasets in random order, and their answers."""
    plans = [draw_task(rows, domain, random) for domain, rows in enumerate(tables) for _ in range(TASKS)]
    plans = [plans[place] for place in random.permutation(len(plans))]
    ways, shots = (np.array([getattr(plan, name) for plan in plans]) for name in ("ways", "shots"))
    support = _array(folder / "inputs" / "support_images.npy", int((ways * shots).sum()))
    queries = _array(folder / "inputs" / "query_images.npy", int((ways * QUERIES).sum()))
    for domain, rows in enumerate(tables):
        images = np.stack([load(path) for path, _ in rows])
        start = begin = 0
        for plan in plans:
            stop, end = start + len(plan.support), begin + len(plan.queries)
            if plan.domain == domain:
                support[start:stop], queries[begin:end] = images[plan.support], images[plan.queries]
            start, begin = stop, end
        print(f"meta-learning: tasks of domain {domain + 1} of {len(tables)}", flush=True)
    constant = np.full(len(plans), QUERIES)
    domains = np.array([plan.domain for plan in plans])
    np.save(folder / "inputs" / "support_labels.npy", np.concatenate([plan.support_labels for plan in plans]))
    np.save(folder / "inputs" / "tasks.npy", np.stack([ways, shots, constant], axis=1))
    np.save(folder / "answers" / "labels.npy", np.concatenate([plan.query_labels for plan in plans]))
    np.save(folder / "answers" / "tasks.npy", np.stack([domains, ways, constant], axis=1))


class Plan:
    """One task: rows of the table of its dataset, and class ids within the task."""

    def __init__(self, domain: int, rows: Numbers, shots: int, random: np.random.Generator) -> None:
        self.domain, self.ways, self.shots = domain, len(rows), shots
        ids = np.broadcast_to(np.arange(self.ways)[:, None], rows.shape)
        orders = random.permutation(self.ways * shots), random.permutation(self.ways * QUERIES)
        self.support = rows[:, :shots].reshape(-1)[orders[0]]
        self.support_labels = ids[:, :shots].reshape(-1)[orders[0]].astype(np.int64)
        self.queries = rows[:, shots:].reshape(-1)[orders[1]]
        self.query_labels = ids[:, shots:].reshape(-1)[orders[1]].astype(np.int64)


def draw_task(table: Rows, domain: int, random: np.random.Generator) -> Plan:
    """Draw the classes and images of one task; no image occurs twice in it."""
    names, numbers = np.unique([category for _, category in table], return_inverse=True)
    ways = min(int(random.integers(WAYS[0], WAYS[1] + 1)), len(names))
    shots = int(random.integers(SHOTS[0], SHOTS[1] + 1))
    classes = random.choice(len(names), ways, replace=False)
    rows = [random.choice(np.flatnonzero(numbers == one), shots + QUERIES, replace=False) for one in classes]
    return Plan(domain, np.stack(rows), shots, random)


def _array(path: Path, count: int) -> Images:
    """Create a file for `count` images, to be filled; it is never in memory as a whole."""
    return np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(count, 3, SIDE, SIDE))
