"""The cost and the strength of the sandbox, as ratios against a floor or a peer in the same run.

    python benchmarks/sandbox.py [--tier auto] [--rounds 60] [--environments 500] [--peers PYTHON]

The floor is `posix_spawn("/bin/true")` until its end. What is compared is measured in turn, in the same
rounds, and medians are reported; absolute numbers depend on the machine. `--peers` names an interpreter
that has `swe-rex` and `inspect-ai`; their local backends, which confine nothing, then run the same
command in the same rounds.

Run it on a quiet machine, or under `chrt -r 10`.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from measure import resident, timed, timed_in_turn

from mlrcbench.sandbox import Limits, Policy, Sandbox, fork_client, open_sandbox
from mlrcbench.sandbox.supervised import SupervisedSandbox

LIMITS = Limits(seconds=120)
GIB = 1 << 30
ROWS: list[Row] = []


class Row(NamedTuple):
    """One line of the table."""

    number: str
    what: str
    measured: str
    limit: str
    within: bool


def main() -> None:
    """Measure everything and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tier", default="auto")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--environments", type=int, default=500)
    parser.add_argument("--ballast", type=float, default=3, help="GiB in the host process for row 2")
    parser.add_argument("--peers", help="an interpreter with swe-rex and inspect-ai")
    options = parser.parse_args()
    with workspace() as space, open_sandbox(options.tier, Policy(space)) as sandbox:
        namespaced = sandbox.isolation.tier == "strong"
        print(
            f"tier {sandbox.isolation.tier}, user {os.geteuid()}, load {os.getloadavg()[0]:.1f}", flush=True
        )
        floor = steps(sandbox, options.rounds, options.peers)
        ballast(sandbox, options.rounds, options.ballast)
        work(sandbox)
        overshoot(sandbox)
        survivors(sandbox, chains=namespaced)
        output(sandbox, space)
        daemon(sandbox)
    starts(options.tier, floor, namespaced)
    many(options.tier, options.environments, namespaced)
    report()


def steps(sandbox: Sandbox, rounds: int, peers: str | None) -> float:
    """Row 1: one trivial command. Returns the floor in seconds."""

    def ours() -> None:
        assert sandbox.run("echo hi", LIMITS).head == b"hi\n"

    def plain() -> None:
        subprocess.run(["bash", "-c", "echo hi"], capture_output=True, check=True)

    with peer(peers) as ways:
        times = timed_in_turn(rounds, {"floor": spawn, "plain": plain, "ours": ours, **ways})
    floor = times["floor"]
    print(f"floor {floor * 1e3:.2f} ms; subprocess.run(bash -c) {times['plain'] * 1e3:.2f} ms", flush=True)
    ratio("1", "confined echo / floor", times["ours"] / floor, 4.5, f"{times['ours'] * 1e3:.2f} ms")
    ratio("1", "confined echo / subprocess.run(bash -c)", times["ours"] / times["plain"], 3)
    ROWS.extend(
        Row("1", f"{name} / floor (confines nothing)", f"{times[name] / floor:.1f}", "-", True)
        for name in ways
    )
    return floor


def ballast(sandbox: Sandbox, rounds: int, size: float) -> None:
    """Row 2: the same with a large host process."""
    before = timed_in_turn(rounds, {"ours": lambda: run(sandbox, "echo hi")})["ours"]
    memory = bytearray(int(size * GIB))
    memory[::4096] = b"x" * len(range(0, len(memory), 4096))
    after = timed_in_turn(rounds, {"ours": lambda: run(sandbox, "echo hi")})["ours"]
    del memory
    ratio("2", f"the same with {size:g} GiB in the host process / without", after / before, 1.5)


def work(sandbox: Sandbox) -> None:
    """Row 3: real work, inside and outside."""
    files = "for i in $(seq 3000); do echo x > f$i; done; rm f*"
    jobs = {
        "import numpy": (f"{sys.executable} -c 'import numpy'", 1.10),
        "find over /usr/lib": ("find /usr/lib -size +100k > /dev/null", 1.15),
        "3,000 small files": (files, 1.25),
    }
    for name, (command, limit) in jobs.items():
        with tempfile.TemporaryDirectory() as folder:

            def plain(command: str = command, folder: str = folder) -> None:
                subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, check=True)

            times = timed_in_turn(9, {"plain": plain, "ours": functools.partial(run, sandbox, command)})
        ratio("3", f"{name}, inside / outside", times["ours"] / times["plain"], limit)


def starts(tier: str, floor: float, namespaced: bool) -> None:
    """Rows 4 and 16: the start of a sandbox, and of the first one in a process."""
    start = statistics.median(start_seconds(tier) for _ in range(21))
    ratio("4", "start of a sandbox / floor", start / floor, 10 if namespaced else 4, f"{start * 1e3:.1f} ms")
    cold = []
    for _ in range(5):
        fork_client.forget_fork_server()
        cold.append(start_seconds("process"))
    fresh = statistics.median(cold)
    ratio("16", "start without a fork server / floor", fresh / floor, 30, f"{fresh * 1e3:.0f} ms")


def start_seconds(tier: str) -> float:
    """Seconds until a sandbox can take its first command."""
    with workspace() as space, opened(tier, space) as sandbox:
        return timed(sandbox.start)


def opened(tier: str, space: Path) -> SupervisedSandbox:
    """A sandbox that has not started yet."""
    sandbox = open_sandbox(tier, Policy(space))
    assert isinstance(sandbox, SupervisedSandbox)
    return sandbox


def many(tier: str, count: int, namespaced: bool) -> None:
    """Rows 8 and 9: idle environments."""
    with contextlib.ExitStack() as stack:
        busy = stack.enter_context(open_sandbox(tier, Policy(stack.enter_context(workspace()))))
        alone = timed_in_turn(40, {"ours": lambda: run(busy, "echo hi")})["ours"]
        idle = [opened(tier, stack.enter_context(workspace())) for _ in range(count)]
        started = time.perf_counter()
        for sandbox in idle:
            stack.callback(sandbox.close)
            sandbox.start()
        taken = (time.perf_counter() - started) * 500 / count
        time.sleep(6)  # a spare launcher is dropped after five seconds
        crowded = timed_in_turn(40, {"ours": lambda: run(busy, "echo hi")})["ours"]
        private = private_bytes() / (count + 1)
    ratio("9", f"echo with {count} idle environments / with one", crowded / alone, 1.3)
    seconds = 6 if namespaced else 3
    ROWS.append(
        Row(
            "8",
            "start of 500",
            f"{taken:.1f} s",
            f"<= {seconds} s",
            taken <= seconds,
        )
    )
    if private:
        megabytes, limit = private / 1e6, 4 if namespaced else 2
        ROWS.append(
            Row(
                "8",
                "private memory per idle one",
                f"{megabytes:.1f} MB",
                f"<= {limit} MB",
                megabytes <= limit,
            )
        )


def overshoot(sandbox: Sandbox) -> None:
    """Row 10: how long after its time limit a command ends."""
    loops = "for i in $(seq 40); do while :; do :; done & done; wait"
    cases = {
        "sleep": ("sleep 60", 0.1),
        "ignoring TERM": ("trap '' TERM; sleep 60", 0.1),
        "40 busy loops": (loops, 1.0),
    }
    for name, (command, limit) in cases.items():
        worst = 0.0
        for _ in range(5):
            ours = functools.partial(sandbox.run, command, replace(LIMITS, seconds=0.5))
            worst = max(worst, timed(ours) - 0.5)
        ROWS.append(
            Row(
                "10",
                f"overshoot, {name} (worst of 5)",
                f"{worst * 1e3:.0f} ms",
                f"<= {limit:g} s",
                worst <= limit,
            )
        )


def survivors(sandbox: Sandbox, *, chains: bool) -> None:
    """Row 11: processes that are left when a command has ended."""
    mark = f"86400.{os.getpid()}"
    chain = f"""
        import os, time
        "{mark}"
        if os.fork() == 0:
            end = time.monotonic() + 20
            while time.monotonic() < end:
                os.setsid()
                if os.fork():
                    os._exit(0)
        """
    cases = {
        "setsid": f"setsid sleep {mark} &",
        "double fork": f"( ( setsid sleep {mark} & ) & )",
        "200 daemons": f"for i in $(seq 200); do setsid sleep {mark} & done",
    }
    if chains:  # elsewhere a chain that escaped would fill the process table
        cases["fork and exit chain"] = f"{sys.executable} -I -S -c '{textwrap.dedent(chain)}'"
    for name, command in cases.items():
        survivors, worst = 0, 0.0
        for _ in range(20):
            started = time.perf_counter()
            result = sandbox.run(command, LIMITS)
            worst = max(worst, time.perf_counter() - started - result.wall_seconds)
            survivors += count(mark)
        ROWS.append(Row("11", f"survivors of 20 x {name}", str(survivors), "0", survivors == 0))
        ROWS.append(
            Row("11", f"sweep after {name} (worst)", f"{worst * 1e3:.0f} ms", "<= 50 ms", worst <= 0.05)
        )


def output(sandbox: Sandbox, space: Path) -> None:
    """Row 12: a gibibyte of output."""
    command = f"head -c {GIB} /dev/zero"
    before = resident()
    ours = timed(lambda: sandbox.run(command, LIMITS))
    grown = (resident() - before) / (1 << 20)
    file = timed(lambda: subprocess.run(["bash", "-c", f"{command} > big; rm big"], cwd=space, check=True))
    ROWS.append(
        Row("12", "1 GiB of output: memory of the host process", f"{grown:.1f} MiB", "<= 16 MiB", grown <= 16)
    )
    ratio("12", "1 GiB of output / writing it to a file", ours / file, 2, f"{ours:.2f} s")


def daemon(sandbox: Sandbox) -> None:
    """Row 13: a daemon that keeps standard output open."""
    worst = 0.0
    for _ in range(5):
        worst = max(worst, timed(lambda: sandbox.run("sleep 60 & echo hi", LIMITS)))
    ROWS.append(
        Row("13", "step with a daemon on its output (worst)", f"{worst:.3f} s", "<= 0.5 s", worst <= 0.5)
    )


def report() -> None:
    """Print the table."""
    width = max(len(row.what) for row in ROWS)
    print(f"\n{'#':3} {'what':{width}} {'measured':>18} {'limit':>10}")
    for row in sorted(ROWS, key=lambda row: int(row.number)):
        missed = "" if row.within else "MISSED"
        print(f"{row.number:3} {row.what:{width}} {row.measured:>18} {row.limit:>10} {missed}")


def ratio(number: str, what: str, value: float, limit: float, note: str = "") -> None:
    """Add a row with a ratio."""
    text = f"{value:.2f}" + (f" ({note})" if note else "")
    ROWS.append(Row(number, what, text, f"<= {limit:g}", value <= limit))


def run(sandbox: Sandbox, command: str) -> None:
    """Run a command that has to succeed."""
    result = sandbox.run(command, LIMITS)
    assert result.exit_status == 0, result


def spawn() -> None:
    """Start a process and wait for its end: the floor."""
    os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)


@contextlib.contextmanager
def workspace() -> Iterator[Path]:
    """A folder for a sandbox."""
    with tempfile.TemporaryDirectory(prefix="mlrcbench-bench-") as folder:
        os.chmod(folder, 0o711)
        space = Path(folder) / "workspace"
        space.mkdir()
        yield space


def count(mark: str) -> int:
    """Processes whose command line contains a mark."""
    number = 0
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            number += mark.encode() in Path(f"/proc/{name}/cmdline").read_bytes()
    return number


def private_bytes() -> int:
    """Private memory of all supervisors; 0 if it cannot be read."""
    total = 0
    for pid in fork_client.supervisor_pids():
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            return 0
        total += sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Private"))
    return total


PEERS = ("SWE-ReX local, execute", "SWE-ReX local, session", "Inspect local, exec")
PEER = """
import asyncio, sys
from inspect_ai.util._sandbox.local import LocalSandboxEnvironment
from swerex.runtime.local import LocalRuntime
from swerex.runtime.abstract import Command, CreateBashSessionRequest, BashAction
async def main():
    runtime = LocalRuntime()
    await runtime.create_session(CreateBashSessionRequest())
    local = LocalSandboxEnvironment()
    loop = asyncio.get_running_loop()
    print("ready", flush=True)
    while line := (await loop.run_in_executor(None, sys.stdin.readline)).strip():
        if line == "SWE-ReX local, execute":
            await runtime.execute(Command(command="echo hi", shell=True))
        elif line == "SWE-ReX local, session":
            await runtime.run_in_session(BashAction(command="echo hi"))
        else:
            await local.exec(["bash", "-c", "echo hi"])
        print("done", flush=True)
asyncio.run(main())
"""


@contextlib.contextmanager
def peer(interpreter: str | None) -> Iterator[dict[str, Callable[[], None]]]:
    """Ways to run a command through other libraries, in a separate process."""
    if interpreter is None:
        yield {}
        return
    with subprocess.Popen(
        [interpreter, "-c", PEER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        source, sink = process.stdout, process.stdin
        assert source.readline().strip() == "ready", f"{interpreter} lacks swe-rex or inspect-ai"

        def ask(name: str) -> None:
            sink.write(f"{name}\n")
            sink.flush()
            while source.readline().strip() != "done":
                pass

        yield {name: functools.partial(ask, name) for name in PEERS}
        process.kill()


if __name__ == "__main__":
    main()
