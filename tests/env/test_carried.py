"""Files that enter an evaluation, where a card names them: what was learnt before stays behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import mlrcbench
from mlrcbench.errors import CardError
from tests.conftest import body, copy_of_template

TABLE = """[tiers.mini.carried]
patterns = ["*.py"]
max_bytes = 2000

[tiers.mini.limits]"""
LOADS = """import os
import numpy as np
from parts import helper

def predict(train, x):
    print(sorted(name for folder, _, names in os.walk(".") for name in names))
    return helper.zeros(x) if not os.path.exists("weights.npy") else np.load("weights.npy")
"""
HELPER = "import numpy as np\n\ndef zeros(x):\n    return np.zeros(len(x))\n"


def competition(folder: Path, table: str = TABLE) -> mlrcbench.Competition:
    """The template with a table of carried files."""
    path = copy_of_template(folder)
    card = path / "card.toml"
    card.write_text(card.read_text().replace("[tiers.mini.limits]", table))
    return mlrcbench.Competition(path)


@pytest.fixture
def strict(tmp_path: Path) -> Iterator[mlrcbench.ResearchEnv]:
    """An environment whose evaluations take Python files, 2,000 bytes together."""
    with mlrcbench.make(competition(tmp_path), records=tmp_path / "records") as env:
        env.reset(seed=0)
        yield env


def test_weights_stay_behind(strict: mlrcbench.ResearchEnv) -> None:
    """A file of weights does not exist in the evaluation; code in folders does, and so does the starter."""
    observation, _ = strict.reset(seed=0)
    assert "*.py of your files, 2,000 bytes together" in observation["text"]
    body(strict, mlrcbench.WriteFile("parts/helper.py", HELPER))
    body(strict, mlrcbench.WriteFile("method.py", LOADS))
    body(strict, mlrcbench.Run("python -c 'import numpy; numpy.save(\"weights.npy\", numpy.ones(9))'"))
    assert "weights.npy" in body(strict, mlrcbench.Run("ls; ln -s weights.npy link.npy"))
    text = body(strict, mlrcbench.Evaluate())
    assert "dev: root mean squared error" in text
    assert "'helper.py'" in text
    assert "'main.py'" in text
    assert ".npy" not in text


def test_code_that_is_too_large_is_refused(strict: mlrcbench.ResearchEnv) -> None:
    """The agent reads what is carried and what to do; the starter's own files do not count."""
    body(strict, mlrcbench.WriteFile("big.py", f"WEIGHTS = '{'x' * 2000}'\n"))
    text = body(strict, mlrcbench.Evaluate())
    assert "takes *.py of your files, at most 2,000 bytes together, and there are more" in text
    body(strict, mlrcbench.WriteFile("big.py", "WEIGHTS = ''\n"))
    assert "dev: root mean squared error" in body(strict, mlrcbench.Evaluate())


@pytest.mark.parametrize(
    "table",
    [
        TABLE.replace('"*.py"', ""),
        TABLE.replace("2000", "0"),
        TABLE.replace("max_bytes", "max_size"),
        TABLE.replace("2000", "2000\nfiles = 3"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path: Path, table: str) -> None:
    """A card without patterns or a size, or with other entries, is an error."""
    with pytest.raises(CardError):
        _ = competition(tmp_path, table).card
