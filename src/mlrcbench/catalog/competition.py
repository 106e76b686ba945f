"""Competition: a card, a folder, and the instances that its `build` makes.

An instance is built from a seed, once per machine, in a child process, and then shared, read-only, by
all environments. Its name in the cache is a hash over the secret seed and the building code: a change
of either builds it again, and the name does not help anyone to rebuild it.

A tier with sources has one instance, whatever the seed: the real data, which the folder's `full.py`
converts from raw files once. It is stored, sealed and shared like any other instance.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

from mlrcbench.catalog.canary import marked
from mlrcbench.catalog.card import Card, read_card
from mlrcbench.catalog.code_digest import file_digest, scorer_digest
from mlrcbench.catalog.installation import has_secret, read_secret
from mlrcbench.catalog.instances import Instance, Recipe, build_instance, is_built, verified_digest
from mlrcbench.catalog.ladder import FILE as LADDER_FILE
from mlrcbench.catalog.ladder import Rung, read_ladder
from mlrcbench.catalog.seal import repair
from mlrcbench.errors import CardError, DataError, shown
from mlrcbench.sandbox.folders import MOVE_HOME, home, resolved, usable
from mlrcbench.storage.strict import MAX_INTEGER
from mlrcbench.storage.trees import TreeLimits, walk
from mlrcbench.text import html_table, percent

BUILD_SECONDS = 3600.0
CONVERT_SECONDS = 24 * 3600.0

ENTRIES = (
    "__init__.py",
    "card.toml",
    "statement.md",
    "data.py",
    "starter",
    "baseline",
    "reference",
    "scorer.py",
)
ORACLE = "oracle.py"  # of a competition whose evaluations are played
FULL_ENTRIES = ("full.py", "statement_full.md")  # of a competition that has a full tier
FULL_EXTRAS = ("starter_full", "scorer_full.py")  # where real data needs other code than generated data


def read_overlay(root: Path) -> dict[str, str]:
    """Path -> text of a folder's files, without `.gitkeep` and compiled files."""
    return {
        entry.path: (root / entry.path).read_text("utf-8")
        for entry in walk(root)
        if entry.is_file and not entry.path.endswith(".gitkeep") and "__pycache__" not in entry.path
    }


class Competition:
    """A competition's folder.

    Raises:
        CardError: An entry of the folder is missing, or the card is not valid.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        missing = [name for name in ENTRIES if not (folder / name).exists()]
        if missing:
            raise CardError(f"{folder} lacks {', '.join(missing)}; a competition has {', '.join(ENTRIES)}")

    def __repr__(self) -> str:
        name = self.folder.name.replace("_", "-")
        return f"<Competition {name if name[0] != '-' else f'_{name[1:]}'}>"

    def _repr_html_(self) -> str:
        """What it is, and its ladder, for notebooks."""
        rungs = sorted(self.ladder_of("mini"), key=lambda rung: -rung.test)
        rows = [[rung.label, percent(rung.dev), percent(rung.test)] for rung in rungs]
        ladder = html_table(["method", "dev", "test"], rows) if rows else ""
        return f"<b>{escape(self.card.title)}</b><p>{escape(self.card.summary)}</p>{ladder}"

    @functools.cached_property
    def card(self) -> Card:
        """The content of `card.toml`."""
        card = read_card(self.folder / "card.toml")
        if self.folder.name.replace("_", "-").lstrip("-") != card.id.lstrip("_"):
            raise CardError(
                f"the folder {self.folder.name} must be named like the id {card.id!r}, with underscores"
            )
        self._check_oracle(card)
        missing = [name for name in FULL_ENTRIES if not (self.folder / name).exists()]
        if missing and any(tier.sources for tier in card.tiers.values()):
            raise CardError(f"{self.folder} lacks {', '.join(missing)}, which a tier with sources needs")
        return card

    def _check_oracle(self, card: Card) -> None:
        """Raise if there is an oracle and no limits for it, or limits and no oracle."""
        for tier in card.tiers.values():
            if (tier.play is not None) != (self.oracle is not None):
                present, missing = (ORACLE, f"[tiers.{tier.name}.play]")
                if self.oracle is None:
                    present, missing = missing, present
                raise CardError(
                    f"{self.folder} has {present} and no {missing}; a played competition needs both"
                )

    @property
    def oracle(self) -> Path | None:
        """The file with the trusted side of played evaluations; None if evaluations are not played."""
        path = self.folder / ORACLE
        return path if path.exists() else None

    @property
    def id(self) -> str:
        """The competition's id, for example "backdoor-trigger"."""
        return self.card.id

    @property
    def starter(self) -> Path:
        """The folder that an agent starts from."""
        return self.folder / "starter"

    @functools.cached_property
    def statement(self) -> str:
        """The text that an agent reads first in a generated tier."""
        return marked((self.folder / "statement.md").read_text("utf-8"))

    def statement_of(self, tier: str) -> str:
        """The text that an agent reads first in a tier; data and limits differ between tiers."""
        if not self.card.tier(tier).sources:
            return self.statement
        return marked((self.folder / "statement_full.md").read_text("utf-8"))

    def starter_of(self, tier: str) -> tuple[Path, ...]:
        """The folder that an agent starts from, and the folder that a tier with sources lays over it."""
        layers = (self.starter, self.folder / "starter_full")
        return layers if self.card.tier(tier).sources and layers[1].is_dir() else layers[:1]

    def scorer_of(self, tier: str) -> Path:
        """The file with a tier's scorer."""
        full = self.folder / "scorer_full.py"
        return full if self.card.tier(tier).sources and full.exists() else self.folder / "scorer.py"

    def ladder_of(self, tier: str) -> tuple[Rung, ...]:
        """Published methods with their measured improvements; none in a tier with sources."""
        return () if self.card.tier(tier).sources else self._ladder

    @functools.cached_property
    def _ladder(self) -> tuple[Rung, ...]:
        return read_ladder(self.folder / LADDER_FILE)

    def overlay(self, name: str) -> dict[str, str]:
        """Path -> text of the files in "starter", or in what is laid over it: "baseline" or "reference"."""
        return read_overlay(self.folder / name)

    def workspace_limits(self, tier: str) -> TreeLimits:
        """Bounds on the workspace."""
        return TreeLimits(total_bytes=self.card.tier(tier).limits.workspace_mb << 20)

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 over the code that makes and values generated instances, as hex; see `code_digest`."""
        return self._code_digest("mini")

    def _code_digest(self, tier: str) -> str:
        maker = "full.py" if self.card.tier(tier).sources else "data.py"
        # The scorer of a full tier may use the scorer of the other tier.
        oracle = () if self.oracle is None else (self.oracle,)
        scorers = dict.fromkeys((self.scorer_of(tier), self.folder / "scorer.py"))
        code = [file_digest(self.folder / maker), *map(scorer_digest, scorers), *map(file_digest, oracle)]
        return hashlib.sha256(f"{self.card.version} {' '.join(code)}".encode()).hexdigest()

    def instance(
        self,
        seed: int = 0,
        tier: str = "mini",
        *,
        secret: str | None = None,
        raw: Path | None = None,
        on_progress: Callable[[str], None] | None = None,
    ) -> Instance:
        """The instance of a seed, which is built if it is not in the cache.

        Args:
            seed: Any whole number from 0.
            tier: A tier of the card.
            secret: None for this installation's secret; "public" for the published constant, with which
                anyone can regenerate the answers; or your own text. Real data has no secret.
            raw: For a tier with sources, the raw data to convert, one folder for each source; needed
                only once, because the instance is then in the cache.
            on_progress: Called with a line of the build's output now and then.

        Raises:
            DataError: The instance cannot be built, the cache is damaged, or it cannot be read or written.
            RegistryError: The card has no such tier.
        """
        with usable(home(), MOVE_HOME):
            kind, key, root = self._place(seed, tier, secret)
        real = bool(self.card.tier(tier).sources)
        with usable(root, MOVE_HOME):
            if not is_built(root):
                if real and raw is None:
                    raise DataError(
                        f"the {tier} tier of {self.id} is not prepared on this machine; "
                        f"prepare it once with: mlrcbench prepare {self.id} --tier {tier}"
                    )
                build_instance(root, self._recipe(tier, key, raw if real else None), on_progress)
            repair(root, is_open=True)
            return Instance(seed, tier, root, verified_digest(root), kind)

    def is_prepared(self, tier: str) -> bool:
        """Whether a tier's real data is in the cache; a generated tier needs no preparation."""
        if not self.card.tier(tier).sources:
            return True
        with usable(home(), MOVE_HOME):
            return has_secret() and is_built(self._place(0, tier, None)[2])

    def _place(self, seed: int, tier: str, secret: str | None) -> tuple[str, bytes, Path]:
        """Kind of secret, instance key and folder of an instance."""
        real = bool(self.card.tier(tier).sources)
        if not 0 <= seed <= MAX_INTEGER:
            raise DataError(
                f"an instance's seed must be a whole number of at least 0 and below 2**63, not {shown(seed)}"
            )
        # Real data needs no secret; with the installation's, nobody can guess the path of its folder.
        kind, secret_bytes = read_secret(None if real else secret)
        kind = "none" if real else kind
        key = _instance_key(secret_bytes, self.card, tier, 0 if real else seed)
        digest = self._code_digest(tier)
        name = hashlib.sha256(key + digest.encode()).hexdigest()[:24]
        folder = home() / "instances" / f"{self.id}-v{self.card.version}-{tier}" / name
        return kind, key, resolved(folder)

    def _recipe(self, tier: str, key: bytes, raw: Path | None) -> Recipe:
        """How to generate an instance from its key, or to convert raw data."""
        if raw is None:
            function, module, seconds = "build", "data.py", BUILD_SECONDS
            arguments: dict[str, Any] = {"seed": int.from_bytes(key[:8], "big") >> 1, "tier": tier}
        else:
            function, module, seconds = "convert", "full.py", CONVERT_SECONDS
            arguments = {"raw": str(raw.absolute())}
        return Recipe(
            name=f"{self.id} ({tier})",
            function=function,
            module=self.folder / module,
            arguments=arguments,
            seconds=seconds,
            threads=self.card.tier(tier).limits.threads,
            gpu=self.card.tier(tier).gpu_mb > 0,
        )


def _instance_key(secret: bytes, card: Card, tier: str, seed: int) -> bytes:
    """HMAC-SHA256 over everything that identifies an instance."""
    message = f"{card.id}\0{card.version}\0{tier}\0{seed}".encode()
    return hmac.digest(secret, message, "sha256")
