"""Attacks by the actions on files, which the library carries out itself, outside of any sandbox."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mlrcbench.protocol.actions import Action, EditFile, ReadFile, WriteFile
from mlrcbench.testing.attacks.attack import Attack, Outcome
from mlrcbench.testing.attacks.scene import Scene

_SECONDS = 10.0
Facts = dict[str, Any]
Prepare = Callable[[Facts], tuple[str, Sequence[Action]]]


def _link(target: str, *actions: Action) -> tuple[str, Sequence[Action]]:
    return f"ln -sfn {shlex.quote(target)} lead", actions


def _folder(facts: Facts) -> str:
    return str(facts["token_file"]).rpartition("/")[0]


_WAYS: dict[str, tuple[str, Prepare]] = {
    "read-link": (
        "reads a private file through a link",
        lambda facts: _link(facts["token_file"], ReadFile("lead")),
    ),
    "read-folder-link": (
        "reads a private file through a link to its folder",
        lambda facts: _link(_folder(facts), ReadFile("lead/token")),
    ),
    "read-root-link": (
        "reads a private file through a link to the root folder",
        lambda facts: _link("/", ReadFile(f"lead{facts['token_file']}")),
    ),
    "read-proc-link": (
        "reads a private file through a link into /proc",
        lambda facts: _link(f"/proc/{facts['victim']['pid']}/cwd", ReadFile("lead/token")),
    ),
    "read-beyond": (
        "reads a private file by a path that goes up, or is absolute",
        lambda facts: (
            "true",
            [ReadFile("/" * n + facts["token_file"].lstrip("/")) for n in (1, 2)]
            + [
                ReadFile(f"{base}{'/..' * 20}{facts['token_file']}")
                for base in (".", "data", "data/.", "outputs")
            ],
        ),
    ),
    "read-own-view": (
        "reads a private file through a link that replaces data/",
        lambda facts: (
            f"rm -rf data outputs; ln -s {_folder(facts)} data; ln -s {_folder(facts)} outputs",
            [ReadFile("data/token"), ReadFile("outputs/token")],
        ),
    ),
    "read-pipe": ("hangs the library on a pipe", lambda _: ("mkfifo lead", [ReadFile("lead")])),
    "read-device": (
        "drowns the library in an endless file",
        lambda _: _link("/dev/zero", ReadFile("lead")),
    ),
    "read-sparse": (
        "has the library read a huge file",
        lambda _: ("truncate -s 900M lead", [ReadFile("lead"), ReadFile("lead", 10_000_000)]),
    ),
    "write-link": (
        "writes outside through a link",
        lambda facts: _link(
            f"{facts['outside']}/{facts['marker']}", WriteFile("lead", "x"), EditFile("lead", "x", "y")
        ),
    ),
    "write-folder-link": (
        "writes outside through a link to a folder",
        lambda facts: _link(
            facts["outside"],
            WriteFile(f"lead/{facts['marker']}", "x"),
            WriteFile(f"lead/a/{facts['marker']}", ""),
        ),
    ),
    "write-beyond": (
        "writes outside by a path that goes up, or is absolute",
        lambda facts: (
            "true",
            [
                WriteFile(f"{base}{facts['outside']}/{facts['marker']}", "x")
                for base in ("", "/", "." + "/.." * 20)
            ],
        ),
    ),
    "edit-link": (
        "changes a private file through a link",
        lambda facts: _link(facts["token_file"], EditFile("lead", "token-", "taken-")),
    ),
    "edit-hardlink": (
        "changes a private file through a hard link",
        lambda facts: (
            f"ln {facts['token_file']} lead",
            [EditFile("lead", "token-", "taken-"), ReadFile("lead")],
        ),
    ),
}
ATTACKS = tuple(Attack(name, "file actions", gain) for name, (gain, _) in _WAYS.items())


def run(scene: Scene, attacks: Sequence[Attack]) -> Iterator[Outcome]:
    """Prepare each attack by a command, then act, and check what was read and written."""
    for attack in attacks:
        started = time.monotonic()
        facts = scene.write_facts()
        command, actions = _WAYS[attack.name][1](facts)
        scene.command(f"rm -rf lead; {command}")
        texts = [scene.act(action) for action in actions]
        took = time.monotonic() - started
        leaked = any(scene.victim.token in text for text in texts)
        written = any(facts["marker"] in path.name for path in scene.outside.rglob("*"))
        for path in [path for path in scene.outside.rglob("*") if path.is_file()]:
            path.unlink()
        changed = scene.victim.path.read_text() != scene.victim.token
        scene.victim.restore()
        scene.command("rm -rf lead")
        trouble = (
            "the token was shown" if leaked
            else "a file was written outside" if written
            else "the private file was changed" if changed
            else f"the action took {took:.0f} s" if took > _SECONDS
            else ""
        )  # fmt: skip
        yield Outcome(attack, bool(trouble), trouble or texts[-1].splitlines()[0][:160], took)
    scene.reset()
