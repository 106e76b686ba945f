"""temporal-action-localization's full tier, from the challenge's archives on a server to a score on test."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mlrcbench
from mlrcbench.catalog.competition import Competition
from mlrcbench.cli import main
from mlrcbench.competitions.temporal_action_localization import full, scorer
from mlrcbench.errors import DataError
from mlrcbench.sources.spec import RemoteFile
from tests.competitions.conftest import play_starter, run_conversion
from tests.sources.server import Server, serving

CLASSES = ("Pouring", "Putting something into something", "Throwing")
KIND = {"train": "", "valid": "challenge_"}


def database(split: str, count: int, rng: np.random.Generator) -> dict[str, Any]:
    """Annotations in the format of the challenge."""
    entries = {}
    for number in range(count):
        frames = int(rng.integers(300, 900))
        seconds = frames / 30
        segments = []
        for place in range(int(rng.integers(1, 4))):
            label = int(rng.integers(len(CLASSES)))
            start = rng.uniform(0, seconds - 5)
            times = [int(1e6 * start), int(1e6 * (start + rng.uniform(2, 4)))]
            segments.append(
                {
                    "id": place,
                    "parent_objects": [0],
                    "timestamps": times,
                    "frame_ids": [int(30 * time / 1e6) for time in times],
                    "label_id": label,
                    "label": CLASSES[label],
                }
            )
        metadata = {"split": split, "video_id": f"video_{number}", "frame_rate": 30.0, "num_frames": frames}
        name = f"video_{number + 1000 * (split == 'valid')}"
        entries[name] = {"metadata": metadata, "action_localisation": segments}
    return entries


def array(values: np.ndarray) -> bytes:
    """The bytes of a .npy file."""
    memory = io.BytesIO()
    np.save(memory, values)
    return memory.getvalue()


def write_archives(server: Server, counts: dict[str, int]) -> dict[str, dict[str, Any]]:
    """Put the six archives on a server; one video of each split has no sound."""
    rng = np.random.default_rng(3)
    databases = {split: database(split, count, rng) for split, count in counts.items()}
    for split, entries in databases.items():
        boxes: dict[str, dict[str, bytes]] = {
            f"{KIND[split]}action_localisation_{split}_annotations": {
                f"{KIND[split]}action_localisation_{split}.json": json.dumps(entries).encode()
            }
        }
        pictures, sounds = (
            f"action_localisation_{split}_video_features",
            f"sound_localisation_{split}_audio_features",
        )
        boxes |= {pictures: {}, sounds: {}}
        for place, (name, entry) in enumerate(entries.items()):
            steps = round(entry["metadata"]["num_frames"] / 30 * 15 / 16)
            x = rng.normal(size=(steps, 512))
            for action in entry["action_localisation"]:
                first, last = (round(time / 1e6 * 15 / 16) for time in action["timestamps"])
                x[first : last + 1, 10 * action["label_id"] : 10 * action["label_id"] + 10] += 4
            boxes[pictures][f"{pictures}/{name}.npy"] = array(x.astype(np.float32))
            if place:
                boxes[sounds][f"{sounds}/{name}.npy"] = array(rng.normal(size=(2 * steps + 1, 256)))
        for name, members in boxes.items():
            memory = io.BytesIO()
            with zipfile.ZipFile(memory, "w") as box:
                for path, content in members.items():
                    box.writestr(path, content)
            server.files[f"/{name}.zip"] = memory.getvalue()
    return databases


def unpacked(server: Server, folder: Path) -> Path:
    """Unpack all archives into one folder."""
    for content in server.files.values():
        with zipfile.ZipFile(io.BytesIO(content)) as box:
            box.extractall(folder / "perception-test")
    return folder


def convert(raw: Path, target: Path) -> Path:
    """Run the conversion by itself."""
    return run_conversion(full, raw, target)


class TestConvert:
    """The conversion of the challenge's files into the mini tier's."""

    def test_files(self, tmp_path: Path) -> None:
        """The parts are four fifths of train, the other fifth, and the validation videos, in seconds."""
        with serving() as server:
            databases = write_archives(server, {"train": 10, "valid": 4})
            made = convert(unpacked(server, tmp_path / "raw"), tmp_path / "made")
        annotations = json.loads((made / "public/annotations.json").read_text())
        parts = {
            name: json.loads((made / f"private/{name}/answers/truth.json").read_text())
            for name in ("dev", "test")
        }
        dev, test = ({video["id"] for video in parts[name]["videos"]} for name in ("dev", "test"))
        assert (len(annotations), len(dev), test) == (8, 2, set(databases["valid"]))
        assert dev | set(annotations) == set(databases["train"])
        assert parts["test"]["classes"] == 3
        for folder in (made / "public", made / "private/dev/inputs", made / "private/test/inputs"):
            config = json.loads((folder / "config.json").read_text())
            assert config == {"classes": list(CLASSES), "step_seconds": pytest.approx(1.0666667)}
            videos = json.loads((folder / "videos.json").read_text())
            rows = sum(video["steps"] for video in videos)
            assert np.load(folder / "video_features.npy").shape == (rows, 512)
            assert np.load(folder / "audio_features.npy").shape == (rows, 256)
            for video in videos:
                assert abs(video["steps"] * config["step_seconds"] - video["duration"]) < 1.1
        video = parts["test"]["videos"][0]
        original = databases["valid"][video["id"]]["action_localisation"][0]
        assert video["actions"][0]["segment"] == [time / 1e6 for time in original["timestamps"]]
        assert not (made / "private/test/inputs/annotations.json").exists()

    def test_sound_is_interpolated(self) -> None:
        """It is linear and maps ends to ends, like scipy's interp1d in the challenge's baseline."""
        features = np.array([[0.0, 4.0], [2.0, 0.0], [4.0, 2.0]], np.float32)
        assert full.resample(features, 5) == pytest.approx(np.array([[0, 4], [1, 2], [2, 0], [3, 1], [4, 2]]))
        assert full.resample(features, 1) == pytest.approx(features[:1])
        assert full.resample(features[:1], 3) == pytest.approx(np.repeat(features[:1], 3, 0))

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"timestamps": [9_000_000, 1_000_000]}, "ends at 1.0 s, before it begins"),
            ({"label": "Juggling", "label_id": 0}, "class 0 has two names"),
        ],
    )
    def test_contradictions(self, tmp_path: Path, change: dict[str, Any], reason: str) -> None:
        """The error names the video or the class."""
        with serving() as server:
            write_archives(server, {"train": 10, "valid": 2})
            raw = unpacked(server, tmp_path / "raw")
        path = raw / "perception-test/action_localisation_train.json"
        entries = json.loads(path.read_text())
        for entry in entries.values():
            entry["metadata"]["num_frames"] = 900
            entry["action_localisation"][-1].update(change)
        path.write_text(json.dumps(entries))
        with pytest.raises(DataError, match=reason):
            convert(raw, tmp_path / "made")

    def test_missing_features(self, tmp_path: Path) -> None:
        """The error names a video without features."""
        with serving() as server:
            write_archives(server, {"train": 5, "valid": 2})
            raw = unpacked(server, tmp_path / "raw")
        (raw / "perception-test/action_localisation_valid_video_features/video_1001.npy").unlink()
        with pytest.raises(DataError, match=r"1 videos have no features in .* video_1001"):
            convert(raw, tmp_path / "made")


def served_from(server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Competition:
    """The shipped competition, with its sources on the local server."""
    original = mlrcbench.get_competition("temporal-action-localization")
    shutil.copytree(original.folder, folder, ignore=shutil.ignore_patterns("__pycache__"))
    card = (folder / "card.toml").read_text()
    place = "https://storage.googleapis.com/dm-perception-test/zip_data"
    assert card.count(place) == 6
    (folder / "card.toml").write_text(card.replace(place, server.url))
    changed = Competition(folder)
    for name in ("mlrcbench.cli", "mlrcbench"):
        monkeypatch.setattr(f"{name}.get_competition", lambda _: changed, raising=False)
    return changed


@pytest.mark.slow
def test_from_a_server_to_a_score(fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command prepares the tier after an interruption; then the starter finds the planted actions."""
    with serving() as server:
        write_archives(server, {"train": 40, "valid": 12})
        changed = served_from(server, tmp_path / "temporal_action_localization", monkeypatch)
        monkeypatch.chdir(tmp_path)
        prepare = ["prepare", changed.id, "--tier", "full", "--quiet", "--cache", "cache"]
        broken = "/sound_localisation_valid_audio_features.zip"
        server.faults[broken] = ["cut", 404]
        assert main(prepare) == 2
        assert main(prepare) == 0
        assert server.seen["/action_localisation_train_annotations.zip"] == 1
        assert server.seen[broken] == 3
    assert main(prepare) == 0  # no server any more
    score = play_starter(changed, fresh / "records", monkeypatch)
    assert score.value is not None
    assert score.value > 0.2


def test_the_files_of_the_card() -> None:
    """Each file is an archive, and the layout needs something from each."""
    source = (
        mlrcbench.get_competition("temporal-action-localization").card.tier("full").sources["perception-test"]
    )
    assert all(isinstance(file, RemoteFile) and file.unpack for file in source.files)
    assert len(source.files) == len(source.layout)
    assert scorer.MAX_SEGMENTS == 200
