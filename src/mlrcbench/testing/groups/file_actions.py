"""Attacks by the actions on files, which the library carries out itself, outside of any sandbox."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mlrcbench.actions import Action, EditFile, ReadFile, WriteFile
from mlrcbench.testing.attack import Attack, Outcome
from mlrcbench.testing.scene import Scene

_SECONDS = 10.0
Told = dict[str, Any]
Make = Callable[[Told], tuple[str, Sequence[Action]]]


def _link(_: Told, target: str, *then: Action) -> tuple[str, Sequence[Action]]:
    return f"ln -sfn {shlex.quote(target)} lead", then


def _folder(told: Told) -> str:
    return str(told["token_file"]).rpartition("/")[0]


_WAYS: dict[str, tuple[str, Make]] = {
    "read-link": (
        "reads a private file through a link",
        lambda t: _link(t, t["token_file"], ReadFile("lead")),
    ),
    "read-folder-link": (
        "reads a private file through a link to its folder",
        lambda t: _link(t, _folder(t), ReadFile("lead/token")),
    ),
    "read-root-link": (
        "reads a private file through a link to the root folder",
        lambda t: _link(t, "/", ReadFile(f"lead{t['token_file']}")),
    ),
    "read-proc-link": (
        "reads a private file through a link into /proc",
        lambda t: _link(t, f"/proc/{t['victim']['pid']}/cwd", ReadFile("lead/token")),
    ),
    "read-beyond": (
        "reads a private file by a path that goes up, or is absolute",
        lambda t: (
            "true",
            [ReadFile("/" * n + t["token_file"].lstrip("/")) for n in (1, 2)]
            + [
                ReadFile(f"{base}{'/..' * 20}{t['token_file']}")
                for base in (".", "data", "data/.", "outputs")
            ],
        ),
    ),
    "read-own-view": (
        "reads a private file through a link in the place of data/",
        lambda t: (
            f"rm -rf data outputs; ln -s {_folder(t)} data; ln -s {_folder(t)} outputs",
            [ReadFile("data/token"), ReadFile("outputs/token")],
        ),
    ),
    "read-pipe": ("hangs the library on a pipe", lambda _: ("mkfifo lead", [ReadFile("lead")])),
    "read-device": (
        "drowns the library in a file without an end",
        lambda t: _link(t, "/dev/zero", ReadFile("lead")),
    ),
    "read-sparse": (
        "has the library read a huge file",
        lambda _: ("truncate -s 900M lead", [ReadFile("lead"), ReadFile("lead", 10_000_000)]),
    ),
    "write-link": (
        "writes outside through a link",
        lambda t: _link(
            t, f"{t['outside']}/{t['marker']}", WriteFile("lead", "x"), EditFile("lead", "x", "y")
        ),
    ),
    "write-folder-link": (
        "writes outside through a link to a folder",
        lambda t: _link(
            t, t["outside"], WriteFile(f"lead/{t['marker']}", "x"), WriteFile(f"lead/a/{t['marker']}", "")
        ),
    ),
    "write-beyond": (
        "writes outside by a path that goes up, or is absolute",
        lambda t: (
            "true",
            [WriteFile(f"{base}{t['outside']}/{t['marker']}", "x") for base in ("", "/", "." + "/.." * 20)],
        ),
    ),
    "edit-link": (
        "changes a private file through a link",
        lambda t: _link(t, t["token_file"], EditFile("lead", "token-", "taken-")),
    ),
    "edit-hardlink": (
        "changes a private file through a hard link",
        lambda t: (f"ln {t['token_file']} lead", [EditFile("lead", "token-", "taken-"), ReadFile("lead")]),
    ),
}
ATTACKS = tuple(Attack(name, "file actions", gain) for name, (gain, _) in _WAYS.items())


def run(scene: Scene, chosen: Sequence[Attack]) -> Iterator[Outcome]:
    """Prepare each by a command, then act, and look at what was read and written."""
    for attack in chosen:
        started = time.monotonic()
        told = scene.tell()
        command, actions = _WAYS[attack.name][1](told)
        scene.command(f"rm -rf lead; {command}")
        texts = [scene.act(action) for action in actions]
        took = time.monotonic() - started
        shown = any(scene.victim.token in text for text in texts)
        written = any(told["marker"] in path.name for path in scene.outside.rglob("*"))
        for path in [path for path in scene.outside.rglob("*") if path.is_file()]:
            path.unlink()
        changed = scene.victim.path.read_text() != scene.victim.token
        scene.victim.restore()
        scene.command("rm -rf lead")
        trouble = (
            "the token was shown" if shown
            else "a file was written outside" if written
            else "the private file was changed" if changed
            else f"the action took {took:.0f} s" if took > _SECONDS
            else ""
        )  # fmt: skip
        yield Outcome(attack, bool(trouble), trouble or texts[-1].splitlines()[0][:160], took)
    scene.reset()
