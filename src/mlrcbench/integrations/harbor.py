"""Harbor: a competition's instance as a task folder, for users who run agents in containers.

    mlrcbench export harbor backdoor-trigger --instance 3 tasks/backdoor-3

The agent's container holds the workspace; the verifier's files, which Harbor copies in when the
agent has ended, hold the answers, the scorer, and a copy of what the scorer imports. So the folder
is complete and needs no mlrcbench where it runs, and anyone who has the folder has the answers. There is
no evaluation on dev: a Harbor task is scored once, at its end, on test.

The boundary is Harbor's container and not ours: see `harbor_verify.py` for what it guarantees.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import mlrcbench

_MODULES = (
    "artefacts.py",
    "errors.py",
    "score.py",
)  # the only modules of the library that a scorer may import
_SCHEMA = "1.4"
_DOCKERFILE = """\
FROM python:3.11-slim
ARG PACKAGES="numpy torch safetensors"
RUN pip install --no-cache-dir $PACKAGES
# The verifier's files arrive here when the agent has ended; processes that it left running cannot read them.
RUN useradd --create-home agent && mkdir --mode 700 /tests
COPY --chown=agent workspace /workspace
WORKDIR /workspace
"""
_TEST = """\
#!/bin/bash
chmod 700 "$(dirname "$0")"
exec python3 -I "$(dirname "$0")/verify.py" /workspace /logs/verifier
"""
_SOLVE = """\
#!/bin/bash
cp --recursive "$(dirname "$0")/reference/." /workspace/
"""


def export_harbor(
    competition: str, directory: Path, *, instance: int = 0, tier: str = "mini", secret: str | None = None
) -> Path:
    """Write a task folder in Harbor's layout (schema 1.4).

    Args:
        competition: The competition's id.
        directory: The folder to write; it must not exist, or be empty.
        instance: The instance's seed.
        tier: "mini" or "full".
        secret: The instance's secret; see `Competition.instance`.

    Returns:
        The directory.

    Raises:
        RegistryError: The competition or tier does not exist.
        DataError: The instance cannot be built, the directory is in use, or the data is real.
    """
    source = mlrcbench.get_competition(competition)
    if source.card.tier(tier).sources:
        raise mlrcbench.DataError(
            f"the {tier} tier of {competition} has real data, which is not ours to publish; "
            "export a generated tier"
        )
    built = source.instance(instance, tier, secret=secret)
    if directory.exists() and any(directory.iterdir()):
        raise mlrcbench.DataError(f"{directory} is not empty; name a folder that does not exist yet")
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "task.toml").write_text(_config(source.card, tier, instance), "utf-8")
    (directory / "instruction.md").write_text(_instruction(source, tier), "utf-8")
    _write_environment(directory / "environment", source, built)
    _write_solution(directory / "solution", source)
    _write_tests(directory / "tests", source, built)
    return directory


def _config(card: mlrcbench.Card, tier: str, instance: int) -> str:
    limits, budget = card.tier(tier).limits, card.tier(tier).budget
    verifying = limits.evaluation_seconds + limits.scoring_seconds + 120
    name = f"mlrcbench/{card.id.strip('_')}-{tier}-{instance}"
    return f"""\
schema_version = "{_SCHEMA}"

[task]
name = {json.dumps(name)}
version = "{card.version}"
description = {json.dumps(card.summary)}
keywords = ["machine-learning-research"]

[metadata]
competition = {json.dumps(card.id)}
tier = {json.dumps(tier)}
instance = {instance}
metric = {json.dumps(f"{card.metric.name}, {card.metric.direction}")}

[agent]
user = "agent"
timeout_sec = {float(budget.seconds)}

[verifier]
user = "root"
timeout_sec = {float(verifying)}

[environment]
workdir = "/workspace"
cpus = {max(1, limits.threads)}
memory_mb = {max(2048, 2 * limits.memory_mb)}
build_timeout_sec = 1800.0
"""


def _instruction(competition: mlrcbench.Competition, tier: str) -> str:
    card = competition.card
    limits = card.tier(tier).limits
    return f"""{competition.statement_of(tier).rstrip()}

## How it is judged

You work in `/workspace`. You may change {", ".join(f"`{glob}`" for glob in card.editable)} and add new files;
anything else is restored. When you have ended, `{card.entry_point}` runs once on unseen inputs, in a
fresh copy of the workspace, for at most {limits.evaluation_seconds:g} seconds. The reward is how much of the
way from the baseline to the {card.tier(tier).anchors["test"].target_kind} its result goes: 0 is the
baseline, and also what a failing entry point gets; 1 is the target. You cannot ask for a score earlier.
"""


def _write_environment(
    folder: Path, competition: mlrcbench.Competition, instance: mlrcbench.Instance
) -> None:
    workspace = folder / "workspace"
    _copy(competition.starter, workspace)
    _copy(instance.public, workspace / "data")
    (workspace / "statement.md").write_text(competition.statement_of(instance.tier), "utf-8")
    (folder / "Dockerfile").write_text(_DOCKERFILE, "utf-8")


def _write_solution(folder: Path, competition: mlrcbench.Competition) -> None:
    for path, text in competition.overlay("reference").items():
        target = folder / "reference" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, "utf-8")
    _write_script(folder / "solve.sh", _SOLVE)


def _write_tests(folder: Path, competition: mlrcbench.Competition, instance: mlrcbench.Instance) -> None:
    library, card = Path(mlrcbench.__file__).parent, competition.card
    tier = card.tier(instance.tier)
    _copy(competition.starter, folder / "starter")
    _copy(instance.public, folder / "data")
    _copy(instance.inputs("test"), folder / "inputs")
    _copy(instance.answers("test"), folder / "answers")
    (folder / "mlrcbench").mkdir()
    (folder / "mlrcbench" / "__init__.py").touch()
    for name in _MODULES:
        shutil.copyfile(library / name, folder / "mlrcbench" / name)
    shutil.copyfile(competition.folder / "scorer.py", folder / "scorer.py")
    shutil.copyfile(Path(__file__).with_name("harbor_verify.py"), folder / "verify.py")
    anchors, limits = tier.anchors["test"], competition.workspace_limits(instance.tier)
    settings = {
        "entry_point": card.entry_point,
        "editable": list(card.editable),
        "artefacts": [[spec.pattern, spec.max_bytes, spec.max_files] for spec in card.artefacts],
        "seconds": tier.limits.evaluation_seconds,
        "workspace_bytes": limits.total_bytes,
        "workspace_entries": limits.entries,
        "threads": tier.limits.threads,
        "baseline": anchors.baseline.value,
        "target": anchors.target.value,
    }
    (folder / "verify.json").write_text(json.dumps(settings, indent=1), "utf-8")
    _write_script(folder / "test.sh", _TEST)


def _copy(source: Path, target: Path) -> None:
    """Copy a tree; its owner may change the copies."""
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.rglob("*")):
        if "__pycache__" in path.parts:
            continue
        copy = target / path.relative_to(source)
        if path.is_dir():
            copy.mkdir(exist_ok=True)
        else:
            shutil.copyfile(path, copy)
            copy.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)


def _write_script(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    path.chmod(0o755)
