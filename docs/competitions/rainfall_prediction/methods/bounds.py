"""Writers of artefacts that need no method: constants, short ways, and what the truth itself is worth."""

# ruff: noqa: ARG001 -- every writer is called with the same four folders
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
ZOOM, TARGET, SEEN, AHEAD = 6, 4, 4, 12
IR_108 = 4  # its place among the bands
THRESHOLDS = (0.2, 1.0, 5.0, 10.0, 15.0)


def no_rain(public: Path, inputs: Path, answers: Path, artefacts: Path) -> None:
    """Zero everywhere."""
    _save(artefacts, np.zeros_like(_truth(answers)))


def heavy_rain(public: Path, inputs: Path, answers: Path, artefacts: Path) -> None:
    """Above the highest threshold everywhere: the best constant."""
    _save(artefacts, np.full_like(_truth(answers), 20))


def climatology(public: Path, inputs: Path, answers: Path, artefacts: Path) -> None:
    """At each radar pixel the highest threshold of which it is among the wetter pixels of the training year.

    For each threshold the share of pixels that is called wet is the one of highest CSI in that year.
    """
    rates, truth = np.load(public / "train.rates.npy"), _truth(answers)
    level = np.zeros(rates.shape[2:], dtype=np.int64)
    for threshold in THRESHOLDS:
        often = np.where(np.isnan(rates).any((0, 1)), 0.0, (rates >= threshold).mean((0, 1)))
        order = np.sort(often.ravel())[::-1]
        share = np.arange(1, len(order) + 1)
        csi = order.cumsum() / (order.sum() + share - order.cumsum())
        level += often >= order[np.argmax(csi)]
    _save(artefacts, np.broadcast_to(np.array([0.0, *THRESHOLDS])[level] * 1.01, truth.shape))


def shuffled(public: Path, inputs: Path, answers: Path, artefacts: Path) -> None:
    """Rain of the training year: right in distribution and shape, at the wrong time."""
    rates, truth, rng = np.load(public / "train.rates.npy"), _truth(answers), np.random.default_rng(0)
    period = rng.integers(len(rates), size=len(truth))
    first = rng.integers(rates.shape[1] - AHEAD + 1, size=len(truth))
    _save(artefacts, rates[period[:, None], first[:, None] + np.arange(AHEAD)])


def cold_cloud(public: Path, inputs: Path, answers: Path, artefacts: Path) -> None:
    """Coldness in IR_108 of the last frame, mapped by rank to the rates of the training year."""
    rates, truth = np.load(public / "train.rates.npy"), _truth(answers)
    found = _by_coldness(np.load(inputs / "reflbt.npy", mmap_mode="r")[:, -1, IR_108], (0, 0), rates)
    _save(artefacts, np.broadcast_to(found[:, None], truth.shape))


def cold_cloud_elsewhere(public: Path, inputs: Path, answers: Path, artefacts: Path) -> None:
    """The same, read where the training year says: the shift of highest mean CSI for the frames ahead."""
    rates, truth = np.load(public / "train.rates.npy"), _truth(answers)
    last = np.arange(SEEN - 1, rates.shape[1] - AHEAD, 5)
    pictures = np.load(public / "train.reflbt.npy", mmap_mode="r")[:, last, IR_108]
    pictures = pictures.reshape(-1, *pictures.shape[2:])
    after = rates[:, last[:, None] + 1 + np.arange(AHEAD)].reshape(-1, AHEAD, *rates.shape[2:])
    reach = range(-8, 9, 2)
    shifts = [(down, right) for down in reach for right in reach]
    values = [_csi(after, _by_coldness(pictures, shift, rates)[:, None]) for shift in shifts]
    shift = shifts[int(np.argmax(values))]
    found = _by_coldness(np.load(inputs / "reflbt.npy", mmap_mode="r")[:, -1, IR_108], shift, rates)
    _save(artefacts, np.broadcast_to(found[:, None], truth.shape))


def mean_of_split(public: Path, inputs: Path, answers: Path, artefacts: Path) -> None:
    """The best that mean squared error can do without looking at the inputs."""
    truth = _truth(answers)
    _save(artefacts, np.broadcast_to(truth.mean(0), truth.shape))


def first_kept(public: Path, inputs: Path, answers: Path, artefacts: Path) -> None:
    """Perfect rain a quarter of an hour ahead, and nothing moves."""
    truth = _truth(answers)
    _save(artefacts, np.broadcast_to(truth[:, :1], truth.shape))


def coarse_truth(public: Path, inputs: Path, answers: Path, artefacts: Path) -> None:
    """What is left of the truth on the satellite's grid."""
    truth = _truth(answers)
    cells = truth.reshape(*truth.shape[:2], TARGET, ZOOM, TARGET, ZOOM).mean((3, 5), keepdims=True)
    _save(
        artefacts, np.broadcast_to(cells, (*truth.shape[:2], TARGET, ZOOM, TARGET, ZOOM)).reshape(truth.shape)
    )


def truth(public: Path, inputs: Path, answers: Path, artefacts: Path) -> None:
    """The answers themselves."""
    _save(artefacts, _truth(answers))


def _by_coldness(pictures: Array, shift: tuple[int, int], rates: Array) -> Array:
    """Coldness over the radar, `shift` pixels down and right of it, by rank to the values of `rates`."""
    edge = (pictures.shape[-1] - TARGET) // 2
    rows, columns = (slice(edge + by, edge + by + TARGET) for by in shift)
    cold = np.kron(-pictures[:, rows, columns].astype(np.float32), np.ones((1, ZOOM, ZOOM), dtype=np.float32))
    curve = np.sort(rates[~np.isnan(rates)])
    rank = np.argsort(np.argsort(cold.ravel(), kind="stable"), kind="stable")
    found: Array = curve[(rank * (len(curve) / len(rank))).astype(np.int64)].reshape(cold.shape)
    return found


def _csi(truth: Array, found: Array) -> float:
    """Mean CSI; NaN in `truth` counts as no rain."""
    pairs = [(truth >= threshold, found >= threshold) for threshold in THRESHOLDS]
    return float(np.mean([(rain & alarm).sum() / (rain | alarm).sum() for rain, alarm in pairs]))


def _truth(answers: Path) -> Array:
    found: Array = np.nan_to_num(np.load(answers / "rates.npy"))
    return found


def _save(artefacts: Path, rates: Array) -> None:
    np.save(artefacts / "rates.npy", np.ascontiguousarray(np.nan_to_num(rates), dtype=np.float32))


BOUNDS: dict[str, Callable[[Path, Path, Path, Path], None]] = {
    "nothing: no rain": no_rain,
    "20 mm/h everywhere": heavy_rain,
    "best constant per pixel": climatology,
    "permuted rain of the training year": shuffled,
    "cold cloud of the last frame": cold_cloud,
    "cold cloud elsewhere": cold_cloud_elsewhere,
    "mean of the split": mean_of_split,
    "last rain kept": first_kept,
    "truth on the satellite's grid": coarse_truth,
    "truth": truth,
}
