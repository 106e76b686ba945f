"""machine-unlearning's full tier, from CIFAR-10's archive on a server to a score on test."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import mlrcbench
from mlrcbench.catalog.competition import Competition
from mlrcbench.cli import main
from mlrcbench.competitions.machine_unlearning import full, scorer, scorer_full
from mlrcbench.errors import DataError, SubmissionError
from tests.competitions.conftest import play_starter, run_conversion
from tests.sources.server import Server, serving

SMALL = {
    "FILE_IMAGES": "100",
    "MODELS": "6",
    "BASE": "300",
    "SETS": '{"retain": 48, "forget": 24, "validation": 8, "test": 20}',
    "RETAIN_JUDGED": "32",
    "WIDTHS": "(8, 16)",
    "BATCH": "16",
    "BASE_EPOCHS": "1",
    "EPOCHS": "2",
}


def records(rng: np.random.Generator) -> bytes:
    """Make 100 records in CIFAR-10's format: a label, and an image whose brightness shows the label."""
    labels = rng.integers(0, 10, (100, 1))
    return np.hstack([labels, labels * 20 + rng.integers(0, 40, (100, 3072))]).astype(np.uint8).tobytes()


def archive() -> bytes:
    """Make the archive of CIFAR-10's binary version, with few images."""
    rng, memory = np.random.default_rng(1), io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w:gz") as box:
        for name in (*full.FILES, "batches.meta.txt"):
            content = records(rng)
            entry = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            entry.size = len(content)
            box.addfile(entry, io.BytesIO(content))
    return memory.getvalue()


def unpacked(folder: Path) -> Path:
    """Unpack the archive, as `prepare` does."""
    with tarfile.open(fileobj=io.BytesIO(archive())) as box:
        box.extractall(folder / "cifar-10", filter="data")
    return folder


def convert(raw: Path, target: Path) -> Path:
    """Run the conversion by itself."""
    return run_conversion(full, raw, target)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Use one thread: such small networks are slower with more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few images and models, narrow networks."""
    for name, value in SMALL.items():
        monkeypatch.setattr(full, name, eval(value))


class TestData:
    """The binary version of CIFAR-10, and the splits."""

    @pytest.mark.usefixtures("small")
    def test_read(self, tmp_path: Path) -> None:
        """Labels and pixels are read as they were written; the order depends only on the images."""
        records_read = full.read(unpacked(tmp_path) / "cifar-10")
        assert records_read.shape == (600, 3073)
        images, labels = full.as_images(records_read[:1])
        assert labels[0] == records_read[0, 0]
        assert images[0, 1, 0, :3].tolist() == records_read[0, 1 + 1024 : 1 + 1027].tolist()
        shuffled = records_read[np.random.default_rng(0).permutation(600)]
        assert (full.in_order(records_read) == full.in_order(shuffled)).all()
        assert not (full.in_order(records_read) == records_read).all()

    @pytest.mark.usefixtures("small")
    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            (lambda path: path.write_bytes(path.read_bytes()[:-1]), "bytes; the binary version"),
            (lambda path: path.write_bytes(b"\x0a" + path.read_bytes()[1:]), "label 10; labels are 0 to 9"),
            (lambda path: path.unlink(), "must hold exactly one file data_batch_3.bin; it holds none"),
        ],
        ids=["short", "label", "missing"],
    )
    def test_contradictions(self, tmp_path: Path, change: object, reason: str) -> None:
        """The error names the file and the fault."""
        raw = unpacked(tmp_path)
        assert callable(change)
        change(raw / "cifar-10/cifar-10-batches-bin/data_batch_3.bin")
        with pytest.raises(DataError, match=reason):
            full.read(raw / "cifar-10")

    @pytest.mark.usefixtures("small")
    def test_too_few(self) -> None:
        """Too few images are an error."""
        with pytest.raises(DataError, match="has 7 images here; the splits need 600"):
            full.in_order(np.zeros((7, 3073), np.uint8))

    def test_all_images_are_used_once(self) -> None:
        """The published sizes add up."""
        assert full.BASE + 3 * sum(full.SETS.values()) == len(full.FILES) * full.FILE_IMAGES


@pytest.mark.usefixtures("small")
class TestConvert:
    """Worlds, models, and continuing after an interruption."""

    def test_continues_where_it_ended(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """No finished model is trained twice, and the files equal those of an uninterrupted conversion."""
        raw, work = unpacked(tmp_path / "raw"), full.train
        trained: list[int] = []
        broken = True

        def train(*given: Any) -> dict[str, torch.Tensor]:
            if broken and len(trained) == 5:
                raise KeyboardInterrupt
            trained.append(len(trained))
            return work(*given)

        monkeypatch.setattr(full, "train", train)
        with pytest.raises(KeyboardInterrupt):
            convert(raw, tmp_path / "broken")
        broken = False
        made = convert(raw, tmp_path / "made")
        assert len(trained) == 1 + 3 * (1 + full.MODELS)
        shutil.rmtree(raw / ".made")
        again = convert(raw, tmp_path / "again")
        for path in made.rglob("*.safetensors"):
            assert path.read_bytes() == (again / path.relative_to(made)).read_bytes(), path
        self.check(made)

    def check(self, made: Path) -> None:
        """Shapes are right, worlds are disjoint, and public files contain no answers."""
        seen: set[bytes] = set()
        total = 0
        for split in ("dev", "test"):
            answers, inputs = made / f"private/{split}/answers", made / f"private/{split}/inputs"
            assert {path.name for path in inputs.iterdir()} == {"model.safetensors", "sets.safetensors"}
            judge, sets = load_file(answers / "judge.safetensors"), load_file(inputs / "sets.safetensors")
            assert torch.equal(judge["retain_x"], sets["retain_x"][: full.RETAIN_JUDGED])
            assert torch.equal(judge["forget_y"], sets["forget_y"])
            assert load_file(answers / "retrained.safetensors")["forget_confidence"].shape == (6, 24)
            for images in (sets["retain_x"], sets["forget_x"], sets["validation_x"], judge["test_x"]):
                total += len(images)
                seen |= {image.numpy().tobytes() for image in images}
        practice = load_file(made / "public/sets.safetensors")
        seen |= {image.numpy().tobytes() for image in practice["retain_x"]}
        assert len(seen) == total + len(practice["retain_x"])
        assert "test_accuracy" not in load_file(made / "public/retrained.safetensors")


class TestScorer:
    """Submissions with faults."""

    def answers(self, folder: Path) -> Path:
        """Write the answers of a split, for two models of random weights."""
        folder.mkdir()
        rng = np.random.default_rng(0)
        model = {
            name: torch.from_numpy(rng.normal(0, 0.2, shape)).half()[None]
            for name, shape in scorer_full.shapes((8, 16), 10).items()
        }
        x = torch.from_numpy(rng.integers(0, 256, (12, 3, 32, 32), np.uint8))
        y = torch.from_numpy(rng.integers(0, 10, 12))
        save_file(
            {
                f"{name}_{part}": tensor.clone()
                for name in ("forget", "retain", "test")
                for part, tensor in (("x", x), ("y", y))
            },
            folder / "judge.safetensors",
        )
        save_file(model, folder / "layout.safetensors")
        logits = scorer_full.answers_of({name: value[0] for name, value in model.items()}, x)
        confidence = torch.from_numpy(scorer.confidence(torch.stack([logits, 0.5 * logits]), y))
        right = torch.full((2,), max(scorer_full.share_right(logits, y), 0.01), dtype=torch.float64)
        save_file(
            {"forget_confidence": confidence, "retain_accuracy": right, "test_accuracy": right.clone()},
            folder / "retrained.safetensors",
        )
        return folder

    def hand_in(self, answers: Path, folder: Path, names: tuple[str, ...]) -> Path:
        """Submit copies of the layout's model under these names."""
        folder.mkdir()
        for name in names:
            shutil.copy(answers / "layout.safetensors", folder / name)
        return folder

    def test_files(self, tmp_path: Path) -> None:
        """There must be exactly one file for each retrained model, with the right name."""
        answers = self.answers(tmp_path / "answers")
        one = self.hand_in(answers, tmp_path / "one", ("model-000.safetensors", "model-7.safetensors"))
        with pytest.raises(SubmissionError, match=r"missing \['model-001.safetensors'\], extra \['model-7"):
            scorer_full.score(one, answers)
        two = self.hand_in(answers, tmp_path / "two", ("model-000.safetensors", "model-001.safetensors"))
        score = scorer_full.score(two, answers)
        assert score.details["test_ratio"] == pytest.approx(1)
        assert score.value == pytest.approx(score.details["forgetting_quality"])

    def test_tensors(self, tmp_path: Path) -> None:
        """Another dtype is refused; huge weights are valid, because norms keep logits finite."""
        answers = self.answers(tmp_path / "answers")
        names = ("model-000.safetensors", "model-001.safetensors")
        folder = self.hand_in(answers, tmp_path / "files", names)
        stack = load_file(folder / names[1])
        save_file({name: value.float() for name, value in stack.items()}, folder / names[1])
        with pytest.raises(SubmissionError, match=r"model-001.*F32"):
            scorer_full.score(folder, answers)
        huge = {name: torch.full_like(value, 6e4) for name, value in stack.items()}
        save_file(huge, folder / names[1])
        assert scorer_full.score(folder, answers).value is not None  # norms keep it finite


def test_the_starter_has_the_scorers_network(tmp_path: Path) -> None:
    """The same weights give the same logits; new heads and new networks have the right shapes."""
    home = Path(full.__file__).parent
    for layer in ("starter", "starter_full"):
        shutil.copytree(home / layer, tmp_path, dirs_exist_ok=True)
    rng = np.random.default_rng(0)
    model = {
        name: torch.from_numpy(rng.normal(0, 0.2, shape)).half().float()
        for name, shape in scorer_full.shapes((8, 16), 10).items()
    }
    x = torch.from_numpy(rng.integers(0, 256, (5, 3, 32, 32), np.uint8))
    save_file({name: value[None] for name, value in model.items()}, tmp_path / "m.safetensors")
    save_file({"x": x}, tmp_path / "x.safetensors")
    code = (
        "import numpy as np; from safetensors.torch import load_file, save_file; from model import *\n"
        "model = load_file('m.safetensors'); rng = np.random.default_rng(0)\n"
        "x = load_file('x.safetensors')['x']\n"
        "two = new_head(repeat(model, 2), rng)\n"
        "shapes = [{n: v.shape for n, v in stack.items()} for stack in (two, fresh(model, 2, rng))]\n"
        "assert shapes[0] == shapes[1]\n"
        "assert forward(two, x, hidden=True).shape == (2, 5, 16)\n"
        "save_file({'y': forward(model, x), 'own': forward(model, x[None])}, 'y.safetensors')\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    outputs = load_file(tmp_path / "y.safetensors")
    assert torch.allclose(outputs["y"][0], scorer_full.answers_of(model, x), atol=1e-4)
    assert torch.equal(outputs["y"], outputs["own"])


def test_the_network_is_a_resnet_18() -> None:
    """Seventeen convolutions and a last layer on the longest path, three skips; 11.2 million weights."""
    shapes = scorer_full.shapes(full.WIDTHS, 10)
    assert sum(len(shape) == 4 for shape in shapes.values()) == 17 + 3
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == 11_173_962
    assert (
        max(
            spec.max_bytes
            for spec in mlrcbench.get_competition("machine-unlearning").card.artefacts_of("full")
        )
        > 2 * 11_173_962
    )


def served_from(server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Competition:
    """The shipped competition at a small size, with its source on the local server."""
    original = mlrcbench.get_competition("machine-unlearning")
    shutil.copytree(original.folder, folder, ignore=shutil.ignore_patterns("__pycache__"))
    lines = [
        line.replace("https://www.cs.toronto.edu/~kriz", server.url)
        for line in (folder / "card.toml").read_text().splitlines(keepends=True)
        if not line.startswith(("sha256 =", "bytes ="))
    ]
    (folder / "card.toml").write_text("".join(lines).replace("threads = 4", "threads = 1"))
    code = (folder / "full.py").read_text() + "\n"
    (folder / "full.py").write_text(code + "".join(f"{name} = {value}\n" for name, value in SMALL.items()))
    changed = Competition(folder)
    for name in ("mlrcbench.cli", "mlrcbench"):
        monkeypatch.setattr(f"{name}.get_competition", lambda _: changed, raising=False)
    return changed


@pytest.mark.slow
def test_from_a_server_to_a_score(fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command prepares the tier after a broken download; then the starter is played and scored again."""
    with serving() as server:
        server.files["/cifar-10-binary.tar.gz"] = archive()
        changed = served_from(server, tmp_path / "machine_unlearning", monkeypatch)
        monkeypatch.chdir(tmp_path)
        prepare = ["prepare", changed.id, "--tier", "full", "--quiet", "--cache", "cache"]
        server.faults["/cifar-10-binary.tar.gz"] = ["cut", 404]
        assert main(prepare) == 2
        assert main(prepare) == 0
    assert main(prepare) == 0  # no server any more
    score = play_starter(changed, fresh / "records", monkeypatch)
    assert score.value is not None
    assert 0 <= score.value < 1.5
    assert score.details["retain_ratio"] > 0.2
