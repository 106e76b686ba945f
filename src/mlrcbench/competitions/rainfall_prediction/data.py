"""Data: an imaginary weather, seen by a satellite and, in the middle, by a radar.

Storm systems drift with the wind over a plane. Each gives birth to rain cells that grow and decay. The
radar sees the rain of the central part on a grid that is four times finer. The satellite sees what is above
the rain: cold tops that outlive it, optical thickness, water vapour.

What connects cloud and rain, the `Law`, is drawn for each instance. A method that has learnt the laws of
worlds of other seeds must learn again from the public data of its own world.

Shortcuts that the generator rules out:

- The rain of every split is mapped by rank to one curve: a constant has the same score everywhere.
- Cold does not mean wet: tops are seen away from their rain and outlive it, their height says little about
  it, and cirrus drifts otherwise. Low cloud is bright by day, and visible bands are dark by night.
- All sequences are independent draws: none continues another.
- The test year has another calibration and other winds: methods that rely on absolute brightness fail.

Lengths are in satellite pixels, times in steps of 15 minutes, rain rates in mm/h.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Rng = np.random.Generator

_INFRARED = ("IR_016", "IR_039", "IR_087", "IR_097", "IR_108", "IR_120", "IR_134")
BANDS = (*_INFRARED, "VIS006", "VIS008", "WV_062", "WV_073")
SOLAR = np.array([name.startswith("VIS") or name == "IR_016" for name in BANDS])

# Sizes of an instance.
SIDE, TARGET, ZOOM = 16, 4, 4  # satellite pixels; those that the radar covers; radar pixels in one of them
TRAINING, SEQUENCES = 1600, 900  # sequences of the training year; of dev and of test
SEEN = 4  # frames that are given
TIMES = (0, 1, 2, 3, 5, 7, 9, 11, 13, 15)  # of the radar, in steps: the frames seen, then those to predict

# How often a rate is reached, in every split: (rate in mm/h, share of pixels and times).
CURVE = ((0.2, 0.12), (1.0, 0.065), (5.0, 0.03), (10.0, 0.018), (15.0, 0.011), (50.0, 1e-5))

# The weather, the same in all instances.
RATE = 2.6e-4  # systems born per pixel and step
SYSTEM_LIFE, CELL_LIFE = 36.0, 36.0  # steps, mean
CELLS = 5.0  # per system, mean
SCATTER = 1.1  # pixels, of the cells of a system
CHUNK = 50  # movies that are drawn together
MARGIN = 3.5  # pixels beyond the picture where systems may still matter

# Sizes of effects whose directions are drawn.
SPEED = 0.32  # of the mean wind, pixels per step
TRAIL = 1.4  # pixels between a high cloud in the picture and its rain
NOISE = 0.3  # K, of a satellite pixel
FAVOUR = 0.3  # sd of the log of rain, each from moisture and from the hour
PRINT = 6.0  # K, norm of the responses to each of thin, deep and low cloud, at right angles to all others

# Of the thermal bands: share of the ground that is seen, temperature of the rest, and by how many K
# tops, cirrus and moisture are colder.
_THERMAL = (
    (0.97, 0.97, 0.65, 1.0, 0.98, 0.6, 0.0, 0.05),
    (260.0, 260.0, 255.0, 260.0, 260.0, 240.0, 238.0, 255.0),
    (72.0, 75.0, 49.0, 75.0, 75.0, 45.0, 22.0, 38.0),
    (55.0, 56.0, 37.0, 58.0, 60.0, 35.0, 16.0, 26.0),
    (0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 4.0, 6.0),
)
_CENTRE = np.where(SOLAR, 0.0, 260.0).astype(np.float32)[:, None, None]  # a change of gain keeps this value
_SCALE = np.where(SOLAR, 0.01, 1.0)  # unit of a change of offset
_NOISE = np.where(SOLAR, 0.01, NOISE).astype(np.float32)[:, None, None]
_RADAR = (SIDE - TARGET) / 2 + (np.arange(TARGET * ZOOM) + 0.5) / ZOOM  # centres of pixels along one side


@dataclass(frozen=True)
class Law:
    """What connects cloud and rain in one instance."""

    wind: Array  # mean drift of storm systems, pixels per step, (2,): x, y
    cirrus_wind: Array  # turns and scales a drift into that of the cirrus, (2, 2)
    low_wind: Array  # the same for low cloud
    trail: Array  # shift of high cloud in the picture, pixels, (2,)
    lead: float  # steps by which a cloud is seen before its rain
    pulses: Array  # rise and fall of a cell's rain, cloud top and optical thickness, (3, 2)
    moisture: Array  # amplitudes and phases of the log of rain over moisture, (2, 3)
    daily: Array  # the same over the hour, (2, 2)
    thermal: Array  # response of the thermal bands to each layer, (8, 8)
    solar: Array  # response of the other bands, (3, 4)
    deep: float  # how fast thick cloud becomes opaque

    def favour(self, moist: Array, hour: Array) -> Array:
        """Log of the factor by which rain is stronger, from moisture (..., n, n) and hour (..., 1, 1)."""
        total: Array = np.zeros_like(moist)
        for (amplitudes, phases), value in ((self.moisture, moist), (self.daily, 2 * np.pi * hour / 24)):
            for number, (amplitude, phase) in enumerate(zip(amplitudes, phases, strict=True), 1):
                total = total + amplitude * np.cos(number * value + phase)
        return total


@dataclass(frozen=True)
class Year:
    """What differs between years: calibration of each band, (11,), and the mean wind, (2,)."""

    gain: Array
    offset: Array
    wind: Array


@dataclass(frozen=True)
class Cells:
    """The rain cells of one movie; all attributes have one entry per cell."""

    x: Array  # where the centre would be at time 0 without birth and death, in pixels
    y: Array
    dx: Array  # the cell's own drift, in pixels per step
    dy: Array
    birth: Array  # step at which the cell is born
    life: Array  # number of steps that it lives
    size: Array  # standard deviation of the rain, in pixels
    peak: Array  # largest rain rate before it is mapped to the curve
    cover: Array  # size of the cloud top relative to the size of the rain
    tall: Array  # how high and opaque the cloud top becomes, typically 1

    def age(self, times: Array, lead: float, stretch: float) -> Array:
        """Share of its life that each cell has completed, (cells, times), if born `lead` steps earlier."""
        return (times - self.birth[:, None] + lead) / (self.life[:, None] * stretch + lead)

    def draw(self, axis: Array, amount: Array, size: Array, times: Array, path: Array) -> Array:
        """Sum of Gaussians (times, n, n), `amount` (cells, times) high, that move along `path` (times, 2)."""
        alive = amount.any(1)
        steps = times[:, None] - self.birth[alive]
        width, parts = size[alive].astype(np.float32)[:, None], []
        for place, drift, move in ((self.x, self.dx, path[:, :1]), (self.y, self.dy, path[:, 1:])):
            centre = (place[alive] + drift[alive] * steps + move).astype(np.float32)
            off = (axis.astype(np.float32) - centre[:, :, None]) / width
            parts.append(np.exp(-0.5 * off * off))
        weighted = parts[1] * amount[alive].T.astype(np.float32)[:, :, None]
        picture: Array = weighted.swapaxes(1, 2) @ parts[0]
        return picture


@dataclass(frozen=True)
class Waves:
    """Smooth random fields of mean 0 and variance 1, sums of plane waves; attributes are (movies, waves)."""

    kx: Array
    ky: Array
    phase: Array

    def on_grid(self, axis: Array, path: Array) -> Array:
        """Values (movies, frames, n, n) on a grid while each moves along its `path`, (movies, frames, 2)."""
        phases = self.phase[:, None] - path[..., :1] * self.kx[:, None] - path[..., 1:] * self.ky[:, None]
        columns = np.exp(1j * (self.kx[..., None] * axis).astype(np.float32))
        rows = np.exp(1j * (self.ky[..., None] * axis).astype(np.float32)).swapaxes(1, 2)
        weighted = np.exp(1j * phases.astype(np.float32))[:, :, None, :] * rows[:, None]
        frames, side = path.shape[1], len(axis)
        field: Array = (weighted.reshape(len(path), frames * side, -1) @ columns).real
        scale = np.float32(np.sqrt(2 / self.kx.shape[1]))
        return field.reshape(len(path), frames, side, side) * scale

    def at(self, movie: int, x: Array, y: Array) -> Array:
        """Values of one movie's field at the points (x, y)."""
        angles = np.outer(x, self.kx[movie]) + np.outer(y, self.ky[movie]) + self.phase[movie]
        values: Array = np.cos(angles).sum(1) * np.sqrt(2 / self.kx.shape[1])
        return values


def build(public: Path, private: Path, *, seed: int, tier: str) -> None:
    """Write the files of one instance; `seed` decides every byte, and `tier` is always "mini".

    `public/` receives `train.reflbt.npy`, (1600, 4, 11, 16, 16) float16, and `train.rates.npy`,
    (1600, 10, 16, 16) float32: the rain of the four frames, then that of the six to predict. For each
    split, `inputs/` receives `reflbt.npy`, (900, 4, 11, 16, 16) float16, and `answers/` receives
    `rates.npy`, (900, 6, 16, 16) float32. Rates that were not measured are NaN.
    """
    del tier
    rng = np.random.default_rng([seed, 0])
    law, (relief, blocked) = make_law(rng), make_land(rng)
    first = make_year(np.random.default_rng([seed, 1]), law, drift=0.0)
    second = make_year(np.random.default_rng([seed, 2]), law, drift=1.0)
    for part, (name, year, count) in enumerate(
        (("train", first, TRAINING), ("dev", first, SEQUENCES), ("test", second, SEQUENCES)), 3
    ):
        times = TIMES if name == "train" else TIMES[SEEN:]
        rng = np.random.default_rng([seed, part])
        reflbt, rain = make_movies(rng, law, year, count=count, times=np.array(times))
        rates = to_curve(rain * relief, blocked)
        train, held = public / "train", private / name
        np.save(f"{train}.reflbt.npy" if name == "train" else held / "inputs" / "reflbt.npy", reflbt)
        np.save(f"{train}.rates.npy" if name == "train" else held / "answers" / "rates.npy", rates)
        print(f"rainfall-prediction: {count} sequences of {name}", flush=True)


def make_law(rng: Rng) -> Law:
    """Draw a law."""
    angle = rng.uniform(0, 2 * np.pi)
    aside = angle + rng.choice([-1, 1]) * rng.uniform(np.pi / 3, 2 * np.pi / 3)
    typical, summit = np.array(_THERMAL).T, rng.uniform(0.42, 0.58)  # share of a life before its maximum
    spread = np.exp(0.15 * rng.standard_normal((len(typical), 3)))
    known = np.c_[typical[:, 0], typical[:, 2:] * spread]
    prints = np.linalg.qr(np.c_[known, rng.standard_normal((len(typical), 3))])[0][:, -3:]
    return Law(
        wind=SPEED * np.array([np.cos(angle), np.sin(angle)]),
        cirrus_wind=rng.uniform(1.1, 1.6) * rotation(rng.uniform(-0.5, 0.5)),
        low_wind=rng.uniform(0.4, 0.9) * rotation(rng.uniform(-0.7, 0.7)),
        trail=TRAIL * np.array([np.cos(aside), np.sin(aside)]),
        lead=rng.uniform(2.6, 3.4),
        pulses=np.outer(rng.uniform([1.8, 1.2, 1.8], [2.4, 1.8, 2.4]), [summit, 1 - summit]),
        moisture=make_series(rng, 3),
        daily=make_series(rng, 2),
        thermal=np.c_[typical[:, :2], known[:, 1:], PRINT * prints],
        solar=np.array([[0.25, 0.45, 0.0, 0.25], [0.1, 0.75, 0.1, 0.0], [0.25, 0.6, 0.1, 0.0]])
        * np.exp(0.2 * rng.standard_normal((3, 4))),
        deep=np.exp(rng.uniform(np.log(0.3), np.log(0.5))),
    )


def make_series(rng: Rng, count: int) -> Array:
    """Amplitudes and phases (2, count) of waves whose sum has a standard deviation of `FAVOUR`."""
    amplitude = rng.standard_normal(count) / np.arange(1, count + 1)
    amplitude *= FAVOUR * np.sqrt(2 / (amplitude**2).sum())
    return np.array([amplitude, rng.uniform(0, 2 * np.pi, count)])


def rotation(angle: float) -> Array:
    """Matrix (2, 2) that turns rows by an angle."""
    return np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def pulse(age: Array, rise: float, fall: float) -> Array:
    """Growth and decay: age^rise (1 - age)^fall, scaled to a maximum of 1; zero outside (0, 1)."""
    peak = rise / (rise + fall)
    inside = np.clip(age, 0.0, 1.0)
    value: Array = inside**rise * (1 - inside) ** fall / (peak**rise * (1 - peak) ** fall)
    return value


def make_land(rng: Rng) -> tuple[Array, Array]:
    """Draw how the land scales the rain of each radar pixel, and whether the radar is blind there."""
    relief = np.exp(0.2 * make_waves(rng, 1, 1.2).on_grid(_RADAR, np.zeros((1, 1, 2)))[0, 0])
    # A sector of 12 degrees behind a hill, seen from a radar at the edge of the target.
    axis = _RADAR - SIDE / 2
    x, y = np.meshgrid(axis, axis)
    site, beam = rng.uniform(0, 2 * np.pi), rng.uniform(-0.5, 0.5)
    x, y = x + 2.5 * np.cos(site), y + 2.5 * np.sin(site)
    off = np.angle(np.exp(1j * (np.arctan2(y, x) - site - beam)))
    return relief, (np.abs(off) < 0.1) & (np.hypot(x, y) > 1.5)


def make_year(rng: Rng, law: Law, drift: float) -> Year:
    """Draw a year; with `drift` 0 it is like the training year."""
    count = len(BANDS)
    gain = 1 + drift * 0.04 * rng.standard_normal(count)
    offset = drift * rng.choice([-1.0, 1.0], count) * rng.uniform(0.7, 1.5, count)
    return Year(gain, offset, law.wind + drift * 0.06 * rng.standard_normal(2))


def make_waves(rng: Rng, movies: int, scale: float, count: int = 20) -> Waves:
    """Draw fields whose values are similar over about `scale` pixels."""
    k = rng.standard_normal((2, movies, count)) / scale
    return Waves(k[0], k[1], rng.uniform(0, 2 * np.pi, (movies, count)))


def make_movies(rng: Rng, law: Law, year: Year, *, count: int, times: Array) -> tuple[Array, Array]:
    """Draw independent movies; the radar measures at `times`, (n,), in steps from the first frame seen.

    Returns:
        Brightness, (count, 4, 11, 16, 16) float16: K, or reflectance for IR_016 and VIS. Rain,
        (count, n, 16, 16) float32, before land and curve.
    """
    brightness = np.empty((count, SEEN, len(BANDS), SIDE, SIDE), dtype=np.float16)
    rain = np.empty((count, len(times), TARGET * ZOOM, TARGET * ZOOM), dtype=np.float32)
    gain, offset = (part.astype(np.float32)[:, None, None] for part in (year.gain, year.offset * _SCALE))
    for start in range(0, count, CHUNK):
        part = slice(start, min(start + CHUNK, count))
        movies = Movies(rng, law, year, part.stop - start)
        rain[part] = movies.rain(times)
        picture = movies.picture()
        picture += _NOISE * rng.standard_normal(picture.shape, dtype=np.float32)
        brightness[part] = _CENTRE + (picture - _CENTRE) * gain + offset
    return brightness, rain


def to_curve(rain: Array, blocked: Array) -> Array:
    """Map rain (movies, frames, n, n) by rank to `CURVE`; 0 below 0.2 mm/h, NaN where blocked."""
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


class Movies:
    """Independent movies of weather; the radar's rain and the satellite's pictures are drawn from them."""

    def __init__(self, rng: Rng, law: Law, year: Year, count: int) -> None:
        self.law = law
        wind = year.wind + 0.09 * rng.standard_normal((count, 1, 2))
        gusts = np.cumsum(0.01 * rng.standard_normal((count, TIMES[-1] + 1, 2)), 1)
        self.path = np.cumsum(wind + gusts - gusts.mean(1, keepdims=True), 1)
        self.shift = law.trail + 0.2 * rng.standard_normal((count, 2))
        self.hour = rng.uniform(0, 24, (count, 1, 1, 1))
        self.moisture = make_waves(rng, count, 5.0)
        self.cirrus = make_waves(rng, count, 2.0)
        self.low = make_waves(rng, count, 1.6)
        self.texture = make_waves(rng, count, 0.4, 30)
        self.cells = [make_cells(rng, path, self.moisture, movie) for movie, path in enumerate(self.path)]

    def rain(self, times: Array) -> Array:
        """Rain (movies, times, 16, 16) on the radar's grid, before land and curve."""
        law, axis, path = self.law, _RADAR, self.path[:, times]
        moist, texture = (waves.on_grid(axis, path) for waves in (self.moisture, self.texture))
        rain: Array = np.exp(0.25 * texture + law.favour(moist, self.hour)).astype(np.float32)
        for movie, cells in enumerate(self.cells):
            amount = cells.peak[:, None] * pulse(cells.age(times, 0.0, 1.0), *law.pulses[0])
            rain[movie] *= cells.draw(axis, amount, cells.size, times, path[movie])
        return rain

    def picture(self) -> Array:
        """Brightness (movies, 4, 11, 16, 16) without noise, in the order of `BANDS`."""
        law, axis, times = self.law, np.arange(SIDE) + 0.5, np.arange(SEEN)
        path = self.path[:, :SEEN]
        above, thick = [], []
        for cells, place in zip(self.cells, path + self.shift[:, None], strict=True):
            height = cells.tall[:, None] * pulse(cells.age(times, law.lead, 1.5), *law.pulses[1])
            above.append(cells.draw(axis, height, cells.size * cells.cover, times, place))
            depth = 1.5 * cells.peak[:, None] * pulse(cells.age(times, law.lead, 1.0), *law.pulses[2])
            thick.append(cells.draw(axis, depth, 1.2 * cells.size, times, place))
        cirrus = 0.95 / (1 + np.exp(1.7 - 3 * self.cirrus.on_grid(axis, path @ law.cirrus_wind)))
        low = 1 / (1 + np.exp(1 - 3 * self.low.on_grid(axis, path @ law.low_wind)))
        hours = self.hour + 0.25 * times[:, None, None]
        moist, top = self.moisture.on_grid(axis, path), 1 - np.exp(-0.6 * np.stack(above))
        return picture_of(law, hours, moist, low, cirrus, top=top, thick=np.stack(thick))


def make_cells(rng: Rng, path: Array, moisture: Waves, movie: int) -> Cells:
    """Draw the systems that may cross the picture in one movie, and their cells.

    Systems are born more often in moist air. About a third of them also have a wide area of weak rain.
    """
    low, high = -MARGIN - path.max(0), SIDE + MARGIN - path.min(0)
    before = 2 * SYSTEM_LIFE
    count = rng.poisson(2 * RATE * np.prod(high - low) * (len(path) + before))
    x, y = rng.uniform(low[0], high[0], count), rng.uniform(low[1], high[1], count)
    born = rng.random(count) < 1 / (1 + np.exp(-1.5 * moisture.at(movie, x, y)))
    x, y, count = x[born], y[born], int(born.sum())
    birth, life = rng.uniform(-before, len(path), count), rng.gamma(4, SYSTEM_LIFE / 4, count)
    drift, vigour = 0.03 * rng.standard_normal((2, count)), 0.2 * rng.standard_normal(count)
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
        size=np.r_[0.85 * np.exp(0.25 * rng.standard_normal(n)), rng.uniform(1.2, 2.2, len(wide))],
        peak=np.r_[np.exp(0.4 * rng.standard_normal(n) + vigour[owner]), 0.15 * np.exp(vigour[wide])],
        cover=np.r_[1.35 * np.exp(0.15 * rng.standard_normal(n)), np.ones(len(wide))],
        tall=np.exp(0.9 * rng.standard_normal(n + len(wide))),
    )


def picture_of(
    law: Law, hours: Array, moist: Array, low: Array, cirrus: Array, *, top: Array, thick: Array
) -> Array:
    """The pictures of the satellite, (..., 11, n, n) float32, in the order of `BANDS`.

    `hours` is (..., 1, 1), all others are (..., n, n): moisture of variance 1, cover of low cloud, emissivity
    of cirrus, height and opaqueness of convective cloud from 0 to 1, and its optical thickness.
    """
    sun = np.maximum(0, np.cos((hours - 12) / 12 * np.pi))
    ground = 286 + 6 * np.cos((hours - 14) / 12 * np.pi) - 6 * low
    bright = 1 - np.exp(-0.5 * (thick + 1.2 * low))
    ones = np.ones_like(top)
    thin, deep = top * np.exp(-0.8 * thick) + cirrus, 1 - np.exp(-law.deep * thick)
    layers = np.stack([ground, ones, -top, -cirrus * (1 - top), -moist, thin, deep, low], -1)
    light = np.stack([ones, bright, cirrus, -top], -1)
    see, rest = law.thermal[:, 0], law.thermal[:, 1]
    weights = np.c_[see, (1 - see) * rest, law.thermal[:, 2:]]
    picture = np.empty((*top.shape[:-2], len(BANDS), *top.shape[-2:]), dtype=np.float32)
    picture[..., ~SOLAR, :, :] = np.moveaxis(layers @ weights.T, -1, -3)
    picture[..., SOLAR, :, :] = np.moveaxis(light @ law.solar.T, -1, -3) * sun[..., None, :, :]
    picture[..., BANDS.index("IR_039"), :, :] += sun * 12 * bright * (1 - 0.7 * top)
    return picture
