"""product-recommendation's full tier, from the organisers' files to a score on test."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

import mlrcbench
from mlrcbench.cli import main
from mlrcbench.competitions.product_recommendation import full
from mlrcbench.errors import DataError
from tests.competitions.conftest import play_starter, run_conversion

PRODUCTS = 120  # of each locale
HEADER = ["id", "locale", "title", "price", "brand", "color", "size", "model", "material", "author", "desc"]


def one(locale: str, number: int) -> str:
    """The id of a product."""
    return f"B0{locale}{number:06d}"


def printed(items: list[str]) -> str:
    """Items as numpy prints an array of texts, with a new line after 75 characters."""
    return np.array2string(np.array(items), max_line_width=75)


def write(path: Path, header: list[str], rows: list[list[str]]) -> None:
    """Write a table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def write_raw(folder: Path) -> None:
    """Write files in the organisers' layout: three scored locales, one other; n + 1 follows product n."""
    rng = np.random.default_rng(1)
    rows = [
        [one(name, n), name, f'say "{n}", please\nnow', "1.5", *[""] * 6, "x" * (200_000 if n == 3 else 5)]
        for n in range(PRODUCTS)
        for name in ("UK", "FR", "DE", "JP")
    ]
    write(folder / "products_train.csv", HEADER, rows)

    def sessions(count: int, locales: tuple[str, ...]) -> list[list[str]]:
        rows = []
        for row in range(count):
            name, first = locales[row % len(locales)], int(rng.integers(0, PRODUCTS - 12))
            items = [one(name, first + step) for step in range(1 + row % 9)]
            rows.append([printed(items), one(name, first + 1 + row % 9), name])
        return rows

    train = sessions(2000, ("UK", "DE", "FR", "JP"))
    train.append([printed([one("UK", 1)]), "B0UNKNOWN9", "UK"])
    train.append([printed(["B0UNKNOWN8", one("UK", 1)]), one("UK", 2), "UK"])
    write(folder / "sessions_train.csv", ["prev_items", "next_item", "locale"], train)
    phases = {"phase1": "sessions_test_task1_phase1.csv", "phase2": "sessions_test_task1.csv"}
    for phase, name in phases.items():
        rows = [*sessions(60, ("UK", "DE", "JP")), [printed([one("JP", 5)]), "B0UNKNOWN7", "JP"]]
        write(folder / name, ["prev_items", "locale"], [[items, locale] for items, _, locale in rows])
        write(
            folder / "ground_truth" / phase / "gt_task1.csv",
            ["next_item"],
            [[answer] for _, answer, _ in rows],
        )


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The organisers' files, unpacked into a folder."""
    write_raw(tmp_path / "data")
    return tmp_path / "data"


def convert(data: Path, target: Path) -> Path:
    """Run the conversion by itself."""
    raw = target / "raw"
    raw.mkdir(parents=True)
    (raw / "amazon-m2").symlink_to(data)
    return run_conversion(full, raw, target)


def table(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file, read as the starter reads them."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


class TestConvert:
    """The conversion of the organisers' files into the mini tier's."""

    def test_files(self, data: Path, tmp_path: Path) -> None:
        """Each session is on one line, other locales are separate, unscorable sessions are left out."""
        made = convert(data, tmp_path / "made")
        products = table(made / "public/products.csv")
        assert list(products[0]) == HEADER
        assert [row["locale"] for row in products] == [name for name in full.LOCALES for _ in range(PRODUCTS)]
        assert products[3]["title"] == 'say "3", please\nnow'
        assert len(products[3]["desc"]) == full.LONGEST_CELL
        train, other = table(made / "public/train.csv"), table(made / "public/other_train.csv")
        assert (len(train), len(other)) == (1501, 500)
        assert {row["locale"] for row in other} == {"FR"}
        assert {row["locale"] for row in table(made / "public/other_products.csv")} == {"FR"}
        assert train[-1] == {"prev_items": f"['{one('UK', 1)}']", "next_item": one("UK", 2), "locale": "UK"}
        longest = max(train, key=lambda row: len(row["prev_items"]))["prev_items"]
        assert "\n" not in longest
        assert len(longest[2:-2].split("' '")) == 9

    def test_answers(self, data: Path, tmp_path: Path) -> None:
        """Answers are matched by session id: the product that follows, in the session's locale."""
        made = convert(data, tmp_path / "made")
        products = table(made / "public/products.csv")
        for split, first in full.FIRST_ID.items():
            asked = table(made / "private" / split / "inputs/features.csv")
            truth = np.load(made / "private" / split / "answers/truth.npy")
            row_locale = np.load(made / "private" / split / "answers/row_locale.npy")
            assert truth.dtype == np.int32
            assert (
                truth[:, 0].tolist()
                == [int(row["session_id"]) for row in asked]
                == [*range(first, first + 60)]
            )
            for row, (_, answer) in zip(asked, truth, strict=True):
                last = row["prev_items"][2:-2].split("' '")[-1]
                assert int(products[answer]["id"][4:]) == int(last[4:]) + 1
                assert products[answer]["locale"] == row["locale"] == full.LOCALES[row_locale[answer]]
        dev = (made / "private/dev/inputs/features.csv").read_bytes()
        assert (made / "public/dev_features.csv").read_bytes() == dev

    @pytest.mark.parametrize(
        ("name", "rows", "reason"),
        [
            (
                "ground_truth/phase2/gt_task1.csv",
                [["next_item"], ["B0UK000001"]],
                "different numbers of rows",
            ),
            ("ground_truth/phase2/gt_task1.csv", [["other"], ["x"]], "lacks the columns next_item"),
            (
                "ground_truth/phase1/gt_task1.csv",
                [["next_item"], *[["x"]] * 61],
                "no answer .* in the catalogue",
            ),
            (
                "sessions_test_task1.csv",
                [["prev_items", "locale"], *[["['B0FR000001']", "FR"]] * 61],
                "'FR'.*not scored",
            ),
            ("more/products_train.csv", [HEADER], "exactly one file products_train.csv"),
        ],
    )
    def test_wrong_files(
        self, data: Path, tmp_path: Path, name: str, rows: list[list[str]], reason: str
    ) -> None:
        """A sentence names the wrong files."""
        write(data / name, rows[0], rows[1:])
        with pytest.raises(DataError, match=reason):
            convert(data, tmp_path / "made")


@pytest.mark.slow
def test_from_a_folder_to_a_score(fresh: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Steps without data, names of missing files, then an instance that the starter is scored on."""
    with pytest.raises(
        DataError, match=r"not prepared .*mlrcbench prepare product-recommendation --tier full"
    ):
        mlrcbench.make("product-recommendation", tier="full").reset(seed=0)
    prepare = ["prepare", "product-recommendation", "--tier", "full", "--quiet"]
    assert main(prepare) == 2
    assert "aicrowd dataset download" in capsys.readouterr().err
    (data / "products_train.csv").rename(data / "elsewhere.csv")
    assert main([*prepare, "--data", str(data)]) == 2
    assert "- products_train.csv (amazon-m2)" in capsys.readouterr().err
    (data / "elsewhere.csv").rename(data / "products_train.csv")
    assert main([*prepare, "--data", str(data)]) == 0
    assert str(fresh) in capsys.readouterr().out
    score = play_starter("product-recommendation", fresh / "records")
    assert score.value == pytest.approx(1.0, abs=0.1)
    assert score.details["mrr_character_offset"] == pytest.approx(1 / 3, abs=0.04)
    instances = [
        mlrcbench.get_competition("product-recommendation").instance(seed, "full") for seed in (0, 7)
    ]
    assert instances[0].root == instances[1].root
    assert [instance.secret_kind for instance in instances] == ["none", "none"]
