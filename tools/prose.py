"""Plain English, checked: phrases and names that readers stumble over, with what to write instead.

    python -m tools.prose [FILE ...]

Without arguments it reads every Python file, Markdown page and card of the repository. A line that needs
such a phrase, for example to quote it, ends in the comment `prose: ok`.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
SUFFIXES = {".py", ".md", ".toml", ".yaml", ".html", ".js"}
EXEMPT = {"tools/prose.py", "CHANGELOG.md"}
MARK = "prose: ok"

# Pattern -> what to write instead.
PHRASES = {
    r"\banew\b": "again",
    r"\bmend(s|ed|ing)?\b": "fix",
    r"\b(is|are|was|were) none\b": "say what is missing or wrong: 'is not a snapshot', 'does not exist'",
    r"\b(is|was) no (?!longer|more\b|less\b|different|worse|better|such|need|way|good|later|earlier|other)"
    r"[a-z]": "'is not a ...'",
    r"\b(go|goes|going|went|gone) on\b(?! to\b)": "continue",
    r"\bwhoever\b": "name the person: the user, the author, a reader",
    r"\b[Ll]ikewise\b": "write the description out",
    r"\b[Ii]n vain\b": "without success",
    r"\bpersons\b": "people",
    r"\bby heart\b": "memorised",
    r"\b[Aa]s yet\b": "so far",
    r"\bthereof\b|\bwherein\b|\bwhereof\b|\bherein\b": "name the thing",
    r"^\s+\w+(\s\([^)]*\))?: It\.$": "say what the argument is",
}
# Names that say that something was obtained, not what.
NAMES = {"found", "told"}


def problems(path: Path) -> Iterator[str]:
    """Each as `file:line: what: advice`."""
    text = path.read_text("utf-8")
    name = path.relative_to(ROOT).as_posix()
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        for pattern, advice in PHRASES.items():
            match = re.search(pattern, line)
            if match and MARK not in line:
                yield f"{name}:{number}: {match[0].strip()!r}: {advice}"
    if path.suffix == ".py":
        for number, variable in _variables(ast.parse(text)):
            if MARK not in lines[number - 1]:
                yield f"{name}:{number}: the variable {variable!r}: name what it is"


def _variables(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Where a banned name is bound: by an assignment, a loop, or as an argument."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id in NAMES:
            yield node.lineno, node.id
        elif isinstance(node, ast.arg) and node.arg in NAMES:
            yield node.lineno, node.arg


def checked_files() -> list[Path]:
    """Files under version control that people or models read."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return [
        ROOT / name
        for name in listed
        if Path(name).suffix in SUFFIXES and name not in EXEMPT and (ROOT / name).exists()
    ]


def main(arguments: list[str]) -> int:
    """Print the problems; status 1 if there are any."""
    files = [Path(name).resolve() for name in arguments] or checked_files()
    files = [path for path in files if path.suffix in SUFFIXES]
    report = [problem for path in files for problem in problems(path)]
    print("\n".join(report) or f"{len(files)} files: nothing to complain about")
    return 1 if report else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
