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

from mlrcbench.sandbox.folders import home
from mlrcbench.storage.layout import STATEMENT
from mlrcbench.testing.attacks.attack import Attack, Outcome
from mlrcbench.testing.attacks.scene import Scene, private_files

_EVALUATED = "-evaluated"
_SHARED = Path("/dev/shm")
_GAINS = {
    "tamper-write": "writes into public data, answers, the secret, the scorer, packages or a program",
    "tamper-append": "opens these files for appending",
    "tamper-truncate": "cuts these files by their paths",
    "tamper-rename": "moves these files away",
    "tamper-replace": "replaces these files by its own",
    "tamper-mode": "changes the permissions of these files",
    "tamper-times": "changes the times of these files, in which data can be carried",
    "tamper-attribute": "sets attributes of these files, in which data can be carried",
    "destroy": "deletes private files",
    "leave-files": "leaves files in caches, packages, home folders or temporary folders for others to load",
    "leave-shared-memory": "leaves files in /dev/shm",
}
ATTACKS = tuple(
    Attack(name + suffix, group, gain)
    for suffix, group in (("", "tampering"), (_EVALUATED, "tampering while evaluated"))
    for name, gain in _GAINS.items()
)


def run(scene: Scene, attacks: Sequence[Attack]) -> Iterator[Outcome]:
    """Run the routes one by one, and compare files before and after."""
    for attack in attacks:
        yield _one(scene, attack)


def _one(scene: Scene, attack: Attack) -> Outcome:
    started = time.monotonic()
    name = attack.name.removesuffix(_EVALUATED)
    targets = _targets(scene)
    folders = [str(path) for path in _folders(scene) if path != _SHARED]
    facts = scene.write_facts(targets=[str(path) for path in targets], folders=folders)
    before = [_state(path) for path in targets]
    carry_out = scene.evaluate if attack.name != name else scene.run
    report = carry_out("tampering", [name])[name]
    changed = [path.name for path, state in zip(targets, before, strict=True) if _state(path) != state]
    changed += [f"a new file in {folder}" for folder in _marked_folders(scene, facts["marker"])]
    if name == "destroy" and (not scene.victim.path.is_file() or not scene.victim.path.stat().st_size):
        changed.append("the private file")
        renamed = scene.victim.folder.with_name(scene.victim.folder.name + ".gone")
        if renamed.exists():
            renamed.rename(scene.victim.folder)
    evidence = f"changed: {', '.join(sorted(set(changed)))}"[:400] if changed else report.message
    return Outcome(attack, bool(changed), evidence, time.monotonic() - started)


def _targets(scene: Scene) -> list[Path]:
    """Files that must stay as they are."""
    root, record = scene.instance.root, scene.env.record
    assert record is not None
    packages = Path(os.path.realpath(sys.prefix)) / "pyvenv.cfg"
    paths = [
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
    return [path for path in paths if path.is_file()]


def _state(path: Path) -> tuple[int, ...]:
    """The file's and its folder's metadata that change when either is changed."""
    if not path.exists():
        return ()
    info, folder = path.stat(), path.parent.stat()
    own = (info.st_mtime_ns, info.st_ctime_ns, info.st_ino, info.st_mode, info.st_size)
    # The library itself writes into the record's folder meanwhile.
    return own if path.name == STATEMENT else (*own, folder.st_mtime_ns)


def _folders(scene: Scene) -> list[Path]:
    """Folders from which others might load a file."""
    user_home = Path.home()
    record = scene.env.record
    assert record is not None
    folders = [
        scene.outside,
        scene.instance.public,
        scene.instance.root,
        scene.instance.root.parent,
        home(),
        record,
        record / "outputs",
        user_home,
        user_home / ".local/lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages",
        user_home / ".cache",
        user_home / ".config",
        Path(os.path.realpath(sys.prefix)) / "bin",
        scene.competition.folder,
        scene.workspace.parent,
        *(Path(path) for path in site.getsitepackages()),
        *(Path(path) for path in ("/", "/etc", "/usr/local/bin", "/usr/local/lib", "/opt", "/etc/cron.d")),
        *(Path(path) for path in (tempfile.gettempdir(), "/var/tmp", "/run", "/mnt", "/srv")),
        _SHARED,
    ]
    return [folder for folder in dict.fromkeys(folders) if folder.is_dir()]


def _marked_folders(scene: Scene, marker: str) -> list[str]:
    """Folders in which the attack left its file; the files are removed."""
    folders = []
    for folder in _folders(scene):
        path = folder / f"{marker}.pth"
        if path.exists():
            folders.append(str(folder))
            with contextlib.suppress(OSError):
                path.unlink()
    return folders
