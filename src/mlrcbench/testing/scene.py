"""The scene of an attack: an environment, what it must protect, and all that an attacker knows.

The attacker is the strongest there is: it knows every path, process number, port and name. What
it must not get are *treasures*: a random token that only a trusted process of the same user
holds, the contents of the instance's private files, the installation's secret, the host's
environment variables. A verdict rests on these, never on what an attack says of itself.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import secrets as random
import site
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mlrcbench.actions import Action, Evaluate, Run, WriteFile
from mlrcbench.card import Card, TierLimits
from mlrcbench.competition import Competition, Instance, home
from mlrcbench.env import ResearchEnv
from mlrcbench.errors import SandboxError, ScoringError
from mlrcbench.files import hash_file, remove_tree, walk
from mlrcbench.sandbox import environment
from mlrcbench.score import SPLITS, Score
from mlrcbench.testing import scripts
from mlrcbench.testing.victim import Victim, descendants, handle, place_on_disk

PLENTY = {"steps": 1_000_000, "seconds": 86_400.0, "evaluations": 1_000_000}
BATCH = 8
_ORDINARY = {"PWD", "OLDPWD", "SHLVL", "_", "LC_ALL", "LD_LIBRARY_PATH", "TZ"}
_LOADER = """import os, runpy, sys
sys.path.insert(0, os.getcwd())
sys.argv = ["attack_runner.py", {arguments}]
try:
    runpy.run_path("attack_runner.py", run_name="__main__")
finally:
    sys.stdout.flush()
    os._exit(0)
"""


@dataclass(frozen=True, slots=True)
class Report:
    """What a route inside said: what it found, and a word of its own."""

    finds: tuple[str, ...] = ()
    said: str = "no answer"


class Scene:
    """Everything around one series of attacks on one competition.

    Args:
        competition: What is attacked.
        sandbox: See `open_sandbox`.
        secret: Of the instance; see `Competition.instance`.
        limits: Parts of the tier's limits to replace.
    """

    def __init__(
        self,
        competition: Competition,
        sandbox: str,
        secret: str | None = None,
        limits: dict[str, float] | None = None,
    ) -> None:
        self.competition = limited(competition, limits or {})
        self.sandbox = sandbox
        self.secret = secret
        self.folder = Path(tempfile.mkdtemp(prefix="mlrcbench-attack-"))
        self.folder.chmod(0o711)
        self.outside = self.folder / "outside"
        self.outside.mkdir()
        self.outside.chmod(0o777)
        self.victim = Victim(home())
        self.instance: Instance = competition.instance(0, "mini", secret=secret)
        self.env: ResearchEnv = self._make()
        self.others: list[str] = []
        try:
            self.reset()
        except BaseException:
            self.close()
            raise
        self.treasures = self._treasures()

    @property
    def tier(self) -> str:
        """The isolation that is at work."""
        return str(self._episode.sandbox.isolation.tier)

    @property
    def workspace(self) -> Path:
        """Where the agent's files lie."""
        return Path(self._episode.workspace.root)

    @property
    def contained(self) -> bool:
        """Whether a fork bomb inside cannot use up the machine's process numbers."""
        return self.tier in ("strong", "uid", "container", "bubblewrap") or _limited_processes()

    def reset(self) -> None:
        """Begin afresh: a new episode, with the attackers' files in its workspace."""
        self.env.reset(seed=0)
        for path in sorted(Path(scripts.__file__).parent.glob("*.py")):
            if path.name not in ("__init__.py", "victim.py"):
                self.act(WriteFile(f"attack_{path.name}", path.read_text("utf-8")))

    def act(self, action: Action) -> str:
        """Carry out one action; the observation's text."""
        return str(self.env.step(action)[0]["text"])

    def command(self, command: str, timeout: float | None = None) -> str:
        """Run a command; the observation's text."""
        return self.act(Run(command, timeout))

    def tell(self, **more: Any) -> dict[str, Any]:
        """Write down for the routes what an attacker knows; `more` is added to it."""
        told = {**self._told(), **more}
        self.act(WriteFile("attack_told.json", json.dumps(told)))
        return told

    def run(self, module: str, names: Sequence[str], timeout: float | None = None) -> dict[str, Report]:
        """Run routes by commands, a few at a time."""
        found: dict[str, Report] = {}
        for batch in _batches(names):
            text = self.command(f"python attack_runner.py {module} {' '.join(batch)}", timeout)
            found.update(reports(text, batch))
        return found

    def evaluate(self, module: str, names: Sequence[str], split: str = "dev") -> dict[str, Report]:
        """Run routes while the workspace is evaluated on dev, a few at a time."""
        found: dict[str, Report] = {}
        for batch in _batches(names):
            self.arm(module, batch)
            text = self.act(Evaluate())
            found.update(reports(text, batch))
        self.disarm()
        return found

    def arm(self, module: str, names: Iterable[str]) -> None:
        """Put routes in the place of the method, so that an evaluation runs them."""
        arguments = ", ".join(repr(word) for word in (module, *names))
        self.act(WriteFile(self.competition.card.method_file, _LOADER.format(arguments=arguments)))

    def disarm(self) -> None:
        """Put the starter's method back."""
        name = self.competition.card.method_file
        self.act(WriteFile(name, (self.competition.starter / name).read_text("utf-8")))

    def score(self) -> Score:
        """What the workspace gets on dev, as the host program asks for it."""
        return self.env.evaluate("dev")

    def got(self, report: Report) -> str:
        """Which treasures a route found, in words; empty if none."""
        return ", ".join(sorted({self.treasures[find] for find in report.finds if find in self.treasures}))

    def usable(self) -> str:
        """Why the environment can no longer be used; empty if it can."""
        try:
            text = self.command("echo usable", 20)
            return "" if "usable" in text.splitlines() else f"a plain command now gives {text[:200]!r}"
        except (SandboxError, ScoringError) as error:
            return f"the sandbox failed: {error}"

    def close(self) -> None:
        """End everything and remove what is left."""
        self.env.close()
        self.victim.close()
        self._mend()
        remove_tree(self.folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _mend(self) -> None:
        """Remove what attacks left in the instance where nothing kept them out."""
        root = self.instance.root
        known = json.loads((root / "manifest.json").read_text())["files"]
        for path in _files(root):
            if str(path.relative_to(root)) not in {*known, "manifest.json"}:
                path.unlink()

    @property
    def _episode(self) -> Any:
        return self.env._episode

    def _make(self) -> ResearchEnv:
        return ResearchEnv(
            self.competition,
            sandbox=self.sandbox,
            secret=self.secret,
            budget=PLENTY,
            records=self.folder / "records",
        )

    def _told(self) -> dict[str, Any]:
        """All that an attacker may know, which is everything but the treasures."""
        self.victim.restore()
        record = self.env.record
        assert record is not None
        return {
            "token_file": str(self.victim.path),
            "handle": handle(self.victim.path),
            "disk": place_on_disk(self.victim.path),
            "victim": self.victim.told,
            "secret": str(home() / "secret"),
            "home": str(home()),
            "instance": str(self.instance.root),
            "answers": [str(path) for path in private_files(self.instance)],
            "public": [str(path) for path in _files(self.instance.public)],
            "records": [str(record / "record.jsonl")],
            "neighbour": self.others,
            "library_pid": os.getpid(),
            "pids": [self.victim.pid, os.getpid(), *descendants(os.getpid())],
            "library": str(Path(scripts.__file__).parents[2]),
            "competition": str(self.competition.folder),
            "workspace": str(self.workspace),
            "outside": str(self.outside),
            "packages": [path for path in [*site.getsitepackages(), *sys.path] if os.path.isdir(path)],
            "user_home": str(Path.home()),
            "artefact": self.competition.card.artefacts[0].pattern.replace("*", "0"),
            "marker": f"marker-{random.token_hex(8)}",
        }

    def _treasures(self) -> dict[str, str]:
        """What must not be got, and what to call it: tokens, claims, and hashes of contents."""
        token = self.victim.token
        found = {
            token: "the token of a trusted process",
            f"fact:mtime-{self.victim.path.stat().st_mtime_ns}": "when a hidden file was written",
            "claim:watched": "when a hidden file is opened",
            hash_file("/proc/self/environ"): "the host's environment variables",
        }
        with contextlib.suppress(FileNotFoundError):
            found[hash_file(home() / "secret")] = "the installation's secret"
        ours = environment(Path("/"), 1)
        for name, value in os.environ.items():
            if name not in ours and name not in _ORDINARY:
                line = f"{name}={value}".encode("utf-8", "surrogateescape")
                found[hashlib.sha256(line).hexdigest()] = f"the host's variable {name}"
        public = {hash_file(path) for path in _files(self.instance.public)}
        for path in private_files(self.instance):
            if (digest := hash_file(path)) not in public:
                found[digest] = str(path.relative_to(self.instance.root))
        return found


def reports(text: str, names: Sequence[str]) -> dict[str, Report]:
    """The routes' lines out of an observation; those without a line have no answer."""
    found = {name: Report(said=f"no answer; {text.strip()[-120:]!r}") for name in names}
    for line in text.splitlines():
        if line.startswith("ATTACK "):
            with contextlib.suppress(ValueError):
                entry = json.loads(line.removeprefix("ATTACK "))
                found[entry["route"]] = Report(tuple(entry["finds"]), entry["said"])
    return found


def limited(competition: Competition, limits: dict[str, float]) -> Competition:
    """The same competition, with other limits in its card."""
    card = competition.card
    tiers = dict(card.tiers)
    known = {field.name: field.type for field in dataclasses.fields(TierLimits)}
    values: dict[str, Any] = {
        name: int(value) if known[name] == "int" else value for name, value in limits.items()
    }
    tiers["mini"] = dataclasses.replace(
        card.tier("mini"), limits=dataclasses.replace(card.tier("mini").limits, **values)
    )
    other = Competition(competition.folder)
    changed: Card = dataclasses.replace(card, tiers=tiers)
    vars(other)["card"] = changed
    return other


def private_files(instance: Instance) -> list[Path]:
    """Answers of both splits and inputs of test: what no command may see, ever or yet."""
    folders = [*(instance.answers(split) for split in SPLITS), instance.inputs("test")]
    return [path for folder in folders for path in _files(folder)]


def _files(folder: Path) -> list[Path]:
    return [folder / entry.path for entry in walk(folder) if entry.is_file]


def _batches(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), BATCH):
        yield names[start : start + BATCH]


def _limited_processes() -> bool:
    """Whether this process itself is in a group with a limit on processes."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for root in (f"/sys/fs/cgroup/{controllers}", "/sys/fs/cgroup"):
            most = Path(f"{root}{path}/pids.max")
            with contextlib.suppress(OSError):
                if most.read_text().strip() != "max":
                    return True
    return False
