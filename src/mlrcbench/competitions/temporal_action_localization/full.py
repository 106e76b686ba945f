"""The full tier: the Perception Test's public features and annotations, in the mini tier's files.

The challenge does not publish its test annotations. As in the paper, its validation videos are the test split
here, and a fifth of its training videos is dev. The paper drew that fifth again at each preparation; here it
is drawn once, from the sorted names.

A row of the video features (TSP) covers 16 frames at 15 frames per second, which fixes `step_seconds`. Audio
features (MMV) have another rate and are interpolated linearly to the rows of the video features, as the
challenge's baseline does.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlrcbench.errors import DataError
from mlrcbench.sources.raw import find, find_all

STEP_SECONDS = 16 / 15
DEV_SHARE, SPLIT_SEED = 0.2, 20
_MICROSECONDS = 1e6
Features = npt.NDArray[np.float32]


def convert(raw: Path, public: Path, private: Path) -> None:
    """Write the files of the instance.

    Args:
        raw: Holds `perception-test/` with the annotations and features of the training and the validation
            videos, laid out as in the challenge's archives.
        public: Receives `config.json`, `videos.json`, both features and `annotations.json`.
        private: Receives for each split the same files without annotations in `inputs/`, and
            `answers/truth.json`.

    Raises:
        DataError: A file is missing or does not match the others.
    """
    folder = raw / "perception-test"
    labelled = _read(find(folder, "*action_localisation_train*.json"))
    held_out = _read(find(folder, "*action_localisation_valid*.json"))
    classes = class_names({**labelled, **held_out})
    dev = set(draw_dev(sorted(labelled)))
    parts = {
        "train": (public, "train", {name: entry for name, entry in labelled.items() if name not in dev}),
        "dev": (private / "dev" / "inputs", "train", {name: labelled[name] for name in sorted(dev)}),
        "test": (private / "test" / "inputs", "valid", held_out),
    }
    for part, (target, source, entries) in parts.items():
        write_inputs(target, folder, source, entries, classes)
        if part == "train":
            _write(public / "annotations.json", {name: actions(name, one) for name, one in entries.items()})
        else:
            table = [
                {"id": name, "duration": duration(name, one), "actions": actions(name, one)}
                for name, one in entries.items()
            ]
            _write(private / part / "answers" / "truth.json", {"classes": len(classes), "videos": table})
        print(f"temporal-action-localization: {len(entries)} videos of {part}", flush=True)


def draw_dev(names: list[str]) -> list[str]:
    """Draw the names of the training videos that form dev."""
    order = np.random.default_rng(SPLIT_SEED).permutation(len(names))
    return [names[place] for place in order[: round(DEV_SHARE * len(names))]]


def class_names(database: dict[str, Any]) -> list[str]:
    """The names of the classes, in the order of their numbers.

    Raises:
        DataError: A number has two names or is negative, or the annotations hold no action.
    """
    names: dict[int, str] = {}
    for entry in database.values():
        for action in entry["action_localisation"]:
            name = names.setdefault(action["label_id"], action["label"])
            if name != action["label"]:
                raise DataError(f"class {action['label_id']} has two names, {name!r} and {action['label']!r}")
    if not names or min(names) < 0:
        raise DataError("the annotations contain no action, or a negative class")
    return [names.get(label, f"class {label}") for label in range(max(names) + 1)]


def actions(name: str, entry: dict[str, Any]) -> list[dict[str, object]]:
    """The actions of a video, in seconds within the video.

    Raises:
        DataError: An action ends before it begins.
    """
    end = duration(name, entry)
    segments: list[dict[str, object]] = []
    for action in entry["action_localisation"]:
        start, stop = (min(max(time / _MICROSECONDS, 0.0), end) for time in action["timestamps"])
        if stop < start:
            raise DataError(f"an action of {name} ends at {stop} s, before it begins at {start} s")
        if stop > start:
            segments.append({"segment": [start, stop], "label": action["label_id"]})
    return segments


def duration(name: str, entry: dict[str, Any]) -> float:
    """The length of a video in seconds.

    Raises:
        DataError: The metadata do not contain it.
    """
    frames, rate = entry["metadata"].get("num_frames", 0), entry["metadata"].get("frame_rate", 0)
    if not (frames > 0 and rate > 0):
        raise DataError(f"the metadata of {name} lack num_frames or frame_rate")
    return float(frames / rate)


def write_inputs(
    target: Path, folder: Path, source: str, entries: dict[str, Any], classes: list[str]
) -> None:
    """Write the features of all videos, one array of each kind, and the rows of each video.

    Raises:
        DataError: A video has no features.
    """
    video = find_all(folder, f"action_localisation_{source}_video_features/*.npy")
    audio = find_all(folder, f"sound_localisation_{source}_audio_features/*.npy")
    missing = sorted(name for name in entries if name not in video)
    if missing:
        raise DataError(f"{len(missing)} videos have no features in {folder}, among them {missing[0]}")
    table, pictures, sounds, row, silent = [], [], [], 0, 0
    channels = load(next(iter(audio.values()))).shape[1] if audio else 1
    for name, entry in entries.items():
        pictures.append(load(video[name]))
        steps = len(pictures[-1])
        silent += name not in audio
        sound = load(audio[name]) if name in audio else np.zeros((1, channels), np.float32)
        sounds.append(resample(sound, steps))
        table.append({"id": name, "first_row": row, "steps": steps, "duration": duration(name, entry)})
        row += steps
    if silent:
        print(f"temporal-action-localization: {silent} videos without sound", flush=True)
    np.save(target / "video_features.npy", np.concatenate(pictures))
    np.save(target / "audio_features.npy", np.concatenate(sounds))
    _write(target / "config.json", {"classes": classes, "step_seconds": STEP_SECONDS})
    _write(target / "videos.json", table)


def load(path: Path) -> Features:
    """Read the features of one video, (steps, channels).

    Raises:
        DataError: The file holds something else.
    """
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise DataError(f"{path} is not an array: {error}") from error
    if array.ndim != 2 or not array.size or not np.isfinite(array).all():
        raise DataError(f"{path} must hold finite values (steps, channels); its shape is {array.shape}")
    return np.asarray(array, dtype=np.float32)


def resample(features: Features, steps: int) -> Features:
    """Interpolate (n, channels) linearly to (steps, channels); first and last rows stay first and last."""
    place = np.linspace(0, len(features) - 1, steps)
    low = np.minimum(place.astype(np.int64), max(0, len(features) - 2))
    share = (place - low)[:, None].astype(np.float32)
    high = np.minimum(low + 1, len(features) - 1)
    return np.asarray(features[low] * (1 - share) + features[high] * share, dtype=np.float32)


def _read(path: Path) -> dict[str, Any]:
    table = json.loads(path.read_text("utf-8"))
    if not isinstance(table, dict) or not all("action_localisation" in entry for entry in table.values()):
        raise DataError(f"{path} does not map videos to their action_localisation")
    return table


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value) + "\n", encoding="utf-8")
