"""meta-learning: the metric is the original's, the instance is as promised, and nothing leaks."""

from __future__ import annotations

import importlib
import importlib.util
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mlrcbench
from mlrcbench.competitions.meta_learning import data, scorer
from mlrcbench.errors import SubmissionError
from mlrcbench.score import Split
from mlrcbench.testing.calibration import read_methods

HOME = Path(data.__file__).parent
METHODS = Path(__file__).parents[3] / "calibration/meta_learning/methods"
INPUTS = {"support_images.npy", "support_labels.npy", "query_images.npy", "tasks.npy"}
Ints = npt.NDArray[np.int64]


def build(root: Path, seed: int) -> Path:
    """Build an instance in a folder."""
    for part in ("public", *(f"private/{s}/{p}" for s in ("dev", "test") for p in ("inputs", "answers"))):
        (root / part).mkdir(parents=True)
    data.build(root / "public", root / "private", seed=seed, tier="mini")
    return root


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An instance of the mini tier."""
    return build(tmp_path_factory.mktemp("meta"), seed=7)


def python_module(path: Path) -> ModuleType:
    """Import a file under another name."""
    spec = importlib.util.spec_from_file_location(f"meta_learning_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def overlaid(name: str) -> ModuleType:
    """Import `method.py` of a method, with the modules that it needs."""
    competition = mlrcbench.get_competition("meta-learning")
    files = next(one.files for one in read_methods(competition, METHODS) if one.name == name)
    for path in files:
        sys.modules.pop(Path(path).stem, None)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        for path, text in files.items():
            Path(folder, path).write_text(text)
        patch.syspath_prepend(folder)
        return importlib.import_module("method")


def whole(array: npt.ArrayLike) -> Ints:
    """The array as int64."""
    return np.asarray(array, dtype=np.int64)


class TestScore:
    """Normalised balanced accuracy, compared with hand calculations."""

    @pytest.fixture
    def answers(self, tmp_path: Path) -> Path:
        """Two tasks in two domains: two classes of three queries, and three classes of two queries."""
        folder = tmp_path / "answers"
        folder.mkdir()
        np.save(folder / "labels.npy", whole([0, 0, 0, 1, 1, 1, 0, 0, 1, 1, 2, 2]))
        np.save(folder / "tasks.npy", whole([[1, 2, 3], [0, 3, 2]]))
        return folder

    def judge(self, answers: Path, predictions: npt.NDArray[np.generic]) -> tuple[float, dict[str, float]]:
        """Score predictions; return value and details."""
        np.save(answers.parent / "predictions.npy", predictions)
        score = scorer.score(answers.parent, answers)
        assert score.value is not None
        return score.value, dict(score.details)

    def test_by_hand(self, answers: Path) -> None:
        """Recalls 2/3 and 1 are 2/3 above chance, and 1, 1/2, 0 are 1/4 above; the score is their mean."""
        value, details = self.judge(answers, whole([0, 0, 1, 1, 1, 1, 0, 0, 1, 2, 0, 0]))
        assert value == pytest.approx((2 / 3 + 1 / 4) / 2)
        assert details["domain_1"] == pytest.approx(2 / 3)
        assert details["domain_0"] == pytest.approx(1 / 4)
        deviation = (2 / 3 - 1 / 4) / 2**0.5
        assert details["confidence_95"] == pytest.approx(1.96 * deviation / 2**0.5)

    def test_ends_of_the_scale(self, answers: Path) -> None:
        """The truth scores 1, one class for all scores 0, and all wrong scores the mean of -1 and -1/2."""
        truth = np.load(answers / "labels.npy")
        assert self.judge(answers, truth)[0] == pytest.approx(1.0)
        assert self.judge(answers, np.zeros_like(truth))[0] == pytest.approx(0.0)
        wrong = (truth + 1) % np.repeat([2, 3], 6)
        assert self.judge(answers, wrong)[0] == pytest.approx(-0.75)

    @pytest.mark.parametrize(
        ("predictions", "message"),
        [
            (np.zeros(11, dtype=np.int64), r"shape \(11,\)"),
            (np.zeros((12, 1), dtype=np.int64), r"shape \(12, 1\)"),
            (np.zeros(0, dtype=np.int64), r"shape \(0,\)"),
            (np.zeros(12, dtype=np.int32), "dtype"),
            (np.full(12, np.nan), "dtype"),
            (
                whole([0] * 11 + [3]),
                "has 3 in place 11, which is a query of task 1: write one of its task's class ids, 0 to 2",
            ),
            (
                whole([2] + [0] * 11),
                "has 2 in place 0, which is a query of task 0: write one of its task's class ids, 0 to 1",
            ),
            (whole([-1] * 12), "has -1 in place 0"),
        ],
    )
    def test_invalid(self, answers: Path, predictions: npt.NDArray[np.generic], message: str) -> None:
        """An array that is not a list of class ids is refused, and the reason says what to write."""
        with pytest.raises(SubmissionError, match=message):
            self.judge(answers, predictions)

    @pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"0,1,0"])
    def test_no_array(self, answers: Path, content: bytes) -> None:
        """A file that is not a .npy file is refused."""
        (answers.parent / "predictions.npy").write_bytes(content)
        with pytest.raises(SubmissionError, match=r"not a \.npy file"):
            scorer.score(answers.parent, answers)

    @settings(max_examples=30)
    @given(
        st.lists(st.tuples(st.integers(2, 6), st.integers(1, 5)), min_size=1, max_size=5),
        st.integers(0, 2**32),
    )
    def test_against_the_formula(self, sizes: list[tuple[int, int]], seed: int) -> None:
        """Loops over tasks and classes give the same numbers, for queries in any order."""
        rng = np.random.default_rng(seed)
        ways = whole([n for n, _ in sizes])
        labels = [rng.permutation(np.repeat(np.arange(n), q)) for n, q in sizes]
        predictions = [rng.integers(0, n, n * q) for n, q in sizes]
        expected = []
        for n, truth, guess in zip(ways, labels, predictions, strict=True):
            recalls = [
                np.mean([g == c for t, g in zip(truth, guess, strict=True) if t == c]) for c in range(n)
            ]
            expected.append((np.mean(recalls) - 1 / n) / (1 - 1 / n))
        task_of = np.repeat(np.arange(len(sizes)), [n * q for n, q in sizes])
        values = scorer.normalised_accuracies(
            whole(np.concatenate(labels)), whole(np.concatenate(predictions)), ways, task_of
        )
        assert values == pytest.approx(np.array(expected))

    def test_the_starter_has_the_same_metric(self) -> None:
        """What `python main.py` prints is what the scorer computes."""
        episodes, torch = python_module(HOME / "starter/episodes.py"), pytest.importorskip("torch")
        rng = np.random.default_rng(3)
        labels, predictions = np.repeat(np.arange(4), 5), rng.integers(0, 4, 20)
        mine = scorer.normalised_accuracies(labels, predictions, whole([4]), np.zeros(20, dtype=np.int64))
        theirs = episodes.normalised_accuracy(torch.from_numpy(labels), torch.from_numpy(predictions), 4)
        assert theirs == pytest.approx(mine[0])


class TestWorld:
    """Images and plans."""

    @settings(max_examples=20)
    @given(st.integers(0, 2**63 - 1))
    def test_plans_cover_their_ranges(self, seed: int) -> None:
        """Each domain covers the range of ways and shots, and every instance has the same ways."""
        ways, shots = np.array(data.plan_tasks(np.random.default_rng(seed))).T
        assert sorted(ways) == list(range(2, 21, 2))
        assert (shots.min(), shots.max(), len(set(shots))) == (1, 20, data.TASKS)

    @settings(max_examples=10, deadline=None)
    @given(st.integers(0, 2**63 - 1))
    def test_every_family_draws(self, seed: int) -> None:
        """Fields are finite; images of a class differ; two classes differ with the same random numbers."""
        for family in (*data.TRAIN, *data.DEV, *data.TEST):
            rng = np.random.default_rng(seed)
            fields = [family(rng)(data.coordinates(2, 0.3, np.random.default_rng(1))) for _ in range(2)]
            assert all(np.isfinite(field).all() and field.shape == (2, 16, 16) for field in fields)
            assert not np.array_equal(fields[0], fields[1])
            images = data.draw_class(family, data.draw_style(rng), 3, rng)
            assert len(np.unique(images.reshape(3, -1), axis=0)) == 3

    def test_half_of_the_images_are_inverted(self) -> None:
        """A bright square on dark ground becomes a dark one on bright ground in half of the images."""
        style = data.Style(np.zeros(3), np.ones(3), tint=0.0, shade=0.0, clutter=0.0, noise=0.0, turn=0.0)
        square = np.zeros((16, 16))
        square[6:10, 6:10] = 1.0
        images = data.draw_class(lambda _: lambda at: at.x * 0 + square, style, 400, np.random.default_rng(0))
        bright = images[:, 0, 8, 8] > images[:, 0, 0, 0]
        assert 160 < bright.sum() < 240

    def test_families_are_in_one_set(self) -> None:
        """No family is in two of the three sets."""
        names = [family.__closure__ for family in (*data.TRAIN, *data.DEV, *data.TEST)]
        assert len({id(closure[0].cell_contents) for closure in names if closure}) == 16


class TestInstance:
    """The files of an instance."""

    def test_public(self, instance: Path) -> None:
        """Eight domains with forty classes of thirty images each, in random order."""
        images, labels, domains = (
            np.load(instance / f"public/{n}.npy") for n in ("images", "labels", "domains")
        )
        assert (images.shape, images.dtype) == ((9600, 3, 16, 16), np.uint8)
        assert (np.bincount(labels) == 30).all()
        assert labels.max() == 319
        assert np.array_equal(domains, labels // 40)
        assert (np.diff(labels) < 0).any()

    @pytest.mark.parametrize("split", ["dev", "test"])
    def test_tasks(self, instance: Path, split: str) -> None:
        """Tables match arrays; each class has its shots and its queries."""
        inputs, answers = instance / "private" / split / "inputs", instance / "private" / split / "answers"
        assert {path.name for path in inputs.iterdir()} == INPUTS
        table, hidden = np.load(inputs / "tasks.npy"), np.load(answers / "tasks.npy")
        assert np.array_equal(table[:, 0], hidden[:, 1])
        assert (np.bincount(hidden[:, 0]) == data.TASKS).all()
        support, labels = np.load(inputs / "support_labels.npy"), np.load(answers / "labels.npy")
        assert (
            len(np.load(inputs / "support_images.npy")) == len(support) == (table[:, 0] * table[:, 1]).sum()
        )
        assert len(np.load(inputs / "query_images.npy")) == len(labels) == data.QUERIES * table[:, 0].sum()
        start = begin = 0
        for ways, shots, count in table.tolist():
            mine, theirs = support[start : start + ways * shots], labels[begin : begin + ways * count]
            assert np.bincount(mine).tolist() == [shots] * ways
            assert np.bincount(theirs).tolist() == [data.QUERIES] * ways
            start, begin = start + ways * shots, begin + ways * count

    def test_no_image_twice(self, instance: Path) -> None:
        """All images of the instance, published or in a task of either split, are different."""
        names = ["public/images.npy"]
        names += [f"private/{s}/inputs/{p}_images.npy" for s in ("dev", "test") for p in ("support", "query")]
        seen = np.concatenate([np.load(instance / name).reshape(-1, 768) for name in names])
        assert len(np.unique(seen, axis=0)) == len(seen)

    def test_another_key(self, instance: Path, tmp_path: Path) -> None:
        """Every file changes with the key."""
        other = build(tmp_path, seed=8)
        for path in instance.rglob("*.npy"):
            assert path.read_bytes() != (other / path.relative_to(instance)).read_bytes()

    @pytest.mark.parametrize("split", ["dev", "test"])
    @pytest.mark.parametrize("name", ["first_class", "in_order", "other_tasks"])
    def test_shortcuts(self, instance: Path, tmp_path: Path, name: str, split: str) -> None:
        """Constants, the order of queries and the images of other tasks score about 0; the truth scores 1."""
        bounds = python_module(METHODS / "bounds.py").BOUNDS
        folder = instance / "private" / split
        bounds[name](instance / "public", folder / "inputs", folder / "answers", tmp_path)
        value = scorer.score(tmp_path, folder / "answers").value
        assert value is not None
        assert abs(value) < 0.05
        bounds["oracle"](instance / "public", folder / "inputs", folder / "answers", tmp_path)
        assert scorer.score(tmp_path, folder / "answers").value == 1.0


class TestControls:
    """Methods that learn nothing from the published images."""

    def value(self, instance: Path, name: str, split: Split) -> float:
        """The score of a method without meta-training."""
        torch, episodes = pytest.importorskip("torch"), python_module(HOME / "starter/episodes.py")
        method = overlaid(name)
        folder = instance / "private" / split
        torch.manual_seed(7)
        learner, predictions = method.MetaLearner().meta_fit(None), []
        for task in episodes.load_tasks(folder / "inputs"):
            predictor = learner.fit(task.support_images, task.support_labels, task.ways, task.shots)
            predictions.append(predictor.predict(task.query_images).numpy())
        table = np.load(folder / "answers/tasks.npy")
        task_of = np.repeat(np.arange(len(table)), table[:, 1] * table[:, 2])
        labels = np.load(folder / "answers/labels.npy")
        values = scorer.normalised_accuracies(labels, np.concatenate(predictions), table[:, 1], task_of)
        return float(values.mean())

    @pytest.mark.parametrize("split", ["dev", "test"])
    @pytest.mark.parametrize("name", ["nearest_pixel", "random_means", "untrained"])
    def test_the_baseline_is_better(self, instance: Path, name: str, split: Split) -> None:
        """Pixels and random features, even with the reference's classifier, score below the baseline."""
        anchors = mlrcbench.get_competition("meta-learning").card.tier("mini").anchors[split]
        assert self.value(instance, name, split) < anchors.baseline.value

    @pytest.mark.parametrize("split", ["dev", "test"])
    @pytest.mark.parametrize(("name", "share"), [("gradients", 0.0), ("texture", 0.0), ("handmade", 0.5)])
    def test_learning_is_better(self, instance: Path, name: str, share: float, split: Split) -> None:
        """Handmade features score above chance and below the baseline (one: below the midpoint)."""
        anchors = mlrcbench.get_competition("meta-learning").card.tier("mini").anchors[split]
        baseline, reference = anchors.baseline.value, anchors.target.value
        assert 0.1 < self.value(instance, name, split) < baseline + share * (reference - baseline)


class TestStarter:
    """The starter and its three stages."""

    def workspace(self, instance: Path, place: Path, files: dict[str, str]) -> Path:
        """The starter with some files replaced, and the first three dev tasks."""
        shutil.copytree(HOME / "starter", place, ignore=shutil.ignore_patterns("__pycache__"))
        for path, text in files.items():
            (place / path).write_text(text)
        (place / "data").symlink_to(instance / "public")
        (place / "artefacts").mkdir()
        shutil.copytree(instance / "private/dev/inputs", place / "inputs")
        table = np.load(place / "inputs/tasks.npy")[:3]
        np.save(place / "inputs/tasks.npy", table)
        return place

    def run(self, place: Path) -> subprocess.CompletedProcess[str]:
        """Run `python main.py predict`."""
        command = [sys.executable, "main.py", "predict"]
        return subprocess.run(command, cwd=place, check=False, capture_output=True, text=True)

    @pytest.mark.parametrize("overlay", ["starter", "reference"])
    def test_predict(self, instance: Path, tmp_path: Path, overlay: str) -> None:
        """With little training, both write class ids of three tasks; a second run gives the same output."""
        files = mlrcbench.get_competition("meta-learning").overlay(overlay)
        name, steps = {"starter": ("method.py", 3000), "reference": ("training.py", 4000)}[overlay]
        assert files[name].count(f"DECAY = {steps}") == 1
        files[name] = files[name].replace(f"DECAY = {steps}", "DECAY = 3")
        places = [self.workspace(instance, tmp_path / name, files) for name in ("one", "two")]
        outputs = [self.run(place) for place in places]
        assert outputs[0].returncode == 0, outputs[0].stderr
        assert outputs[0].stdout == outputs[1].stdout
        predictions = [np.load(place / "artefacts/predictions.npy") for place in places]
        assert np.array_equal(predictions[0], predictions[1])
        ways = np.load(places[0] / "inputs/tasks.npy")[:, 0]
        assert predictions[0].dtype == np.int64
        assert len(predictions[0]) == data.QUERIES * ways.sum()
        assert (predictions[0] < np.repeat(ways, data.QUERIES * ways)).all()

    def test_nothing_is_remembered(self, instance: Path, tmp_path: Path) -> None:
        """Data that a method stores in its module, or in torch's random state, is gone at the next task."""
        method = (
            "import torch\nCOUNT = []\n\n\nclass MetaLearner:\n    def meta_fit(self, dataset):\n"
            "        COUNT.append(1)\n        return Learner()\n\n\nclass Learner:\n"
            "    def save(self, folder):\n        pass\n\n    @classmethod\n    def load(cls, folder):\n"
            "        return cls()\n\n    def fit(self, images, labels, ways, shots):\n"
            "        COUNT.append(1)\n        return self\n\n    def predict(self, images):\n"
            "        print(len(COUNT), torch.rand(1).item(), flush=True)\n"
            "        return torch.zeros(len(images))\n"
        )
        lines = self.run(
            self.workspace(instance, tmp_path / "one", {"method.py": method})
        ).stdout.splitlines()
        assert len(lines) == 4
        assert len(set(lines[:3])) == 1
        assert lines[0].startswith("1 ")

    @pytest.mark.parametrize(
        ("stage", "message"), [("meta_fit", "meta_train failed"), ("predict", "answer failed")]
    )
    def test_a_failure_ends_the_run(self, instance: Path, tmp_path: Path, stage: str, message: str) -> None:
        """An error in any stage is printed, and the exit status is 1."""
        method = (METHODS / "nearest_pixel/method.py").read_text()
        head = f"    def {stage}(self, {'dataset' if stage == 'meta_fit' else 'images'}):\n"
        assert head in method
        files = {"method.py": method.replace(head, head + "        1 / 0\n")}
        done = self.run(self.workspace(instance, tmp_path / "one", files))
        assert done.returncode == 1
        assert message in done.stderr
        assert "ZeroDivisionError" in done.stderr
