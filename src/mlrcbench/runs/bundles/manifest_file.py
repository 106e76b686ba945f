"""The manifest of a bundle: what the bundle is, and the size and digest of every other file in it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mlrcbench.__version__ import __version__
from mlrcbench.errors import RecordError, cause
from mlrcbench.runs.bundles.agent_card import AgentCard
from mlrcbench.storage.strict import bounds, open_regular, parse_object, read_dataclass, to_json

MANIFEST_FILE = "manifest.json"
FORMAT = "mlrcbench bundle"
VERSION = 1
MAX_FILES = 100_000
MAX_BUNDLE_BYTES = 4 << 30
MAX_MANIFEST_BYTES = 64 << 20
_NAME = r"[A-Za-z0-9_.-]+"
_SHA256 = re.compile(r"[0-9a-f]{64}")
# Where files may lie in a bundle: the plan, results, and in a record what an episode writes.
PLACES = re.compile(
    rf"run\.json|episodes/{_NAME}/(result\.json|attempt-[0-9]\.json"
    rf"|records/{_NAME}/(record\.jsonl|(outputs|evaluations)/.+))",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class BundledFile:
    """One file of a bundle.

    Attributes:
        size: Its number of bytes.
        sha256: SHA-256 of its content, as hex.
        executable: Whether its owner may execute it.
    """

    size: int
    sha256: str = field(metadata=bounds(pattern=_SHA256))
    executable: bool = False


@dataclass(frozen=True, slots=True)
class Manifest:
    """The content of `manifest.json`.

    Attributes:
        format: Always `FORMAT`.
        version: Version of the format.
        mlrcbench: Version of the library that wrote the bundle.
        agent: Name of the agent in the run.
        card: Who made the agent; None if they did not say.
        files: Path -> file, for every file but the manifest.
        folders: Paths of folders without any content.
        left_out: Paths of what was not put in, since it is not a plain file or has no plain name.
    """

    format: str
    version: int
    agent: str
    card: AgentCard | None
    files: Mapping[str, BundledFile]
    folders: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    mlrcbench: str = __version__

    def to_text(self) -> str:
        """The text of the file; the same for the same content."""
        data = to_json(self)
        data["files"] = {path: to_json(self.files[path]) for path in sorted(self.files)}
        return json.dumps(data, indent=1, sort_keys=True) + "\n"


def read_manifest(root: Path) -> Manifest:
    """The manifest in the folder of an unpacked bundle.

    Raises:
        RecordError: The manifest is missing, damaged, or of a version that this library does not know.
    """
    try:
        with open_regular(root / MANIFEST_FILE, MAX_MANIFEST_BYTES) as file:
            data = parse_object(file.read())
        version = data.get("version")
        if data.get("format") != FORMAT:
            raise ValueError("it is not the manifest of a bundle")
        if not isinstance(version, int) or version > VERSION:
            raise ValueError(f"it has version {str(version)[:20]}; this library reads up to {VERSION}")
        return read_dataclass(Manifest, data)
    except KeyError as error:
        raise RecordError(f"the bundle's {MANIFEST_FILE} lacks {error}") from None
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise RecordError(f"the bundle's {MANIFEST_FILE} cannot be read: {cause(error)[:200]}") from None


def is_place(path: str) -> bool:
    """Whether a file of a bundle may have this path."""
    parts = path.split("/")
    plain = all(part not in ("", ".", "..") for part in parts)
    return plain and "\\" not in path and "\0" not in path and PLACES.fullmatch(path) is not None
