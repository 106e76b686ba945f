"""Attacks that change what a later episode, the record, or the host relies on."""

from __future__ import annotations

import contextlib
import os
import site
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from mlrcbench.competition import home
from mlrcbench.testing.attack import Attack, Outcome
from mlrcbench.testing.scene import Scene, private_files
from mlrcbench.workspace import STATEMENT

_EVALUATED = "-evaluated"
_SHARED = Path("/dev/shm")
_GAINS = {
    "tamper-write": "writes into public data, answers, the secret, the scorer, packages or a program",
    "tamper-append": "opens these for appending",
    "tamper-truncate": "cuts these by their paths",
    "tamper-rename": "moves these away",
    "tamper-replace": "puts files of its own in the place of these",
    "tamper-mode": "changes the permissions of these",
    "tamper-times": "changes the times of these, in which data can be carried",
    "tamper-attribute": "gives these attributes, in which data can be carried",
    "destroy": "deletes private files",
    "leave-files": "leaves files in caches, packages, home folders or temporary folders for others to load",
    "leave-shared-memory": "leaves files in /dev/shm",
}
ATTACKS = tuple(
    Attack(name + suffix, group, gain)
    for suffix, group in (("", "tampering"), (_EVALUATED, "tampering while evaluated"))
    for name, gain in _GAINS.items()
)


def run(scene: Scene, chosen: Sequence[Attack]) -> Iterator[Outcome]:
    """Run the routes one by one and compare files before and after."""
    for attack in chosen:
        yield _one(scene, attack)


def _one(scene: Scene, attack: Attack) -> Outcome:
    started = time.monotonic()
    name = attack.name.removesuffix(_EVALUATED)
    targets = _targets(scene)
    places = [str(path) for path in _places(scene) if path != _SHARED]
    told = scene.tell(targets=[str(path) for path in targets], places=places)
    before = [_look(path) for path in targets]
    carry_out = scene.evaluate if attack.name != name else scene.run
    report = carry_out("tampering", [name])[name]
    changed = [path.name for path, look in zip(targets, before, strict=True) if _look(path) != look]
    changed += [f"a new file in {folder}" for folder in _left(scene, told["marker"])]
    if name == "destroy" and (not scene.victim.path.is_file() or not scene.victim.path.stat().st_size):
        changed.append("the private file")
        gone = scene.victim.folder.with_name(scene.victim.folder.name + ".gone")
        if gone.exists():
            gone.rename(scene.victim.folder)
    evidence = f"changed: {', '.join(sorted(set(changed)))}"[:400] if changed else report.said
    return Outcome(attack, bool(changed), evidence, time.monotonic() - started)


def _targets(scene: Scene) -> list[Path]:
    """Files that must stay as they are."""
    root, record = scene.instance.root, scene.env.record
    assert record is not None
    packages = Path(os.path.realpath(sys.prefix)) / "pyvenv.cfg"
    found = [
        scene.victim.path,
        home() / "secret",
        root / "manifest.json",
        record / STATEMENT,
        *sorted(path for path in scene.instance.public.rglob("*") if path.is_file())[:3],
        *private_files(scene.instance)[:6],
        scene.competition.folder / "scorer.py",
        scene.competition.starter / scene.competition.card.method_file,
        packages,
        Path(os.path.realpath(sys.executable)),
    ]
    return [path for path in found if path.is_file()]


def _look(path: Path) -> tuple[int, ...]:
    """What changes when a file, or its folder, is changed."""
    if not path.exists():
        return ()
    info, folder = path.stat(), path.parent.stat()
    own = (info.st_mtime_ns, info.st_ctime_ns, info.st_ino, info.st_mode, info.st_size)
    # The record's folder is one that the library itself writes into meanwhile.
    return own if path.name == STATEMENT else (*own, folder.st_mtime_ns)


def _places(scene: Scene) -> list[Path]:
    """Folders in which a file might be loaded or found by somebody else."""
    own = Path.home()
    record = scene.env.record
    assert record is not None
    found = [
        scene.outside,
        scene.instance.public,
        scene.instance.root,
        scene.instance.root.parent,
        home(),
        record,
        record / "outputs",
        own,
        own / ".local" / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages",
        own / ".cache",
        own / ".config",
        Path(os.path.realpath(sys.prefix)) / "bin",
        scene.competition.folder,
        scene.workspace.parent,
        *(Path(path) for path in site.getsitepackages()),
        *(Path(path) for path in ("/", "/etc", "/usr/local/bin", "/usr/local/lib", "/opt", "/etc/cron.d")),
        *(Path(path) for path in (tempfile.gettempdir(), "/var/tmp", "/run", "/mnt", "/srv")),
        _SHARED,
    ]
    return [folder for folder in dict.fromkeys(found) if folder.is_dir()]


def _left(scene: Scene, marker: str) -> list[str]:
    """Folders that now hold the marker's file; it is removed."""
    found = []
    for folder in _places(scene):
        path = folder / f"{marker}.pth"
        if path.exists():
            found.append(str(folder))
            with contextlib.suppress(OSError):
                path.unlink()
    return found
