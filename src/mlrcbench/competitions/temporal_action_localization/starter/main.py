"""Entry point. Protected: this file is restored before every evaluation.

python main.py            train on three quarters of data/, score on the rest
python main.py predict    what an evaluation runs: data/, inputs/ -> artefacts/segments.json
"""

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from evaluation import THRESHOLDS, mean_average_precisions
from method import detect

SEED = 20


@dataclass
class Video:
    """One video; `segments` and `labels` are empty if the method has to find them."""

    id: str
    video: np.ndarray  # (steps, video channels), float32
    audio: np.ndarray  # (steps, audio channels), float32
    seconds: float  # per step
    duration: float  # seconds
    segments: np.ndarray  # (actions, 2), start and end in seconds
    labels: np.ndarray  # (actions,), int64


def read(path):
    """Read a JSON file."""
    return json.loads(Path(path).read_text())


def load(folder):
    """Read all videos of a folder, with their annotations if the folder has them."""
    folder = Path(folder)
    parts = [np.load(folder / f"{name}_features.npy", mmap_mode="r") for name in ("video", "audio")]
    known = read(folder / "annotations.json") if (folder / "annotations.json").exists() else {}
    seconds, videos = read(folder / "config.json")["step_seconds"], []
    for entry in read(folder / "videos.json"):
        rows = slice(entry["first_row"], entry["first_row"] + entry["steps"])
        actions = known.get(entry["id"], [])
        segments = np.array([action["segment"] for action in actions]).reshape(-1, 2)
        labels = np.array([action["label"] for action in actions], dtype=np.int64)
        features = [np.array(part[rows]) for part in parts]
        videos.append(Video(entry["id"], *features, seconds, entry["duration"], segments, labels))
    return videos


def run(train, videos):
    """Call the method with a fixed seed."""
    torch.manual_seed(SEED)
    np.random.seed(SEED)
    return detect(train, videos, len(read("data/config.json")["classes"]))


def experiment():
    """Train on three quarters of the labelled videos and score the rest."""
    videos = load("data")
    split = len(videos) * 3 // 4
    nothing = {"segments": np.zeros((0, 2)), "labels": np.zeros(0, dtype=np.int64)}
    predictions = run(videos[:split], [replace(video, **nothing) for video in videos[split:]])
    means = mean_average_precisions(predictions, videos[split:])
    for limit, value in zip(THRESHOLDS, means, strict=True):
        print(f"mAP at tIoU {limit}: {value:.4f}")
    print(f"{len(videos) - split} held-out videos: mAP {np.mean(means):.4f}", flush=True)


def predict():
    """Find the actions of the split that is evaluated."""
    videos = load("inputs")
    predictions = {
        video.id: [
            {"segment": [float(start), float(end)], "label": int(label), "score": float(score)}
            for start, end, label, score in segments
        ]
        for video, segments in zip(videos, run(load("data"), videos), strict=True)
    }
    Path("artefacts/segments.json").write_text(json.dumps(predictions) + "\n")
    count = sum(map(len, predictions.values()))
    print(f"wrote artefacts/segments.json with {count} segments of {len(predictions)} videos", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1:] == ["predict"]:
        predict()
    elif not sys.argv[1:]:
        experiment()
    else:
        sys.exit("usage: python main.py [predict]")
