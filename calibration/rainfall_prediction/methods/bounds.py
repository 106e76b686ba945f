"""Writers of artefacts: constants, shortcuts, parts of the truth, and training on other data than the public.

Those that train use the reference's own modules, and the generator itself.
"""

# ruff: noqa: ARG001 -- every writer is called with the same four folders
from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mlrcbench.competitions.rainfall_prediction import data

Array = npt.NDArray[Any]
ZOOM, TARGET, SEEN, AHEAD = 4, 4, 4, 6
IR_108 = 4  # its place among the bands
THRESHOLDS = (0.2, 1.0, 5.0, 10.0, 15.0)
WORLDS, MOVIES = 8, 600  # of a copied generator
MODULES = ("dataset", "network", "training", "method")


def no_rain(public: Path, inputs: Path, answers: Path, artefacts: Path) -> None:
    """Write zero everywhere."""
    _save(artefacts, np.zeros_like(_truth(answers)))


def heavy_rain(public: Path, inputs: Path, answers: Path, artefacts: Path) -> None:
    """Write a rate above the highest threshold everywhere: the best constant."""
    _save(artefacts, np.full_like(_truth(answers), 20))


def climatology(public: Path, inputs: Path, answers: Path, artefacts: Path) -> None:
    """Write at each radar pixel the highest threshold for which it is among the wetter pixels in training.

    For each threshold, the share of pixels that are called wet is the one with the highest CSI in training.
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
    """Write rain of the training year: right in distribution and shape, but at the wrong time."""
    rates, truth, rng = np.load(public / "train.rates.npy"), _truth(answers), np.random.default_rng(0)
    _save(artefacts, rates[rng.integers(len(rates), size=len(truth)), SEEN:])


def cold_cloud(public: Path, inputs: Path, answers: Path, artefacts: Path) -> None:
    """Write the coldness of the last frame in IR_108, mapped by rank to the rates of the training year."""
    rates, truth = np.load(public / "train.rates.npy"), _truth(answers)
    rain = _by_coldness(np.load(inputs / "reflbt.npy", mmap_mode="r")[:, -1, IR_108], (0, 0), rates)
    _save(artefacts, np.broadcast_to(rain[:, None], truth.shape))


def cold_cloud_elsewhere(public: Path, inputs: Path, answers: Path, artefacts: Path) -> None:
    """Write the same, read at the shift with the highest mean CSI for the following frames in training."""
    rates, truth = np.load(public / "train.rates.npy"), _truth(answers)
    pictures = np.load(public / "train.reflbt.npy", mmap_mode="r")[:, -1, IR_108]
    after = rates[:, SEEN:]
    reach = range(-6, 7, 2)
    shifts = [(down, right) for down in reach for right in reach]
    values = [_csi(after, _by_coldness(pictures, shift, rates)[:, None]) for shift in shifts]
    shift = shifts[int(np.argmax(values))]
    rain = _by_coldness(np.load(inputs / "reflbt.npy", mmap_mode="r")[:, -1, IR_108], shift, rates)
    _save(artefacts, np.broadcast_to(rain[:, None], truth.shape))


def mean_of_split(public: Path, inputs: Path, answers: Path, artefacts: Path) -> None:
    """Write the forecast with the lowest mean squared error that does not look at the inputs."""
    truth = _truth(answers)
    _save(artefacts, np.broadcast_to(truth.mean(0), truth.shape))


def first_kept(public: Path, inputs: Path, answers: Path, artefacts: Path) -> None:
    """Write the true rain of the first frame for all frames."""
    truth = _truth(answers)
    _save(artefacts, np.broadcast_to(truth[:, :1], truth.shape))


def coarse_truth(public: Path, inputs: Path, answers: Path, artefacts: Path) -> None:
    """Write the truth, averaged over the satellite's pixels."""
    truth = _truth(answers)
    cells = truth.reshape(*truth.shape[:2], TARGET, ZOOM, TARGET, ZOOM).mean((3, 5), keepdims=True)
    _save(
        artefacts, np.broadcast_to(cells, (*truth.shape[:2], TARGET, ZOOM, TARGET, ZOOM)).reshape(truth.shape)
    )


def truth(public: Path, inputs: Path, answers: Path, artefacts: Path) -> None:
    """Write the answers themselves."""
    _save(artefacts, _truth(answers))


def other_worlds(public: Path, inputs: Path, answers: Path, artefacts: Path) -> None:
    """Write what the reference predicts after training on worlds of its own only."""
    _save(artefacts, _after_other_worlds(public, inputs, epochs=0))


def other_worlds_first(public: Path, inputs: Path, answers: Path, artefacts: Path) -> None:
    """Write what the reference predicts after training on worlds of its own and then on the public data."""
    _save(artefacts, _after_other_worlds(public, inputs, epochs=None))


def more_training(public: Path, inputs: Path, answers: Path, artefacts: Path) -> None:
    """Write what the reference predicts if the answers of dev are added to the training year."""
    _, method = _reference()
    dev = inputs.parent.parent / "dev"
    reflbt, rates = np.load(public / "train.reflbt.npy"), np.load(public / "train.rates.npy")
    added = np.pad(np.load(dev / "answers" / "rates.npy"), [(0, 0), (SEEN, 0), (0, 0), (0, 0)])
    reflbt = np.concatenate([np.load(dev / "inputs" / "reflbt.npy"), reflbt])
    torch.manual_seed(20)
    model = method.fit(reflbt, np.concatenate([added, rates]))
    _save(artefacts, method.predict(model, np.load(inputs / "reflbt.npy").astype(np.float32)))


def _after_other_worlds(public: Path, inputs: Path, epochs: int | None) -> Array:
    """Rates that the reference predicts after training on other worlds, then `epochs` on the public data.

    `epochs` is None for as many as the reference has.
    """
    training, method = _reference()
    torch.manual_seed(20)
    worlds = [_world(number, training, method) for number in range(WORLDS)]
    net = training.Advect()
    training.learn(net, torch.cat([x for x, _ in worlds]), np.concatenate([rates for _, rates in worlds]), 3)
    reflbt, rates = np.load(public / "train.reflbt.npy"), np.load(public / "train.rates.npy")
    x, count = training.scaled(reflbt, *method.statistics(reflbt[::4])), len(rates) - training.TUNING
    if epochs is None:
        training.learn(net, x[:count], rates[:count], training.EPOCHS)
    cuts = training.best_cuts(training.probabilities(net.eval(), x[count:]), rates[count:, SEEN:])
    predicted: Array = method.predict((net, cuts), np.load(inputs / "reflbt.npy").astype(np.float32))
    return predicted


def _world(number: int, training: Any, method: Any) -> tuple[Any, Array]:
    """Standardised pictures and rates of a world of the generator with another law."""
    rng = np.random.default_rng([7, number])
    law, (relief, blocked) = data.make_law(rng), data.make_land(rng)
    year = data.make_year(rng, law, drift=0.0)
    reflbt, rain = data.make_movies(rng, law, year, count=MOVIES, times=np.array(data.TIMES))
    return training.scaled(reflbt, *method.statistics(reflbt)), data.to_curve(rain * relief, blocked)


def _reference() -> tuple[Any, Any]:
    """The modules `training` and `method` of the reference."""
    home = Path(data.__file__).parent
    sys.path[:0] = [str(home / "reference"), str(home / "starter")]
    try:
        return importlib.import_module("training"), importlib.import_module("method")
    finally:
        del sys.path[:2]
        for name in MODULES:
            sys.modules.pop(name, None)


def _by_coldness(pictures: Array, shift: tuple[int, int], rates: Array) -> Array:
    """Coldness `shift` pixels down and right of the radar's area, mapped by rank to the values of `rates`."""
    edge = (pictures.shape[-1] - TARGET) // 2
    rows, columns = (slice(edge + by, edge + by + TARGET) for by in shift)
    cold = np.kron(-pictures[:, rows, columns].astype(np.float32), np.ones((1, ZOOM, ZOOM), dtype=np.float32))
    curve = np.sort(rates[~np.isnan(rates)])
    rank = np.argsort(np.argsort(cold.ravel(), kind="stable"), kind="stable")
    rain: Array = curve[(rank * (len(curve) / len(rank))).astype(np.int64)].reshape(cold.shape)
    return rain


def _csi(truth: Array, predicted: Array) -> float:
    """Mean CSI; NaN in `truth` counts as no rain."""
    pairs = [(truth >= threshold, predicted >= threshold) for threshold in THRESHOLDS]
    return float(np.mean([(rain & alarm).sum() / (rain | alarm).sum() for rain, alarm in pairs]))


def _truth(answers: Path) -> Array:
    rates: Array = np.nan_to_num(np.load(answers / "rates.npy"))
    return rates


def _save(artefacts: Path, rates: Array) -> None:
    np.save(artefacts / "rates.npy", np.ascontiguousarray(np.nan_to_num(rates), dtype=np.float32))


BOUNDS: dict[str, Callable[[Path, Path, Path, Path], None]] = {
    "nothing: no rain": no_rain,
    "20 mm/h everywhere": heavy_rain,
    "best constant per pixel": climatology,
    "permuted rain of the training year": shuffled,
    "cold cloud of the last frame": cold_cloud,
    "cold cloud elsewhere": cold_cloud_elsewhere,
    "other worlds only": other_worlds,
    "other worlds first": other_worlds_first,
    "dev added to the training year": more_training,
    "mean of the split": mean_of_split,
    "last rain kept": first_kept,
    "truth on the satellite's grid": coarse_truth,
    "truth": truth,
}
