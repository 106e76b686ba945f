"""Draw the chapters of the package and the way of a step, and list the chapters, for `docs/architecture.md`.

    python -m tools.architecture            writes the two pictures and the tables
    python -m tools.architecture --check    exits with 1 if a file is out of date

The arrows are the package's own imports, as `tools/imports.py` reads them; the descriptions are the first
lines of docstrings. Arrows that follow from others are left out.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from tools.imports import ORDER, PACKAGE, arrows, chapter_of, package_files
from tools.stale import refresh
from tools.svg import Svg

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
CHAPTERS_PICTURE = ROOT / "docs" / "architecture.svg"
STEP_PICTURE = ROOT / "docs" / "architecture-step.svg"
MARKERS = ("<!-- written by tools/architecture.py -->", "<!-- end of what it writes -->")

# Competitions are not in the order of imports: no chapter imports them, and they import what is below.
COMPETITIONS = "competitions"
LEFT, WIDTH, HEIGHT, GAP = 12.0, 656.0, 34.0, 17.0
COLUMN = 400.0  # width of a column of the other picture
LONGEST = 76  # characters in a box
LEFT_OUT = ("__main__", "__version__")
CAPTIONS = {
    "face": "The public names, which are defined in the chapters below.",
    COMPETITIONS: "One folder for each competition; loaded by its path, not imported.",
}


# The way of a step and of an evaluation: a file of the package or a caller, what happens there, and how it
# is drawn: "branch" is one of several ways, "hostile" is where agent code runs.
STEP = (
    ("env.step(action)", "called by an agent, a session, a server, or your program", "caller"),
    ("env/research_env.py", "hands the action to the episode", ""),
    ("protocol/actions.py", "checks the action: an object, its JSON form, or that form's text", ""),
    ("env/episode.py", "counts the step, and carries the action out in one of four ways", ""),
    ("storage/workspace.py", "reads, writes or edits a file, without following a link", "branch"),
    ("sandbox/supervised.py", "runs a command, confined and limited", "hostile branch"),
    ("env/jobs.py", "starts a job, waits for it, or kills it", "hostile branch"),
    ("env/evaluation.py", "evaluates the workspace on dev", "branch evaluation"),
    ("env/episode.py", "judges: at the episode's end it evaluates once more, on test", "evaluation"),
    ("env/reward.py", "turns improvements into the reward", ""),
    ("protocol/observation.py", "cuts the answer, and adds what is left of the budget", ""),
    ("storage/record.py", "writes one line of the record", ""),
    ("observation, reward, terminated, truncated, info", "are returned to the caller", "caller"),
)
EVALUATION = (
    ("storage/workspace.py", "copies the workspace; protected files come from the starter", ""),
    ("env/evaluation.py", "shows the split's inputs, and opens a fresh sandbox", ""),
    ("sandbox/supervised.py", "runs the card's entry point, which writes artefacts/", "hostile"),
    ("artefacts/collected.py", "copies the declared artefacts out, when its last process is gone", ""),
    ("catalog/trusted.py", "calls scorer.py, which sees them and the answers, not the copy", ""),
    ("catalog/scale.py", "turns the value into the improvement, by the card's anchors", ""),
    ("score.py", "is the result: scored, invalid, timeout or memory", ""),
)


def rows() -> list[str]:
    """Chapters and files from the command line down to `errors`, competitions above what they may import."""
    names = [name for name in reversed(ORDER) if name not in LEFT_OUT]
    names.insert(names.index("sources"), COMPETITIONS)
    return names


def imports() -> dict[str, set[str]]:
    """For each chapter or file, the others that it imports."""
    graph: dict[str, set[str]] = {name: set() for name in rows()}
    for path in [*package_files(), *sorted((PACKAGE / COMPETITIONS).glob("*/*.py"))]:
        for arrow in arrows(path):
            source, target = chapter_of(arrow.source), chapter_of(arrow.target.replace(".", "/"))
            if source != target and {source, target} <= set(graph):
                graph[source].add(target)
    return graph


def reduced(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """The graph without arrows that follow from others (its transitive reduction; it has no circles)."""

    def reach(start: str) -> set[str]:
        return set().union(*({target} | reach(target) for target in graph[start])) if graph[start] else set()

    return {
        source: {target for target in targets if not any(target in reach(other) for other in targets)}
        for source, targets in graph.items()
    }


def docstring(name: str) -> str:
    """The docstring of a chapter or of a file at the top of the package."""
    path = PACKAGE / f"{name}.py"
    path = path if path.is_file() else PACKAGE / name / "__init__.py"
    return ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""


def caption(name: str) -> str:
    """What a chapter or file is: the first line of its docstring, without its own name in front."""
    if name in CAPTIONS:
        return CAPTIONS[name]
    line = docstring(name).splitlines()[0]
    head, _, rest = line.partition(": ")
    if rest and head.lower().startswith(name):
        return rest[0].upper() + rest[1:]
    return line


def _short(sentence: str) -> str:
    """A sentence that fits into a box: the long ones end at a comma or colon."""
    if len(sentence) <= LONGEST:
        return sentence
    return re.split(r"[,:;] [^,:;]*$", sentence[:LONGEST])[0].rstrip(",:; ") + "."


def start_of(name: str) -> str:
    """Where to start reading a chapter, as the last point of its docstring's list says."""
    match = re.search(r"^- Start reading (.+(?:\n  .+)*)", docstring(name), re.MULTILINE)
    if match is None:
        return "any `card.toml`, then `_template/`" if name == COMPETITIONS else ""
    text = " ".join(match[1].split()).removeprefix("at ").removesuffix(".")
    return re.sub(r"^here, at", "`__init__.py`, at", text)


def files_of(name: str) -> str:
    """The modules of a chapter, and its folders."""
    folder = PACKAGE / name
    if name == COMPETITIONS:
        return "one folder for each competition"
    modules = [path.stem for path in sorted(folder.glob("*.py")) if path.stem != "__init__"]
    folders = [f"{path.parent.name}/" for path in sorted(folder.glob("*/__init__.py"))]
    return ", ".join([*modules, *folders])


def tables() -> str:
    """The chapters, and the files at the top of the package, as Markdown tables."""
    graph = imports()
    chapters = [name for name in rows() if (PACKAGE / name).is_dir()]
    files = [name for name in rows() if (PACKAGE / f"{name}.py").is_file()]

    def link(path: str) -> str:
        return f"[`{path}`](../src/mlrcbench/{path.removesuffix('/')})"

    def imported(name: str) -> str:
        names = [other for other in rows() if other in graph[name] and other != "face"]
        names += ["the public names"] if "face" in graph[name] else []
        return ", ".join(names) or "nothing"

    lines = [
        "| chapter | files | imports | start reading at |",
        "|---|---|---|---|",
        *(
            f"| {link(f'{name}/')} | {files_of(name)} | {imported(name)} | {start_of(name)} |"
            for name in chapters
        ),
        "",
        "| file | what it holds | imports |",
        "|---|---|---|",
        *(f"| {link(f'{name}.py')} | {caption(name)} | {imported(name)} |" for name in files),
    ]
    return "\n".join(lines)


def draw_chapters() -> str:
    """The chapters as boxes, one below the other; each imports what its arrows lead to."""
    names, graph = rows(), reduced(imports())
    svg = Svg("The chapters of mlrcbench, and which imports which")
    for number, name in enumerate(names):
        kind = "loose" if name == COMPETITIONS else "box" if (PACKAGE / name).is_dir() else "file"
        label = "mlrcbench" if name == "face" else name if kind != "file" else f"{name}.py"
        svg.box(LEFT, _top(number), WIDTH, HEIGHT, kind)
        svg.text(LEFT + 14, _top(number) + 22, label, "name")
        svg.text(LEFT + 138, _top(number) + 22, _short(caption(name)))
    pairs = [
        (number, names.index(target))
        for number, source in enumerate(names)
        for target in sorted(graph[source], key=names.index)
    ]
    for source, target in pairs:
        if target == source + 1:
            x = LEFT + 60
            svg.arrow([(x, _top(source) + HEIGHT), (x, _top(target))])
    lanes = _far_arrows(svg, [pair for pair in pairs if pair[1] > pair[0] + 1])
    caller = names.index("catalog")
    x, y = LEFT + 142, _top(caller) + HEIGHT
    svg.arrow([(x, y), (x, _top(caller + 1))], "edge", dashed=True)
    svg.text(x + 10, y + 12, "calls build, convert and score, in a process apart", "small")
    return svg.render(LEFT + WIDTH + 24 + 15 * lanes, _top(len(names)))


def _top(number: int) -> float:
    """Where the box of a row begins."""
    return 12 + number * (HEIGHT + GAP)


def _far_arrows(svg: Svg, pairs: list[tuple[int, int]]) -> int:
    """Arrows between rows that are not neighbours, in lanes on the right; returns the number of lanes."""
    lanes: dict[tuple[int, int], int] = {}
    for pair in sorted(pairs, key=lambda pair: (pair[1] - pair[0], pair)):
        crowded = {lane for other, lane in lanes.items() if not (pair[1] <= other[0] or other[1] <= pair[0])}
        lanes[pair] = next(lane for lane in range(len(pairs)) if lane not in crowded)
    ports: dict[tuple[int, tuple[int, int]], float] = {}
    for row in {row for pair in pairs for row in pair}:
        # In this order no arrow crosses another at the box: what arrives above, what leaves below.
        arriving = sorted((pair for pair in pairs if pair[1] == row), key=lanes.__getitem__)
        leaving = sorted((pair for pair in pairs if pair[0] == row), key=lanes.__getitem__, reverse=True)
        ends = [*arriving, *leaving]
        for place, pair in enumerate(ends, 1):
            ports[row, pair] = round(_top(row) + HEIGHT * place / (len(ends) + 1), 1)
    right = LEFT + WIDTH
    sources = sorted({pair[0] for pair in pairs})
    for pair in pairs:
        start, end = ports[pair[0], pair], ports[pair[1], pair]
        x = right + 24 + 15 * lanes[pair]
        svg.arrow([(right, start), (x, start), (x, end), (right, end)], f"lane{sources.index(pair[0]) % 4}")
    return 1 + max(lanes.values(), default=0)


def draw_step() -> str:
    """The way of a step on the left, and on the right that of an evaluation, which a step may contain."""
    svg = Svg("The way of one step, and of one evaluation, through the code")
    left, right, lane = 12.0, 500.0, 456.0
    evaluations, bottom = _column(svg, left, "One step", STEP)
    _column(svg, right, "One evaluation", EVALUATION)
    for y in evaluations:
        svg.arrow([(left + COLUMN, y), (lane, y), (lane, 60), (right, 60)], "warn")
    svg.box(right, 478, 18, 14, "hostile")
    svg.text(right + 26, 489, "Agent code runs here, in a sandbox.")
    return svg.render(right + COLUMN + 12, bottom + 12)


def _column(
    svg: Svg, left: float, title: str, stations: Sequence[tuple[str, str, str]]
) -> tuple[list[float], float]:
    """Stations, one below the other; returns the middles of evaluations, and where the last one ends."""
    svg.text(left, 24, title, "head")
    y, start = 38.0, 0.0
    evaluations = []
    followers = [*stations[1:], ("", "", "")]
    for (file, words, kind), (_, _, next_kind) in zip(stations, followers, strict=True):
        if file.endswith(".py") and not (PACKAGE / file).is_file():
            raise FileNotFoundError(f"the picture of a step names {file}, which does not exist")
        branch = "branch" in kind
        x = left + (36 if branch else 0)
        style = "hostile" if "hostile" in kind else "file" if kind == "caller" else "box"
        svg.box(x, y, left + COLUMN - x, 42, style)
        svg.text(x + 12, y + 17, file, "code")
        svg.text(x + 12, y + 34, words)
        if branch:
            svg.arrow([(left + 16, start), (left + 16, y + 21), (x, y + 21)])
        elif start:
            svg.arrow([(left + 16, start), (left + 16, y)])
        if "evaluation" in kind:
            evaluations.append(y + 21)
        start = start if branch else y + 42
        y += 51 if branch and "branch" in next_kind else 61
    return evaluations, y - 19


def fresh() -> dict[Path, str]:
    """Each file that this script writes, with what it must hold."""
    begin, end = MARKERS
    head, _, rest = PAGE.read_text("utf-8").partition(begin)
    _, _, tail = rest.partition(end)
    return {
        CHAPTERS_PICTURE: draw_chapters(),
        STEP_PICTURE: draw_step(),
        PAGE: f"{head}{begin}\n\n{tables()}\n\n{end}{tail}",
    }


def main(arguments: list[str]) -> int:
    """Write what is out of date, or with `--check` only name it; status 1 if there is any to name."""
    return refresh(fresh(), arguments, "tools.architecture", ROOT)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
