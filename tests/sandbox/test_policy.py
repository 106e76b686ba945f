"""What commands can reach, and what they cannot."""

from __future__ import annotations

import os
import shlex
import socket
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

import mlrcbench
from mlrcbench.errors import SandboxError
from mlrcbench.sandbox import Policy, Sandbox
from mlrcbench.sandbox.supervised import SupervisedSandbox
from tests.sandbox.conftest import LIMITS, Run, open_or_skip, text

PYTHON = f"{sys.executable} -I -S"


def script(code: str) -> str:
    """A command that runs this Python code."""
    return f"{PYTHON} -c {shlex.quote(textwrap.dedent(code))}"


def test_workspace_is_writable(run: Run, space: Path) -> None:
    """Commands can make, move, link and remove files, and the host can read and remove them."""
    assert (
        run(
            "mkdir a b; echo x > a/f; mv a/f b/f; ln b/f b/g; ln -s f b/h; rm b/g; mkdir -m 700 c"
        ).exit_status
        == 0
    )
    assert (space / "b" / "h").read_text() == "x\n"
    (space / "b" / "f").write_text("host\n")
    (space / "new").write_text("host\n")
    assert text(run("cat b/f; echo more >> new; cat new; rm -r b")) == "host\nhost\nmore\n"


def test_data_is_readable_only(run: Run, data: Path, space: Path) -> None:
    """Named data can be read, also through a link, and cannot be changed in any way."""
    (space / "data").symlink_to(data)
    assert text(run(f"cat {data}/train.csv data/train.csv")) == "1,2\n1,2\n"
    for attempt in (
        "echo x > {}/train.csv",
        "touch {}/new",
        "rm {}/train.csv",
        "mv {}/train.csv {}/x",
        "truncate -s0 {}/train.csv",
    ):
        assert run(attempt.replace("{}", str(data))).exit_status != 0
    assert (data / "train.csv").read_text() == "1,2\n"
    assert os.listdir(data) == ["train.csv"]


def test_data_of_root(tier: str, folder: Path, space: Path) -> None:
    """Data that only the host's user may read can be read in tier strong, or the sandbox says why not."""
    secret = folder / "closed" / "data"
    secret.mkdir(parents=True, mode=0o700)
    secret.parent.chmod(0o700)
    (secret / "x").write_text("x\n")
    (secret / "x").chmod(0o600)
    if tier == "uid":
        open_or_skip(tier, Policy(space)).close()
        with pytest.raises(SandboxError, match="chmod"):
            open_or_skip(tier, Policy(space, (secret,)))
        return
    with open_or_skip(tier, Policy(space, (secret,))) as sandbox:
        assert text(sandbox.run(f"cat {secret}/x", LIMITS)) == "x\n"
        assert sandbox.run(f"echo y > {secret}/x", LIMITS).exit_status != 0


def test_answers_are_out_of_reach(run: Run, answers: Path, space: Path) -> None:
    """Hidden files cannot be read by path, links, handles or /proc, and their folder cannot be listed."""
    (space / "host-link").symlink_to(answers)
    attempts = [
        f"cat {answers}",
        "cat host-link",
        f"ln -s {answers} mine; cat mine",
        f"ln {answers} hard && cat hard",
        f"mv {answers} moved && cat moved",
        f"cp {answers} copy; cat copy",
        f"cat ../private/{answers.name}",
        f"ls {answers.parent}",
        f"cat /proc/{os.getpid()}/cwd/{answers}",
        f"cat /proc/{os.getpid()}/root{answers}",
        f"cat /proc/{os.getppid()}/root{answers}",
        f"cat /proc/1/root{answers}",
        f"cat /proc/self/root{answers}",
        f"tail -n1 {answers} 2>&1 | cat",
        script(f"import os; print(os.read(os.open({str(answers)!r}, os.O_RDONLY), 99))"),
    ]
    for attempt in attempts:
        assert "the-answer" not in text(run(f"{{ {attempt}; }} 2>&1"))
    run(f"rm -f {answers}; truncate -s 0 {answers}; echo x > {answers}; rm -rf {answers.parent}")
    assert answers.read_text() == "the-answer\n"


def test_open_files_of_the_host(run: Run, answers: Path) -> None:
    """Neither a file that the host has open nor the host's memory becomes readable."""
    with answers.open("r+b") as file:
        number, pid = file.fileno(), os.getpid()
        os.set_inheritable(number, True)
        for path in (
            f"/proc/{pid}/fd/{number}",
            f"/proc/{pid}/mem",
            f"/proc/{pid}/environ",
            f"/proc/{pid}/maps",
        ):
            assert run(f"head -c1 {path}").exit_status != 0


def test_no_inherited_descriptors(any_run: Run) -> None:
    """Only the three standard streams are open."""
    code = "import os; print(sorted(int(n) for n in os.listdir('/proc/self/fd'))[:-1])"
    assert text(any_run(script(code))) == "[0, 1, 2]\n"


def test_environment_is_rebuilt(any_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of the host is passed on, nor do the sandbox's own processes hold it."""
    monkeypatch.setenv("SECRET_API_KEY", "tell-nobody")
    assert "tell-nobody" not in text(any_run("env; export -p"))
    assert "tell-nobody" not in text(
        any_run("cat /proc/1/environ /proc/$PPID/environ 2>/dev/null | tr '\\0' '\\n' || true")
    )


def test_library_is_hidden(run: Run) -> None:
    """The library can neither be imported nor read, wherever it is installed."""
    package = Path(mlrcbench.__file__).parent
    assert run(f"{sys.executable} -c 'import mlrcbench'").exit_status != 0
    assert run(f"cat {package}/__init__.py").exit_status != 0
    assert text(run(f"find {package} -type f -exec cat {{}} + 2>/dev/null || true")) == ""
    code = 'from importlib import metadata; print(metadata.distribution("mlrcbench").read_text("RECORD"))'
    result = run(f"{sys.executable} -c '{code}'")
    assert result.exit_status != 0 or text(result) == "None\n"


def test_system_is_read_only(run: Run) -> None:
    """Nothing can be planted in the system, the interpreter or a home folder."""
    home = Path.home()
    for path in (
        "/usr/bin/x",
        "/etc/x",
        f"{home}/.bashrc",
        f"{sys.prefix}/x.pth",
        "/opt/x",
        "/x",
        "/dev/x",
        "/var/tmp/x",
    ):
        assert run(f"echo x > {path}").exit_status != 0, path
    assert not Path(f"{sys.prefix}/x.pth").exists()


def test_kernel_controls(run: Run) -> None:
    """Controls of the machine cannot be written to."""
    for path in (
        "/proc/sys/kernel/core_pattern",
        "/proc/sysrq-trigger",
        "/proc/1/oom_score_adj",
        "/sys/kernel/uevent_helper",
    ):
        assert run(f"echo x > {path}").exit_status != 0, path


CALLS = {
    "ptrace": "libc.ptrace(0x4206, {pid}, 0, 0)",
    "unshare": "libc.unshare(0x10000000)",
    "mount": "libc.mount(b'none', b'/tmp', b'tmpfs', 0, None)",
    "chroot": "libc.chroot(b'.')",
    "keyctl": "libc.syscall(250 if x86 else 219, 0, -3, 0)",
    "bpf": "libc.syscall(321 if x86 else 280, 0, 0, 0)",
    "perf_event_open": "libc.syscall(298 if x86 else 241, 0, 0, -1, -1, 0)",
    "io_uring_setup": "libc.syscall(425, 1, 0)",
    "shmget": "libc.shmget(1, 4096, 0o1666)",
    "memfd_create": "libc.memfd_create(b'x', 0)",
    "setns": "libc.setns(0, 0)",
    "process_vm_readv": "libc.process_vm_readv({pid}, 0, 0, 0, 0, 0)",
    "pidfd_getfd": "libc.syscall(438, 0, 0, 0)",
    "prlimit": "libc.prlimit({pid}, 7, 0, 0)",
    "setpriority": "libc.setpriority(0, {pid}, 5)",
    "reboot": "libc.reboot(0x89ABCDEF)",
    "x32": "libc.syscall(0x40000000 + 39) if x86 else -1",
    "clone new user": "libc.syscall(56 if x86 else 220, 0x10000000 | 17, 0, 0, 0, 0)",
    "setpriority of the user": "libc.setpriority(2, 0, 5)",
    "ioprio_set of the user": "libc.syscall(251 if x86 else 30, 3, 0, 0)",
    "inotify_init": "libc.inotify_init()",
    "io_setup": "libc.syscall(206 if x86 else 0, 1, ctypes.byref(ctypes.c_ulong(0)))",
    "mincore": "libc.mincore(ctypes.c_void_p(id(libc) & ~4095), 1, ctypes.create_string_buffer(1))",
    "cachestat": "libc.syscall(451, 0, 0, 0, 0)",
    "preadv2 without waiting": "libc.syscall(327 if x86 else 286, 0, 0, 0, 0, 0, 8)",
    "lease": "libc.fcntl(os.open(sys.executable, 0), 1024, 0)",
    "watched folder": "libc.fcntl(os.open('/usr', 0), 1026, 1)",
    "TIOCSTI": "libc.ioctl(0, 0x5412, b'x')",
}


@pytest.mark.parametrize("call", CALLS)
def test_system_calls(run: Run, call: str) -> None:
    """Calls that reach other processes, namespaces or the machine fail."""
    code = (
        "import ctypes, os, platform, sys; libc = ctypes.CDLL(None); x86 = platform.machine() == 'x86_64'\n"
    )
    result = run(script(code + f"print({CALLS[call].format(pid=os.getpid())})"))
    assert text(result) == "-1\n"


def test_harmless_calls(run: Run) -> None:
    """A command can change its own limits, priority and affinity."""
    code = """
    import os, resource
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
    os.nice(1); os.sched_setaffinity(0, os.sched_getaffinity(0))
    print(os.preadv(os.open('/proc/version', 0), [bytearray(1)], 0, 0)); print("fine")
    """
    assert text(run(script(code))) == "1\nfine\n"


def test_signals_to_the_host(run: Run, tier: str) -> None:
    """The host and the supervisor cannot be signalled, not even all at once."""
    assert run(f"kill -0 {os.getpid()}").exit_status != 0
    run("kill -9 -1; kill -9 $PPID; kill -STOP $PPID 1")
    assert text(run("echo alive")) == "alive\n"


def test_privileges(run: Run) -> None:
    """Commands have no capabilities, gain none from setuid programs, and are not the host's root."""
    status = text(run("grep -E 'Cap(Eff|Prm|Amb)|NoNewPrivs' /proc/self/status | awk '{print $2}'")).split()
    assert status == ["0000000000000000"] * 3 + ["1"]
    assert run("mknod x b 8 0; test -b x").exit_status != 0


@pytest.fixture
def listeners(folder: Path) -> Iterator[dict[str, object]]:
    """The host listens on each kind of socket."""
    with (
        socket.socket() as tcp,
        socket.socket(socket.AF_UNIX) as abstract,
        socket.socket(socket.AF_UNIX) as path,
    ):
        tcp.bind(("127.0.0.1", 0))
        tcp.listen()
        abstract.bind(f"\0mlrcbench-test-{os.getpid()}")
        abstract.listen()
        path.bind(str(folder / "socket"))
        path.listen()
        yield {
            "port": tcp.getsockname()[1],
            "abstract": f"mlrcbench-test-{os.getpid()}",
            "path": str(folder / "socket"),
        }


def test_network(run: Run, tier: str, listeners: dict[str, object]) -> None:
    """No listener of the host answers; addresses outside cannot be reached."""
    code = f"""
    import socket
    def tried(family, kind, address):
        try:
            with socket.socket(family, kind) as one:
                one.settimeout(2)
                one.connect(address)
                one.send(b"x")
                return "reached"
        except OSError:
            return "refused"
    print(tried(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", {listeners["port"]})))
    print(tried(socket.AF_INET, socket.SOCK_DGRAM, ("192.0.2.1", 9)))
    print(tried(socket.AF_INET6, socket.SOCK_STREAM, ("2001:db8::1", 9)))
    print(tried(socket.AF_UNIX, socket.SOCK_STREAM, "\\0{listeners["abstract"]}"))
    """
    assert text(run(script(code))).split() == ["refused"] * 4


def test_own_loopback(run: Run, tier: str) -> None:
    """A network namespace has a loopback device, and nothing else."""
    if tier != "strong":
        pytest.skip("only tier strong has its own network")
    code = """
    import socket
    server = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(server.getsockname())
    print(client.send(b"x"), [name for _, name in socket.if_nameindex()])
    """
    assert text(run(script(code))) == "1 ['lo']\n"


def test_network_on_request(tier: str, space: Path, listeners: dict[str, object]) -> None:
    """A policy can open the network."""
    with open_or_skip(tier, Policy(space, network=True)) as sandbox:
        code = (
            f"import socket; socket.create_connection(('127.0.0.1', {listeners['port']})); print('reached')"
        )
        assert text(sandbox.run(script(code), LIMITS)) == "reached\n"
        assert any("open, because" in line for line in sandbox.isolation.missing)
        if Path("/etc/resolv.conf").exists():
            assert sandbox.run("cat /etc/resolv.conf", LIMITS).exit_status == 0


def test_processes_are_hidden(run: Run, tier: str) -> None:
    """In tier strong only the sandbox's processes exist; other tiers say that they show others."""
    seen = run(f"cat /proc/{os.getpid()}/cmdline | tr '\\0' ' ' | grep python").exit_status == 0
    assert seen == any("command lines" in line for line in _missing(tier))


def test_memory_folders_are_private(tier: str, sandbox: Sandbox) -> None:
    """In tier strong /tmp and /dev/shm are emptied, and their files never were on the machine."""
    if tier != "strong":
        pytest.skip("only tier strong has them")
    assert (
        sandbox.run("echo x > /tmp/mlrcbench-mark; echo x > /dev/shm/mlrcbench-mark", LIMITS).exit_status == 0
    )
    assert not Path("/tmp/mlrcbench-mark").exists()
    assert not Path("/dev/shm/mlrcbench-mark").exists()
    assert text(sandbox.run("ls /dev/shm; ls /tmp/mlrcbench-mark 2>/dev/null || true", LIMITS)) == ""


def test_mounts_in_tmp_stay(tier: str, sandbox: Sandbox, folder: Path, data: Path) -> None:
    """A command cannot move, remove or replace the folders that lead to its workspace or data."""
    if tier != "strong":
        pytest.skip("only tier strong has its own tree")
    sandbox.run(f"mv {folder} /tmp/elsewhere; rm -rf {folder} /tmp/*; touch {folder}/x", LIMITS)
    assert text(sandbox.run(f"cat {data}/train.csv; pwd", LIMITS)) == f"1,2\n{folder}/workspace\n"
    assert (data / "train.csv").exists()


@pytest.mark.parametrize("place", ["workspace/inside", "missing", "/"])
def test_bad_policies(tier: str, folder: Path, space: Path, place: str) -> None:
    """Data in the workspace, data that does not exist, and the library itself are refused."""
    (space / "inside").mkdir()
    with pytest.raises(SandboxError):
        SupervisedSandbox(tier, Policy(space, (folder / place,)))


def _missing(tier: str) -> tuple[str, ...]:
    from mlrcbench.sandbox.isolation import describe

    return describe(tier).missing
