"""The digest of code changes with the code that is run, and with nothing else."""

from __future__ import annotations

import pytest

from mlrcbench.catalog.code_digest import code_digest, running_code, without_errors

CODE = '''"""A module."""
# a comment
def double(x):
    """Twice."""
    return 2 * x  # of course


class Empty:
    """Nothing."""
'''


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""A module."""', '"""Another text,\n\nlonger."""'),
        ("# a comment\n", ""),
        ('    """Twice."""\n', ""),
        ("  # of course", ""),
        ("2 * x", "2  *  x"),
        ('    """Nothing."""', '    """Not a thing."""'),
    ],
)
def test_wording_changes_nothing(old: str, new: str) -> None:
    """Comments, docstrings and layout are not run."""
    assert old in CODE
    assert code_digest({"a.py": CODE}) == code_digest({"a.py": CODE.replace(old, new)})


@pytest.mark.parametrize(("old", "new"), [("2 * x", "3 * x"), ("double", "twice"), ("Empty", "Full")])
def test_code_changes_it(old: str, new: str) -> None:
    """A change of what is run, or of a name, changes the digest."""
    assert code_digest({"a.py": CODE}) != code_digest({"a.py": CODE.replace(old, new)})


def test_names_and_other_files_count_as_they_are() -> None:
    """A file's name counts, and the whole text of a file that is not Python or does not parse."""
    assert code_digest({"a.py": CODE}) != code_digest({"b.py": CODE})
    assert code_digest({"a.txt": "# x"}) != code_digest({"a.txt": "# y"})
    assert running_code("def (# broken") == "def (# broken"
    assert code_digest({"a": "bc"}) != code_digest({"ab": "c"})


def test_a_docstring_alone_leaves_an_empty_body() -> None:
    """A definition with nothing but a docstring has a standard form, too."""
    assert running_code('def f():\n    """Nothing."""\n') == running_code('def f():\n    """Never."""\n')


SCORER = """from mlrcbench.aggregates import jackknife
from mlrcbench.score import Score


def score(artefacts, answers):
    values = read(artefacts)
    return Score(value=values.mean(), error=standard_error(values), details={"n": len(values)})


def standard_error(values):
    return jackknife(values)
"""
PLAIN = """from mlrcbench.score import Score


def score(artefacts, answers):
    values = read(artefacts)
    return Score(value=values.mean(), details={"n": len(values)})
"""


def test_a_scorers_error_is_no_part_of_its_value() -> None:
    """Its function, its imports and its place in the score are left out, and nothing else is."""
    assert running_code(without_errors(SCORER)) == running_code(PLAIN)
    elsewhere = PLAIN.replace("import Score", "import Score, other")
    both = "from folder.scorer import csi, standard_error\n"
    assert running_code(without_errors(both + elsewhere)) == running_code(
        both.replace(", standard_error", "") + elsewhere
    )
    assert without_errors("def (# broken") == "def (# broken"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("values.mean()", "values.mean() + standard_error(values)"),
        ("values = read(artefacts)", "values = jackknife(artefacts)"),
        ("len(values)}", "standard_error(values)}"),
    ],
)
def test_an_error_that_enters_a_value_counts(old: str, new: str) -> None:
    """Then the whole code is what the value depends on."""
    changed = SCORER.replace(old, new, 1)
    assert changed != SCORER
    assert without_errors(changed) == changed
