"""Coverage of the core tests, with the supervisor included, and a floor for each chapter.

    python -m tools.coverage_run [ARGUMENT ...]     the arguments are pytest's; without any, the core tests

Three kinds of processes run the library. Those that begin with the tests' environment are measured by
coverage itself. Those that begin with a clean one, the supervisor in a bare interpreter and the trusted
children, are measured by a few lines that mark every line they run in a file that all of them map into
memory: nothing has to be saved when they are killed, confined, or in a file system of their own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import coverage

from tools.coverage_floors import FLOORS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "mlrcbench"
VARIABLE = "MLRCBENCH_TEST_PRELUDE"  # read by `sandbox/fork_client.py`
CORE = ("tests", "--ignore=tests/competitions", "--ignore=tests/contract/test_competitions.py")
# Competitions have tests of their own; what is inside a sandbox is agent code, and sees nothing of ours.
_LEFT_OUT = ("competitions/", "testing/attacks/inside/")
# Runs before the library's own first line, in a bare interpreter too.
_PRELUDE = """
import mmap, sys

def begin(path, starts):
    with open(path, "r+b") as file:
        lines = mmap.mmap(file.fileno(), 0)

    def trace(frame, event, argument):
        start = starts.get(frame.f_code.co_filename)
        if start is None:
            return None

        def mark(frame, event, argument):
            if event == "line":
                lines[start + frame.f_lineno] = 1
            return mark

        return mark

    sys.settrace(trace)

begin({path!r}, {starts!r})
"""


def measured_files() -> list[Path]:
    """All modules but those of competitions and those that run inside sandboxes."""
    paths = sorted(PACKAGE.rglob("*.py"))
    return [path for path in paths if not path.relative_to(PACKAGE).as_posix().startswith(_LEFT_OUT)]


def chapter_of(path: Path) -> str:
    """The chapter of a module; modules at the top are chapters themselves, and so is the supervisor."""
    if "supervisor" in path.parts:
        return "sandbox/supervisor"
    first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "the face" if first.startswith("__") else first


class LineMap:
    """One byte for each line of the package, in a file."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "lines"
        self._starts: dict[str, int] = {}
        size = 0
        for path in measured_files():
            self._starts[str(path)] = size
            size += len(path.read_bytes().splitlines()) + 1
        self._path.write_bytes(bytes(size))
        self.prelude = folder / "prelude.py"
        self.prelude.write_text(_PRELUDE.format(path=str(self._path), starts=self._starts), "utf-8")

    def lines(self) -> dict[str, list[int]]:
        """The lines that ran, by file."""
        marks = self._path.read_bytes()
        ends = [*list(self._starts.values())[1:], len(marks)]
        return {
            path: [number for number in range(end - start) if marks[start + number]]
            for (path, start), end in zip(self._starts.items(), ends, strict=True)
        }


def measure(arguments: list[str], folder: Path) -> tuple[int, coverage.Coverage]:
    """Run pytest, and bring together what all processes ran."""
    marked = LineMap(folder)
    data_file = str(folder / ".coverage")
    environment = {**os.environ, VARIABLE: str(marked.prelude)}
    command = [
        sys.executable,
        "-m",
        "coverage",
        "run",
        f"--data-file={data_file}",
        "-m",
        "pytest",
        *arguments,
    ]
    status = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
    data = coverage.CoverageData(f"{data_file}.helpers")
    data.add_lines({path: lines for path, lines in marked.lines().items() if lines})
    data.write()
    measured = coverage.Coverage(data_file=data_file, config_file=str(ROOT / "pyproject.toml"))
    measured.combine([str(folder)])
    measured.save()
    return status, measured


def shares(measured: coverage.Coverage) -> dict[str, tuple[int, int]]:
    """Chapter -> statements that ran, and all statements."""
    counts: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for path in measured_files():
        _, statements, _, missing, _ = measured.analysis2(str(path))
        ran, every = counts[chapter_of(path)]
        counts[chapter_of(path)] = ran + len(statements) - len(missing), every + len(statements)
    return {chapter: pair for chapter, pair in sorted(counts.items()) if pair[1]}


def below_floor(counts: dict[str, tuple[int, int]]) -> list[str]:
    """A sentence for each chapter that lost coverage."""
    sentences = []
    for chapter, (ran, every) in counts.items():
        share, floor = 100 * ran / every, FLOORS.get(chapter, 0)
        if share < floor:
            sentences.append(f"{chapter}: {share:.1f} % is below its floor of {floor} %")
    return sentences


def main(arguments: list[str]) -> int:
    """Measure and compare; status 1 if a test fails or a chapter is below its floor."""
    with tempfile.TemporaryDirectory(prefix="coverage-") as folder:
        status, measured = measure(arguments or list(CORE), Path(folder))
        counts = shares(measured)
        if not arguments:
            measured.html_report(directory=str(ROOT / "build" / "coverage"))
    for chapter, (ran, every) in counts.items():
        print(f"{chapter:18} {ran:5} of {every:5} {100 * ran / every:6.1f} %, floor {FLOORS.get(chapter, 0)}")
    sentences = below_floor(counts)
    print("\n".join(sentences))
    return 1 if status or sentences else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
