"""temporal-action-localization, the instance: what a seed builds, shortcuts lose, the starter runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlrcbench.competitions.temporal_action_localization import data, scorer
from mlrcbench.score import SPLITS
from tests.competitions.conftest import load_module
from tests.competitions.temporal_action_localization.test_scorer import HOME

METHODS = Path(__file__).parents[3] / "calibration/temporal_action_localization/methods"
SEED = 7


def read(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One instance, built as for users."""
    root = tmp_path_factory.mktemp("localization")
    data.build(root / "public", root / "private", seed=SEED, tier="mini")
    return root


class TestWorld:
    """The actions of an instance."""

    @settings(max_examples=10, deadline=None)
    @given(st.integers(0, 2**63 - 1))
    def test_pairs_differ_in_one_phase_by_the_angle(self, seed: int) -> None:
        """All other phases are orthogonal or the same."""
        world = data.make_world(np.random.default_rng(seed))
        flat = world.phases.reshape(data.CLASSES * data.PHASES, -1)
        angles = np.round(np.arccos(np.clip(flat @ flat.T, -1, 1)), 6)
        assert set(np.unique(angles)) == {0.0, round(data.ANGLE, 6), round(np.pi / 2, 6)}
        assert (angles == round(data.ANGLE, 6)).sum() == 2 * data.PAIRS

    @settings(max_examples=10, deadline=None)
    @given(st.integers(0, 2**63 - 1))
    def test_a_sound_is_shared_by_pairs_and_not_within(self, seed: int) -> None:
        """No sound names a class; the members of a pair that has sounds have different ones."""
        sounds = data.make_world(np.random.default_rng(seed)).sounds
        same = np.isclose(sounds @ sounds.T, 1.0)
        heard = 2 * data.SOUNDING_PAIRS
        assert (same[:heard].sum(1) >= 2).all()
        assert not sounds[heard:].any()
        assert not any(same[2 * pair, 2 * pair + 1] for pair in range(data.PAIRS))

    def test_unfinished_actions_are_no_actions(self) -> None:
        """An unfinished action has other phases than every action."""
        rng = np.random.default_rng(3)
        world = data.make_world(rng)
        for _ in range(50):
            event = data.unfinished(world, rng, 1.0)
            assert not event.labelled
            assert not any(np.allclose(event.phases, phases) for phases in world.phases)


class TestBuild:
    """The files of an instance."""

    def test_files(self, instance: Path) -> None:
        """Public files and inputs have the same form; annotations are public, the truth is not."""
        shared = {"config.json", "videos.json", "video_features.npy", "audio_features.npy"}
        assert {path.name for path in (instance / "public").iterdir()} == shared | {"annotations.json"}
        for split in SPLITS:
            assert {path.name for path in (instance / "private" / split / "inputs").iterdir()} == shared
            assert [path.name for path in (instance / "private" / split / "answers").iterdir()] == [
                "truth.json"
            ]

    def test_features(self, instance: Path) -> None:
        """Rows are float32, as many as the table says, and standardised on the training videos."""
        for folder in ("public", "private/dev/inputs", "private/test/inputs"):
            table, row = read(instance / folder / "videos.json"), 0
            for video in table:
                assert video["first_row"] == row
                assert data.STEPS[0] <= video["steps"] <= data.STEPS[1]
                assert video["duration"] == video["steps"] * data.STEP_SECONDS
                row += video["steps"]
            for name, channels in (("video", data.VIDEO_CHANNELS), ("audio", data.AUDIO_CHANNELS)):
                features = np.load(instance / folder / f"{name}_features.npy")
                assert features.dtype == np.float32
                assert features.shape == (row, channels)
                # Exact for training videos, approximate for the others, which have other looks.
                room = 1e-3 if folder == "public" else 0.5
                assert np.abs(features.mean(0)).max() < room
                assert np.abs(features.std(0) - 1).max() < room

    def test_actions(self, instance: Path) -> None:
        """Actions are within their videos, in order, and classes have equal shares in each split."""
        lists = {
            "train": [
                (video["duration"], actions)
                for video, actions in zip(
                    read(instance / "public/videos.json"),
                    read(instance / "public/annotations.json").values(),
                    strict=True,
                )
            ]
        }
        for split in SPLITS:
            videos = read(instance / "private" / split / "answers/truth.json")["videos"]
            lists[split] = [(video["duration"], video["actions"]) for video in videos]
        for videos in lists.values():
            for duration, actions in videos:
                times = [one["segment"] for one in actions]
                assert times == sorted(times)
                assert all(0 <= start < end <= duration for start, end in times)
            counts = np.bincount([one["label"] for _, actions in videos for one in actions])
            assert len(counts) == data.CLASSES
            assert counts.max() - counts.min() <= data.DECK

    def test_no_video_is_in_two_places(self, instance: Path) -> None:
        """All ids are different, and so are the features."""
        folders = [instance / "public", *(instance / "private" / split / "inputs" for split in SPLITS)]
        ids = [video["id"] for folder in folders for video in read(folder / "videos.json")]
        rows = np.concatenate([np.load(folder / "video_features.npy")[:, 0] for folder in folders])
        assert len(set(ids)) == len(ids) == data.TRAIN + 2 * data.HELD_OUT
        assert len(np.unique(rows)) > 0.99 * len(rows)

    def test_answers_follow_the_inputs(self, instance: Path) -> None:
        """The truth lists the same videos, in the same order, with the same durations."""
        for split in SPLITS:
            videos = read(instance / "private" / split / "inputs/videos.json")
            truth = read(instance / "private" / split / "answers/truth.json")["videos"]
            assert [(v["id"], v["duration"]) for v in videos] == [(v["id"], v["duration"]) for v in truth]

    def test_another_seed_another_world(self, instance: Path, tmp_path: Path) -> None:
        """All files change with the seed, except the names of the classes."""
        data.build(tmp_path / "public", tmp_path / "private", seed=SEED + 1, tier="mini")
        for path in (path for path in instance.rglob("*") if path.is_file() and path.name != "config.json"):
            assert path.read_bytes() != (tmp_path / path.relative_to(instance)).read_bytes()


class TestShortcuts:
    """Shortcuts score less than the baseline's 0.23."""

    def value(self, name: str, instance: Path, artefacts: Path) -> float:
        """The score of a bound on test."""
        bounds: dict[str, Callable[[Path, Path, Path, Path], None]] = load_module(
            METHODS / "bounds.py"
        ).BOUNDS
        inputs, answers = (instance / "private/test" / part for part in ("inputs", "answers"))
        bounds[name](instance / "public", inputs, answers, artefacts)
        judged = scorer.score(artefacts, answers)
        assert judged.value is not None
        return judged.value

    @pytest.mark.parametrize(
        "name",
        [
            "constant at class priors",
            "one per class, whole video",
            "a grid of 200",
            "random",
            "nearest training video",
        ],
    )
    def test_constants_and_floods(self, name: str, instance: Path, tmp_path: Path) -> None:
        """Segments that ignore the steps of the video score next to nothing."""
        assert self.value(name, instance, tmp_path) < 0.08

    def test_sounds_alone(self, instance: Path, tmp_path: Path) -> None:
        """Comparing each step's sound with class means does not replace the pictures."""
        assert 0.05 < self.value("loud steps", instance, tmp_path) < 0.24

    def test_truth(self, instance: Path, tmp_path: Path) -> None:
        """The truth scores one, and both times and classes are needed for that."""
        assert self.value("oracle", instance, tmp_path) == 1.0
        assert self.value("true times, random class", instance, tmp_path) < 0.08


class TestStarter:
    """The entry point."""

    @pytest.mark.slow
    def test_predict_writes_what_can_be_scored(self, instance: Path, tmp_path: Path) -> None:
        """With a shortened training, the artefact keeps every rule; a second run writes the same bytes."""
        first, second = (self.predict("reference", instance, tmp_path / name) for name in ("one", "two"))
        assert first.read_bytes() == second.read_bytes()
        judged = scorer.score(first.parent, instance / "private/test/answers")
        assert judged.value is not None
        assert judged.value > 0.02

    def predict(self, overlay: str, instance: Path, place: Path) -> Path:
        """Run `main.py predict` with two epochs, and return its artefact."""
        shutil.copytree(HOME / "starter", place, ignore=shutil.ignore_patterns("__pycache__"))
        for path in (HOME / overlay).glob("*.py"):
            shutil.copy(path, place)
        method = place / "method.py"
        text = method.read_text()
        assert "EPOCHS = " in text
        for long in ("MODELS, EPOCHS = 2, 22", "EPOCHS = 15"):
            text = text.replace(long, long.rpartition(" ")[0] + " 2")
        method.write_text(text)
        (place / "data").symlink_to(instance / "public")
        (place / "inputs").symlink_to(instance / "private/test/inputs")
        (place / "artefacts").mkdir()
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "main.py", "predict"]
        subprocess.run(command, cwd=place, check=True, capture_output=True, env=environment)
        return place / "artefacts/segments.json"
