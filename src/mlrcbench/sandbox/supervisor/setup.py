"""How a supervisor sets up its sandbox, tier by tier.

`prepare` turns what the host process asked for into a `Place`: the confinement of children,
the way to count and end processes, and the folders that are watched and emptied. Whatever the
kernel refuses is an `OSError`, and the sandbox does not come to be.
"""

from __future__ import annotations

import os

from . import files, kernel, rules, seccomp
from .child import Confinement
from .place import SHARED_MEMORY, Place
from .process_tree import ProcessTree
from .tree import DEVICES, GPU_READABLE, SCRATCH, Tree, enter, gpu_devices

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_UID_BASE = 0x70000000
_UID_SPAN = 1 << 22  # as many as there can be process numbers


def prepare(wanted: dict[str, Any], view: dict[str, Any]) -> Place:
    """Set up a sandbox for the calling process, which becomes its supervisor.

    Args:
        wanted: `tier`, `workspace`, `readable`, `network`, `gpu`, `home`, and `uid`, a user number
            that is this sandbox's already, or None.
        view: What every sandbox of the host process may see: `system` (paths to bind),
            `masks` (paths to cover), `links`, `note`, and, for rules without a tree of its
            own, `entries` and `listed` (descriptors).

    Returns:
        The place. In tier `strong` the calling process is now another one, inside.

    Raises:
        OSError: The kernel refused, or a path does not exist.
    """
    makers = {"strong": _strong, "uid": _uid, "landlock": _landlock, "process": _process}
    place = makers[wanted["tier"]](wanted, view)
    place.guest = wanted["uid"] is not None
    if place.confinement.enabled:
        kernel.drop_bounding_set()
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    return place


def own_uid(seed: int) -> int:
    """A user number that nobody else has: far above all others, or the end of the mapped range."""
    with open("/proc/self/uid_map") as table:
        ranges = [tuple(map(int, line.split())) for line in table]
    start, _, count = max(ranges, key=lambda one: one[0] + one[2])
    if start + count > _UID_BASE + _UID_SPAN:
        return _UID_BASE + seed % _UID_SPAN
    return start + count - 1 - seed % (count // 2 or 1)


def _strong(wanted: dict[str, Any], view: dict[str, Any]) -> Place:
    root = os.geteuid() == 0
    if root and not kernel.has_capability(kernel.CAP_SYS_ADMIN):
        raise PermissionError("root has no CAP_SYS_ADMIN here, which namespaces need")
    uid = (wanted["uid"] or own_uid(os.getpid())) if root else None
    gpu_readable = list(filter(os.path.exists, GPU_READABLE)) if wanted["gpu"] else []
    tree = Tree(
        workspace=wanted["workspace"],
        readable=wanted["readable"],
        system=[*view["system"], *gpu_readable, *_resolver(wanted["network"])],
        masks=view["masks"],
        links=view["links"],
        note=view["note"],
        uid=os.getuid() if uid is None else uid,
        network=wanted["network"],
        gpu=wanted["gpu"],
    )
    proc = enter(tree, user_namespace=not root)
    if uid is not None and tree.untranslated:
        _check_reachable(uid, tree.untranslated)
    filter_code = seccomp.program(
        network=wanted["network"], own_network=not wanted["network"], own_processes=True, memfd=wanted["gpu"]
    )
    confinement = Confinement(proc, uid=uid, ruleset=_inner_rules(wanted), filter_code=filter_code)
    processes = ProcessTree(namespaced=True, uid=None, proc=proc)
    place = Place(processes, confinement, wanted["workspace"], SCRATCH[0])
    place.memory_folders = list(SCRATCH)
    place.counted_by_kernel = True
    return place


def _inner_rules(wanted: dict[str, Any]) -> rules.Ruleset | None:
    """Rules for the private tree, in which everything may be read."""
    if not rules.abi():
        return None
    ruleset = rules.Ruleset(restrict_tcp=False)
    ruleset.allow("/", rules.READ)
    ruleset.allow_all([wanted["workspace"], *SCRATCH], rules.WRITE)
    ruleset.allow_all([*DEVICES, *(gpu_devices() if wanted["gpu"] else ())], rules.DEVICE)
    if wanted["gpu"]:
        ruleset.allow("/proc", rules.OVERWRITE)
    return ruleset


def _uid(wanted: dict[str, Any], view: dict[str, Any]) -> Place:
    if not (os.geteuid() == 0 and kernel.has_capability(kernel.CAP_SETUID)):
        raise PermissionError("only root (with CAP_SETUID) can run commands as a user of their own")
    uid = wanted["uid"] or own_uid(os.getpid())
    files.give(wanted["workspace"], uid)
    _check_reachable(uid, [*wanted["must_reach"], *wanted["readable"], wanted["workspace"]])
    place = _plain(wanted, view, uid)
    place.counted_by_kernel = True
    return place


def _landlock(wanted: dict[str, Any], view: dict[str, Any]) -> Place:
    return _plain(wanted, view, None)


def _plain(wanted: dict[str, Any], view: dict[str, Any], uid: int | None) -> Place:
    """Landlock and seccomp, without namespaces."""
    _make_home(wanted["home"], uid)
    filter_code = seccomp.program(
        network=wanted["network"], own_network=False, own_processes=False, memfd=wanted["gpu"]
    )
    proc = _open_proc()
    confinement = Confinement(proc, uid=uid, ruleset=_outer_rules(wanted, view, uid), filter_code=filter_code)
    processes = ProcessTree(namespaced=False, uid=uid, proc=proc)
    return _with_own_home(Place(processes, confinement, wanted["workspace"], wanted["home"]))


def _outer_rules(wanted: dict[str, Any], view: dict[str, Any], uid: int | None) -> rules.Ruleset:
    """Rules for the machine's own tree."""
    ruleset = rules.Ruleset(restrict_tcp=not wanted["network"])
    for descriptor in view["entries"]:
        ruleset.allow_open(descriptor, rules.READ)
    for descriptor in view["listed"]:
        ruleset.allow_open(descriptor, rules.LIST)
    ruleset.allow_all([*wanted["readable"], *_resolver(wanted["network"])], rules.READ)
    ruleset.allow_all([wanted["workspace"], wanted["home"]], rules.WRITE)
    ruleset.allow_all(filter(os.path.exists, [SHARED_MEMORY]), rules.WRITE)
    ruleset.allow_all(DEVICES, rules.DEVICE)
    ruleset.allow("/proc", rules.OVERWRITE if wanted["gpu"] and uid is not None else rules.READ)
    if wanted["gpu"]:
        ruleset.allow_all(gpu_devices(), rules.DEVICE)
        ruleset.allow_all(filter(os.path.exists, GPU_READABLE), rules.READ)
    return ruleset


def _process(wanted: dict[str, Any], _view: dict[str, Any]) -> Place:
    _make_home(wanted["home"], None)
    proc = _open_proc()
    processes = ProcessTree(namespaced=False, uid=None, proc=proc)
    confinement = Confinement(proc, enabled=False)
    return _with_own_home(Place(processes, confinement, wanted["workspace"], wanted["home"]))


def _with_own_home(place: Place) -> Place:
    place.own_home = True
    place.watched.append(place.home)
    return place


def _resolver(network: bool) -> set[str]:
    """Where names are looked up: a file, often a link to another."""
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
        PermissionError: One cannot be reached or read; names the first.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            kernel.drop_privileges(uid)
            bad = [path for path in paths if not os.access(path, os.R_OK)]
            os.write(writing, "\n".join(bad[:1]).encode()[:4096])
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
