"""Workspaces that nobody would leave: one from each number, made by code that runs as the agent's does."""

from __future__ import annotations

import base64
import json
import zlib
from random import Random
from typing import Any

PROTECTED = ("main.py", "statement.md")
VIEWS = ("data", "inputs", "outputs", "artefacts")
_MODES = (0, 0o111, 0o222, 0o444, 0o555, 0o666, 0o700, 0o7777)
_NAMES = (
    "a",
    "b.py",
    "x" * 255,
    "\udcff\udcfe",
    "a\nb",
    "\x1b[2J",
    "é" * 100,
    " ",
    "-rf",
    "*",
    "~",
    "__pycache__",
)
_KINDS = ("file", "folder", "link", "loop", "long link", "out", "fifo", "socket", "device", "hard link")
_CODE = (
    "import a" + ".a" * 30_000,
    "(" * 5_000,
    "\0",
    "a = '" + "x" * 300_000 + "'",
    "def f(:\n",
    "-" * 9_000 + "1",
)

# Runs in the sandbox; a step that fails there is left out.
_SCRIPT = """
import base64, json, os, shutil, socket, zlib
def make(kind, path):
    if kind == "file":
        open(path, "w").write("x" * 100)
    elif kind == "folder":
        os.makedirs(path + "/in/ner")
        open(path + "/in/file", "w").write("x")
    elif kind == "link":
        os.symlink("method.py", path)
    elif kind == "loop":
        os.symlink(os.path.basename(path), path)
    elif kind == "long link":
        os.symlink("n" * 4000, path)
    elif kind == "out":
        os.symlink("/etc", path)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        socket.socket(socket.AF_UNIX).bind(path)
    elif kind == "device":
        os.mknod(path, 0o20666, os.makedev(1, 3))
    else:
        os.link("method.py", path)
def remove(path):
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)
def chain(name, depth):
    top = os.open(".", os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name)
        os.chdir(name)
    os.fchdir(top)
def do(step, first, *rest):
    if step == "chain":
        chain(first, *rest)
    elif step == "make":
        make(rest[0], first)
    elif step == "replace":
        try:
            remove(first)
        except OSError:
            os.rename(first, first + ".away")
        make(rest[0], first)
    elif step == "remove":
        remove(first)
    elif step == "chmod":
        os.chmod(first, rest[0])
    elif step == "touch":
        os.utime(first, (1, 1))
    elif step == "sparse":
        os.truncate(os.open(first, os.O_CREAT | os.O_WRONLY), rest[0])
    elif step == "many":
        os.mkdir(first)
        for number in range(rest[0]):
            open(f"{first}/{number}", "w").close()
    else:
        open(first, "w", errors="surrogateescape").write(rest[0])
home = os.open(".", os.O_RDONLY)
for step in json.loads(zlib.decompress(base64.b64decode("PLAN"))):
    try:
        os.fchdir(home)
        do(*step)
    except (OSError, ValueError):
        pass
"""


def plan(rng: Random) -> list[list[Any]]:
    """What is done to a workspace, step by step."""
    places = ("method.py", *PROTECTED, *VIEWS, "new")
    steps: list[list[Any]] = []
    for _ in range(rng.randrange(1, 6)):
        name = rng.choice(_NAMES)
        steps.append(
            rng.choice(
                (
                    ["chain", rng.choice(("d", "n" * 60, "n" * 250)), rng.choice((5, 20, 63, 64, 70, 1500))],
                    ["make", name, rng.choice(_KINDS)],
                    ["make", f"folder-{name[:200]}/in", rng.choice(_KINDS)],
                    ["replace", rng.choice(places), rng.choice(_KINDS)],
                    ["replace", rng.choice(places), rng.choice(_KINDS)],
                    ["remove", rng.choice(places)],
                    ["chmod", rng.choice((".", "..", "data/x.npy", "data/..", *places)), rng.choice(_MODES)],
                    ["chmod", ".", rng.choice(_MODES)],
                    ["touch", rng.choice((".", "data/.", "data/..", "method.py"))],
                    ["sparse", name, rng.choice((1 << 22, 1 << 33, 1 << 45))],
                    ["write", rng.choice(("method.py", "more.py", name)), rng.choice(_CODE)],
                    ["many", "many", rng.choice((100, 100, 100, 100, 21_000))],
                )
            )
        )
    return steps


def command(steps: list[list[Any]]) -> str:
    """The shell command that carries out a plan."""
    packed = base64.b64encode(zlib.compress(json.dumps(steps).encode("ascii"))).decode("ascii")
    script = base64.b64encode(zlib.compress(_SCRIPT.replace("PLAN", packed).encode("ascii"))).decode("ascii")
    return f"python -c \"import base64, zlib; exec(zlib.decompress(base64.b64decode('{script}')))\""


# A job that keeps moving things around while the library looks at them.
SWAPPER = (
    "while true; do mv data away 2>/dev/null; mkdir data; chmod 000 .; rmdir data; ln -s /etc/passwd data; "
    "rm data; chmod 755 .; rm -rf method.py.x; mv method.py method.py.x; ln -s /etc method.py; rm method.py; "
    "mv method.py.x method.py; done"
)
