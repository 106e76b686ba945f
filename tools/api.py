"""The public API as a snapshot under version control.

    python -m tools.api                    compare the source with `tests/api.json`
    python -m tools.api --write            accept the source: write `tests/api.json`
    python -m tools.api --since-last-tag   list what breaks code written for the last release

The source is read, not imported. The snapshot holds `mlrcbench.__all__` and the names of the modules that the
documentation imports, each with its signature.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import griffe

import mlrcbench

ROOT = Path(__file__).parents[1]
SNAPSHOT = ROOT / "tests" / "api.json"
ACCEPT = "python -m tools.api --write"
# The modules that README, documentation and examples import.
MODULES = (
    "agents", "agents.react", "aggregates", "artefacts", "artefacts.player", "artefacts.transcript", "errors",
    "llm", "runs.bundles", "sandbox", "score", "sources.raw", "testing", "testing.endpoint",
    "integrations.inspect_ai", "integrations.langchain", "integrations.menu", "integrations.openai_agents",
    "integrations.openenv", "integrations.ray", "integrations.smolagents", "integrations.trl",
)  # fmt: skip
_SPECIAL = ("__init__", "__call__")
_SYNTAX = ("__enter__", "__exit__", "__iter__", "__len__", "__getitem__", "__contains__")

Api = dict[str, dict[str, str]]


def read_source(folder: Path = ROOT / "src") -> Api:
    """The API of a source folder: module -> name -> signature or annotation."""
    package = _load(folder)
    return {module: dict(_describe_all(package, module)) for module in ("mlrcbench", *MODULES)}


def read_snapshot() -> Api:
    """The API that was accepted last."""
    api: Api = json.loads(SNAPSHOT.read_text("utf-8"))
    return api


def differences(old: Api, new: Api) -> list[str]:
    """What has changed, a line for each name."""
    lines = []
    for module in sorted(old.keys() | new.keys()):
        before, after = old.get(module, {}), new.get(module, {})
        for name in sorted(before.keys() | after.keys()):
            if name not in after:
                lines.append(f"removed: {module}: {name}{before[name]}")
            elif name not in before:
                lines.append(f"added: {module}: {name}{after[name]}")
            elif before[name] != after[name]:
                lines.append(f"changed: {module}: {name}{before[name]}")
                lines.append(f"     to: {module}: {name}{after[name]}")
    return lines


def breakages(tag: str) -> list[str]:
    """What breaks code that was written for a tag's version, a line for each name."""
    accepted: Api = json.loads(_git("show", f"{tag}:{SNAPSHOT.relative_to(ROOT)}"))
    source = read_source()
    lines = [line for line in differences(accepted, source) if line.startswith("removed")]
    former = griffe.load_git("mlrcbench", ref=tag, repo=ROOT, search_paths=["src"], resolve_aliases=True)
    current = _load(ROOT / "src")
    assert isinstance(former, griffe.Module)
    for module, names in accepted.items():
        for name in names.keys() & source.get(module, {}).keys():
            if "." not in name:
                lines += _explain(_get(former, module, name), _get(current, module, name))
    return sorted(set(lines))


def _explain(old: griffe.Object, new: griffe.Object) -> Iterator[str]:
    with contextlib.suppress(griffe.AliasResolutionError):  # bases of other packages are not loaded
        for breakage in griffe.find_breaking_changes(old, new):
            yield f"{breakage.obj.canonical_path}: {breakage.kind.value}"


def _load(folder: Path) -> griffe.Module:
    package = griffe.load("mlrcbench", search_paths=[folder], resolve_aliases=True)
    assert isinstance(package, griffe.Module)
    return package


def _describe_all(package: griffe.Module, module: str) -> Iterator[tuple[str, str]]:
    for name in _names(package, module):
        yield from _describe(name, _get(package, module, name))


def _names(package: griffe.Module, module: str) -> list[str]:
    """The public names of a module: those of `__all__`, or those that it defines itself."""
    if module == "mlrcbench":  # its `__all__` is computed
        return mlrcbench.__all__
    scope = package[module]
    if scope.exports is not None:
        return sorted(map(str, scope.exports))
    return sorted(
        name
        for name, member in scope.members.items()
        if not (name.startswith("_") or member.is_alias or member.is_module)
    )


def _get(package: griffe.Module, module: str, name: str) -> griffe.Object:
    return _resolve(package[name] if module == "mlrcbench" else package[f"{module}.{name}"])


def _resolve(item: griffe.Object | griffe.Alias) -> griffe.Object:
    return item.final_target if isinstance(item, griffe.Alias) else item


def _describe(name: str, item: griffe.Object) -> Iterator[tuple[str, str]]:
    """A name's line, and for a class those of its members."""
    if isinstance(item, griffe.Function):
        yield name, "" if item.name in _SYNTAX else _signature(item)
    elif isinstance(item, griffe.Class):
        yield name, f"({', '.join(map(str, item.bases))})"
        for key, member in sorted(item.all_members.items()):
            if not key.startswith("_") or key in _SPECIAL or key in _SYNTAX:
                with contextlib.suppress(griffe.AliasResolutionError):
                    yield from _describe(f"{name}.{key}", _resolve(member))
    else:
        yield name, _attribute(item) if isinstance(item, griffe.Attribute) else ""


def _signature(function: griffe.Function) -> str:
    """Parameters and result, without the helpers that declare the fields of a dataclass."""
    function = copy.copy(function)
    function.parameters = griffe.Parameters(*map(_plain_default, function.parameters))
    return (function.signature() or "").removeprefix(function.name)


def _plain_default(parameter: griffe.Parameter) -> griffe.Parameter:
    """A parameter whose default is what a call of a private function takes as `default`."""
    default = parameter.default
    if isinstance(default, griffe.ExprCall) and str(default.function).startswith("_"):
        keywords = {
            part.name: part.value for part in default.arguments if isinstance(part, griffe.ExprKeyword)
        }
        parameter = copy.copy(parameter)
        parameter.default = keywords.get("default")
    return parameter


def _attribute(item: griffe.Attribute) -> str:
    """The type of an attribute, if one is given; of a type alias, what it stands for."""
    annotation = str(item.annotation or "")
    if annotation == "TypeAlias":
        return f" = {item.value}"
    return f": {annotation}" if annotation else ""


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def _last_tag() -> str | None:
    try:
        return _git("describe", "--tags", "--abbrev=0").strip()
    except subprocess.CalledProcessError:
        return None


def main(arguments: list[str]) -> int:
    """Compare, accept, or list what breaks; status 1 if there is a difference."""
    parser = argparse.ArgumentParser(prog="python -m tools.api", description="The public API as a snapshot.")
    parser.add_argument("--write", action="store_true", help="accept the source")
    parser.add_argument("--since-last-tag", action="store_true", help="list what breaks old code")
    options = parser.parse_args(arguments)
    if options.write:
        SNAPSHOT.write_text(json.dumps(read_source(), indent=1, sort_keys=True) + "\n", "utf-8")
        return 0
    if options.since_last_tag:
        tag = _last_tag()
        lines = breakages(tag) if tag else []
        print("\n".join(lines) or (f"nothing breaks since {tag}" if tag else "there are no tags so far"))
    else:
        lines = differences(read_snapshot(), read_source())
        print("\n".join(lines) or "the API is as it was accepted")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
