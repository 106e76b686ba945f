"""What a job tries while the workspace it belongs to is evaluated."""

from __future__ import annotations

import contextlib
import glob
import sys
import time
from collections.abc import Callable
from typing import Any

Told = dict[str, Any]


def watch_for_inputs(told: Told) -> list[bytes]:
    """Look for the inputs of the test split wherever an evaluation may show them."""
    print("ATTACK-READY", flush=True)
    places = (
        "inputs/*",
        f"{told['workspace']}/inputs/*",
        "/tmp/mlrcbench-process-*/evaluation-*/workspace/inputs/*",
        f"{told['instance']}/private/test/inputs/*",
    )
    deadline = time.monotonic() + 7
    while time.monotonic() < deadline:
        loot = []
        for path in (path for place in places for path in glob.glob(place)):
            with contextlib.suppress(OSError), open(path, "rb") as file:
                loot.append(file.read())
        if loot:
            return loot
        time.sleep(0.002)
    return []


ROUTES: dict[str, Callable[[Told], Any]] = {"job-reads-inputs": watch_for_inputs}

if __name__ == "__main__":  # a job that writes into the workspace without a pause
    print("ATTACK-READY", flush=True)
    while True:
        with open(sys.argv[1], "a", encoding="ascii") as beats:
            beats.write(".")
