"""Data: procedural image domains, and few-shot tasks from domains that meta-training has not seen.

A *family* is a way of making small pictures (strokes, tilings, insects, ...). Its classes differ
in parameters that are drawn from the key, such as where the strokes go or how many petals there
are. A *style* adds what a camera and a place would add: colours, light, clutter, noise, tilt. A
domain is a family with a style. Eight families are published for meta-training, with one style and
40 classes each. Four other families make the dev tasks, and four more make the test tasks.

Shortcuts that the generator rules out:

- Every task of dev and test has its own classes and its own style: no published image, and no image
  of another task, shows one of its classes.
- Class ids are places in a random draw, queries are in random order, and domains have no names.
- Ways and shots cover their ranges evenly in every domain, so that instances are equally hard.
- Colours say little about the class and vary from image to image, and figures are bright on dark as
  often as dark on bright, so neither colours nor pixels decide a task.

The published images, dev and test each have their own random stream, derived from the secret seed, so
nothing that is published helps to predict what is hidden.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Random = np.random.Generator

SIDE = 16  # pixels
TRAIN_CLASSES, TRAIN_IMAGES = 40, 30  # classes of a domain, images of a class
TASKS = 10  # of each domain, in each split
WAYS, SHOTS, QUERIES = (2, 20), (1, 20), 15  # classes of a task; images of a class


@dataclass(frozen=True)
class Grid:
    """Coordinates x and y of the pixels of n pictures, (n, 16, 16), and the source of their randomness."""

    x: Array
    y: Array
    rng: Random


# A class draws fields (n, 16, 16) with values in about [0, 1]; a family chooses a class's parameters.
Draw = Callable[[Grid], Array]
Family = Callable[[Random], Draw]


@dataclass(frozen=True)
class Style:
    """What the pictures of a domain have in common, whatever they show."""

    back: Array  # mean colour of the background, (3,); in every other image, of the figure
    front: Array  # mean colour of the figure, (3,); in every other image, of the background
    tint: float  # weight of a class's own colour in the figure
    shade: float  # standard deviation of both colours between images
    clutter: float  # amplitude of smooth random structure in the background
    noise: float  # standard deviation of pixel noise
    turn: float  # largest rotation, in radians


def build(public: Path, private: Path, *, seed: int, tier: str) -> None:
    """Write the files of one instance.

    Args:
        public: Receives `images.npy`, uint8 (n, 3, 16, 16), `labels.npy` and `domains.npy`, int64 (n,).
        private: Receives for each split `inputs/` with `support_images.npy`, `support_labels.npy`,
            `query_images.npy` and `tasks.npy` (ways, shots, queries of a class), and `answers/` with
            `labels.npy` and `tasks.npy` (domain, ways, queries of a class).
        seed: Instance key; decides every byte.
        tier: Always "mini".
    """
    del tier
    _write_training(public, np.random.default_rng([seed, 0]))
    for stream, (split, families) in enumerate((("dev", DEV), ("test", TEST)), 1):
        _write_tasks(private / split, families, np.random.default_rng([seed, stream]))


def _write_training(folder: Path, rng: Random) -> None:
    """Write the published images in random order, with numbers for classes and domains."""
    images = []
    for place in rng.permutation(len(TRAIN)):
        style = draw_style(rng)
        images += [draw_class(TRAIN[place], style, TRAIN_IMAGES, rng) for _ in range(TRAIN_CLASSES)]
    labels = np.repeat(np.arange(len(images), dtype=np.int64), TRAIN_IMAGES)
    order = rng.permutation(len(labels))
    np.save(folder / "images.npy", np.concatenate(images)[order])
    np.save(folder / "labels.npy", labels[order])
    np.save(folder / "domains.npy", labels[order] // TRAIN_CLASSES)


def _write_tasks(folder: Path, families: tuple[Family, ...], rng: Random) -> None:
    """Write tasks of some families in random order, and their answers."""
    parts: dict[str, list[Array]] = {"support": [], "query": []}
    labels: dict[str, list[Array]] = {"support": [], "query": []}
    names = rng.permutation(len(families))
    plans = [(number, *plan) for number in range(len(families)) for plan in plan_tasks(rng)]
    table = np.array(plans)[rng.permutation(len(plans))]
    for number, ways, shots in table:
        family, style, count = families[names[number]], draw_style(rng), shots + QUERIES
        images = np.stack([draw_class(family, style, count, rng) for _ in range(ways)])
        ids = np.repeat(np.arange(ways)[:, None], count, axis=1)
        for part, columns in (("support", slice(0, shots)), ("query", slice(shots, None))):
            order = rng.permutation(ids[:, columns].size)
            parts[part].append(images[:, columns].reshape(-1, 3, SIDE, SIDE)[order])
            labels[part].append(ids[:, columns].reshape(-1)[order])
    constant = np.full(len(table), QUERIES)
    _save(
        folder / "inputs",
        support_images=np.concatenate(parts["support"]),
        support_labels=np.concatenate(labels["support"]),
        query_images=np.concatenate(parts["query"]),
        tasks=np.stack([table[:, 1], table[:, 2], constant], axis=1),
    )
    answers = np.stack([table[:, 0], table[:, 1], constant], axis=1)
    _save(folder / "answers", labels=np.concatenate(labels["query"]), tasks=answers)


def plan_tasks(rng: Random) -> list[tuple[int, int]]:
    """Ways and shots of one domain's tasks: each covers its range evenly, paired at random."""
    ways, shots = (np.linspace(*ends, TASKS).round().astype(int) for ends in (WAYS, SHOTS))
    return list(zip(rng.permutation(ways).tolist(), rng.permutation(shots).tolist(), strict=True))


def draw_style(rng: Random) -> Style:
    """Draw a style whose two colours differ by more than 0.35 in brightness."""
    while True:
        back, front = rng.uniform(0.05, 0.95, (2, 3))
        if abs(back.mean() - front.mean()) > 0.35:
            break
    return Style(
        back=back,
        front=front,
        tint=rng.uniform(0.0, 0.2),
        shade=rng.uniform(0.12, 0.24),
        clutter=rng.uniform(0.2, 0.4),
        noise=rng.uniform(0.02, 0.05),
        turn=rng.uniform(0.1, 0.5),
    )


def draw_class(family: Family, style: Style, count: int, rng: Random) -> npt.NDArray[np.uint8]:
    """Draw images of a new class, uint8 (count, 3, 16, 16)."""
    draw, colour = family(rng), rng.uniform(0.05, 0.95, 3)
    at = coordinates(count, style.turn, rng)
    field = np.clip(draw(at), 0.0, 1.0)[:, None]
    shape = (count, 3, 1, 1)
    front = (1 - style.tint) * style.front + style.tint * colour
    front = front[:, None, None] + style.shade * rng.normal(size=shape)
    back = style.back[:, None, None] + style.shade * rng.normal(size=shape)
    inverted = rng.random((count, 1, 1, 1)) < 0.5
    front, back = np.where(inverted, back, front), np.where(inverted, front, back)
    back = back + style.clutter * band_noise(count, 1.0, 2.0, rng)[:, None]
    light = 1 + 0.4 * rng.normal(size=(count, 1, 1, 1)) * at.x[:, None]
    image = (back + (front - back) * field) * light
    image += style.noise * rng.normal(size=image.shape)
    pixels: npt.NDArray[np.uint8] = (255 * np.clip(image, 0.0, 1.0)).round().astype(np.uint8)
    return pixels


def coordinates(count: int, turn: float, rng: Random) -> Grid:
    """The coordinates of the pixels, in about [-1, 1], turned, zoomed and shifted for each image."""
    line = (np.arange(SIDE) + 0.5) / SIDE * 2 - 1
    y, x = np.meshgrid(line, line, indexing="ij")
    angle = rng.uniform(-turn, turn, (count, 1, 1))
    zoom = np.exp(rng.uniform(-0.2, 0.2, (count, 1, 1)))
    shift = rng.uniform(-0.2, 0.2, (2, count, 1, 1))
    cos, sin = zoom * np.cos(angle), zoom * np.sin(angle)
    return Grid(cos * x + sin * y + shift[0], cos * y - sin * x + shift[1], rng)


def band_noise(
    count: int, centre: Array | float, width: Array | float, rng: Random, tilt: Array | float = 0.0
) -> Array:
    """Random textures (count, 16, 16) of unit variance, with frequencies around `centre` cycles.

    `tilt` in [-1, 1] prefers vertical or horizontal structure.
    """
    u, v = np.meshgrid(np.fft.fftfreq(SIDE, 1 / SIDE), np.fft.fftfreq(SIDE, 1 / SIDE), indexing="ij")
    radius = np.hypot(u, v)
    gain = np.exp(-(((radius - centre) / width) ** 2)) * np.exp(tilt * (u**2 - v**2) / (radius**2 + 1e-9))
    gain[0, 0] = 0.0
    texture = np.fft.ifft2(np.fft.fft2(rng.normal(size=(count, SIDE, SIDE))) * gain).real
    return np.asarray(texture / texture.std(axis=(1, 2), keepdims=True))


def _soft(x: Array, width: Array | float = 0.1) -> Array:
    """A soft step from 0 to 1 at x = 0."""
    return np.asarray(1 / (1 + np.exp(-np.clip(x / width, -30, 30))))


def _polar(at: Grid) -> tuple[Array, Array]:
    return np.hypot(at.x, at.y), np.arctan2(at.y, at.x)


def _jitter(values: Array, spread: float, at: Grid) -> Array:
    """The class's values with noise for each image, (n, *values.shape, 1, 1)."""
    shape = (len(at.x), *values.shape)
    return np.asarray((values + spread * at.rng.normal(size=shape)).reshape(*shape, 1, 1))


def _dots(at: Grid, spots: Array, size: Array) -> Array:
    """Round blobs, (n, k, 16, 16), at `spots`, (n, k, 2, 1, 1)."""
    squares = (at.x[:, None] - spots[:, :, 0]) ** 2 + (at.y[:, None] - spots[:, :, 1]) ** 2
    return np.asarray(np.exp(-squares / np.square(size)))


def _lines(at: Grid, start: Array, stop: Array, width: Array | float) -> Array:
    """Blurred segments, (n, k, 16, 16), between points of shape (n, k, 2, 1, 1)."""
    dx, dy = (stop - start)[:, :, 0], (stop - start)[:, :, 1]
    px, py = at.x[:, None] - start[:, :, 0], at.y[:, None] - start[:, :, 1]
    along = np.clip((px * dx + py * dy) / (dx**2 + dy**2 + 1e-9), 0, 1)
    return np.asarray(np.exp(-((px - along * dx) ** 2 + (py - along * dy) ** 2) / width**2))


def _phase(at: Grid) -> Array:
    """A random phase for each image."""
    return np.asarray(at.rng.uniform(0, 2 * np.pi, (len(at.x), 1, 1)))


def _family(**ranges: tuple[float, ...]) -> Callable[[Callable[..., Array]], Family]:
    """Make a family from a function that draws fields.

    Args:
        ranges: For each parameter of a class the lowest and the highest value, and its shape. Ranges of
            integers include the highest value.
    """

    def wrap(field: Callable[..., Array]) -> Family:
        def new_class(rng: Random) -> Draw:
            values = {}
            for name, (low, high, *sides) in ranges.items():
                whole = isinstance(low, int)
                draw = rng.uniform(low, high + whole, [int(side) for side in sides])
                values[name] = np.floor(draw).astype(int)[()] if whole else draw
            return functools.partial(field, **values)

        return new_class

    return wrap


@_family(points=(-0.8, 0.8, 5, 2), width=(0.12, 0.2))
def strokes(at: Grid, *, points: Array, width: Array) -> Array:
    """A pen's path through five points."""
    path = _jitter(points, 0.1, at)
    return np.asarray(_lines(at, path[:, :-1], path[:, 1:], width).max(axis=1))


@_family(speed=(4.0, 14.0, 2), way=(0.0, 3.14, 2))
def weaves(at: Grid, *, speed: Array, way: Array) -> Array:
    """Two plane waves."""
    turned = [a * (at.x * np.cos(b) + at.y * np.sin(b)) for a, b in zip(speed, way, strict=True)]
    return np.asarray(0.5 + 0.3 * sum(np.sin(angle + _phase(at)) for angle in turned))


@_family(count=(2, 9), size=(0.18, 0.42), hole=(0.0, 0.9))
def cells(at: Grid, *, count: int, size: Array, hole: Array) -> Array:
    """Several discs or rings at random places."""
    spots = at.rng.uniform(-1, 1, (len(at.x), count, 2, 1, 1))
    return np.asarray(1.3 * (_dots(at, spots, size) - hole * _dots(at, spots, 0.6 * size)).max(axis=1))


@_family(waves=(-0.3, 0.3, 5), phases=(0.0, 6.28, 5, 1, 1))
def silhouettes(at: Grid, *, waves: Array, phases: Array) -> Array:
    """A filled outline, given by Fourier coefficients."""
    radius, angle = _polar(at)
    orders = np.arange(1, 6)[:, None, None]
    edge = _jitter(waves, 0.03, at) * np.cos(orders * angle[:, None] + phases) / np.sqrt(orders)
    return _soft(0.6 + edge.sum(axis=1) - radius)


@_family(pattern=(0, 1, 4, 4), scale=(2.5, 5.0))
def tiles(at: Grid, *, pattern: Array, scale: Array) -> Array:
    """A wall that repeats one 4 by 4 pattern."""
    start = at.rng.uniform(0, 4, (2, len(at.x), 1, 1))
    rows, columns = np.floor(at.x * scale + start[0]), np.floor(at.y * scale + start[1])
    return np.asarray(pattern[rows.astype(int) % 4, columns.astype(int) % 4], dtype=np.float64)


@_family(petals=(3, 8), depth=(0.1, 0.5), core=(0.1, 0.4), size=(0.5, 0.8))
def flowers(at: Grid, *, petals: int, depth: Array, core: Array, size: Array) -> Array:
    """Petals around a core."""
    radius, angle = _polar(at)
    edge = size * (1 - depth + depth * np.cos(petals * angle + _phase(at)))
    return _soft(edge - radius) - 0.8 * _soft(core - radius)


@_family(centre=(1.0, 7.0), width=(0.6, 2.0), tilt=(-1.5, 1.5), edge=(0.15, 1.0))
def grounds(at: Grid, *, centre: Array, width: Array, tilt: Array, edge: Array) -> Array:
    """Random textures with one spectrum."""
    return _soft(band_noise(len(at.x), centre, width, at.rng, tilt), edge)


@_family(spots=(-0.6, 0.6, 4, 2), sizes=(0.15, 0.5, 4, 1, 1), signs=(-1.0, 1.0, 4, 1, 1))
def machines(at: Grid, *, spots: Array, sizes: Array, signs: Array) -> Array:
    """Four round parts at fixed places, some of them cut out."""
    parts = np.sign(signs) * _dots(at, _jitter(spots, 0.08, at), sizes)
    return np.asarray(0.5 + 0.6 * parts.sum(axis=1))


@_family(arms=(1, 5), wind=(-9.0, 9.0), bend=(0.5, 1.5))
def spirals(at: Grid, *, arms: int, wind: Array, bend: Array) -> Array:
    """Winding arms."""
    radius, angle = _polar(at)
    return _soft(np.sin(arms * angle + wind * radius**bend + 0.5 * _phase(at)), 0.3)


@_family(legs=(1, 4), reach=(0.4, 0.9), lean=(-0.5, 0.5), sizes=(0.12, 0.35, 3, 1, 1), gap=(0.3, 0.5))
def insects(at: Grid, *, legs: int, reach: Array, lean: Array, sizes: Array, gap: Array) -> Array:
    """A body of three parts, and pairs of legs."""
    body = _dots(at, _jitter(np.outer([-gap, 0.0, gap], [0.0, 1.0]), 0.04, at), sizes)
    roots = np.outer(np.linspace(-0.5, 0.5, legs), [0.0, 1.0])
    feet = np.concatenate([roots + np.array([reach, lean]), roots + np.array([-reach, lean])])
    start = _jitter(np.concatenate([roots, roots]), 0.03, at)
    return np.asarray(
        np.concatenate([body, _lines(at, start, _jitter(feet, 0.08, at), 0.1)], axis=1).max(axis=1)
    )


@_family(seeds=(3, 13), power=(0.6, 4.0), edge=(0.05, 0.5), stretch=(0.4, 2.5))
def foams(at: Grid, *, seeds: int, power: Array, edge: Array, stretch: Array) -> Array:
    """Bubbles between random seeds, in one of many geometries."""
    spots = at.rng.uniform(-1.2, 1.2, (len(at.x), seeds, 2, 1, 1))
    along, across = np.abs(at.x[:, None] - spots[:, :, 0]), np.abs(at.y[:, None] - spots[:, :, 1])
    near = np.sort((along**power + (stretch * across) ** power) ** (1 / power), axis=1)
    return np.asarray((near[:, 1] - near[:, 0]) / edge)


@_family(wide=(0.25, 0.8), teeth=(3.0, 14.0), tooth=(0.0, 0.15), veins=(5.0, 16.0), steep=(-1.5, 1.5))
def leaves(at: Grid, *, wide: Array, teeth: Array, tooth: Array, veins: Array, steep: Array) -> Array:
    """A toothed blade with veins."""
    edge = wide * (1 - np.clip(np.abs(at.y), 0, 1) ** 2) + tooth * np.sin(teeth * at.y + 0.3 * _phase(at))
    return np.asarray(
        _soft(edge - np.abs(at.x)) * (0.65 + 0.35 * np.sin(veins * (at.y + steep * np.abs(at.x))))
    )


@_family(sides=(3, 7), rings=(4.0, 12.0), sharp=(0.15, 0.8), lean=(0.0, 3.14))
def polygons(at: Grid, *, sides: int, rings: Array, sharp: Array, lean: Array) -> Array:
    """Regular polygons, one inside another."""
    radius, angle = _polar(at)
    sector = 2 * np.pi / sides
    distance = radius * np.cos((angle + lean) % sector - sector / 2)
    return _soft(np.sin(rings * distance + 0.15 * _phase(at)), sharp)


@_family(fine=(4.0, 13.0), bend=(0.0, 3.0), slow=(2.0, 7.0), way=(0.0, 3.14))
def dunes(at: Grid, *, fine: Array, bend: Array, slow: Array, way: Array) -> Array:
    """Stripes that are bent by a wave."""
    u, v = at.x * np.cos(way) + at.y * np.sin(way), at.y * np.cos(way) - at.x * np.sin(way)
    return _soft(np.sin(fine * u + bend * np.sin(slow * v + _phase(at)) + _phase(at)), 0.4)


@_family(wide=(0.5, 0.95), eyes=(0.2, 0.5), size=(0.1, 0.25), curve=(-0.8, 0.8), lips=(0.2, 0.6))
def masks(at: Grid, *, wide: Array, eyes: Array, size: Array, curve: Array, lips: Array) -> Array:
    """Eyes and a mouth in a face."""
    move = 0.05 * at.rng.normal(size=(4, len(at.x), 1, 1))
    face = _soft(1 - np.hypot(at.x / (wide + move[0]), at.y / 0.9))
    holes = np.exp(-((np.abs(at.x) - eyes - move[1]) ** 2 + (at.y + 0.25 - move[2]) ** 2) / size**2)
    mouth = np.exp(-(((at.y - 0.4 - (curve + 2 * move[3]) * at.x**2) / 0.12) ** 2)) * _soft(
        lips - np.abs(at.x)
    )
    return np.asarray(face * (1 - np.maximum(holes, mouth)))


@_family(folds=(2, 6), first=(2.0, 9.0), second=(2.0, 9.0), shift=(0.0, 6.28, 2))
def kaleidoscopes(at: Grid, *, folds: int, first: Array, second: Array, shift: Array) -> Array:
    """A pattern that is mirrored around a centre."""
    radius, angle = _polar(at)
    folded = np.abs((angle % (2 * np.pi / folds)) - np.pi / folds)
    u, v = radius * np.cos(folded), radius * np.sin(folded)
    return np.asarray(0.5 + 0.5 * np.sin(first * u + shift[0]) * np.sin(second * v + shift[1]))


def _save(folder: Path, **arrays: npt.NDArray[np.generic]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)


TRAIN = (strokes, weaves, cells, silhouettes, tiles, flowers, grounds, machines)
DEV = (spirals, insects, foams, leaves)
TEST = (polygons, dunes, masks, kaleidoscopes)
