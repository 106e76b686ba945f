"""product-recommendation: the scorer by hand, what it refuses, and what an instance promises."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlrcbench.competitions.product_recommendation import data, scorer
from mlrcbench.errors import SubmissionError
from mlrcbench.score import Score

HOME = Path(data.__file__).parent
SPLITS = ("dev", "test")
Array = npt.NDArray[np.int32]

# A shop of 360 rows, sold in DE, JP and UK in turn, and three sessions: one in each locale.
ROW_LOCALE = np.tile(np.arange(3), 120).astype(np.int8)
TRUTH = np.array([[70, 30], [50, 31], [60, 32]], dtype="<i4")


def good() -> Array:
    """An artefact that keeps every rule, with the answers at rank 1, at rank 2 and absent."""
    lists = np.zeros((3, 101), dtype="<i4")
    for row, (session, answer) in enumerate(TRUTH):
        others = np.flatnonzero(row == ROW_LOCALE)
        lists[row] = [session, *others[others != answer][:100]]
    lists[0, 1] = 30
    lists[1, 2] = 31
    return lists


def judge(folder: Path, lists: npt.NDArray[np.generic]) -> Score:
    """Score an array."""
    answers, artefacts = folder / "answers", folder / "artefacts"
    for one in (answers, artefacts):
        one.mkdir(exist_ok=True)
    np.save(answers / "truth.npy", TRUTH)
    np.save(answers / "row_locale.npy", ROW_LOCALE)
    np.save(artefacts / "predictions.npy", lists)
    return scorer.score(artefacts, answers)


def change(row: int, column: int, value: int) -> Array:
    """A good artefact with one number changed."""
    lists = good()
    lists[row, column] = value
    return lists


class TestScore:
    """MRR@100 as the statement defines it."""

    def test_by_hand(self, tmp_path: Path) -> None:
        """Ranks 1, 2 and absent give (1 + 1/2 + 0) / 3; the details match too."""
        score = judge(tmp_path, good())
        assert score.value == pytest.approx(0.5)
        assert score.details == {
            "recall": pytest.approx(2 / 3),
            "mrr_character_offset": pytest.approx((1 / 3 + 1 / 17) / 3),
            "mrr_DE": 1.0,
            "mrr_JP": 0.5,
            "mrr_UK": 0.0,
        }

    def test_the_last_place_counts(self, tmp_path: Path) -> None:
        """Rank 100 is worth 1/100."""
        lists = good()
        lists[0, [1, 100]] = lists[0, [100, 1]]
        assert judge(tmp_path, lists).value == pytest.approx((0.01 + 0.5) / 3)

    @given(order=st.permutations(range(3)))
    @settings(max_examples=6)
    def test_rows_are_matched_by_session(
        self, order: list[int], tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        """Any order of rows gives the same score."""
        assert judge(tmp_path_factory.mktemp("order"), good()[order]).value == pytest.approx(0.5)

    @given(rank=st.integers(1, 100))
    @settings(max_examples=20)
    def test_character_offset_is_what_the_faulty_evaluator_prints(self, rank: int) -> None:
        """It is 1 over the place of the answer in the printed text of the list, counted from one."""
        ids = [f"B{number:09d}" for number in range(100)]
        faulty = 1 / (1 + str(ids).index(ids[rank - 1]))
        assert scorer.character_offset(np.array([rank]))[0] == pytest.approx(faulty)

    @given(ranks=st.lists(st.integers(0, 100), min_size=1, max_size=30))
    @settings(max_examples=20)
    def test_gains(self, ranks: list[int]) -> None:
        """Gains are in [0, 1], zero only for absent answers, and never larger at a lower place."""
        gains = scorer.reciprocal(np.array(ranks))
        assert ((gains > 0) == (np.array(ranks) > 0)).all()
        present = sorted(rank for rank in ranks if rank)
        assert (np.diff(scorer.reciprocal(np.array(present, dtype=np.int64))) <= 0).all()


class TestRefusal:
    """An artefact that breaks a rule is invalid, and a sentence says what to fix."""

    @pytest.mark.parametrize(
        ("lists", "reason"),
        [
            (good()[:2], r"shape \(2, 101\); it must be \(3, 101\)"),
            (good()[:, :100], r"shape \(3, 100\)"),
            (np.zeros((0, 101), dtype="<i4"), r"shape \(0, 101\)"),
            (good().astype("<i8"), "dtype '<i8'; it must be '<i4'"),
            (np.full((3, 101), np.nan), "dtype '<f8'"),
            (np.asfortranarray(good()), "Fortran order"),
            (change(0, 0, 71), "1 sessions of inputs/features.csv have no row, among them 70"),
            (change(0, 0, 50), "session 50 has more than one row"),
            (change(1, 7, -1), "place 7 of session 50 is -1; products are rows 0 to 359"),
            (change(1, 7, 360), "place 7 of session 50 is 360"),
            (change(2, 9, 0), "place 9 of session 60 is row 0, which is sold in DE; the session is in UK"),
            (change(0, 5, 30), "session 70 lists row 30 more than once"),
        ],
    )
    def test_reasons(self, lists: npt.NDArray[np.generic], reason: str, tmp_path: Path) -> None:
        """Each fault has its own sentence."""
        with pytest.raises(SubmissionError, match=reason):
            judge(tmp_path, lists)

    def test_text_and_pickles(self, tmp_path: Path) -> None:
        """A file that is not a plain array is refused unread."""
        judge(tmp_path, good())
        (tmp_path / "artefacts" / "predictions.npy").write_text("['B0FK190XXK']")
        with pytest.raises(SubmissionError, match=r"not a \.npy file"):
            scorer.score(tmp_path / "artefacts", tmp_path / "answers")
        with pytest.raises(SubmissionError, match="dtype"):
            judge(tmp_path, np.array([{"session": 1}], dtype=object))

    def test_the_cap_fits_the_real_data(self) -> None:
        """The card's size limit allows 317,000 sessions of 101 numbers and little more."""
        size = 316_972 * 101 * 4
        text = (HOME / "card.toml").read_text()
        cap = int(text.split("max_bytes = ")[1].split()[0])
        assert size < cap < 1.05 * size


def build(root: Path, seed: int) -> Path:
    """Build an instance."""
    for split in SPLITS:
        for part in ("inputs", "answers"):
            (root / "private" / split / part).mkdir(parents=True)
    (root / "public").mkdir()
    data.build(root / "public", root / "private", seed=seed, tier="mini")
    return root


def build_small(root: Path, seed: int) -> Path:
    """Build an instance with few products and sessions."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "PRODUCTS", 900)
        patch.setattr(data, "SESSIONS", {"train": 400, "dev": 150, "test": 150})
        return build(root, seed)


def table(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def items(row: dict[str, str]) -> list[str]:
    """The previous products of a row."""
    return row["prev_items"][2:-2].split("' '")


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An instance of full size."""
    return build(tmp_path_factory.mktemp("shop"), seed=7)


@pytest.fixture(scope="module")
def answers(instance: Path) -> dict[str, list[str]]:
    """The ids of the answers of each split, in the order of its features."""
    ids = [row["id"] for row in table(instance / "public/products.csv")]
    ids_of = {}
    for split in SPLITS:
        truth = np.load(instance / "private" / split / "answers/truth.npy")
        ids_of[split] = [ids[row] for row in truth[:, 1]]
    return ids_of


@pytest.mark.slow
class TestInstance:
    """What the statement says about the data is true."""

    def test_files(self, instance: Path) -> None:
        """The tables have the real data's columns, and the sizes that the statement gives."""
        products, train = table(instance / "public/products.csv"), table(instance / "public/train.csv")
        assert ",".join(products[0]) == "id,locale,title,price,brand,color,size,model,material,author,desc"
        assert len({(row["id"], row["locale"]) for row in products}) == len(products)
        assert len({row["id"] for row in products}) == 3600
        assert {len(row["id"]) for row in products} == {10}
        assert list(train[0]) == ["prev_items", "next_item", "locale"]
        assert len(train) == 9000
        dev = (instance / "public/dev_features.csv").read_bytes()
        assert (instance / "private/dev/inputs/features.csv").read_bytes() == dev
        for split in SPLITS:
            rows = table(instance / "private" / split / "inputs/features.csv")
            assert list(rows[0]) == ["session_id", "prev_items", "locale"]
            assert len({row["session_id"] for row in rows}) == len(rows) == 3000

    def test_sessions(self, instance: Path, answers: dict[str, list[str]]) -> None:
        """Sessions have 2 to 20 products of their locale; so is the answer, which is not among them."""
        sold = {(row["locale"], row["id"]) for row in table(instance / "public/products.csv")}
        rows = [(row, row["next_item"]) for row in table(instance / "public/train.csv")]
        for split in SPLITS:
            features = table(instance / "private" / split / "inputs/features.csv")
            rows += zip(features, answers[split], strict=True)
        for row, answer in rows:
            assert 2 <= len(items(row)) <= 20
            assert answer not in items(row)
            assert all((row["locale"], one) in sold for one in (*items(row), answer))

    def test_products_come(self, instance: Path, answers: dict[str, list[str]]) -> None:
        """Some answers are in no session of train, and more of them in test than in dev."""
        train = table(instance / "public/train.csv")
        seen = {one for row in train for one in (*items(row), row["next_item"])}
        new = {split: float(np.mean([one not in seen for one in answers[split]])) for split in SPLITS}
        assert 0.08 < new["dev"] < new["test"] < 0.4

    def test_nothing_hidden_is_readable(self, instance: Path) -> None:
        """Agent code may read the catalogue, train and the previous products, and no other file."""
        folders = [instance / "public", *(instance / "private" / split / "inputs" for split in SPLITS)]
        names = {path.name for folder in folders for path in folder.iterdir()}
        assert names == {"products.csv", "train.csv", "dev_features.csv", "features.csv"}

    def test_the_scale(self, instance: Path) -> None:
        """The law's own lists score well; the most frequent answers, known in hindsight, do not."""
        for split in SPLITS:
            folder = instance / "private" / split / "answers"
            best, truth = np.load(folder / "best.npy"), np.load(folder / "truth.npy")
            oracle = self.value(instance, split, best)
            assert 0.3 < oracle < 0.5
            row_locale = np.load(folder / "row_locale.npy")
            for locale in range(3):
                rows = truth[:, 1][row_locale[truth[:, 1]] == locale]
                counts = np.bincount(rows, minlength=len(row_locale))
                best[row_locale[truth[:, 1]] == locale, 1:] = np.argsort(-counts, kind="stable")[:100]
            assert self.value(instance, split, best) < 0.05

    def value(self, instance: Path, split: str, lists: Array) -> float:
        """The score of an array."""
        artefacts = instance / f"artefacts-{split}"
        artefacts.mkdir(exist_ok=True)
        np.save(artefacts / "predictions.npy", lists)
        value = scorer.score(artefacts, instance / "private" / split / "answers").value
        assert value is not None
        return value


class TestBuild:
    """Small instances, and the entry points on them."""

    def test_another_seed(self, tmp_path: Path) -> None:
        """Every file changes with the seed."""
        first, other = build_small(tmp_path / "one", 3), build_small(tmp_path / "two", 4)
        files = sorted(str(one.relative_to(first)) for one in first.rglob("*") if one.is_file())
        changed = [name for name in files if (first / name).read_bytes() != (other / name).read_bytes()]
        assert changed == files

    @pytest.mark.slow
    def test_the_reference_writes_what_can_be_scored(self, tmp_path: Path) -> None:
        """It runs on a small instance, writes the same bytes twice, and keeps every rule."""
        small = build_small(tmp_path / "instance", 5)
        written = [self.predict("reference", small, tmp_path / f"reference{n}") for n in range(2)]
        assert written[0].read_bytes() == written[1].read_bytes()
        score = scorer.score(written[0].parent, small / "private/test/answers")
        assert score.value is not None
        assert 0 < score.value < 1

    def predict(self, overlay: str, instance: Path, place: Path) -> Path:
        """Run `main.py predict` and return its artefact."""
        (place / "artefacts").mkdir(parents=True)
        for path in (path for name in ("starter", overlay) for path in (HOME / name).glob("*.py")):
            text = path.read_text()
            for long, short in (
                ("STEPS, BATCH, RATE = 48, 120", "STEPS, BATCH, RATE = 48, 5"),
                ("5000", "500"),
            ):
                text = text.replace(long, short)
            (place / path.name).write_text(text)
        (place / "data").symlink_to(instance / "public")
        shutil.copytree(instance / "private/test/inputs", place / "inputs")
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "main.py", "predict"]
        subprocess.run(command, cwd=place, check=True, capture_output=True, env=environment)
        return place / "artefacts" / "predictions.npy"
