"""Documentation: its Python runs, its commands exist, its links lead somewhere."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from mlrcbench import cli

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
COMMANDS = [(page, words) for page in PAGES for words in COMMAND.findall(page.read_text("utf-8"))]


@pytest.mark.slow
@pytest.mark.parametrize(("page", "block"), BLOCKS, ids=[page.name for page, _ in BLOCKS])
def test_code_blocks_run(page: Path, block: str, tmp_path: Path) -> None:
    """Each on its own, as a reader would paste it."""
    script = tmp_path / "block.py"
    script.write_text(block)
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{page}\n{block}\n{done.stderr}"


@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=[words for _, words in COMMANDS])
def test_commands_exist(page: Path, words: str) -> None:
    """With the options that the text gives them."""
    cli._parser().parse_args(shlex.split(words, comments=True))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Relative ones, to files of the checkout."""
    missing = [link for link in LINK.findall(page.read_text("utf-8")) if not (page.parent / link).exists()]
    assert missing == []
