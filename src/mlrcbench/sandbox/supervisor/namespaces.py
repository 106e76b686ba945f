"""Namespaces: a private file tree, process table, network and IPC for one sandbox.

The tree is an allow-list. It starts as an empty tmpfs. Everything that is allowed is bound into it
at the path that it has outside, and only the workspace can be written to; then the old root is
detached. Files outside of the tree do not exist inside. The caller becomes process 1.

An ordinary user needs a user namespace for this. Root does not: it builds the tree with its own
privileges, and its launchers switch to another user; an id-mapped mount lets that user read
files that only root may read.
"""

from __future__ import annotations

import contextlib
import os
import socket

from . import kernel

_OLD = "/.old"
_READ_ONLY = kernel.ATTR_RDONLY | kernel.ATTR_NOSUID | kernel.ATTR_NODEV
_READ_WRITE = kernel.ATTR_NOSUID | kernel.ATTR_NODEV
_PROC_FLAGS = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
SCRATCH = ("/tmp", "/dev/shm")
_GPU_DEVICES = ("nvidia", "dri", "kfd")
GPU_READABLE = ("/sys/devices", "/sys/bus/pci", "/sys/class", "/sys/module")
_PROC_MASKED = ("/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus")


class PrivateTree:
    """The private file tree of a sandbox.

    Attributes:
        workspace: The folder that is bound writable.
        readable: Paths that are bound read-only, so that the sandbox's user can read what root can.
        system: Paths that are bound read-only with their permissions; links are made again as links.
        masks: Paths among these that are covered.
        links: Pairs of a path and its target, for links by which bound paths are also known.
        uid: Number of the user inside.
        id_map: A user namespace that translates the owners of the readable paths.
        untranslated: Readable paths on file systems whose owners cannot be translated.
        network: Whether to share the machine's network.
        gpu: Whether to bind graphics devices and let /proc, except its controls, be written to.
        note: Error that importing a masked package raises inside.
    """

    def __init__(
        self,
        *,
        workspace: str,
        readable: list[str],
        system: list[str],
        masks: list[str],
        links: list[list[str]],
        uid: int,
        network: bool,
        gpu: bool,
        note: str,
    ) -> None:
        self.workspace = workspace
        self.readable = readable
        self.system = system
        self.masks = masks
        self.links = links
        self.uid = uid
        self.network = network
        self.gpu = gpu
        self.note = note
        self.id_map: int | None = None
        self.untranslated: list[str] = []

    def build(self) -> int:
        """Make the tree and move into it; returns an open descriptor of a writable /proc.

        Raises:
            OSError: The kernel refused a step.
        """
        _detach_from_host()
        self._bind_read_only()
        self._make_etc()
        proc = self._mount_private()
        self._bind_inside_scratch()
        if not _is_scratch(self.workspace):
            self._bind(self.workspace, _READ_WRITE)
        self._cover()
        self._finish()
        return proc

    def _bind_read_only(self) -> None:
        for path in sorted(self._system(), key=len):
            if os.path.islink(_OLD + path):
                _link(os.readlink(_OLD + path), path)
            elif not _is_scratch(path):
                self._bind(path, _READ_ONLY)
        for path in sorted(self.readable, key=len):
            if not _is_scratch(path):
                self._bind(path, _READ_ONLY, self.id_map)
        for path, target in self.links:
            if not _is_scratch(path):
                _link(target, path)

    def _system(self) -> list[str]:
        """The system's paths, without the files that the tree gets its own version of."""
        own = ("/etc/passwd", "/etc/group", *(() if self.network else ("/etc/hosts",)))
        return [path for path in self.system if path not in own]

    def _bind(self, path: str, attributes: int, id_map: int | None = None) -> None:
        """Bind one path of the machine at the same path inside."""
        if os.path.isdir(_OLD + path):
            os.makedirs(path, exist_ok=True)
        elif not os.path.lexists(path):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
        if id_map is not None:
            try:
                kernel.bind(_OLD + path, path, attributes, id_map)
                return
            except OSError:  # this file system cannot translate owners: then the plain modes decide
                self.untranslated.append(path)
        kernel.bind(_OLD + path, path, attributes)

    def _make_etc(self) -> None:
        os.makedirs("/etc", exist_ok=True)
        _put("/etc/passwd", f"root:x:0:0:root:/:/bin/false\nagent:x:{self.uid}:{self.uid}::/tmp:/bin/bash\n")
        _put("/etc/group", f"root:x:0:\nagent:x:{self.uid}:\n")
        if not self.network:
            _put("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n")

    def _cover(self) -> None:
        """Cover the paths that must not be read although they lie below allowed ones."""
        if not self.masks:
            return
        os.makedirs("/.mask/package")
        os.makedirs("/.mask/empty")
        _put("/.mask/file", "")
        _put("/.mask/package/__init__.py", f"raise ImportError({self.note!r})\n")
        for path in self.masks:
            if not os.path.lexists(path):
                continue
            cover = "/.mask/file"
            if os.path.isdir(path):
                cover = "/.mask/package" if os.path.exists(f"{path}/__init__.py") else "/.mask/empty"
            kernel.bind(cover, path, _READ_ONLY)

    def _mount_private(self) -> int:
        """Mount a private /proc, /tmp and a small /dev; returns an open descriptor of a writable /proc."""
        for folder in ("/proc", "/tmp", "/dev"):
            os.makedirs(folder, exist_ok=True)
        proc = self._mount_proc()
        flags = kernel.MS_NOSUID | kernel.MS_NODEV
        kernel.mount("tmpfs", "/tmp", "tmpfs", flags, "mode=1777,size=64m")
        kernel.mount("tmpfs", "/dev", "tmpfs", kernel.MS_NOSUID | kernel.MS_NOEXEC, "mode=755,size=64k")
        for device in (*DEVICES, *(gpu_devices(_OLD) if self.gpu else ())):
            self._bind(device, kernel.ATTR_NOSUID)
        for name, target in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
            _link(f"/proc/self/fd{target}", f"/dev/{name}")
        os.mkdir("/dev/shm")
        kernel.mount("tmpfs", "/dev/shm", "tmpfs", flags, "mode=1777,size=64m")
        kernel.set_attributes(0, "/dev", kernel.ATTR_RDONLY)
        return proc

    def _mount_proc(self) -> int:
        """Mount /proc read-only; returns an open descriptor of another one, which can be written to.

        CUDA names its threads through /proc, so with a GPU only the machine's controls in it
        are read-only.
        """
        kernel.mount("proc", "/proc", "proc", _PROC_FLAGS)
        proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        if self.gpu:
            for path in _PROC_MASKED:
                if os.path.exists(path):
                    kernel.bind(path, path, _READ_ONLY)
        else:
            kernel.unmount("/proc")
            kernel.mount("proc", "/proc", "proc", _PROC_FLAGS | kernel.MS_RDONLY)
        return proc

    def _bind_inside_scratch(self) -> None:
        """Bind the paths that lie in /tmp or /dev/shm, which are private here.

        The first folder on the way becomes a separate read-only mount, so that it cannot be renamed
        or removed from inside, and is not emptied after a command.
        """
        bindings = [(path, _READ_ONLY) for path in [*self.system, *self.readable] if _is_scratch(path)]
        if _is_scratch(self.workspace):
            bindings.append((self.workspace, _READ_WRITE))
        holders = set()
        for path, _ in bindings:
            base = next(base for base in SCRATCH if path.startswith(base + "/"))
            first = os.path.join(base, path[len(base) + 1 :].split("/")[0])
            if first != path and first not in holders:
                holders.add(first)
                os.mkdir(first)
                kernel.mount("tmpfs", first, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=755,size=64k")
        for path, attributes in sorted(bindings, key=lambda binding: len(binding[0])):
            self._bind(path, attributes, self.id_map if path in self.readable else None)
        for holder in holders:
            kernel.set_attributes(0, holder, kernel.ATTR_RDONLY)

    def _finish(self) -> None:
        kernel.unmount(_OLD)
        os.rmdir(_OLD)
        kernel.set_attributes(0, "/", _READ_ONLY)
        os.chdir("/")
        socket.sethostname("sandbox")
        if not self.network:
            kernel.loopback_up()


def enter(tree: PrivateTree, *, user_namespace: bool) -> int:
    """Become process 1 of new namespaces with this tree.

    The calling process is replaced by its child: code after the call runs in the child.

    Returns:
        An open descriptor of a writable /proc inside.

    Raises:
        OSError: The kernel refused.
    """
    flags = kernel.CLONE_NEWNS | kernel.CLONE_NEWPID | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS
    flags |= 0 if tree.network else kernel.CLONE_NEWNET
    uid, gid = os.getuid(), os.getgid()
    if user_namespace:
        kernel.prctl(kernel.PR_SET_DUMPABLE, 1)  # else /proc/self belongs to root; `prepare` sets it back
        kernel.unshare(flags | kernel.CLONE_NEWUSER)
        kernel.map_ids("/proc/self", uid, uid, gid, gid)
    else:
        tree.id_map = owner_translation(tree.uid) if tree.readable else None
        kernel.unshare(flags)
    if os.fork():
        os._exit(0)
    proc = tree.build()
    if tree.id_map is not None:
        os.close(tree.id_map)
    return proc


def owner_translation(uid: int) -> int:
    """A descriptor of a user namespace in which root's files belong to `uid`."""
    ready, ready_end = os.pipe()
    done, done_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(done_end)
            kernel.unshare(kernel.CLONE_NEWUSER)
            os.write(ready_end, b"1")
            os.read(done, 1)
        finally:
            os._exit(0)
    os.close(ready_end)
    try:
        if not os.read(ready, 1):
            raise OSError("no user namespace could be made to translate the owners of readable files")
        kernel.map_ids(f"/proc/{pid}", 0, uid, 0, uid)
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        for descriptor in (ready, done, done_end):
            os.close(descriptor)
        os.waitpid(pid, 0)


def gpu_devices(root: str = "") -> list[str]:
    """Device nodes of graphics processors; `root` is the folder at which the machine's root is mounted."""
    return sorted(f"/dev/{name}" for name in os.listdir(f"{root}/dev") if name.startswith(_GPU_DEVICES))


def _detach_from_host() -> None:
    """Put an empty tmpfs at the root; the host's tree stays mounted at another path for now."""
    kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("tmpfs", "/tmp", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=755,size=1m")
    os.mkdir("/tmp" + _OLD)
    kernel.pivot_root("/tmp", "/tmp" + _OLD)
    os.chdir("/")


def _is_scratch(path: str) -> bool:
    return path.startswith(("/tmp/", "/dev/shm/"))


def _link(target: str, path: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.symlink(target, path)


def _put(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)
