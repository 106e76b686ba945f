"""meta-learning's full tier, from Meta-Album's layout to a score on test."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mlrcbench
from mlrcbench.catalog.competition import Competition
from mlrcbench.catalog.prepare import prepare_real
from mlrcbench.competitions.meta_learning import full
from mlrcbench.errors import DataError
from mlrcbench.sources.raw import listing
from tests.competitions.conftest import play_starter

CLASSES = 5
SIDE = 16  # of the images in these tests; the starter's network accepts this size too


def write_raw(folder: Path) -> Path:
    """Write all thirty datasets: few classes that differ in colour; some are deeper, one grey and larger."""
    random = np.random.default_rng(0)
    for number, name in enumerate(name for part in full.SETS.values() for name in part):
        root = folder / ("org/openml" if number % 2 else "") / f"{name}_Mini"
        (root / "images").mkdir(parents=True)
        rows = []
        for label in range(CLASSES):
            colour = random.integers(0, 200, 3)
            for place in range(full.QUERIES + full.SHOTS[1]):
                side = 2 * SIDE if number == 0 else SIDE
                pixels = (colour + random.integers(0, 40, (side, side, 3))).astype(np.uint8)
                image = Image.fromarray(pixels).convert("L" if number == 0 else "RGB")
                rows.append([f"{label}_{place}.png", f"class {label}"])
                image.save(root / "images" / rows[-1][0])
        info = {"image_column_name": "FILE_NAME", "category_column_name": "CATEGORY"}
        (root / "info.json").write_text(json.dumps(info))
        with (root / "labels.csv").open("w", newline="") as file:
            csv.writer(file).writerows([["FILE_NAME", "CATEGORY"], *rows])
    return folder


def small(folder: Path) -> Competition:
    """The shipped competition with small images, few tasks and a short training."""
    original = mlrcbench.get_competition("meta-learning").folder
    shutil.copytree(original, folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name, long, short in (
        ("full.py", "SIDE = 128", f"SIDE = {SIDE}"),
        ("full.py", "TASKS = 30", "TASKS = 1"),
        ("starter/method.py", "DECAY = 3000", "DECAY = 300"),
    ):
        text = (folder / name).read_text()
        assert text.count(long) == 1
        (folder / name).write_text(text.replace(long, short))
    return Competition(folder)


@pytest.mark.slow
def test_from_a_folder_to_a_score(fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files have the mini tier's shapes, and the starter tells colours apart."""
    data, competition = write_raw(tmp_path / "data"), small(tmp_path / "meta_learning")
    instance = prepare_real(competition, data=data, quiet=True)
    images, labels, domains = (np.load(instance.public / f"{n}.npy") for n in ("images", "labels", "domains"))
    count = 10 * CLASSES * 40
    assert (images.dtype, images.shape) == (np.uint8, (count, 3, SIDE, SIDE))
    assert np.bincount(labels).tolist() == [40] * 10 * CLASSES
    assert (labels // CLASSES == domains).all()
    grey = images[domains == 0]
    assert (grey[:, 0] == grey[:, 1]).all()
    for split in ("dev", "test"):
        inputs = {path.stem: np.load(path) for path in instance.inputs(split).iterdir()}
        answers = {path.stem: np.load(path) for path in instance.answers(split).iterdir()}
        ways, shots, queries = inputs["tasks"].T
        assert len(ways) == 10
        assert set(queries) == {20}
        assert (ways.min() >= 2) & (ways.max() <= CLASSES)
        assert len(inputs["support_images"]) == len(inputs["support_labels"]) == (ways * shots).sum()
        assert len(inputs["query_images"]) == len(answers["labels"]) == (ways * 20).sum()
        assert sorted(answers["tasks"][:, 0]) == list(range(10))
        start = 0
        for way in ways:
            assert np.bincount(answers["labels"][start : start + 20 * way]).tolist() == [20] * way
            start += 20 * way
    score = play_starter(competition, fresh / "records", monkeypatch)
    assert score.value is not None
    assert score.value > 0.3


class TestDraw:
    """The draw of tasks."""

    def test_a_task(self) -> None:
        """No image occurs twice; support and queries of a class have the same category."""
        table = [(Path(f"{label}_{place}"), f"class {label}") for label in range(7) for place in range(40)]
        random = np.random.default_rng(0)
        for _ in range(20):
            plan = full.draw_task(table, 3, random)
            rows = np.concatenate([plan.support, plan.queries])
            assert len(set(rows.tolist())) == len(rows) == plan.ways * (plan.shots + 20)
            categories = rows // 40
            ids = np.concatenate([plan.support_labels, plan.query_labels])
            assert len(set(zip(ids.tolist(), categories.tolist(), strict=True))) == plan.ways


class TestWrong:
    """Errors name the file or column that is wrong."""

    @pytest.mark.parametrize(
        ("name", "content", "reason"),
        [
            (
                "labels.csv",
                b"FILE_NAME,CATEGORY\nnothing.png,x\n",
                "column or image 'nothing.png' is missing",
            ),
            ("labels.csv", b"FILE,CATEGORY\n0_0.png,x\n", "column or image 'FILE_NAME' is missing"),
            (
                "labels.csv",
                b"FILE_NAME,CATEGORY\n0_0.png,x\n",
                "at least 2 classes, with at least 40 images each",
            ),
        ],
    )
    def test_tables(self, tmp_path: Path, name: str, content: bytes, reason: str) -> None:
        """An image or a column is missing, or there are too few images."""
        folder = tmp_path / "BRD_Mini"
        (folder / "images").mkdir(parents=True)
        (folder / "images" / "0_0.png").write_bytes(b"")
        info = {"image_column_name": "FILE_NAME", "category_column_name": "CATEGORY"}
        (folder / "info.json").write_text(json.dumps(info))
        (folder / name).write_bytes(content)
        with pytest.raises(DataError, match=reason):
            full.read_table(tmp_path, listing(tmp_path), "BRD")

    def test_no_image(self, tmp_path: Path) -> None:
        """A file of another kind is refused."""
        (tmp_path / "x.jpg").write_bytes(b"not a picture")
        with pytest.raises(DataError, match=r"x\.jpg is not an image"):
            full.load(tmp_path / "x.jpg")
