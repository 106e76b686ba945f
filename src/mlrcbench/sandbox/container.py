"""An optional backend that runs each command in a fresh container of docker or podman.

The image must contain bash, and an interpreter (`python3`) with the packages that the competition
needs, because the host's interpreter does not exist inside. The environment variable
MLRCBENCH_IMAGE holds the image's name. Containers start in a few tenths of a second, a hundred
times as long as the other backends take; they are for machines where nothing else is allowed,
and for users who need a particular image.

The container is started in the foreground under the same supervisor. When a command is ended
from outside, the engine is told to remove the container by name, because killing the engine's
client does not end what it started. With docker, whose containers belong to a daemon, "no
process is left" rests on that call.

This backend has been run with podman as root. With docker, with podman as an ordinary user, and
with a GPU it has not been run; for these, only the command line is tested.
"""

from __future__ import annotations

import functools
import os
import secrets
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from mlrcbench.errors import SandboxError
from mlrcbench.sandbox import fork_client
from mlrcbench.sandbox.contract import ExecResult, Isolation, Limits, Policy
from mlrcbench.sandbox.supervised import SupervisedSandbox

IMAGE_VARIABLE = "MLRCBENCH_IMAGE"
_ENGINES = ("podman", "docker")
_CLIENT_VARIABLES = (
    "PATH",
    "HOME",
    "XDG_RUNTIME_DIR",
    "XDG_DATA_HOME",
    "XDG_CONFIG_HOME",
    "DOCKER_HOST",
    "CONTAINERS_CONF",
)
_SECONDS = 60.0
# Engines pass on no descriptors but the standard ones, so that a channel goes through their client's standard
# input and output, and the command's output through its standard error.
_OUTSIDE = 'exec "$@" <&3 >&4 3<&- 4>&-'
_INSIDE = "exec 3<&0 4>&1 0</dev/null 1>&2; exec bash --norc --noprofile -c {command}"
ISOLATION = Isolation(
    "container",
    (
        "environment variables of the host process are not passed on",
        "files: only the image, named data and the workspace exist inside; the image is read-only",
        "processes: those outside cannot be seen, traced or signalled; their number is limited",
        "network: none",
        "privileges: none can be gained; every capability is dropped",
        "wall time, output, memory and the workspace's size are limited",
    ),
    (
        "system calls are filtered by the engine's default profile",
        "what the engine itself does as root is trusted",
        "CPU time is not counted; a command has its wall time",
        "commands run as the host's user; for root that is root without capabilities",
        "the kernel's own bugs, and side channels such as timing and load, are not covered",
    ),
)


class ContainerSandbox(SupervisedSandbox):
    """Runs each command in a container. It runs no jobs."""

    runs_jobs = False

    def __init__(self, policy: Policy) -> None:
        """Check that an engine and an image are available.

        Raises:
            SandboxError: One of them is missing, or no container starts.
        """
        if reason := unavailable():
            raise SandboxError(reason)
        super().__init__("process", policy)
        self._name = ""
        self._limits = Limits(seconds=0)
        self._played = False

    @property
    def isolation(self) -> Isolation:
        """What a container enforces."""
        if self._policy.network:
            enforced = tuple(line for line in ISOLATION.enforced if not line.startswith("network"))
            return Isolation("container", enforced, (*ISOLATION.missing, "network: open"))
        return ISOLATION

    def run(
        self,
        command: str,
        limits: Limits,
        *,
        log: Path | None = None,
        channel: tuple[int, int] | None = None,
    ) -> ExecResult:
        """See `Sandbox.run`; the container is removed afterwards, however the command ended."""
        self._name = f"mlrcbench-{secrets.token_hex(8)}"
        self._limits = limits
        self._played = channel is not None
        result = None
        try:
            result = super().run(command, limits, log=log, channel=channel)
        finally:
            if result is None or result.ending != "exited":
                _remove(self._name)
        if result.exit_status == 125:  # the engine's own failure, by its convention
            raise SandboxError(
                f"the container engine failed: {(result.head + result.tail).decode(errors='replace')}"
            )
        return result

    def _env(self, limits: Limits, home: str) -> dict[str, str]:
        """What the engine's client needs; nothing of it reaches the container."""
        return {name: value for name, value in os.environ.items() if name in _CLIENT_VARIABLES}

    def _argv(self, command: str) -> list[str]:
        arguments = run_arguments(
            _engine(),
            image(),
            name=self._name,
            command=_INSIDE.format(command=shlex.quote(command)) if self._played else command,
            workspace=self._workspace,
            readable=self._readable,
            policy=self._policy,
            limits=self._limits,
        )
        if not self._played:
            return arguments
        arguments.insert(2, "--interactive")
        return [fork_client.bash(), "--norc", "--noprofile", "-c", _OUTSIDE, "bash", *arguments]


def run_arguments(
    engine: str,
    image_name: str,
    *,
    name: str,
    command: str,
    workspace: str,
    readable: list[str],
    policy: Policy,
    limits: Limits,
) -> list[str]:
    """The command line that runs one command in a container.

    Args:
        engine: Path of docker or podman.
        image_name: Name of the image.
        name: Name of the container.
        command: The command for `bash -c`.
        workspace: The folder that is mounted writable, at the same path.
        readable: Paths that are mounted read-only, at the same paths.
        policy: Whether network and GPU may be used.
        limits: Limits of memory, processes and file size.
    """
    arguments = [engine, "run", "--rm", "--name", name, "--init", "--read-only", "--pull", "never"]
    arguments += ["--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--hostname", "sandbox"]
    arguments += ["--network", "bridge" if policy.network else "none"]
    arguments += ["--memory", str(limits.memory_bytes), "--pids-limit", str(limits.processes)]
    # Engines raise limits that are not named to the machine's highest, which they may not always do.
    ulimits = (
        "core=0:0",
        f"fsize={limits.file_bytes}:{limits.file_bytes}",
        "nofile=4096:4096",
        "nproc=4096:4096",
    )
    for limit in ulimits:
        arguments += ["--ulimit", limit]
    arguments += ["--tmpfs", f"/tmp:rw,nosuid,nodev,size={limits.memory_bytes}", "--env", "HOME=/tmp"]
    arguments += ["--user", f"{os.getuid()}:{os.getgid()}"]
    if os.path.basename(engine) == "podman":
        arguments += ["--userns", "keep-id"] if os.geteuid() else []
    for name_and_value in (
        f"OMP_NUM_THREADS={limits.threads}",
        "PYTHONHASHSEED=0",
        "PYTHONDONTWRITEBYTECODE=1",
    ):
        arguments += ["--env", name_and_value]
    if policy.gpu:
        arguments += (
            ["--gpus", "all"] if os.path.basename(engine) == "docker" else ["--device", "nvidia.com/gpu=all"]
        )
    arguments += ["--volume", f"{workspace}:{workspace}:rw", "--workdir", workspace]
    for path in readable:
        arguments += ["--volume", f"{path}:{path}:ro"]
    return [*arguments, image_name, "bash", "--norc", "--noprofile", "-c", command]


def image() -> str:
    """Name of the image to use; empty if the variable is not set."""
    return os.environ.get(IMAGE_VARIABLE, "")


def unavailable() -> str:
    """Why containers cannot be used here; empty if they can."""
    if not image():
        return f"no image is named: set {IMAGE_VARIABLE} to an image that has bash and python3"
    if not any(map(shutil.which, _ENGINES)):
        return "there is neither podman nor docker on this machine"
    return _start_failure(image())


@functools.cache
def _start_failure(image_name: str) -> str:
    """Why a container of this image does not start, after trying to start one; empty if it does."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = run_arguments(
            _engine(),
            image_name,
            name=f"mlrcbench-{secrets.token_hex(8)}",
            command="true",
            workspace=folder,
            readable=[],
            policy=Policy(Path(folder)),
            limits=Limits(seconds=_SECONDS),
        )
        try:
            trial = subprocess.run(
                arguments,
                capture_output=True,
                text=True,
                timeout=_SECONDS,
                stdin=subprocess.DEVNULL,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"the container engine could not be run: {error}"
    return (
        ""
        if trial.returncode == 0
        else f"no container of {image_name!r} starts: {trial.stderr.strip()[-500:]}"
    )


def _engine() -> str:
    for name in _ENGINES:
        if path := shutil.which(name):
            return path
    raise SandboxError("there is neither podman nor docker on this machine")


def _remove(name: str) -> None:
    try:
        subprocess.run(
            [_engine(), "rm", "--force", name],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SandboxError(f"the container {name} could not be removed: {error}") from error
