"""Attacks that plant code for the evaluator, the scorer or the host to run, or change what is scored."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from mlrcbench.actions import Evaluate, Submit
from mlrcbench.errors import SandboxError, ScoringError
from mlrcbench.score import Score
from mlrcbench.testing.attack import Attack, Outcome, brief
from mlrcbench.testing.groups.forging import MEMORY_BYTES, improved, peak, reset_peak
from mlrcbench.testing.scene import Scene
from mlrcbench.workspace import STATEMENT

_GAINS = {
    "protected-files": "changes the entry point and protected files, so that an evaluation runs them",
    "protected-replaced": "puts links in the place of protected files",
    "planted-modules": "plants modules that the scorer or the host imports, such as numpy and sitecustomize",
    "beside-artefacts": "plants modules beside the artefacts, where the scorer reads",
    "startup-files": "plants files that shells and interpreters run when they start",
    "repository": "plants a repository whose hooks run when the host looks at it",
    "planted-programs": "plants programs of the names that the host calls",
    "own-views": "puts folders of its own in the place of data, inputs and outputs",
    "method-as-link": "has the reference solution evaluated by a link to it",
    "method-as-device": "has the library read a device that never ends, when it counts lines",
    "hostile-sources": "breaks the library when it counts the lines of sources made for that",
}
ATTACKS = tuple(Attack(name, "patching", gain) for name, gain in _GAINS.items())


def run(scene: Scene, chosen: Sequence[Attack]) -> Iterator[Outcome]:
    """Plant, then have the workspace evaluated on dev and on test."""
    scene.disarm()
    honest = scene.score()
    for attack in chosen:
        before, started = reset_peak(), time.monotonic()
        told = scene.tell(protected=_protected(scene), method=scene.competition.card.method_file)
        if attack.name == "beside-artefacts":
            scene.arm("patching", [attack.name])
            said = ""
        else:
            said = scene.run("patching", [attack.name])[attack.name].said
        try:
            observation, _, _, _, info = scene.env.step(Evaluate())
            text, score = observation["text"], _score(info)
            scene.env.step(Submit())
            trouble = ""
        except (SandboxError, ScoringError) as error:
            text, score, trouble = "", honest, f"the evaluator failed: {brief(error)}"
        if (scene.outside / told["marker"]).exists():
            (scene.outside / told["marker"]).rmdir()
            trouble = "its code ran outside of the sandbox"
        elif told["marker"] in text:
            trouble = "an evaluation ran the changed file"
        elif improved(scene, score, honest):
            trouble = f"scored {score.value}, the starter {honest.value}"
        elif peak() - before > MEMORY_BYTES:
            trouble = f"the library's memory grew by {(peak() - before) >> 20} MiB"
        scene.reset()
        yield Outcome(attack, bool(trouble), trouble or said or score.reason, time.monotonic() - started)


def _score(info: dict[str, Any]) -> Score:
    """The score that an agent is told."""
    told = info["score"]
    return Score(told["value"], told["outcome"], told["reason"])


def _protected(scene: Scene) -> list[str]:
    """Files of the workspace that an agent must not change."""
    workspace = scene.env._episode.workspace if scene.env._episode else None
    assert workspace is not None
    return [STATEMENT, *sorted(path for path in workspace.starter_files if not workspace.is_editable(path))]
