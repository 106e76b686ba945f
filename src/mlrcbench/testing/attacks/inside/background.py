"""Routes of a job that runs while its workspace is evaluated."""

from __future__ import annotations

import contextlib
import glob
import sys
import time
from collections.abc import Callable
from typing import Any

Facts = dict[str, Any]


def watch_for_inputs(facts: Facts) -> list[bytes]:
    """Look for the inputs of the test split in every place where an evaluation may show them."""
    print("ATTACK-READY", flush=True)
    patterns = (
        "inputs/*",
        f"{facts['workspace']}/inputs/*",
        "/tmp/mlrcbench-process-*/evaluation-*/workspace/inputs/*",
        f"{facts['instance']}/private/test/inputs/*",
    )
    deadline = time.monotonic() + 7
    while time.monotonic() < deadline:
        loot = []
        for path in (path for pattern in patterns for path in glob.glob(pattern)):
            with contextlib.suppress(OSError), open(path, "rb") as file:
                loot.append(file.read())
        if loot:
            return loot
        time.sleep(0.002)
    return []


ROUTES: dict[str, Callable[[Facts], Any]] = {"job-reads-inputs": watch_for_inputs}

if __name__ == "__main__":  # a job that keeps writing into the workspace
    print("ATTACK-READY", flush=True)
    while True:
        with open(sys.argv[1], "a", encoding="ascii") as beats:
            beats.write(".")
