"""Mutation testing: small faults are put into a module, one at a time, and its own tests must notice.

    python -m tools.mutants [--sample N] [--seed S] [--seconds T] [MODULE ...]

Modules are paths below `src/mlrcbench`, files or folders; by default those in which a fault that no test
notices would be dangerous. The tests of `storage/record.py` are `tests/storage/test_record*.py` and what
`TESTS` adds, or else those of the folder. Everything runs in a copy of the working tree.
Status 1 if a mutant survives.
"""

from __future__ import annotations

import argparse
import ast
import copy
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.coverage_run import VARIABLE

ROOT = Path(__file__).parents[1]
MODULES = ("artefacts", "storage", "protocol", "env/replay.py")
# Tests beside the mirrored ones.
TESTS: dict[str, tuple[str, ...]] = {
    "protocol/wording.py": ("tests/env/test_research_env.py",),
    "protocol/spaces.py": ("tests/env/test_research_env.py",),
    "env/replay.py": ("tests/storage/test_record.py",),
    "storage/snapshots": ("tests/env/test_restore_and_fork.py", "tests/storage/snapshots"),
}
_COPIED = (
    "src",
    "tests",
    "tools",
    "docs",
    "examples",
    "calibration",
    "pyproject.toml",
    "README.md",
    "noxfile.py",
)
_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult, ast.Div: ast.Mult,
    ast.LShift: ast.RShift, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.Mod: ast.FloorDiv,
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """One fault.

    Attributes:
        module: Path below `src/mlrcbench`.
        line: Where it is.
        before: The expression or statement as it was.
        after: As it is now; empty for a statement that is left out.
        source: The whole module with the fault.
    """

    module: str
    line: int
    before: str
    after: str
    source: str

    def __str__(self) -> str:
        after = f"-> {self.after}" if self.after else "is left out"
        return f"{self.module}:{self.line}: {self.before}  {after}"


def mutants(module: str, text: str) -> Iterator[Mutant]:
    """All mutants of a module: comparisons, operators, numbers, truth values, statements left out."""
    tree = ast.parse(text)
    ignored = {id(inner) for node in _unseen(tree) for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in ignored:
            continue
        if isinstance(node, ast.expr):
            for changed in _changed(node):
                yield _mutant(module, text, node, ast.unparse(changed))
        elif isinstance(node, ast.Raise) or (
            isinstance(node, ast.Expr | ast.AugAssign) and not _is_docstring(node)
        ):
            yield _mutant(module, text, node, "")


def _unseen(tree: ast.AST) -> Iterator[ast.AST]:
    """Annotations, which nothing evaluates, the options of dataclasses, and the texts of errors."""
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign | ast.arg) and node.annotation is not None:
            yield node.annotation
        elif isinstance(node, ast.FunctionDef) and node.returns is not None:
            yield node.returns
        elif isinstance(node, ast.ClassDef):
            yield from node.decorator_list
        elif isinstance(node, ast.JoinedStr) or (isinstance(node, ast.If) and _is_for_types(node.test)):
            yield node


def _is_for_types(test: ast.expr) -> bool:
    return isinstance(test, ast.Name) and test.id == "TYPE_CHECKING"


def _changed(node: ast.expr) -> Iterator[ast.expr]:
    """The expressions that may stand in a node's place."""
    other = copy.deepcopy(node)
    match other:
        case ast.Compare(ops=[operator]) if type(operator) in _COMPARISONS:
            other.ops = [_COMPARISONS[type(operator)]()]
            yield other
        case ast.BoolOp(op=operation):
            other.op = ast.Or() if isinstance(operation, ast.And) else ast.And()
            yield other
        case ast.BinOp(op=arithmetic) if type(arithmetic) in _OPERATORS:
            other.op = _OPERATORS[type(arithmetic)]()
            yield other
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield operand
        case ast.IfExp(test=test):
            other.test = ast.UnaryOp(ast.Not(), test)
            yield other
        case ast.Constant(value=bool() as truth):
            yield ast.Constant(not truth)
        case ast.Constant(value=int() as number):
            yield ast.Constant(number + 1)
        case ast.Call(func=ast.Name(id="min" | "max" as name) as function):
            function.id = "max" if name == "min" else "min"
            yield other


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _mutant(module: str, text: str, node: ast.expr | ast.stmt, after: str) -> Mutant:
    """The module's text with a node replaced, every other line as it was."""
    lines = text.encode().splitlines(keepends=True)
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    begin, end = node.lineno - 1, node.end_lineno - 1
    head, tail = lines[begin][: node.col_offset], lines[end][node.end_col_offset :]
    inserted = (f"({after})" if isinstance(node, ast.expr) else "pass").encode()
    changed = b"".join([*lines[:begin], head + inserted + tail, *lines[end + 1 :]]).decode()
    return Mutant(module, node.lineno, " ".join(ast.unparse(node).split())[:100], after[:100], changed)


def tests_of(module: str) -> list[str]:
    """The test files that must notice a module's mutants."""
    path = Path(module)
    folder = ROOT / "tests" / path.parent
    mirrored = sorted(folder.glob(f"test_{path.stem}*.py"))
    tests = [file.relative_to(ROOT).as_posix() for file in mirrored]
    tests += [test for key, more in TESTS.items() if module.startswith(key) for test in more]
    return list(dict.fromkeys(tests)) or [folder.relative_to(ROOT).as_posix()]


def _run(copied: Path, tests: list[str], seconds: float) -> str:
    """How the tests end: "passed", "failed" or "timeout"."""
    # Trusted children begin with a clean environment; the prelude puts the copy before the installed source.
    prelude = copied / "prelude.py"
    prelude.write_text(f"import sys; sys.path.insert(0, {str(copied / 'src')!r})\n", "utf-8")
    variables = {"PYTHONPATH": str(copied / "src"), "PYTHONDONTWRITEBYTECODE": "1", VARIABLE: str(prelude)}
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests],
        cwd=copied,
        env={**os.environ, **variables},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        return "passed" if process.wait(seconds) == 0 else "failed"
    except subprocess.TimeoutExpired:
        return "timeout"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _files(names: list[str]) -> list[str]:
    package = ROOT / "src" / "mlrcbench"
    paths = [
        path
        for name in names
        for path in ([package / name] if name.endswith(".py") else (package / name).rglob("*.py"))
    ]
    return sorted(path.relative_to(package).as_posix() for path in paths if path.name != "__init__.py")


def hunt(chosen: list[Mutant], seconds: float) -> list[Mutant]:
    """The mutants that survive.

    Raises:
        SystemExit: A module's tests fail without any mutant.
    """
    survivors = []
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copied = Path(folder)
        for name in _COPIED:
            source = ROOT / name
            (shutil.copytree if source.is_dir() else shutil.copy2)(source, copied / name)
        limits: dict[str, float] = {}
        for module in sorted({mutant.module for mutant in chosen}):
            started = time.monotonic()
            if _run(copied, tests_of(module), 10 * seconds) != "passed":
                raise SystemExit(f"the tests of {module} do not pass without any mutant")
            limits[module] = max(seconds, 3 * (time.monotonic() - started))
        for number, mutant in enumerate(chosen, 1):
            path = copied / "src" / "mlrcbench" / mutant.module
            original = path.read_text("utf-8")
            path.write_text(mutant.source, "utf-8")
            started = time.monotonic()
            ending = _run(copied, tests_of(mutant.module), limits[mutant.module])
            path.write_text(original, "utf-8")
            word = "SURVIVED" if ending == "passed" else "killed"
            print(
                f"[{number}/{len(chosen)}] {word} ({time.monotonic() - started:.0f} s) {mutant}", flush=True
            )
            if ending == "passed":
                survivors.append(mutant)
    return survivors


def main(arguments: list[str]) -> int:
    """Hunt, and list what survives; status 1 if anything does."""
    parser = argparse.ArgumentParser(prog="python -m tools.mutants", description="Mutation testing.")
    parser.add_argument("modules", nargs="*", default=list(MODULES), help="paths below src/mlrcbench")
    parser.add_argument("--sample", type=int, default=0, metavar="N", help="so many mutants; 0 for all")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--seconds", type=float, default=120.0, help="shortest limit for a mutant's tests")
    options = parser.parse_args(arguments)
    package = ROOT / "src" / "mlrcbench"
    every = [
        mutant
        for name in _files(options.modules)
        for mutant in mutants(name, (package / name).read_text("utf-8"))
    ]
    chosen = every
    if options.sample:
        chosen = random.Random(options.seed).sample(every, min(options.sample, len(every)))
    survivors = hunt(sorted(chosen, key=str), options.seconds)
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} mutants killed ({len(every)} in all)")
    print("\n".join(f"survived: {mutant}" for mutant in survivors))
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
