"""Batches of videos, training, and segments in seconds. You may change this file."""

import numpy as np
import torch

from detector import STRIDES, decode, detection_loss

BATCH, RATE, DECAY, WARM_UP = 16, 2e-3, 0.05, 0.15
PREDICT_BATCH = 64


def standardised(x):
    """Features (steps, channels) with mean 0 and standard deviation 1 over the video."""
    return (x - x.mean(0)) / (x.std(0) + 1e-6)


def pad(features):
    """Features (batch, steps, channels) and a mask (batch, steps) of videos of different lengths.

    The number of steps is that of the longest video, rounded up to a multiple of the largest stride.
    """
    steps = -(-max(map(len, features)) // STRIDES[-1]) * STRIDES[-1]
    table = np.zeros((len(features), steps, features[0].shape[1]), np.float32)
    mask = np.zeros((len(features), steps), bool)
    for row, x in enumerate(features):
        table[row, : len(x)], mask[row, : len(x)] = x, True
    return torch.from_numpy(table), torch.from_numpy(mask)


def pad_truth(segments, labels):
    """Segments (batch, actions, 2) and labels (batch, actions); missing actions have the label -1."""
    width = max(1, *map(len, labels))
    table, names = np.zeros((len(labels), width, 2), np.float32), np.full((len(labels), width), -1)
    for row, (times, ids) in enumerate(zip(segments, labels, strict=True)):
        table[row, : len(ids)], names[row, : len(ids)] = times, ids
    return torch.from_numpy(table), torch.from_numpy(names)


def samples_of(videos, features):
    """(features, segments in steps, labels) of each labelled video."""
    return [(features(video), video.segments / video.seconds, video.labels) for video in videos]


def fit(model, samples, epochs, loss=detection_loss, draw=None):
    """Train a model.

    Args:
        model: Any module.
        samples: See `samples_of`.
        epochs: How many times each sample is seen.
        loss: Called with (model, features, mask, segments, labels) of a batch.
        draw: If given, called with (samples, row); returns the sample that is used instead.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY)
    steps = epochs * -(-len(samples) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps, pct_start=WARM_UP)
    for epoch in range(1, epochs + 1):
        total = 0.0
        for rows in torch.randperm(len(samples)).split(BATCH):
            drawn = [draw(samples, row) if draw else samples[row] for row in rows.tolist()]
            features, segments, labels = zip(*drawn, strict=True)
            value = loss(model, *pad(features), *pad_truth(segments, labels))
            optimizer.zero_grad()
            value.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += value.item() * len(rows)
        if epoch % 5 == 0:
            print(f"epoch {epoch} of {epochs}: loss {total / len(samples):.3f}", flush=True)
    return model.eval()


@torch.no_grad()
def predict(model, videos, features, decode=decode):
    """For each video a list of (start, end, label, score), in seconds.

    Args:
        model: Called with features and a mask; its result is passed to `decode`.
        videos: The videos to answer.
        features: Function that maps a video to (steps, channels).
        decode: See `detector.decode`.
    """
    segments = []
    for first in range(0, len(videos), PREDICT_BATCH):
        batch = videos[first : first + PREDICT_BATCH]
        x, mask = pad([features(video) for video in batch])
        columns = [column.tolist() for column in decode(*model(x, mask), mask)]
        segments += [to_seconds(video, *rows) for video, *rows in zip(batch, *columns, strict=True)]
    return segments


def to_seconds(video, starts, ends, labels, scores):
    """Segments within the video as (start, end, label, score), without empty ones."""
    rows = []
    for first, last, label, score in zip(starts, ends, labels, scores, strict=True):
        start, end = max(0.0, first * video.seconds), min(last * video.seconds, video.duration)
        if start < end:
            rows.append((start, end, label, score))
    return rows
