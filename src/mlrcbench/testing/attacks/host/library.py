"""Attacks that read the library's own code, or build the answers again with a copy of it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from mlrcbench.protocol.actions import WriteFile
from mlrcbench.storage.trees import hash_file, walk
from mlrcbench.testing.attacks.attack import Attack, Outcome
from mlrcbench.testing.attacks.scene import Scene

_GAINS = {
    "library-by-path": "reads the reference solution, the scorer and the generator by their paths",
    "library-by-import": "imports the library and reads its files",
    "library-by-packages": "finds the library by its metadata or an editable checkout",
    "library-by-processes": "reads the library through other processes' folders",
    "library-by-search": "searches the disk for the library",
    "library-by-cache": "reads compiled copies of the generator and the scorer",
    "regenerate": "builds the instance again, answers included, with a copy of the generator",
}
ATTACKS = tuple(Attack(name, "the library itself", gain) for name, gain in _GAINS.items())


def run(scene: Scene, attacks: Sequence[Attack]) -> Iterator[Outcome]:
    """Run the routes; an attack gains if it gets the content of a file that no agent may read."""
    folder, card = scene.competition.folder, scene.competition.card
    public = {
        hash_file(scene.competition.starter / entry.path)
        for entry in walk(scene.competition.starter)
        if entry.is_file
    }
    public.add(hash_file(scene.competition.folder / "statement.md"))
    code = {
        hash_file(folder / entry.path): entry.path
        for entry in walk(folder)
        if entry.is_file and not entry.path.startswith("starter/") and entry.info.st_size
    }
    treasures = {digest: path for digest, path in code.items() if digest not in public} | scene.treasures
    scene.act(WriteFile("attack_generator.py", (folder / "data.py").read_text("utf-8")))
    scene.write_facts(
        card=[card.id, card.version, scene.instance.seed], public_folder=str(scene.instance.public)
    )
    for attack in attacks:
        started = time.monotonic()
        report = scene.run("library", [attack.name])[attack.name]
        got = sorted({treasures[find] for find in report.finds if find in treasures})
        evidence = f"got {', '.join(got)}"[:300] if got else report.message
        yield Outcome(attack, bool(got), evidence, time.monotonic() - started)
