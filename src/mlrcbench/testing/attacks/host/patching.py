"""Attacks that plant code for the evaluator, the scorer or the host to run, or change what is scored."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from mlrcbench.errors import SandboxError, ScoringError
from mlrcbench.protocol.actions import Evaluate, Submit
from mlrcbench.score import Score
from mlrcbench.storage.layout import STATEMENT
from mlrcbench.testing.attacks.attack import Attack, Outcome, brief
from mlrcbench.testing.attacks.host.forging import MEMORY_BYTES, improved, peak, reset_peak
from mlrcbench.testing.attacks.scene import Scene

_GAINS = {
    "protected-files": "changes the entry point and protected files, so that an evaluation runs them",
    "protected-replaced": "replaces protected files by links",
    "planted-modules": "plants modules that the scorer or the host imports, such as numpy and sitecustomize",
    "beside-artefacts": "plants modules next to the artefacts, where the scorer reads",
    "startup-files": "plants files that shells and interpreters run when they start",
    "repository": "plants a repository whose hooks run when the host looks at it",
    "planted-programs": "plants programs with the names of those that the host calls",
    "own-views": "replaces data, inputs and outputs by its own folders",
    "method-as-link": "has the reference solution evaluated through a link",
    "method-as-device": "has the library read a device that never ends, when it counts lines",
    "hostile-sources": "breaks the library when it counts the lines of sources made for this purpose",
}
ATTACKS = tuple(Attack(name, "patching", gain) for name, gain in _GAINS.items())


def run(scene: Scene, attacks: Sequence[Attack]) -> Iterator[Outcome]:
    """Plant code, then have the workspace evaluated on dev and on test."""
    scene.disarm()
    honest = scene.score()
    for attack in attacks:
        before, started = reset_peak(), time.monotonic()
        facts = scene.write_facts(protected=_protected(scene), method=scene.competition.card.method_file)
        if attack.name == "beside-artefacts":
            scene.arm("patching", [attack.name])
            message = ""
        else:
            message = scene.run("patching", [attack.name])[attack.name].message
        try:
            observation, _, _, _, info = scene.env.step(Evaluate())
            text, score = observation["text"], _score(info)
            scene.env.step(Submit())
            trouble = ""
        except (SandboxError, ScoringError) as error:
            text, score, trouble = "", honest, f"the evaluator failed: {brief(error)}"
        if (scene.outside / facts["marker"]).exists():
            (scene.outside / facts["marker"]).rmdir()
            trouble = "its code ran outside the sandbox"
        elif facts["marker"] in text:
            trouble = "an evaluation ran the changed file"
        elif improved(scene, score, honest):
            trouble = f"scored {score.value}, the starter {honest.value}"
        elif peak() - before > MEMORY_BYTES:
            trouble = f"the library's memory grew by {(peak() - before) >> 20} MiB"
        scene.reset()
        yield Outcome(attack, bool(trouble), trouble or message or score.reason, time.monotonic() - started)


def _score(info: dict[str, Any]) -> Score:
    """The score that an agent reads."""
    score = info["score"]
    return Score(score["value"], score["outcome"], score["reason"])


def _protected(scene: Scene) -> list[str]:
    """Files of the workspace that an agent must not change."""
    workspace = scene.env.workspace
    return [STATEMENT, *sorted(path for path in workspace.starter_files if not workspace.is_editable(path))]
