"""Data: untrimmed videos as feature sequences that contain actions to find.

A world has actions in confusable pairs. An action runs through three phases, each a direction
of a latent space. The two members of a pair differ in one phase only, and only by an angle.
A fixed random network, the "backbone", turns latent states into video features. The members of
most pairs can also be told apart by a sound that ends the action.

Shortcuts that the generator rules out:

- *Unfinished actions* (one phase alone, or the phases in a wrong order) are frequent and not
  labelled: otherwise it would be enough to classify steps one by one.
- A video's style enters the backbone together with the state: otherwise subtracting a mean removes it.
- Pairs share their sounds, sounds also occur where no action ends, and some videos are silent:
  otherwise a sound is a label. A sound tells the members of a pair apart; the picture says which pair.
- Classes, their lengths and their sounds are balanced, and directions are orthogonal: instances
  of different seeds are about equally hard, and class priors are worthless.
- Ids are random and videos are in random order: neither carries information.

The world, the ids and each part have separate random streams, derived from the secret seed, so nothing
that is published helps to predict what is hidden.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mlrcbench.score import SPLITS

Array = npt.NDArray[np.float64]
Scale = tuple[Array, Array]

# Sizes of an instance.
TRAIN, HELD_OUT = 160, 160  # videos for training; videos of dev and of test
PAIRS, PHASES = 6, 3
CLASSES = 2 * PAIRS
VIDEO_CHANNELS, AUDIO_CHANNELS = 32, 16
STEP_SECONDS, SUBSTEPS = 0.5, 4
STEPS = (44, 64)  # of a video, both included

# Actions.
LATENT = PAIRS * (PHASES + 1)  # three phases per pair, and one that replaces one of them
ANGLE = 0.6  # rad, between the phases in which a pair's members differ
MEDIAN_STEPS = (2.5, 7.5, 4.5, 3.5, 9.0, 6.0)  # of each pair's actions; log-normal with LENGTH_SPREAD
LENGTH_SPREAD = 0.45
GAP_STEPS, OVERLAP = 2.0, 0.15  # mean gap; share of actions that begin before the previous one ends
OVERLAP_SHARE = 0.4  # largest overlap, as a share of the previous one's length
FADE = 0.4  # share of an action in which it fades in, and in which it fades out
DECK = 4  # actions of a class per round
UNFINISHED = 0.3  # share of events that are not labelled
UNFINISHED_ORDERS = ((0, 0, 0), (1, 1, 1), (2, 2, 2), (2, 1, 0), (1, 0, 2), (0, 2, 1))

# What the camera does to the state.
STYLE, HIDDEN = 4, 64  # dimensions of a video's style, width of the backbone
BACKBONE_GAIN, BIAS = 2.0, 0.85
DRIFT = 0.1  # of the style, per step
STRENGTH_SPREAD = 0.2  # log-normal, of events
LATENT_NOISE, MEMORY, FEATURE_NOISE = 0.18, 0.8, 0.2

# Sounds.
SOUNDS, SOUNDING_PAIRS, SOUND_SECONDS = 4, 5, 0.5  # kinds of sounds; pairs whose actions end with one
SOUND_VOLUME, VOLUME_SPREAD, SOUND_NOISE = 1.5, 0.3, 0.25
STRAY_SOUNDS, SILENT = 2.5, 0.1  # mean per video; share of videos without sounds


@dataclass(frozen=True)
class World:
    """The part of an instance that all its videos share.

    Attributes:
        phases: (CLASSES, PHASES, LATENT), the latent state of each phase of an action.
        sounds: (CLASSES, AUDIO_CHANNELS), the sound of each action; zero for the last pairs, which have none.
        inner, bias, outer: The backbone, `outer @ tanh(inner @ [state, style] + bias)`.
        order: (CLASSES,), the published label of each action.
    """

    phases: Array
    sounds: Array
    inner: Array
    bias: Array
    outer: Array
    order: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Event:
    """Something that happens in a video; times are in steps, and `phases` are played in order."""

    action: int
    start: float
    end: float
    phases: Array
    labelled: bool


@dataclass(frozen=True)
class Video:
    """One video: features (steps, channels) of both kinds, and rows (start in s, end in s, label)."""

    video: Array
    audio: Array
    segments: list[tuple[float, float, int]]


def build(public: Path, private: Path, *, seed: int, tier: str) -> None:
    """Write the files of one instance.

    `public/`, `private/dev/inputs/` and `private/test/inputs/` receive `config.json`,
    `videos.json`, `video_features.npy` and `audio_features.npy`; `public/` also receives
    `annotations.json`. Each `answers/` receives `truth.json`.

    Args:
        public: Folder for files that an agent may read at any time.
        private: Folder for the inputs and answers of both splits.
        seed: Derived from the secret, 0 <= seed < 2**63; decides every byte.
        tier: Always "mini".
    """
    del tier
    world = make_world(np.random.default_rng([seed, 0]))
    ids = make_ids(np.random.default_rng([seed, 1]), TRAIN + 2 * HELD_OUT)
    train = make_videos(world, np.random.default_rng([seed, 2]), TRAIN)
    scales = _scale([one.video for one in train]), _scale([one.audio for one in train])
    names, ids = ids[:TRAIN], ids[TRAIN:]
    print(f"temporal-action-localization: {TRAIN} videos for training", flush=True)
    _write_inputs(public, names, train, scales)
    annotations = {name: _actions(one) for name, one in zip(names, train, strict=True)}
    _write_json(public / "annotations.json", annotations)
    for number, split in enumerate(SPLITS, 3):
        print(f"temporal-action-localization: {HELD_OUT} videos for {split}", flush=True)
        videos = make_videos(world, np.random.default_rng([seed, number]), HELD_OUT)
        names, ids = ids[:HELD_OUT], ids[HELD_OUT:]
        _write_inputs(private / split / "inputs", names, videos, scales)
        _write_truth(private / split / "answers", names, videos)


def make_world(rng: np.random.Generator) -> World:
    """Draw an instance's actions and its backbone.

    All phases are rows of one random rotation, so that pairs are equally far apart; in each
    pair, one phase of the second member is turned by ANGLE towards another direction.
    """
    rows = _rotation(rng, LATENT).reshape(PAIRS, PHASES + 1, LATENT)
    phases = np.repeat(rows[:, :PHASES], 2, axis=0)
    for pair in range(PAIRS):
        which = pair % PHASES
        turned = np.cos(ANGLE) * rows[pair, which] + np.sin(ANGLE) * rows[pair, PHASES]
        phases[2 * pair + 1, which] = turned
    sounds = np.zeros((CLASSES, AUDIO_CHANNELS))
    kinds = np.arange(2 * SOUNDING_PAIRS) % SOUNDS
    sounds[: 2 * SOUNDING_PAIRS] = _rotation(rng, AUDIO_CHANNELS)[kinds]
    inner = _rotation(rng, HIDDEN)[:, : LATENT + STYLE]
    return World(
        phases=phases,
        sounds=sounds,
        inner=inner * BACKBONE_GAIN * np.sqrt(HIDDEN / LATENT),
        bias=BIAS * rng.permutation(np.linspace(-1.0, 1.0, HIDDEN)),
        outer=_rotation(rng, HIDDEN)[:VIDEO_CHANNELS],
        order=rng.permutation(CLASSES),
    )


def make_videos(world: World, rng: np.random.Generator, count: int) -> list[Video]:
    """Draw videos in which all classes have equal shares, up to one round of the deck."""
    deck = np.zeros(0, dtype=np.int64)
    videos = []
    for _ in range(count):
        steps = int(rng.integers(STEPS[0], STEPS[1] + 1))
        events: list[Event] = []
        clock = rng.exponential(GAP_STEPS)
        while True:
            deck = deck if len(deck) else rng.permutation(np.repeat(np.arange(CLASSES), DECK))
            if rng.random() < UNFINISHED:
                event = unfinished(world, rng, clock)
            else:
                event, deck = make_event(world, rng, int(deck[0]), clock), deck[1:]
            if event.end > steps:
                # What does not fit goes back, so that no video begins with what the previous one lacks.
                deck = np.insert(deck, rng.integers(len(deck) + 1), event.action) if event.labelled else deck
                break
            events.append(event)
            overlap = -OVERLAP_SHARE * (event.end - event.start) * rng.random()
            clock = event.end + (overlap if rng.random() < OVERLAP else rng.exponential(GAP_STEPS))
        videos.append(render(world, rng, events, steps))
    return videos


def make_event(world: World, rng: np.random.Generator, action: int, start: float) -> Event:
    """Draw an action that begins at `start` steps."""
    length = MEDIAN_STEPS[action // 2] * np.exp(LENGTH_SPREAD * rng.normal())
    return Event(action, start, start + length, world.phases[action], labelled=True)


def unfinished(world: World, rng: np.random.Generator, start: float) -> Event:
    """Draw an action that is not carried out: one phase instead of three, or two of them exchanged."""
    whole = make_event(world, rng, int(rng.integers(CLASSES)), start)
    order = UNFINISHED_ORDERS[rng.integers(len(UNFINISHED_ORDERS))]
    return replace(whole, phases=whole.phases[list(order)], labelled=False)


def render(world: World, rng: np.random.Generator, events: list[Event], steps: int) -> Video:
    """The features of a video in which these events happen, and its labelled actions."""
    state = _colored_noise(rng, steps)
    for event in events:
        state += np.exp(STRENGTH_SPREAD * rng.normal()) * _course(event, steps)
    style = rng.normal(size=STYLE) + DRIFT * np.cumsum(rng.normal(size=(steps, STYLE)), 0)
    hidden = np.tanh(np.hstack([state, style]) @ world.inner.T + world.bias)
    video = hidden @ world.outer.T + FEATURE_NOISE * rng.normal(size=(steps, VIDEO_CHANNELS))
    actions = [event for event in events if event.labelled]
    segments = [
        (round(one.start * STEP_SECONDS, 3), round(one.end * STEP_SECONDS, 3), int(world.order[one.action]))
        for one in actions
    ]
    return Video(video, _listen(world, rng, actions, steps), sorted(segments))


def _listen(world: World, rng: np.random.Generator, actions: list[Event], steps: int) -> Array:
    """The audio features of a video: the sounds that end its actions, and others at random times."""
    ends = [(one.end, one.action) for one in actions]
    ends += [(rng.uniform(0, steps), int(rng.integers(SOUNDS))) for _ in range(rng.poisson(STRAY_SOUNDS))]
    volume = 0.0 if rng.random() < SILENT else SOUND_VOLUME
    audio = SOUND_NOISE * rng.normal(size=(steps, AUDIO_CHANNELS))
    for end, action in ends:
        cover = _cover(end - SOUND_SECONDS / STEP_SECONDS, end, steps)
        audio += volume * np.exp(VOLUME_SPREAD * rng.normal()) * cover[:, None] * world.sounds[action]
    return audio


def make_ids(rng: np.random.Generator, count: int) -> list[str]:
    """Different names without meaning, in random order."""
    return [f"video_{number:06d}" for number in rng.choice(1_000_000, count, replace=False)]


def _course(event: Event, steps: int) -> Array:
    """The part (steps, LATENT) that an event adds to the state: a mean over SUBSTEPS moments of each step."""
    moments = (np.arange(steps * SUBSTEPS) + 0.5) / SUBSTEPS
    progress = (moments - event.start) / (event.end - event.start)
    centres = (np.arange(PHASES) + 0.5) / PHASES
    weights = np.maximum(
        0.0, 1 - np.abs(np.clip(progress, centres[0], centres[-1])[:, None] - centres) * PHASES
    )
    weights *= np.clip(np.minimum(progress, 1 - progress) / FADE, 0.0, 1.0)[:, None]
    course: Array = (weights @ event.phases).reshape(steps, SUBSTEPS, LATENT).mean(1)
    return course


def _cover(start: float, end: float, steps: int) -> Array:
    """The share (steps,) of each step that lies between `start` and `end`, both in steps."""
    left = np.arange(steps)
    cover: Array = np.clip(np.minimum(end, left + 1) - np.maximum(start, left), 0.0, 1.0)
    return cover


def _colored_noise(rng: np.random.Generator, steps: int) -> Array:
    """Stationary noise (steps, LATENT) of the state; neighbouring steps have the correlation MEMORY."""
    noise = rng.normal(size=(steps, LATENT))
    for step in range(1, steps):
        noise[step] = MEMORY * noise[step - 1] + np.sqrt(1 - MEMORY**2) * noise[step]
    return LATENT_NOISE * noise


def _rotation(rng: np.random.Generator, size: int) -> Array:
    """A random orthogonal matrix."""
    q, r = np.linalg.qr(rng.normal(size=(size, size)))
    rotation: Array = q * np.sign(np.diag(r))
    return rotation


def _scale(parts: list[Array]) -> Scale:
    """Mean and standard deviation (channels,) of features."""
    rows = np.concatenate(parts)
    return rows.mean(0), rows.std(0)


def _write_inputs(folder: Path, names: list[str], videos: list[Video], scales: tuple[Scale, Scale]) -> None:
    """Write the features of all videos, one array of each kind, and the rows of each video."""
    folder.mkdir(parents=True, exist_ok=True)
    table, row = [], 0
    for name, one in zip(names, videos, strict=True):
        steps = len(one.video)
        table.append({"id": name, "first_row": row, "steps": steps, "duration": steps * STEP_SECONDS})
        row += steps
    kinds = {"video": [one.video for one in videos], "audio": [one.audio for one in videos]}
    for (kind, parts), (mean, spread) in zip(kinds.items(), scales, strict=True):
        features = (np.concatenate(parts) - mean) / spread
        np.save(folder / f"{kind}_features.npy", features.astype(np.float32))
    classes = [f"action_{label:02d}" for label in range(CLASSES)]
    _write_json(folder / "config.json", {"classes": classes, "step_seconds": STEP_SECONDS})
    _write_json(folder / "videos.json", table)


def _write_truth(folder: Path, names: list[str], videos: list[Video]) -> None:
    """Write what the scorer needs, in the order of `videos.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    table = [
        {"id": name, "duration": len(one.video) * STEP_SECONDS, "actions": _actions(one)}
        for name, one in zip(names, videos, strict=True)
    ]
    _write_json(folder / "truth.json", {"classes": CLASSES, "videos": table})


def _actions(video: Video) -> list[dict[str, object]]:
    """The labelled actions of a video, in the form of annotations."""
    return [{"segment": [start, end], "label": label} for start, end, label in video.segments]


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
