"""Documentation: its Python runs, its commands and links exist, and what a script wrote is up to date."""

from __future__ import annotations

import dataclasses
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import mlrcbench
from mlrcbench.cli.main import _parser
from mlrcbench.storage.record import ROWS
from tools import architecture, costs, episode_picture, record_keys
from tools.api import read_snapshot
from tools.draw_ladders import logs, picture_of

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
CODE = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\((?!https?:)([^)#]+)")
COMMAND = re.compile(r"^ {4}mlrcbench (.+)$", re.MULTILINE)

BLOCKS = [(page, block) for page in PAGES for block in CODE.findall(page.read_text("utf-8"))]
COMMANDS = [(page, command) for page in PAGES for command in COMMAND.findall(page.read_text("utf-8"))]
# Names in code, then the file that has them: "`Anchor`, `Anchors` in [`catalog/card.py`](...)".
DEFINED = re.compile(r"((?:`\w+`(?:,\s+)?)+)\s+in\s+\[`[\w/]+\.py`\]\(([^)]+)\)")
MODULE = re.compile(r"`([a-z_]+(?:/[a-z_]+)*/[a-z_]+\.py)`")


@pytest.mark.slow
@pytest.mark.parametrize(("page", "block"), BLOCKS, ids=[page.name for page, _ in BLOCKS])
def test_code_blocks_run(page: Path, block: str, tmp_path: Path) -> None:
    """Each block runs alone, as a reader would paste it."""
    script = tmp_path / "block.py"
    script.write_text(block)
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{page}\n{block}\n{done.stderr}"


@pytest.mark.parametrize(("page", "command"), COMMANDS, ids=[command for _, command in COMMANDS])
def test_commands_exist(page: Path, command: str) -> None:
    """Every command of the pages can be parsed, with the options that the text gives it."""
    _parser().parse_args(shlex.split(command, comments=True))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Relative links lead to files of the checkout, or to pictures that are drawn when the site is built."""
    drawn = {picture_of(log) for log in logs()}
    targets = [(page.parent / link).resolve() for link in LINK.findall(page.read_text("utf-8"))]
    assert [target for target in targets if not target.exists() and target not in drawn] == []


def test_the_index_links_every_page() -> None:
    """A reader finds every page of the documentation from `docs/index.md`."""
    index = ROOT / "docs" / "index.md"
    linked = {(index.parent / link).resolve() for link in LINK.findall(index.read_text("utf-8"))}
    pages = {page for page in PAGES if page.is_relative_to(index.parent)}
    assert sorted(pages - linked - {index}) == []


def test_modules_that_pages_name_exist() -> None:
    """A path such as `env/episode.py` is a file of the repository or of the package."""
    names = {(page.name, name) for page in PAGES for name in MODULE.findall(page.read_text("utf-8"))}
    roots = (ROOT, ROOT / "src" / "mlrcbench", ROOT / "src" / "mlrcbench" / "competitions" / "_template")
    missing = {(page, name) for page, name in names if not any((root / name).is_file() for root in roots)}
    assert ("architecture.md", "env/episode.py") in names
    assert sorted(missing - {("authoring.md", "ties/method.py")}) == []


def test_the_glossary_names_what_the_files_define() -> None:
    """Each name that the glossary places in a file occurs there."""
    page = ROOT / "docs" / "glossary.md"
    places = DEFINED.findall(page.read_text("utf-8"))
    assert len(places) > 25
    for names, link in places:
        text = (page.parent / link).resolve().read_text("utf-8")
        for name in re.findall(r"\w+", names):
            assert re.search(rf"^\s*(?:def |class )?{name}\b", text, re.MULTILINE), f"{link} lacks {name}"


def test_the_reference_has_every_public_name() -> None:
    """Each public name is on one page of `docs/reference/`, under the path by which it is imported."""
    pages = sorted((ROOT / "docs" / "reference").glob("*.md"))
    listed = [
        name for page in pages for name in re.findall(r"^::: (.+)$", page.read_text("utf-8"), re.MULTILINE)
    ]
    api = {module: {name for name in names if "." not in name} for module, names in read_snapshot().items()}
    face = api.pop("mlrcbench")
    # What can be imported as `mlrcbench.play` is not listed as `mlrcbench.agents.play` again.
    inner = {f"mlrcbench.{module}.{name}" for module, names in api.items() for name in names - face}
    others = {"mlrcbench.integrations.smolagents.run", "mlrcbench.env.settings.Settings"}
    assert sorted(listed) == sorted({f"mlrcbench.{name}" for name in face} | inner | others)


def test_the_picture_of_an_episode_is_up_to_date() -> None:
    """If not, `python -m tools.episode_picture` writes it; it names the published methods of its ladder."""
    picture = episode_picture.draw()
    assert episode_picture.PICTURE.read_text("utf-8") == picture
    assert len(episode_picture.published()) > 3
    assert all(f">{name}</text>" in picture for name, _ in episode_picture.published())


def test_the_table_of_costs_is_up_to_date() -> None:
    """If not, `python -m tools.costs` writes it; it has every competition that was calibrated."""
    assert costs.fresh() == {costs.PAGE: costs.PAGE.read_text("utf-8")}
    assert all(f"[{card.id}](" in costs.table() for card in mlrcbench.list_competitions())


def test_the_architecture_page_is_up_to_date() -> None:
    """If not, `python -m tools.architecture` writes it and its two pictures."""
    stale = [path.name for path, text in architecture.fresh().items() if path.read_text("utf-8") != text]
    assert stale == []


def test_the_check_of_the_architecture_page_names_what_is_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--check` fails for an old file and leaves it; without it, the file is written."""
    old = tmp_path / "old.svg"
    old.write_text("old", "utf-8")
    monkeypatch.setattr(architecture, "ROOT", tmp_path)
    monkeypatch.setattr(architecture, "fresh", lambda: {old: "new"})
    assert architecture.main(["--check"]) == 1
    assert "old.svg is out of date" in capsys.readouterr().out
    assert old.read_text("utf-8") == "old"
    assert architecture.main([]) == 0
    assert old.read_text("utf-8") == "new"
    assert architecture.main(["--check"]) == 0


def test_the_pictures_show_every_chapter() -> None:
    """The picture has a box for each chapter and file, and its arrows follow the order of imports."""
    picture = architecture.draw_chapters()
    for name in architecture.rows():
        label = "mlrcbench" if name == "face" else name
        assert re.search(rf">{label}(\.py)?</text>", picture), name
    graph = architecture.imports()
    order = architecture.rows()
    for source, targets in architecture.reduced(graph).items():
        assert all(order.index(target) > order.index(source) for target in targets), source
        assert targets <= graph[source]
    assert len(picture) < 40_000
    assert len(architecture.draw_step()) < 40_000


def test_an_arrow_that_follows_from_others_is_left_out() -> None:
    """Of a triangle, the long side goes; what can be reached stays the same."""
    graph = {"a": {"b", "c"}, "b": {"c"}, "c": set[str]()}
    assert architecture.reduced(graph) == {"a": {"b"}, "b": {"c"}, "c": set()}


def test_the_keys_of_a_record_are_those_of_the_code() -> None:
    """Every key of every kind of line, with its meaning; written by `python -m tools.record_keys`."""
    page = record_keys.PAGE.read_text("utf-8")
    assert record_keys.fresh(page) == page
    for cls in ROWS.values():
        for field in dataclasses.fields(cls):
            assert f"| `{field.name}` | " in page
