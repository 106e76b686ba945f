"""The scene of an attack: an environment, what it must protect, and everything that an attacker knows.

The attacker is the strongest possible one: it knows every path, process number, port and name. What
it must not get are *treasures*: a random token that only a trusted process of the same user
holds, the contents of the instance's private files, the installation's secret, the host's
environment variables. A verdict rests on these, never on what an attack says about itself.
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

from mlrcbench.catalog.card import Card
from mlrcbench.catalog.competition import Competition
from mlrcbench.catalog.instances import Instance
from mlrcbench.catalog.limits import TierLimits
from mlrcbench.env.research_env import ResearchEnv
from mlrcbench.errors import SandboxError, ScoringError
from mlrcbench.protocol.actions import Action, Evaluate, Run, WriteFile
from mlrcbench.sandbox import environment
from mlrcbench.sandbox.folders import home
from mlrcbench.score import SPLITS, Score
from mlrcbench.storage.trees import hash_file, remove_tree, walk
from mlrcbench.testing.attacks import inside
from mlrcbench.testing.attacks.victim import Victim, descendants, handle, place_on_disk

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
class RouteReport:
    """What a route inside the sandbox printed.

    Attributes:
        finds: Tokens, claims, facts and digests of what it got.
        message: "done", or why it failed.
    """

    finds: tuple[str, ...] = ()
    message: str = "no answer"


class Scene:
    """Everything around one series of attacks on one competition.

    Args:
        competition: The competition that is attacked.
        sandbox: See `open_sandbox`.
        secret: The instance's secret; see `Competition.instance`.
        limits: Limits of the tier to replace.
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
        """The isolation tier of the environment's sandbox."""
        isolation = self.env.isolation
        assert isolation is not None
        return isolation.tier

    @property
    def workspace(self) -> Path:
        """The folder of the agent's files."""
        return self.env.workspace.root

    @property
    def contained(self) -> bool:
        """Whether a fork bomb inside cannot use up the machine's process numbers."""
        return self.tier in ("strong", "uid", "container", "bubblewrap") or _limited_processes()

    def reset(self) -> None:
        """Begin a new episode, with the attackers' files in its workspace."""
        self.env.reset(seed=0)
        for path in sorted(Path(inside.__file__).parent.glob("*.py")):
            if path.name not in ("__init__.py", "victim.py"):
                self.act(WriteFile(f"attack_{path.name}", path.read_text("utf-8")))

    def act(self, action: Action) -> str:
        """Carry out one action and return the observation's text."""
        return str(self.env.step(action)[0]["text"])

    def command(self, command: str, timeout: float | None = None) -> str:
        """Run a command and return the observation's text."""
        return self.act(Run(command, timeout))

    def write_facts(self, **more: Any) -> dict[str, Any]:
        """Write what an attacker knows, and `more`, into a file of the workspace that the routes read."""
        facts = {**self._facts(), **more}
        self.act(WriteFile("attack_facts.json", json.dumps(facts)))
        return facts

    def run(self, module: str, names: Sequence[str], timeout: float | None = None) -> dict[str, RouteReport]:
        """Run routes by commands, a few at a time."""
        by_name: dict[str, RouteReport] = {}
        for batch in _batches(names):
            text = self.command(f"python attack_runner.py {module} {' '.join(batch)}", timeout)
            by_name.update(reports(text, batch))
        return by_name

    def evaluate(self, module: str, names: Sequence[str], split: str = "dev") -> dict[str, RouteReport]:
        """Run routes in evaluations on dev, a few at a time."""
        by_name: dict[str, RouteReport] = {}
        for batch in _batches(names):
            self.arm(module, batch)
            text = self.act(Evaluate())
            by_name.update(reports(text, batch))
        self.disarm()
        return by_name

    def arm(self, module: str, names: Iterable[str]) -> None:
        """Replace the method by routes, so that an evaluation runs them."""
        arguments = ", ".join(repr(argument) for argument in (module, *names))
        self.act(WriteFile(self.competition.card.method_file, _LOADER.format(arguments=arguments)))

    def disarm(self) -> None:
        """Put the starter's method back."""
        name = self.competition.card.method_file
        self.act(WriteFile(name, (self.competition.starter / name).read_text("utf-8")))

    def score(self) -> Score:
        """The workspace's score on dev, evaluated by the host program."""
        return self.env.evaluate("dev")

    def got(self, report: RouteReport) -> str:
        """The treasures that a route found, in words; empty if it found none."""
        return ", ".join(sorted({self.treasures[find] for find in report.finds if find in self.treasures}))

    def usable(self) -> str:
        """Why the environment can no longer be used; empty if it can."""
        try:
            text = self.command("echo usable", 20)
            return "" if "usable" in text.splitlines() else f"a plain command now gives {text[:200]!r}"
        except (SandboxError, ScoringError) as error:
            return f"the sandbox failed: {error}"

    def close(self) -> None:
        """End all processes and remove all files."""
        self.env.close()
        self.victim.close()
        self._clean_instance()
        remove_tree(self.folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _clean_instance(self) -> None:
        """Remove files that attacks left in the instance, where no sandbox kept them out."""
        root = self.instance.root
        known = json.loads((root / "manifest.json").read_text())["files"]
        for path in _files(root):
            if str(path.relative_to(root)) not in {*known, "manifest.json"}:
                path.unlink()

    def _make(self) -> ResearchEnv:
        return ResearchEnv(
            self.competition,
            sandbox=self.sandbox,
            secret=self.secret,
            budget=PLENTY,
            records=self.folder / "records",
        )

    def _facts(self) -> dict[str, Any]:
        """Everything that an attacker may know: all but the treasures."""
        self.victim.restore()
        record = self.env.record
        assert record is not None
        return {
            "token_file": str(self.victim.path),
            "handle": handle(self.victim.path),
            "disk": place_on_disk(self.victim.path),
            "victim": self.victim.places,
            "secret": str(home() / "secret"),
            "home": str(home()),
            "instance": str(self.instance.root),
            "answers": [str(path) for path in private_files(self.instance)],
            "public": [str(path) for path in _files(self.instance.public)],
            "records": [str(record / "record.jsonl")],
            "neighbour": self.others,
            "library_pid": os.getpid(),
            "pids": [self.victim.pid, os.getpid(), *descendants(os.getpid())],
            "library": str(Path(inside.__file__).parents[2]),
            "competition": str(self.competition.folder),
            "workspace": str(self.workspace),
            "outside": str(self.outside),
            "packages": [path for path in [*site.getsitepackages(), *sys.path] if os.path.isdir(path)],
            "user_home": str(Path.home()),
            "artefact": self.competition.card.artefacts_of("mini")[0].pattern.replace("*", "0"),
            "marker": f"marker-{random.token_hex(8)}",
        }

    def _treasures(self) -> dict[str, str]:
        """What an attacker must not get, with its name: tokens, claims, and hashes of contents."""
        token = self.victim.token
        treasures = {
            token: "the token of a trusted process",
            f"fact:mtime-{self.victim.path.stat().st_mtime_ns}": "when a hidden file was written",
            "claim:watched": "when a hidden file is opened",
            hash_file("/proc/self/environ"): "the host's environment variables",
        }
        with contextlib.suppress(FileNotFoundError):
            treasures[hash_file(home() / "secret")] = "the installation's secret"
        inside_names = environment(Path("/"), 1)
        for name, value in os.environ.items():
            if name not in inside_names and name not in _ORDINARY:
                line = f"{name}={value}".encode("utf-8", "surrogateescape")
                treasures[hashlib.sha256(line).hexdigest()] = f"the host's variable {name}"
        public = {hash_file(path) for path in _files(self.instance.public)}
        for path in private_files(self.instance):
            if (digest := hash_file(path)) not in public:
                treasures[digest] = str(path.relative_to(self.instance.root))
        return treasures


def reports(text: str, names: Sequence[str]) -> dict[str, RouteReport]:
    """The reports of routes in an observation; a route without a line gave no answer."""
    by_name = {name: RouteReport(message=f"no answer; {text.strip()[-120:]!r}") for name in names}
    for line in text.splitlines():
        if line.startswith("ATTACK "):
            with contextlib.suppress(ValueError):
                entry = json.loads(line.removeprefix("ATTACK "))
                by_name[entry["route"]] = RouteReport(tuple(entry["finds"]), entry["message"])
    return by_name


class _Limited(Competition):
    """A competition with another card than its folder's."""

    def __init__(self, folder: Path, card: Card) -> None:
        super().__init__(folder)
        self._card = card

    @property
    def card(self) -> Card:
        """The card with other limits."""
        return self._card


def limited(competition: Competition, limits: dict[str, float]) -> Competition:
    """The same competition with other limits in its card."""
    card = competition.card
    tiers = dict(card.tiers)
    known = {field.name: field.type for field in dataclasses.fields(TierLimits)}
    values: dict[str, Any] = {
        name: int(value) if known[name] == "int" else value for name, value in limits.items()
    }
    tiers["mini"] = dataclasses.replace(
        card.tier("mini"), limits=dataclasses.replace(card.tier("mini").limits, **values)
    )
    return _Limited(competition.folder, dataclasses.replace(card, tiers=tiers))


def private_files(instance: Instance) -> list[Path]:
    """Answers of both splits and inputs of test, which no command may see."""
    folders = [*(instance.answers(split) for split in SPLITS), instance.inputs("test")]
    return [path for folder in folders for path in _files(folder)]


def _files(folder: Path) -> list[Path]:
    return [folder / entry.path for entry in walk(folder) if entry.is_file]


def _batches(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), BATCH):
        yield names[start : start + BATCH]


def _limited_processes() -> bool:
    """Whether this process is in a control group with a limit on processes."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for root in (f"/sys/fs/cgroup/{controllers}", "/sys/fs/cgroup"):
            limit = Path(f"{root}{path}/pids.max")
            with contextlib.suppress(OSError):
                if limit.read_text().strip() != "max":
                    return True
    return False
