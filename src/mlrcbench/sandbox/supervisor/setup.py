"""How a supervisor sets up its sandbox, tier by tier.

`prepare` turns the host process's request into a `Box`: the confinement of launchers, the way to
count and end processes, and the folders that are watched and emptied. Whatever the kernel refuses
raises an `OSError`, and no sandbox is made.
"""

from __future__ import annotations

import contextlib
import os

from . import disk, kernel, landlock, seccomp
from .box import SHARED_MEMORY, Box
from .launcher import Confinement
from .namespaces import DEVICES, GPU_READABLE, SCRATCH, PrivateTree, enter, gpu_devices
from .process_tree import ProcessTree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_UID_BASE = 0x70000000
_UID_SPAN = 1 << 22  # how many process numbers there can be


def prepare(request: dict[str, Any], view: dict[str, Any]) -> Box:
    """Set up a sandbox for the calling process, which becomes its supervisor.

    Args:
        request: `tier`, `workspace`, `readable`, `network`, `gpu`, `home`, `must_reach`, and `uid`,
            a user number that this sandbox has already, or None.
        view: What every sandbox of the host process may read: `system` (paths to bind),
            `masks` (paths to cover), `links`, `note`, and, for Landlock rules without a private
            tree, `entries` and `listed` (descriptors); and `groups`, where control groups can be made.

    Returns:
        The sandbox that is set up. In tier `strong` the call returns in another process, inside.

    Raises:
        OSError: The kernel refused, or a path does not exist.
    """
    makers = {"strong": _strong, "uid": _uid, "landlock": _landlock, "process": _process}
    name = f"{os.getppid()}-{os.getpid()}"  # in tier strong this process has another number later
    box = makers[request["tier"]](request, view)
    box.groups, box.group_name = view["groups"], name
    box.guest = request["uid"] is not None
    if box.confinement.enabled:
        kernel.drop_bounding_set()
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    return box


def own_uid(seed: int) -> int:
    """A user number that no other user has: far above all others, or at the end of the mapped range."""
    with open("/proc/self/uid_map") as table:
        ranges = [tuple(map(int, line.split())) for line in table]
    start, _, count = max(ranges, key=lambda row: row[0] + row[2])
    if start + count > _UID_BASE + _UID_SPAN:
        return _UID_BASE + seed % _UID_SPAN
    return start + count - 1 - seed % (count // 2 or 1)


def _strong(request: dict[str, Any], view: dict[str, Any]) -> Box:
    root = os.geteuid() == 0
    if root and not kernel.has_capability(kernel.CAP_SYS_ADMIN):
        raise PermissionError("root has no CAP_SYS_ADMIN here, which namespaces need")
    uid = (request["uid"] or own_uid(os.getpid())) if root else None
    gpu_readable = list(filter(os.path.exists, GPU_READABLE)) if request["gpu"] else []
    tree = PrivateTree(
        workspace=request["workspace"],
        readable=request["readable"],
        system=[*view["system"], *gpu_readable, *_resolver(request["network"])],
        masks=view["masks"],
        links=view["links"],
        note=view["note"],
        uid=os.getuid() if uid is None else uid,
        network=request["network"],
        gpu=request["gpu"],
    )
    proc = enter(tree, user_namespace=not root)
    if uid is not None and tree.untranslated:
        _check_reachable(uid, tree.untranslated)
    filter_code = seccomp.program(network=request["network"], namespaced=True, memfd=request["gpu"])
    confinement = Confinement(proc, uid=uid, ruleset=_inner_rules(request), filter_code=filter_code)
    processes = ProcessTree(namespaced=True, uid=None, proc=proc)
    box = Box(processes, confinement, request["workspace"], SCRATCH[0])
    box.memory_folders = list(SCRATCH)
    box.counted_by_kernel = True
    box.own_network = not request["network"]
    if box.own_network:
        _bound_buffers()
    return box


def _bound_buffers() -> None:
    """Let no TCP socket of the own network have more than the default buffers of other sockets."""
    for name in ("tcp_rmem", "tcp_wmem"):
        with contextlib.suppress(OSError), open(f"/proc/sys/net/ipv4/{name}", "w") as setting:
            setting.write("4096 65536 212992")


def _inner_rules(request: dict[str, Any]) -> landlock.Ruleset | None:
    """Landlock rules for the private tree, in which everything may be read."""
    if not landlock.abi():
        return None
    ruleset = landlock.Ruleset(restrict_tcp=False)
    ruleset.allow("/", landlock.READ)
    ruleset.allow_all([request["workspace"], *SCRATCH], landlock.WRITE)
    ruleset.allow_all([*DEVICES, *(gpu_devices() if request["gpu"] else ())], landlock.DEVICE)
    if request["gpu"]:
        ruleset.allow("/proc", landlock.OVERWRITE)
    return ruleset


def _uid(request: dict[str, Any], view: dict[str, Any]) -> Box:
    if not (os.geteuid() == 0 and kernel.has_capability(kernel.CAP_SETUID)):
        raise PermissionError("only root (with CAP_SETUID) can run commands as another user")
    uid = request["uid"] or own_uid(os.getpid())
    disk.give(request["workspace"], uid)
    _check_reachable(uid, [*request["must_reach"], *request["readable"], request["workspace"]])
    box = _plain(request, view, uid)
    box.counted_by_kernel = True
    return box


def _landlock(request: dict[str, Any], view: dict[str, Any]) -> Box:
    return _plain(request, view, None)


def _plain(request: dict[str, Any], view: dict[str, Any], uid: int | None) -> Box:
    """A sandbox of Landlock and seccomp, without namespaces."""
    _make_home(request["home"], uid)
    network = request["network"]
    filter_code = seccomp.program(network=network, namespaced=False, memfd=request["gpu"])
    proc = _open_proc()
    ruleset = _outer_rules(request, view, uid)
    confinement = Confinement(
        proc, uid=uid, ruleset=ruleset, filter_code=filter_code, asks_to_connect=not network
    )
    processes = ProcessTree(namespaced=False, uid=uid, proc=proc)
    return _with_own_home(Box(processes, confinement, request["workspace"], request["home"]))


def _outer_rules(request: dict[str, Any], view: dict[str, Any], uid: int | None) -> landlock.Ruleset:
    """Landlock rules for the machine's own tree."""
    ruleset = landlock.Ruleset(restrict_tcp=not request["network"])
    for descriptor in view["entries"]:
        ruleset.allow_open(descriptor, landlock.READ)
    for descriptor in view["listed"]:
        ruleset.allow_open(descriptor, landlock.LIST)
    ruleset.allow_all([*request["readable"], *_resolver(request["network"])], landlock.READ)
    ruleset.allow_all([request["workspace"], request["home"]], landlock.WRITE)
    ruleset.allow_all(filter(os.path.exists, [SHARED_MEMORY]), landlock.WRITE)
    ruleset.allow_all(DEVICES, landlock.DEVICE)
    ruleset.allow("/proc", landlock.OVERWRITE if request["gpu"] and uid is not None else landlock.READ)
    if request["gpu"]:
        ruleset.allow_all(gpu_devices(), landlock.DEVICE)
        ruleset.allow_all(filter(os.path.exists, GPU_READABLE), landlock.READ)
    return ruleset


def _process(request: dict[str, Any], _view: dict[str, Any]) -> Box:
    _make_home(request["home"], None)
    proc = _open_proc()
    processes = ProcessTree(namespaced=False, uid=None, proc=proc)
    confinement = Confinement(proc, enabled=False)
    return _with_own_home(Box(processes, confinement, request["workspace"], request["home"]))


def _with_own_home(box: Box) -> Box:
    box.own_home = True
    box.watched.append(box.home)
    return box


def _resolver(network: bool) -> set[str]:
    """The file that says how names are looked up, and the file that it may be a link to."""
    path = "/etc/resolv.conf"
    return {path, os.path.realpath(path)} if network and os.path.exists(path) else set()


def _open_proc() -> int:
    return os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _make_home(path: str, uid: int | None) -> None:
    os.mkdir(path, 0o700)
    if uid is not None:
        os.chown(path, uid, uid)


def _check_reachable(uid: int, paths: list[str]) -> None:
    """Raise unless a user can read all of these paths.

    Raises:
        PermissionError: One cannot be reached or read; the text names the first.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            kernel.drop_privileges(uid)
            unreadable = [path for path in paths if not os.access(path, os.R_OK)]
            os.write(writing, "\n".join(unreadable[:1]).encode()[:4096])
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as answer:
        path = answer.read().decode()
    os.waitpid(pid, 0)
    if path:
        raise PermissionError(
            f"{path} cannot be read by a user other than root. Make it and the folders above it readable "
            f"(chmod a+rX), or use sandbox='strong'"
        )
