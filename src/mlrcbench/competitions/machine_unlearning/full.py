"""The full tier: CIFAR-10, ResNet-18s, and our own forget set, fixed by a hash.

The challenge's faces are not public and its test is a submission of notebooks, so neither is available
here. MLRC-Bench also scores dev on CIFAR-10. All 60,000 images are sorted by a SHA-256 of each image's
bytes, which does not depend on the order of files and puts equal images next to each other. The first half
trains a base; the three worlds practice, dev and test get a sixth each. The rest is the mini tier's
protocol: the original is the base with a new last layer, trained on retain and forget set, and the
retrained models are made in the same way without the forget set.

So retraining is out of reach on any machine: it starts from the base, and neither the base nor its images
are published. A time limit alone would prevent retraining on slow machines and not on fast ones.

Training MODELS models three times is expensive. Every finished model is stored next to the raw data, and an
interrupted conversion continues from there. Of a retrained model only its outputs are stored: no scorer
needs its weights. A GPU does not give the same digits twice, so the instances of two machines are two draws
of the same models.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mlrcbench.competitions.machine_unlearning.scorer import confidence
from mlrcbench.competitions.machine_unlearning.scorer_full import (
    Images,
    Model,
    answers_of,
    device,
    network,
    shapes,
    share_right,
)
from mlrcbench.errors import DataError
from mlrcbench.sources.raw import MADE, find

FILES = (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin")
FILE_IMAGES, SIDE, CLASSES = 10_000, 32, 10
SALT = b"mlrcbench machine-unlearning full 0"

# Sizes: the base's images, then those of each of three worlds.
MODELS = 96
BASE = 30_000
SETS = {"retain": 6_400, "forget": 400, "validation": 1_000, "test": 2_200}
RETAIN_JUDGED = 2_000  # of the retain set, for its accuracy

# The network and its training.
WIDTHS = (64, 128, 256, 512)
BATCH, MOMENTUM, DECAY = 64, 0.9, 5e-4
BASE_EPOCHS, BASE_RATE = 30, 0.03
HEAD, EPOCHS, RATE = 0.7, 10, 0.02

WORLDS = ("practice", "dev", "test")
Records = npt.NDArray[np.uint8]
Stream = np.random.Generator
P = ParamSpec("P")


def convert(raw: Path, public: Path, private: Path) -> None:
    """Write the files of the instance: those of the mini tier, with other shapes.

    Args:
        raw: Holds `cifar-10/` with the six files of the binary version at any depth; finished models are
            stored in MADE.
        public: Receives `model.safetensors`, `sets.safetensors` and `retrained.safetensors` of the
            practice world: images uint8 (n, 3, 32, 32), labels int64 (n,).
        private: Receives for each split `inputs/`, with the first two of these files, and `answers/`.

    Raises:
        DataError: A file of CIFAR-10 is missing, or has a wrong length or wrong labels.
    """
    records = in_order(read(raw / "cifar-10"))
    keep = Keep(raw / MADE, records)
    if device() == "cpu":
        print("machine-unlearning: no GPU was found; with one this takes hours, on a CPU days", flush=True)
    base = keep(
        "base", train, initial(stream(0)), as_images(records[:BASE]), stream(1), BASE_EPOCHS, BASE_RATE
    )
    size = sum(SETS.values())
    for number, name in enumerate(WORLDS):
        sets = split(records[BASE + number * size :][:size])
        x, y = (torch.cat(pair) for pair in zip(sets["retain"], sets["forget"], strict=True))
        original = keep(f"{name}-original", finish, base, (x, y), stream(2, number))
        outputs = [
            keep(f"{name}-{place:03d}", tell, base, sets, stream(3, number, place)) for place in range(MODELS)
        ]
        stacked = {key: torch.stack([output[key] for output in outputs]) for key in outputs[0]}
        folder = public if name == "practice" else private / name / "inputs"
        _save(folder / "model.safetensors", {key: value[None] for key, value in original.items()})
        _save(folder / "sets.safetensors", _flat(sets, "retain", "forget", "validation"))
        if name == "practice":
            del stacked["test_accuracy"]
            _save(public / "retrained.safetensors", stacked)
        else:
            _write_answers(private / name / "answers", original, sets, stacked)


def read(folder: Path) -> Records:
    """All records of CIFAR-10, uint8 (60,000, 1 + 3072): a label, then red, green and blue rows.

    Raises:
        DataError: A file is missing, has another length, or a label out of range.
    """
    length = 1 + 3 * SIDE * SIDE
    parts = []
    for name in FILES:
        path = find(folder, name)
        if path.stat().st_size != FILE_IMAGES * length:
            raise DataError(
                f"{path} has {path.stat().st_size:,} bytes; the binary version of CIFAR-10 has "
                f"{FILE_IMAGES * length:,}. Unpack cifar-10-binary.tar.gz again"
            )
        parts.append(np.fromfile(path, np.uint8).reshape(FILE_IMAGES, length))
        if parts[-1][:, 0].max() >= CLASSES:
            raise DataError(
                f"{path} has label {parts[-1][:, 0].max()}; labels are 0 to {CLASSES - 1}: "
                "is it the binary version of CIFAR-10, and not of CIFAR-100?"
            )
    return np.concatenate(parts)


def in_order(records: Records) -> Records:
    """Sort the records by the SHA-256 of SALT and image; the label breaks ties.

    Raises:
        DataError: There are fewer records than the splits need.
    """
    needed = BASE + len(WORLDS) * sum(SETS.values())
    if len(records) < needed:
        raise DataError(f"CIFAR-10 has {len(records):,} images here; the splits need {needed:,}")
    keys = [hashlib.sha256(SALT + record[1:].tobytes()).digest() + record[:1].tobytes() for record in records]
    return records[sorted(range(len(records)), key=keys.__getitem__)]


def as_images(records: Records) -> Images:
    """Images (n, 3, SIDE, SIDE) uint8 and labels (n,) int64."""
    images = torch.from_numpy(np.ascontiguousarray(records[:, 1:]).reshape(-1, 3, SIDE, SIDE))
    return images, torch.from_numpy(records[:, 0].astype(np.int64))


def split(records: Records) -> dict[str, Images]:
    """Split a world's records into its sets."""
    ends = np.cumsum(list(SETS.values()))
    return {name: as_images(part) for name, part in zip(SETS, np.split(records, ends[:-1]), strict=True)}


def stream(*numbers: int) -> Stream:
    """The random stream of the part with these numbers."""
    return np.random.default_rng([20, *numbers])


def initial(rng: Stream) -> dict[str, Tensor]:
    """A new model: He-normal weights, scales one, shifts and biases zero."""
    model = {}
    for name, shape in shapes(WIDTHS, CLASSES).items():
        if name.endswith(".w"):
            values = rng.normal(0, math.sqrt(2 / math.prod(shape[1:])), shape)
        else:
            values = np.full(shape, float(name.endswith(".scale")))
        model[name] = torch.from_numpy(values.astype(np.float32))
    return model


def finish(base: Model, images: Images, rng: Stream) -> dict[str, Tensor]:
    """Train the base, with a new last layer of HEAD times He-normal weights, on some images."""
    new = initial(rng)
    model = dict(base) | {"head.w": HEAD * new["head.w"], "head.b": new["head.b"]}
    return train(model, images, rng, EPOCHS, RATE)


def tell(base: Model, sets: dict[str, Images], rng: Stream) -> dict[str, Tensor]:
    """Retrain one model; return its confidences (images,) on the forget set, and its accuracies."""
    model = finish(base, sets["retain"], rng)
    outputs = {}
    for name, (images, labels) in judged(sets).items():
        logits = answers_of(model, images)
        outputs[f"{name}_accuracy"] = torch.tensor(share_right(logits, labels), dtype=torch.float64)
        if name == "forget":
            outputs["forget_confidence"] = torch.from_numpy(confidence(logits[None], labels)[0])
    return outputs


def train(model: Model, images: Images, rng: Stream, epochs: int, rate: float) -> dict[str, Tensor]:
    """Run SGD with momentum and a cosine schedule on cross-entropy, in bfloat16 on a GPU; no augmentation."""
    place = device()
    weights = {name: value.to(place).clone().requires_grad_() for name, value in model.items()}
    speed = {name: torch.zeros_like(value) for name, value in weights.items()}
    x, y = (part.to(place) for part in images)
    per_epoch = len(y) // BATCH
    for step in range(epochs * per_epoch):
        if step % per_epoch == 0:
            order = torch.from_numpy(rng.permutation(len(y))).to(place)
        rows = order[step % per_epoch * BATCH :][:BATCH]
        with torch.autocast(place, torch.bfloat16, enabled=place == "cuda"):
            loss = torch.nn.functional.cross_entropy(network(weights, x[rows]).float(), y[rows])
        slopes = torch.autograd.grad(loss, list(weights.values()))
        scale = rate * 0.5 * (1 + math.cos(math.pi * step / (epochs * per_epoch)))
        with torch.no_grad():
            for (name, value), slope in zip(weights.items(), slopes, strict=True):
                speed[name].mul_(MOMENTUM).add_(slope).add_(value, alpha=DECAY)
                value.sub_(speed[name], alpha=scale)
    return {name: value.detach().cpu() for name, value in weights.items()}


class Keep:
    """A folder of finished models, valid for this code and these images."""

    def __init__(self, folder: Path, records: Records) -> None:
        code = b"".join(Path(name).read_bytes() for name in (__file__, network.__code__.co_filename))
        key = hashlib.sha256(code + records.tobytes()).hexdigest()[:16]
        self.folder = folder / key
        self.folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)  # it contains answers

    def __call__(
        self, name: str, work: Callable[P, dict[str, Tensor]], *given: P.args, **named: P.kwargs
    ) -> dict[str, Tensor]:
        """Return the stored result of `work`; if it is not stored yet, call `work` and store its result."""
        path = self.folder / f"{name}.safetensors"
        if not path.exists():
            print(
                f"machine-unlearning: {name} of {MODELS} models in each of {len(WORLDS)} worlds", flush=True
            )
            unfinished = path.with_suffix(".part")
            _save(unfinished, work(*given, **named))
            os.replace(unfinished, path)
        result: dict[str, Tensor] = load_file(path)
        return result


def judged(sets: dict[str, Images]) -> dict[str, Images]:
    """The sets on which accuracies are measured: only a part of the retain set."""
    x, y = sets["retain"]
    return sets | {"retain": (x[:RETAIN_JUDGED], y[:RETAIN_JUDGED])}


def _write_answers(folder: Path, original: Model, sets: dict[str, Images], outputs: Model) -> None:
    """Write what the scorer needs."""
    _save(folder / "layout.safetensors", {key: value[None].half() for key, value in original.items()})
    _save(folder / "retrained.safetensors", outputs)
    _save(folder / "judge.safetensors", _flat(judged(sets), "forget", "retain", "test"))


def _flat(sets: dict[str, Images], *names: str) -> dict[str, Tensor]:
    """Images and labels of the named sets, as tensors by name."""
    return {f"{name}_{part}": tensor for name in names for part, tensor in zip("xy", sets[name], strict=True)}


def _save(path: Path, tensors: Model) -> None:
    save_file({name: value.contiguous() for name, value in tensors.items()}, path)
