"""Harbor: instances of a competition as task folders, for users who run agents in containers.

    mlrcbench export harbor backdoor-trigger --instance 3 tasks/backdoor-3
    mlrcbench export harbor backdoor-trigger --instances 20 datasets/backdoor

The agent's image holds the workspace. The verifier has an image of its own, with the answers, the scorer,
and a copy of what the scorer imports; Harbor copies the workspace there when the agent has ended. So a folder
is complete and needs no mlrcbench where it runs, and anyone who has the folder has the answers. There is
no evaluation on dev: a Harbor task is scored once, at its end, on test.

The boundary is Harbor's container and not ours: see `harbor_verify.py` for what it guarantees.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import mlrcbench

_MODULES = (
    "aggregates.py",
    "artefacts/__init__.py",
    "artefacts/collected.py",
    "errors.py",
    "score.py",
    "text.py",
)  # the only modules of the library that a scorer may import
_SCHEMA = "1.4"
_AGENT_IMAGE = """\
RUN useradd --create-home agent
COPY --chown=agent workspace /workspace
WORKDIR /workspace
"""
_VERIFIER_IMAGE = """\
COPY . /tests
# Agent code runs as another user, who cannot read the answers.
RUN chmod 700 /tests && mkdir /workspace
WORKDIR /workspace
"""
_PACKAGES = ("numpy", "safetensors")
_TORCH = re.compile(r"^\s*(?:import|from) torch\b", re.MULTILINE)
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
    competition: str,
    directory: Path,
    *,
    instance: int = 0,
    tier: str = "mini",
    secret: str | None = None,
    torch_index: str | None = None,
) -> Path:
    """Write a task folder in Harbor's layout (schema 1.4).

    Args:
        competition: The competition's id.
        directory: The folder to write; it must not exist, or be empty.
        instance: The instance's seed.
        tier: "mini" or "full".
        secret: The instance's secret; see `Competition.instance`.
        torch_index: Address of the package index from which images take PyTorch, if they need it: that of
            its CPU builds, as PyTorch's installation page names it. By default pip's own index, whose build
            for Linux is several gigabytes larger.

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
    if source.oracle is not None:
        raise mlrcbench.DataError(
            f"the evaluations of {competition} are played, which a Harbor task cannot do; "
            "run it with mlrcbench"
        )
    built = source.instance(instance, tier, secret=secret)
    if directory.exists() and any(directory.iterdir()):
        raise mlrcbench.DataError(f"{directory} is not empty; name a folder that does not exist yet")
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "task.toml").write_text(_config(source.card, tier, instance), "utf-8")
    (directory / "instruction.md").write_text(_instruction(source, tier), "utf-8")
    packages = _install(source, torch_index)
    _write_environment(directory / "environment", source, built)
    (directory / "environment" / "Dockerfile").write_text(packages + _AGENT_IMAGE, "utf-8")
    _write_solution(directory / "solution", source)
    _write_tests(directory / "tests", source, built)
    (directory / "tests" / "Dockerfile").write_text(packages + _VERIFIER_IMAGE, "utf-8")
    return directory


def export_harbor_dataset(
    competition: str, directory: Path, *, instances: int, instance: int = 0, **options: Any
) -> Path:
    """Write a folder of tasks, one for each instance, and the manifest of their dataset.

    Args:
        competition: The competition's id.
        directory: The folder to write; it must not exist, or be empty.
        instances: How many instances.
        instance: Seed of the first one.
        options: See `export_harbor`.

    Returns:
        The directory.

    Raises:
        RegistryError, DataError: See `export_harbor`.
    """
    card, tier = mlrcbench.get_competition(competition).card, options.get("tier", "mini")
    if directory.exists() and any(directory.iterdir()):
        raise mlrcbench.DataError(f"{directory} is not empty; name a folder that does not exist yet")
    name = f"mlrcbench/{card.id.strip('_')}-{tier}"
    lines = [
        'schema_version = "1.0"',
        "",
        "[dataset]",
        f"name = {json.dumps(name)}",
        f'version = "{card.version}"',
        f"description = {json.dumps(card.summary)}",
        'keywords = ["machine-learning-research"]',
    ]
    for seed in range(instance, instance + instances):
        task = export_harbor(
            competition, directory / f"{card.id.strip('_')}-{tier}-{seed}", instance=seed, **options
        )
        lines += ["", "[[tasks]]", f'name = "{name}-{seed}"', f'digest = "sha256:{_digest(task)}"']
    (directory / "dataset.toml").write_text("\n".join(lines) + "\n", "utf-8")
    return directory


def _digest(task: Path) -> str:
    """The digest of a task's files, as Harbor computes it."""
    digest = hashlib.sha256()
    for name, path in sorted((path.relative_to(task).as_posix(), path) for path in task.rglob("*")):
        if path.is_file():
            digest.update(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def _install(competition: mlrcbench.Competition, torch_index: str | None) -> str:
    """The first lines of both images: this Python, and the packages in the versions that are used here."""
    sources = [*competition.starter.rglob("*.py"), competition.folder / "scorer.py"]
    texts = [path.read_text("utf-8") for path in sources] + list(competition.overlay("reference").values())
    pins = [f"{name}=={importlib.metadata.version(name)}" for name in _PACKAGES]
    lines = [
        f"FROM python:{sys.version_info.major}.{sys.version_info.minor}-slim-bookworm",
        f"RUN pip install --no-cache-dir {' '.join(pins)}",
    ]
    if any(_TORCH.search(text) for text in texts):
        version = importlib.metadata.version("torch")
        if torch_index is None:
            lines.append(f"RUN pip install --no-cache-dir torch=={version.partition('+')[0]}")
        else:
            index = shlex.quote(torch_index)
            lines.append(f"RUN pip install --no-cache-dir --index-url {index} torch=={version}")
    return "\n".join(lines) + "\n"


def _config(card: mlrcbench.Card, tier: str, instance: int) -> str:
    limits, budget = card.tier(tier).limits, card.tier(tier).budget
    verifying = limits.evaluation_seconds + limits.scoring_seconds + 120
    name = f"mlrcbench/{card.id.strip('_')}-{tier}-{instance}"
    resources = f"""\
cpus = {max(1, limits.threads)}
memory_mb = {max(2048, 2 * limits.memory_mb)}
build_timeout_sec = 1800.0"""
    return f"""\
schema_version = "{_SCHEMA}"
artifacts = ["/workspace"]

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
environment_mode = "separate"

[verifier.environment]
{resources}

[environment]
workdir = "/workspace"
{resources}
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
        target = folder / "mlrcbench" / name
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(library / name, target)
    shutil.copyfile(competition.folder / "scorer.py", folder / "scorer.py")
    shutil.copyfile(Path(__file__).with_name("harbor_verify.py"), folder / "verify.py")
    anchors, limits = tier.anchors["test"], competition.workspace_limits(instance.tier)
    settings = {
        "entry_point": card.entry_point,
        "editable": list(card.editable),
        "artefacts": [[spec.pattern, spec.max_bytes, spec.max_files] for spec in card.artefacts],
        "seconds": tier.limits.evaluation_seconds,
        "carried": list(tier.carried.patterns) if tier.carried else ["*"],
        "workspace_bytes": tier.carried.max_bytes if tier.carried else limits.total_bytes,
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
