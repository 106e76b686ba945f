"""Data: an imaginary weather, seen by a satellite and, in the middle, by a radar.

Storm systems drift with the wind over a plane. Each gives birth to rain cells that grow and
decay. The radar sees the rain of the central part on a grid that is six times finer; the satellite
sees what stands above it: cold tops that outlive the rain, optical thickness, water vapour. A
movie is drawn from its cells directly, frame by frame, so that short sequences are cheap and
independent of each other.

What keeps the short ways closed:

- The rain of every split is mapped by rank to one fixed curve of rates, so that each threshold is
  exceeded equally often in every instance, and a constant is worth the same everywhere.
- Cold is not wet: tops trail behind their rain and outlive it, their height says little about it, and
  cirrus drifts faster. Low cloud is bright by day, and visible bands are dark by night.
- Dev and test sequences are independent draws, in random order: none continues another.
- The test year has other calibration and other winds: what is fixed on absolute brightness drifts.

Lengths are in satellite pixels, times in steps of 15 minutes, rain rates in mm/h.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlrcbench.errors import DataError

Array = npt.NDArray[Any]
Rng = np.random.Generator

_INFRARED = ("IR_016", "IR_039", "IR_087", "IR_097", "IR_108", "IR_120", "IR_134")
BANDS = (*_INFRARED, "VIS006", "VIS008", "WV_062", "WV_073")

# Sizes of an instance.
SIDE, TARGET, ZOOM = 24, 4, 6  # satellite pixels, those the radar covers, radar pixels in one of them
PERIODS, PERIOD = 96, 30  # the training year: periods and frames of each
SEQUENCES, SEEN, AHEAD = 480, 4, 12  # of dev and of test; frames given and frames to be predicted

# How often a rate is reached, in every split: (rate in mm/h, share of pixels and times).
CURVE = ((0.2, 0.11), (1.0, 0.05), (5.0, 0.0135), (10.0, 0.0062), (15.0, 0.003), (35.0, 1e-5))

# The weather.
SPEED = 0.5  # pixels per step
RATE = 1.3e-4  # systems born per pixel and step
SYSTEM_LIFE, CELL_LIFE = 36.0, 42.0  # steps, mean
CELLS = 5.0  # per system, mean
SCATTER = 1.5  # of the cells of a system, pixels
MARGIN = 5.0  # beyond the picture, where systems may still matter
LEAD = 3.0  # steps by which a cloud is seen before its rain
TRAIL = 2.0  # by which high cloud is seen behind its rain, pixels
NOISE = 0.3  # of a satellite pixel, K


@dataclass(frozen=True)
class Region:
    """What is the same in all years.

    Attributes:
        wind: Mean drift, pixels per step, (2,): x, y.
        trail: Shift of high cloud in the picture, pixels, (2,): against the wind, within 60 degrees.
        relief: Factor of the rain at each radar pixel, (24, 24).
        blocked: Radar pixels without a measurement, (24, 24).
    """

    wind: Array
    trail: Array
    relief: Array
    blocked: Array


@dataclass(frozen=True)
class Year:
    """What differs between years: calibration of each band, (11,), and the mean wind, (2,)."""

    gain: Array
    offset: Array
    wind: Array


@dataclass(frozen=True)
class Cells:
    """The rain cells of one movie; all attributes have one entry per cell.

    Attributes:
        x: Where the centre would be at time 0 without birth and death, pixels.
        y: Likewise.
        dx: Own drift, pixels per step.
        dy: Likewise.
        birth: Step.
        life: Steps.
        size: Standard deviation of the rain, pixels.
        peak: Largest rain rate before it is mapped to the curve.
        cover: Cloud top's size in units of the rain's.
        tall: How high and opaque its top becomes, 1 for most.
    """

    x: Array
    y: Array
    dx: Array
    dy: Array
    birth: Array
    life: Array
    size: Array
    peak: Array
    cover: Array
    tall: Array


@dataclass(frozen=True)
class Waves:
    """A smooth random field of mean 0 and variance 1, a sum of plane waves."""

    kx: Array
    ky: Array
    phase: Array

    def on_grid(self, axis: Array, path: Array) -> Array:
        """Values (frames, n, n) on a square grid, when the field is moved along `path`, (frames, 2)."""
        phases = self.phase - path[:, :1] * self.kx - path[:, 1:] * self.ky
        columns = np.exp(1j * np.outer(self.kx, axis)).astype(np.complex64)
        rows = np.exp(1j * np.outer(self.ky, axis)).astype(np.complex64)
        weighted = np.exp(1j * phases).astype(np.complex64)[:, None, :] * rows.T
        field: Array = (weighted @ columns).real * np.float32(np.sqrt(2 / len(self.kx)))
        return field

    def at(self, x: Array, y: Array) -> Array:
        """Values at points."""
        angles = np.outer(x, self.kx) + np.outer(y, self.ky) + self.phase
        values: Array = np.cos(angles).sum(1) * np.sqrt(2 / len(self.kx))
        return values


def build(public: Path, private: Path, *, seed: int, tier: str) -> None:
    """Write the files of one instance.

    `public/` gets `train.reflbt.npy`, (96, 30, 11, 24, 24) float16, and `train.rates.npy`, (96, 30,
    24, 24) float32; `inputs/` of each split `reflbt.npy`, (480, 4, 11, 24, 24) float16; `answers/`
    `rates.npy`, (480, 12, 24, 24) float32. Rates that were not measured are NaN.

    Args:
        public: Folder for what an agent may read at any time.
        private: Folder for the inputs and answers of both splits.
        seed: Secret-derived, 0 <= seed < 2**63; decides every byte.
        tier: "mini".

    Raises:
        DataError: For any other tier.
    """
    if tier != "mini":
        raise DataError(
            f"the {tier} tier of rainfall-prediction cannot be built by this version: its data may not be "
            "passed on; use tier='mini', which is generated from the seed"
        )
    region = make_region(np.random.default_rng([seed, 0]))
    first = make_year(np.random.default_rng([seed, 1]), region, drift=0.0)
    second = make_year(np.random.default_rng([seed, 2]), region, drift=1.0)
    reflbt, rates = make_movies(
        np.random.default_rng([seed, 3]), region, first, count=PERIODS, seen=PERIOD, frames=PERIOD
    )
    np.save(public / "train.reflbt.npy", reflbt)
    np.save(public / "train.rates.npy", rates)
    print(f"rainfall-prediction: {PERIODS} training periods", flush=True)
    for part, (split, year) in enumerate((("dev", first), ("test", second)), 4):
        rng = np.random.default_rng([seed, part])
        reflbt, rates = make_movies(rng, region, year, count=SEQUENCES, seen=SEEN, frames=SEEN + AHEAD)
        np.save(private / split / "inputs" / "reflbt.npy", reflbt)
        np.save(private / split / "answers" / "rates.npy", np.ascontiguousarray(rates[:, SEEN:]))
        print(f"rainfall-prediction: {SEQUENCES} {split} sequences", flush=True)


def make_region(rng: Rng) -> Region:
    """Draw where the wind blows, how the land shapes the rain, and what the radar cannot see."""
    angle = rng.uniform(0, 2 * np.pi)
    wind = SPEED * np.array([np.cos(angle), np.sin(angle)])
    relief = np.exp(0.2 * make_waves(rng, 1.2).on_grid(radar_axis(), np.zeros((1, 2)))[0])
    # A sector of 12 degrees behind a hill, seen from a radar at the edge of the target.
    axis = radar_axis() - SIDE / 2
    x, y = np.meshgrid(axis, axis)
    site, beam = rng.uniform(0, 2 * np.pi), rng.uniform(-0.5, 0.5)
    x, y = x + 2.5 * np.cos(site), y + 2.5 * np.sin(site)
    off = np.angle(np.exp(1j * (np.arctan2(y, x) - site - beam)))
    blocked = (np.abs(off) < 0.1) & (np.hypot(x, y) > 1.5)
    behind = angle + np.pi + rng.uniform(-np.pi / 3, np.pi / 3)
    return Region(wind, TRAIL * np.array([np.cos(behind), np.sin(behind)]), relief, blocked)


def make_year(rng: Rng, region: Region, drift: float) -> Year:
    """Draw a year; `drift` 0 leaves it as the training year is."""
    count = len(BANDS)
    gain = 1 + drift * 0.04 * rng.standard_normal(count)
    offset = drift * rng.choice([-1.0, 1.0], count) * rng.uniform(0.7, 1.5, count)
    return Year(gain, offset, region.wind + drift * 0.08 * rng.standard_normal(2))


def make_waves(rng: Rng, scale: float, count: int = 20) -> Waves:
    """A field whose values are alike over about `scale` pixels."""
    k = rng.standard_normal((2, count)) / scale
    return Waves(k[0], k[1], rng.uniform(0, 2 * np.pi, count))


def radar_axis() -> Array:
    """Centres of the radar pixels along one side, in satellite pixels."""
    return (SIDE - TARGET) / 2 + (np.arange(TARGET * ZOOM) + 0.5) / ZOOM


def make_movies(
    rng: Rng, region: Region, year: Year, *, count: int, seen: int, frames: int
) -> tuple[Array, Array]:
    """Independent movies and their rain, mapped to the curve.

    Args:
        rng: Random stream of this part of the instance.
        region: What does not change.
        year: Calibration and wind.
        count: Number of movies.
        seen: Frames that the satellite delivers.
        frames: Frames that the radar measures, from the same first one on.

    Returns:
        Brightness, (count, seen, 11, 24, 24) float16: K, or reflectance for IR_016 and VIS. Rain rates,
        (count, frames, 24, 24) float32 in mm/h, NaN where blocked.
    """
    brightness = np.empty((count, seen, len(BANDS), SIDE, SIDE), dtype=np.float16)
    rain = np.empty((count, frames, TARGET * ZOOM, TARGET * ZOOM), dtype=np.float32)
    for number in range(count):
        movie = Movie(rng, year, frames)
        rain[number] = movie.rain(region)
        picture = movie.picture(region, seen)
        picture += _NOISE_OF_BAND[:, None, None] * rng.standard_normal(picture.shape, dtype=np.float32)
        centre, gain = _CENTRE_OF_BAND[:, None, None], year.gain[:, None, None].astype(np.float32)
        offset = (year.offset * _SCALE_OF_BAND)[:, None, None].astype(np.float32)
        brightness[number] = centre + (picture - centre) * gain + offset
    return brightness, to_curve(rain, region.blocked)


def to_curve(rain: Array, blocked: Array) -> Array:
    """Map rain by rank to `CURVE`, (movies, frames, n, n); nothing below 0.2 mm/h, NaN where blocked."""
    mapped = np.full(rain.shape, np.nan, dtype=np.float32)
    values = rain[:, :, ~blocked]
    flat = values.ravel()
    wet = int(CURVE[0][1] * flat.size)
    largest = np.argpartition(flat, flat.size - wet)[flat.size - wet :]
    largest = largest[np.argsort(flat[largest], kind="stable")[::-1]]
    shares = (np.arange(wet) + 0.5) / flat.size
    rates, knots = (np.log([pair[part] for pair in reversed(CURVE)]) for part in (0, 1))
    flat = np.zeros(flat.shape, dtype=np.float32)
    flat[largest] = np.maximum(np.exp(np.interp(np.log(shares), knots, rates)), CURVE[0][0])
    mapped[:, :, ~blocked] = flat.reshape(values.shape)
    return mapped


class Movie:
    """One movie of weather; the radar's rain and the satellite's picture are drawn from it."""

    def __init__(self, rng: Rng, year: Year, frames: int) -> None:
        wind = year.wind + 0.11 * rng.standard_normal(2)
        gusts = np.cumsum(0.012 * rng.standard_normal((frames, 2)), 0)
        self.path = np.cumsum(wind + gusts - gusts.mean(0), 0)
        self.shear = 0.25 * rng.standard_normal(2)
        self.hour = rng.uniform(0, 24)
        self.moisture = make_waves(rng, 7.0)
        self.cirrus = make_waves(rng, 2.5)
        self.low = make_waves(rng, 2.0)
        self.texture = make_waves(rng, 0.4, 40)
        self.cells = make_cells(rng, self.path, self.moisture)

    def rain(self, region: Region) -> Array:
        """Rain (frames, 24, 24) on the radar's grid, before it is mapped to the curve."""
        cells, axis = self.cells, radar_axis()
        amount = cells.peak[:, None] * pulse(self.age(0.0, 1.0), 1.0, 1.2)
        rain = self.draw(axis, amount, cells.size, np.zeros(2))
        return rain * np.exp(0.25 * self.texture.on_grid(axis, self.path)) * region.relief

    def picture(self, region: Region, seen: int) -> Array:
        """Brightness (seen, 11, 24, 24) without noise, in the order of `BANDS`."""
        cells, axis, path = self.cells, np.arange(SIDE) + 0.5, self.path[:seen]
        shift = region.trail + self.shear
        height = cells.tall[:, None] * pulse(self.age(LEAD, 1.6)[:, :seen], 0.8, 0.6)
        depth = 1.5 * cells.peak[:, None] * pulse(self.age(LEAD, 1.0)[:, :seen], 1.0, 1.2)
        top = 1 - np.exp(-0.6 * self.draw(axis, height, cells.size * cells.cover, shift))
        thick = self.draw(axis, depth, 1.2 * cells.size, shift)
        cirrus = 0.95 / (1 + np.exp(1.7 - 3 * self.cirrus.on_grid(axis, 1.25 * path)))
        low = 1 / (1 + np.exp(1 - 3 * self.low.on_grid(axis, 0.8 * path)))
        moist = self.moisture.on_grid(axis, path)
        hours = self.hour + 0.25 * np.arange(seen)
        sun = np.maximum(0, np.cos((hours - 12) / 12 * np.pi))[:, None, None]
        ground = 286 + 6 * np.cos((hours - 14) / 12 * np.pi)[:, None, None] - 6 * low
        return bands(ground, sun, moist, low, cirrus, top=top, thick=thick)

    def age(self, lead: float, stretch: float) -> Array:
        """Share of its life that each cell has behind it, (cells, frames), begun `lead` steps early."""
        begun = np.arange(len(self.path)) - self.cells.birth[:, None] + lead
        return begun / (self.cells.life[:, None] * stretch + lead)

    def draw(self, axis: Array, amount: Array, size: Array, shift: Array) -> Array:
        """Sum of round Gaussians, (frames, n, n) on a square grid; `amount` is (cells, frames)."""
        cells, frames = self.cells, amount.shape[1]
        steps = np.arange(frames) - cells.birth[:, None]
        parts = []
        for place, drift, move, by in (
            (cells.x, cells.dx, self.path[:frames, 0], shift[0]),
            (cells.y, cells.dy, self.path[:frames, 1], shift[1]),
        ):
            centre = place[:, None] + drift[:, None] * steps + move + by
            off = (axis - centre.T[:, :, None]).astype(np.float32) / size.astype(np.float32)[:, None]
            parts.append(np.exp(-0.5 * off * off))
        picture: Array = (parts[1] * amount.T.astype(np.float32)[:, :, None]).transpose(0, 2, 1) @ parts[0]
        return picture


def make_cells(rng: Rng, path: Array, moisture: Waves) -> Cells:
    """Draw the systems that may cross the picture, and their cells.

    Systems are born more often in moist air. A third of them has a wide, weak rain area too.
    """
    frames = len(path)
    low, high = -MARGIN - path.max(0), SIDE + MARGIN - path.min(0)
    before = 2 * SYSTEM_LIFE
    count = rng.poisson(2 * RATE * np.prod(high - low) * (frames + before))
    x, y = rng.uniform(low[0], high[0], count), rng.uniform(low[1], high[1], count)
    kept = rng.random(count) < 1 / (1 + np.exp(-1.5 * moisture.at(x, y)))
    x, y, count = x[kept], y[kept], int(kept.sum())
    birth, life = rng.uniform(-before, frames, count), rng.gamma(4, SYSTEM_LIFE / 4, count)
    drift, vigour = 0.04 * rng.standard_normal((2, count)), 0.4 * rng.standard_normal(count)
    turn, long = rng.uniform(0, np.pi, count), rng.uniform(0.7, 1.5, count)
    owner = np.repeat(np.arange(count), 1 + rng.poisson(CELLS - 1, count))
    wide = np.flatnonzero(rng.random(count) < 0.35)
    n = len(owner)
    along = SCATTER * long[owner] * rng.standard_normal(n)
    across = SCATTER / long[owner] * rng.standard_normal(n)
    since = life[owner] * rng.random(n)
    cos, sin = np.cos(turn[owner]), np.sin(turn[owner])
    return Cells(
        x=np.r_[x[owner] + cos * along - sin * across + drift[0][owner] * since, x[wide]],
        y=np.r_[y[owner] + sin * along + cos * across + drift[1][owner] * since, y[wide]],
        dx=drift[0][np.r_[owner, wide]],
        dy=drift[1][np.r_[owner, wide]],
        birth=np.r_[birth[owner] + since, birth[wide]],
        life=np.r_[rng.gamma(6, CELL_LIFE / 6, n) + 2, life[wide] + 6],
        size=np.r_[1.2 * np.exp(0.3 * rng.standard_normal(n)), rng.uniform(1.5, 3.0, len(wide))],
        peak=np.r_[np.exp(0.6 * rng.standard_normal(n) + vigour[owner]), 0.15 * np.exp(vigour[wide])],
        cover=np.r_[1.35 * np.exp(0.15 * rng.standard_normal(n)), np.ones(len(wide))],
        tall=np.exp(0.9 * rng.standard_normal(n + len(wide))),
    )


def pulse(age: Array, rise: float, fall: float) -> Array:
    """Growth and decay: age^rise (1 - age)^fall with its maximum at 1, zero outside of (0, 1)."""
    peak = rise / (rise + fall)
    inside = np.clip(age, 0.0, 1.0)
    value: Array = inside**rise * (1 - inside) ** fall / (peak**rise * (1 - peak) ** fall)
    return value


def bands(
    ground: Array, sun: Array, moist: Array, low: Array, cirrus: Array, *, top: Array, thick: Array
) -> Array:
    """What the satellite sees, (frames, 11, 24, 24), in the order of `BANDS`.

    Args:
        ground: Temperature below the high clouds, K.
        sun: Cosine of the sun's distance from the zenith, 0 at night.
        moist: Moisture, mean 0 and variance 1.
        low: Cover of low cloud, 0 to 1.
        cirrus: Emissivity of thin cirrus.
        top: How high and opaque convective cloud is, 0 to 1.
        thick: Its optical thickness.
    """
    thin = top * np.exp(-0.8 * thick) + cirrus
    deep = 1 - np.exp(-0.4 * thick)
    bright = 1 - np.exp(-0.5 * (thick + 1.2 * low))
    window = ground - 75 * top - cirrus * (ground - 75 * top - 225)
    split = 1 + 4 * thin
    return np.stack(
        [
            sun * (0.25 + 0.45 * bright - 0.25 * top),
            window + 3 - 7 * deep + sun * (12 * bright * (1 - 0.7 * top)),
            window - 2 + 4 * thin - 4 * deep,
            0.65 * window + 0.35 * 255,
            window,
            window - split,
            0.6 * window + 0.4 * 240 - 0.5 * moist,
            sun * (0.1 + 0.75 * bright + 0.1 * cirrus),
            sun * (0.25 + 0.6 * bright + 0.1 * cirrus),
            238 - 4 * moist - 22 * top - 16 * cirrus,
            256 - 6 * moist - 38 * top - 26 * cirrus,
        ],
        axis=1,
    ).astype(np.float32)


_SOLAR = np.array([name.startswith("VIS") or name == "IR_016" for name in BANDS])
_CENTRE_OF_BAND = np.where(_SOLAR, 0.0, 260.0).astype(np.float32)  # a change of gain leaves this as it is
_SCALE_OF_BAND = np.where(_SOLAR, 0.02, 2.0).astype(np.float32)  # unit of a change of offset
_NOISE_OF_BAND = np.where(_SOLAR, 0.01, NOISE).astype(np.float32)
