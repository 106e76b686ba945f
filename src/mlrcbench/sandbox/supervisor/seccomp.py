"""Seccomp: the system calls that confined processes may not use.

The filter is a deny list: calls that useful programs need are allowed; calls that reach other
processes, other namespaces or rarely tested parts of the kernel are refused. Refused calls fail
with EPERM; those that libraries can do without fail with ENOSYS, and sockets with EAFNOSUPPORT.
A program of another architecture is killed.

Without a private file tree, connecting is handed to the supervisor (see `connections`): only a socket
with a path in the sandbox's own folders can be connected to. Sockets that could send to an address
without connecting cannot be made.

The filter does not make the allowed calls safe, and it cannot look at memory, so calls whose
arguments lie behind a pointer are allowed or refused as a whole.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import struct

from . import kernel

_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32_BIT = 0x40000000
_ALLOW, _KILL, _ERRNO, _NOTIFY = 0x7FFF0000, 0x80000000, 0x00050000, 0x7FC00000
_LOAD, _AND, _JEQ, _JGE, _JSET, _RET = 0x20, 0x54, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16

# name: (x86_64, aarch64); None where the architecture has no such call
_REFUSED: dict[str, tuple[int | None, int | None]] = {
    # mounts and namespaces
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51),
    "move_mount": (429, 429), "open_tree": (428, 428), "fsopen": (430, 430), "fsconfig": (431, 431),
    "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442), "open_tree_attr": (467, 467),
    "unshare": (272, 97), "setns": (308, 268),
    # the machine
    "swapon": (167, 224), "swapoff": (168, 225), "reboot": (169, 142), "sethostname": (170, 161),
    "setdomainname": (171, 162), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "kexec_load": (246, 104), "kexec_file_load": (320, 294),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "adjtimex": (159, 171),
    "clock_adjtime": (305, 266), "vhangup": (153, 58), "iopl": (172, None), "ioperm": (173, None),
    "modify_ldt": (154, None), "syslog": (103, 116), "acct": (163, 89), "quotactl": (179, 60),
    "quotactl_fd": (443, 443), "fanotify_init": (300, 262), "uselib": (134, None), "sysfs": (139, None),
    # other processes
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "process_madvise": (440, 440), "process_mrelease": (448, 448), "pidfd_getfd": (438, 438),
    "kcmp": (312, 272), "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    # keys and handles
    "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218),
    "open_by_handle_at": (304, 265), "name_to_handle_at": (303, 264), "lookup_dcookie": (212, 18),
    # System V and POSIX message queues: kernel objects that outlive a process
    "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195), "shmdt": (67, 197),
    "semget": (64, 190), "semop": (65, 193), "semtimedop": (220, 192), "semctl": (66, 191),
    "msgget": (68, 186), "msgsnd": (69, 189), "msgrcv": (70, 188), "msgctl": (71, 187),
    "mq_open": (240, 180), "mq_unlink": (241, 181), "mq_timedsend": (242, 182),
    "mq_timedreceive": (243, 183), "mq_notify": (244, 184), "mq_getsetattr": (245, 185),
}  # fmt: skip
# Libraries fall back when these do not exist. memfd: memory that no limit of a process counts.
_ABSENT: dict[str, tuple[int | None, int | None]] = {
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "clone3": (435, 435), "memfd_secret": (447, 447),
    # they take from a supply that the whole machine, or all processes of a user, share
    "io_setup": (206, 0), "inotify_init": (253, None), "inotify_init1": (294, 26),
    # they tell which pages of a shared file were read before
    "mincore": (27, 232), "cachestat": (451, 451),
}  # fmt: skip
_MEMFD_CREATE = (319, 279)
# Calls that name another process in an argument: only 0, the caller itself, passes.
_ONLY_SELF: dict[str, tuple[tuple[int, int], int]] = {
    "prlimit64": ((302, 261), 0), "sched_setscheduler": ((144, 119), 0), "sched_setparam": ((142, 118), 0),
    "sched_setattr": ((314, 274), 0), "setpriority": ((141, 140), 1), "ioprio_set": ((251, 30), 1),
    "migrate_pages": ((256, 238), 0), "move_pages": ((279, 239), 0),
}  # fmt: skip
# Calls whose first argument says whether the next one names a process, a group or a user: a process passes.
_ONLY_PROCESSES: dict[str, tuple[tuple[int, int], int]] = {
    "setpriority": ((141, 140), 0),
    "ioprio_set": ((251, 30), 1),
}
_SCHED_SETAFFINITY, _CLONE, _IOCTL, _PERSONALITY = (203, 122), (56, 220), (16, 29), (135, 92)
_SOCKET, _SOCKETPAIR, _CONNECT, _FCNTL = (41, 198), (53, 199), (42, 203), (72, 25)
_SETSOCKOPT = (54, 208)
_SOL_SOCKET, _BUFFER_SIZES = 1, (7, 8, 32, 33)
_PREADV2, _PWRITEV2 = (327, 286), (328, 287)
_NAMESPACE_FLAGS = 0x7E020000
_TERMINAL_INJECTION = (0x5412, 0x541C, 0x5423)  # TIOCSTI, TIOCLINUX, TIOCSETD
_HARMLESS_PERSONALITIES = (0, 0xFFFFFFFF, 0x0040000)
_UNIX, _INET, _INET6, _NETLINK = 1, 2, 10, 16
_STREAM, _SEQPACKET, _TYPES = 1, 5, 0xF
_SETLEASE, _NOTIFICATION = 1024, 1026  # other processes wait for the holder of a lease, or are watched
_SECCOMP, _SET_FILTER, _NEW_LISTENER = (317, 277), 1, 8
_alive: list[object] = []
_NOWAIT = 8  # fails where a page of a file was not read before


@functools.cache
def program(*, network: bool, namespaced: bool, memfd: bool) -> bytes:
    """The filter, in the form that the kernel takes.

    Args:
        network: Whether the machine's network may be used.
        namespaced: Whether the sandbox has namespaces: a private tree, where no socket of the host has
            a path, and a table of processes in which process 1 is the supervisor.
        memfd: Whether anonymous files in memory may be made (CUDA needs them).

    Raises:
        OSError: The calls' numbers on this architecture are not known.
    """
    if kernel.ARCHITECTURE not in _AUDIT_ARCH:
        raise OSError(f"seccomp has no table for {kernel.ARCHITECTURE!r}; known: x86_64, aarch64")
    column = list(_AUDIT_ARCH).index(kernel.ARCHITECTURE)
    code = [(_LOAD, 0, 0, _ARCH), (_JEQ, 1, 0, _AUDIT_ARCH[kernel.ARCHITECTURE]), (_RET, 0, 0, _KILL)]
    code.append((_LOAD, 0, 0, _NUMBER))
    if kernel.ARCHITECTURE == "x86_64":
        code += [(_JGE, 0, 1, _X32_BIT), _refuse(errno.ENOSYS)]
    for numbers in _REFUSED.values():
        code += _always(numbers[column], errno.EPERM)
    for numbers in _ABSENT.values():
        code += _always(numbers[column], errno.ENOSYS)
    if not memfd:
        code += _always(_MEMFD_CREATE[column], errno.ENOSYS)
    for numbers, process in _ONLY_PROCESSES.values():
        code += _unless(numbers[column], 0, process, errno.EPERM)
    for numbers, argument in _ONLY_SELF.values():
        code += _one_of(numbers[column], argument, (0,), errno.EPERM)
    code += _special(column, network=network, namespaced=namespaced)
    code.append((_RET, 0, 0, _ALLOW))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def install(filter_code: bytes) -> None:
    """Apply a filter to this process for good, which must have set no_new_privs."""
    kernel.prctl(kernel.PR_SET_SECCOMP, 2, _header(filter_code))


def install_supervised(filter_code: bytes) -> int:
    """Apply a filter that hands calls to the supervisor; returns the descriptor that it answers through."""
    number = _SECCOMP[list(_AUDIT_ARCH).index(kernel.ARCHITECTURE)]
    return kernel.syscall("seccomp", number, _SET_FILTER, _NEW_LISTENER, _header(filter_code))


def _header(filter_code: bytes) -> ctypes.c_void_p:
    """The address of a filter's length and its address; both live as long as the process."""
    buffer = ctypes.create_string_buffer(filter_code, len(filter_code))
    header = struct.pack("@HP", len(filter_code) // 8, ctypes.addressof(buffer))
    block = ctypes.create_string_buffer(header, len(header))
    _alive.extend((buffer, block))
    return ctypes.c_void_p(ctypes.addressof(block))


_Code = list[tuple[int, int, int, int]]


def _special(column: int, *, network: bool, namespaced: bool) -> _Code:
    code: _Code = []
    if namespaced:
        code += _none_of(_SCHED_SETAFFINITY[column], 0, (1,), errno.EPERM)
    else:
        code += _one_of(_SCHED_SETAFFINITY[column], 0, (0,), errno.EPERM)
    code += _no_bits(_CLONE[column], 0, _NAMESPACE_FLAGS, errno.EPERM)
    code += _none_of(_IOCTL[column], 1, _TERMINAL_INJECTION, errno.EPERM)
    code += _one_of(_PERSONALITY[column], 0, _HARMLESS_PERSONALITIES, errno.EPERM)
    code += _none_of(_FCNTL[column], 1, (_SETLEASE, _NOTIFICATION), errno.EPERM)
    for call in (_PREADV2, _PWRITEV2):
        code += _no_bits(call[column], 5, _NOWAIT, errno.EOPNOTSUPP)
    code += _keep_buffers(_SETSOCKOPT[column])
    return code + _sockets(column, network=network, namespaced=namespaced)


def _sockets(column: int, *, network: bool, namespaced: bool) -> _Code:
    """Which sockets may be made, and connected.

    Without a private tree, sockets of the host can be reached by their paths. So either there are
    no unix sockets but pairs, or they are streams, which the supervisor connects.
    """
    if namespaced:
        return _one_of(_SOCKET[column], 0, (_UNIX, _INET, _INET6, _NETLINK), errno.EAFNOSUPPORT)
    pairs = _type_of(_SOCKETPAIR[column], (_STREAM, _SEQPACKET))
    if network:
        return pairs + _one_of(_SOCKET[column], 0, (_INET, _INET6, _NETLINK), errno.EAFNOSUPPORT)
    code = pairs + _unless(_SOCKET[column], 0, _UNIX, errno.EAFNOSUPPORT)
    code += _type_of(_SOCKET[column], (_STREAM,))
    return [*code, (_JEQ, 0, 1, _CONNECT[column]), (_RET, 0, 0, _NOTIFY)]


def _keep_buffers(call: int) -> _Code:
    """Requests for other sizes of a socket's buffers do nothing: each has the size that is counted."""
    allow = (_RET, 0, 0, _ALLOW)
    level = [_argument(1), *_match((_SOL_SOCKET,)), allow]
    return _block(call, [*level, _argument(2), *_match(_BUFFER_SIZES), allow, _refuse(0)])


def _refuse(number: int) -> tuple[int, int, int, int]:
    return (_RET, 0, 0, _ERRNO | number)


def _always(call: int | None, error: int) -> _Code:
    return [] if call is None else [(_JEQ, 0, 1, call), _refuse(error)]


def _argument(index: int) -> tuple[int, int, int, int]:
    return (_LOAD, 0, 0, _ARGUMENTS + 8 * index)  # the low half: both machines are little-endian


def _block(call: int | None, body: _Code) -> _Code:
    """Instructions that run `body`, which always returns, for one call only."""
    return [] if call is None else [(_JEQ, 0, len(body), call), *body]


def _one_of(call: int | None, index: int, values: tuple[int, ...], error: int) -> _Code:
    return _block(call, [_argument(index), *_match(values), _refuse(error), (_RET, 0, 0, _ALLOW)])


def _none_of(call: int | None, index: int, values: tuple[int, ...], error: int) -> _Code:
    return _block(call, [_argument(index), *_match(values), (_RET, 0, 0, _ALLOW), _refuse(error)])


def _type_of(call: int | None, types: tuple[int, ...]) -> _Code:
    """Allow a call only if its second argument, without flags, is one of these types of sockets."""
    tests = [_argument(1), (_AND, 0, 0, _TYPES), *_match(types)]
    return _block(call, [*tests, _refuse(errno.EPROTONOSUPPORT), (_RET, 0, 0, _ALLOW)])


def _match(values: tuple[int, ...]) -> _Code:
    """Instructions that skip the one after them if a value matches."""
    return [(_JEQ, len(values) - at, 0, value) for at, value in enumerate(values)]


def _no_bits(call: int | None, index: int, bits: int, error: int) -> _Code:
    body = [_argument(index), (_JSET, 0, 1, bits), _refuse(error), (_RET, 0, 0, _ALLOW)]
    return _block(call, body)


def _unless(call: int, index: int, value: int, error: int) -> _Code:
    """Refuse a call unless an argument has a value; instructions that come later decide about the rest."""
    number = (_LOAD, 0, 0, _NUMBER)
    return [(_JEQ, 0, 4, call), _argument(index), (_JEQ, 1, 0, value), _refuse(error), number]
