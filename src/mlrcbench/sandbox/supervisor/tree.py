"""Namespaces: a private file tree, process table, network and IPC for one sandbox.

The tree is an allow-list. It starts as an empty tmpfs; what is allowed is bound into it at
the path that it has outside, read-only but for the workspace; then the old root is detached.
What is not in the tree does not exist inside. The caller ends up as process 1.

An ordinary user gets here through a user namespace. Root does not need one: it builds the
tree with its own privileges and its children switch to a user of their own; files that only
root may read are shown to that user through an id-mapped mount.
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


class Tree:
    """What the private tree of a sandbox contains.

    Attributes:
        workspace: Bound writable.
        readable: Bound read-only, readable for the sandbox's user if root could read them.
        system: Bound read-only as they are; links are made again as links.
        masks: Paths in the above that are covered.
        links: Pairs of a path and what it points to, for names by which bound paths are known.
        uid: User number inside.
        id_map: A user namespace that translates the owners of what is readable.
        untranslated: What lies on file systems that cannot be translated.
        network: Share the machine's network.
        gpu: Bind graphics devices, and let /proc be written to (but its controls).
        note: Text of the module that covers a masked package.
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
        """Make the tree and move into it; an open, writable view of the new /proc.

        Raises:
            OSError: The kernel refused a step.
        """
        _detach_from_host()
        self._bind_read_only()
        self._make_etc()
        proc = self._mount_own()
        for path in self._inside_scratch(writable=True):
            self._place(path, _READ_WRITE)
        self._cover()
        self._finish()
        return proc

    def _bind_read_only(self) -> None:
        for path in sorted(self._system(), key=len):
            if os.path.islink(_OLD + path):
                _link(os.readlink(_OLD + path), path)
            elif not _is_scratch(path):
                self._place(path, _READ_ONLY)
        for path in sorted(self.readable, key=len):
            if not _is_scratch(path):
                self._place(path, _READ_ONLY, self.id_map)
        for path, target in self.links:
            if not _is_scratch(path):
                _link(target, path)

    def _system(self) -> list[str]:
        """The system's paths, without the files that are written anew."""
        own = ("/etc/passwd", "/etc/group", *(() if self.network else ("/etc/hosts",)))
        return [path for path in self.system if path not in own]

    def _place(self, path: str, attributes: int, id_map: int | None = None) -> None:
        """Bind one path at the same path inside."""
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
        """Cover what must not be read although it lies in something allowed."""
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

    def _mount_own(self) -> int:
        """Mount what is private: /proc, /tmp and a small /dev."""
        for folder in ("/proc", "/tmp", "/dev"):
            os.makedirs(folder, exist_ok=True)
        proc = self._mount_proc()
        flags = kernel.MS_NOSUID | kernel.MS_NODEV
        kernel.mount("tmpfs", "/tmp", "tmpfs", flags, "mode=1777,size=64m")
        kernel.mount("tmpfs", "/dev", "tmpfs", kernel.MS_NOSUID | kernel.MS_NOEXEC, "mode=755,size=64k")
        for device in (*DEVICES, *(gpu_devices(_OLD) if self.gpu else ())):
            self._place(device, kernel.ATTR_NOSUID)
        for name, target in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
            _link(f"/proc/self/fd{target}", f"/dev/{name}")
        os.mkdir("/dev/shm")
        kernel.mount("tmpfs", "/dev/shm", "tmpfs", flags, "mode=1777,size=64m")
        kernel.set_attributes(0, "/dev", kernel.ATTR_RDONLY)
        return proc

    def _mount_proc(self) -> int:
        """A view of /proc that can be written to stays open; the visible one is read-only.

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

    def _inside_scratch(self, *, writable: bool) -> list[str]:
        """Bind what lies in /tmp or /dev/shm, which are private here; then name the rest.

        The first folder on the way becomes a read-only mount of its own, so that it cannot
        be renamed or removed from inside, and is not emptied after a command.
        """
        wanted = [(path, _READ_ONLY) for path in [*self.system, *self.readable] if _is_scratch(path)]
        if _is_scratch(self.workspace):
            wanted.append((self.workspace, _READ_WRITE))
        holders = set()
        for path, _ in wanted:
            base = next(base for base in SCRATCH if path.startswith(base + "/"))
            first = os.path.join(base, path[len(base) + 1 :].split("/")[0])
            if first != path and first not in holders:
                holders.add(first)
                os.mkdir(first)
                kernel.mount("tmpfs", first, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=755,size=64k")
        for path, attributes in sorted(wanted, key=lambda one: len(one[0])):
            self._place(path, attributes, self.id_map if path in self.readable else None)
        for holder in holders:
            kernel.set_attributes(0, holder, kernel.ATTR_RDONLY)
        return [] if _is_scratch(self.workspace) else [self.workspace]

    def _finish(self) -> None:
        kernel.unmount(_OLD)
        os.rmdir(_OLD)
        kernel.set_attributes(0, "/", _READ_ONLY)
        os.chdir("/")
        socket.sethostname("sandbox")
        if not self.network:
            kernel.loopback_up()


def enter(tree: Tree, *, user_namespace: bool) -> int:
    """Become process 1 of new namespaces that show this tree.

    The calling process is replaced by a child of it: code after the call runs in the child.

    Returns:
        An open, writable view of the new /proc.

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
    """A user namespace, as a descriptor, in which root's files are those of `uid`."""
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
    """Device nodes of graphics processors; `root` is where the machine's root is found."""
    return sorted(f"/dev/{name}" for name in os.listdir(f"{root}/dev") if name.startswith(_GPU_DEVICES))


def _detach_from_host() -> None:
    """Put an empty tmpfs at the root; the host's tree stays at a side path for the moment."""
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
