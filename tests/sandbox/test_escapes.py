"""Code in a sandbox reaches nothing of the machine: files, processes, secrets, the network, most of the kernel."""

from __future__ import annotations

import os
import signal
import socket
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.sandbox.attacks import HELP, is_usable, say
from tools.sandbox.session import BwrapSession
from tools.sandbox.syscalls import DENIED, NUMBERS

ROOT = Path(__file__).resolve().parents[2]
MACHINE = os.uname().machine
X86 = pytest.mark.skipif(MACHINE != "x86_64", reason="only this processor has it")

Open = Callable[..., BwrapSession]


# --- files and secrets -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/etc/shadow", "/root/.bashrc", "/root/.ssh", "/home", "/var", "/run", "/opt", "/srv", "/mnt", "/boot"]
)
def test_folders_of_the_host_are_not_there(inside: BwrapSession, path: str) -> None:
    assert say(inside, f"os.path.lexists({path!r})") == "False"


def test_files_of_the_host_are_not_there(inside: BwrapSession, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("canary")
    for path in (tmp_path / "secret", ROOT / "manage.py", Path(sys.prefix) / "pyvenv.cfg"):
        assert say(inside, f"os.path.lexists({str(path)!r})") == "False"
    assert say(inside, "open('/etc/passwd').read().count(chr(10))") == "2"


def test_no_secret_of_the_worker_is_readable(monkeypatch: pytest.MonkeyPatch, open_session: Open) -> None:
    canary = uuid.uuid4().hex
    monkeypatch.setenv("SECRET_KEY", canary)
    session = open_session()
    result = session.execute(
        "import os\nfound = repr(dict(os.environ)).encode()\nfor name in filter(str.isdigit, os.listdir('/proc')):\n"
        "    for file in ('environ', 'cmdline'):\n        try:\n"
        "            found += open(f'/proc/{name}/{file}', 'rb').read()\n        except OSError:\n            pass\n"
        "print(found)"
    )

    assert "PYTHONPATH" in result.stdout
    assert canary not in result.stdout
    assert "SECRET_KEY" not in result.stdout


def test_packages_of_the_host_cannot_be_imported(inside: BwrapSession) -> None:
    import_ = "subprocess.run([sys.executable, '-c', 'import {}'], capture_output=True).returncode"
    assert say(inside, import_.format("numpy")) == "0"
    for name in ("django", "celery", "tools", "agentsite"):
        assert say(inside, import_.format(name)) == "1"
    folders = "[p for p in __import__('glob').glob(sys.base_prefix + '/lib/python3*/*-packages/*')]"
    assert say(inside, folders) == "[]"
    assert say(inside, "__import__('glob').glob('/usr/lib/python3/dist-packages/*')") == "[]"


@pytest.mark.parametrize("folder", ["/", "/dev", "/usr/bin", "/sbx/site", "/etc", sys.base_prefix])
def test_nothing_but_its_own_folders_can_be_written(inside: BwrapSession, folder: str) -> None:
    assert say(inside, f"tried(open, {folder + '/x'!r}, 'w')") == "EROFS"


@pytest.mark.parametrize("file", ["/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname", "/proc/sysrq-trigger"])
def test_the_kernel_cannot_be_set(inside: BwrapSession, file: str) -> None:
    assert say(inside, f"tried(os.open, {file!r}, os.O_WRONLY)") in ("EACCES", "EPERM", "EROFS", "ENOENT")


def test_its_user_is_not_root_on_the_host(inside: BwrapSession) -> None:
    lines = Path(f"/proc/{inside._process.runner}/status").read_text().splitlines()
    users = next(line.split()[1:] for line in lines if line.startswith("Uid:"))
    assert set(users) == {str(inside._process.user)}
    assert users[0] != "0"


def test_what_is_bound_can_be_read(inside: BwrapSession) -> None:
    for path in ("/usr/bin/env", "/usr/share/zoneinfo", "/usr/share/fonts", "/etc/ld.so.cache", sys.base_prefix):
        if os.path.exists(path):
            assert say(inside, f"os.access({path!r}, os.R_OK)") == "True"


# --- processes -------------------------------------------------------------------------------------------------------


def test_only_its_own_processes_are_seen(inside: BwrapSession) -> None:
    assert say(inside, "sorted(map(int, filter(str.isdigit, os.listdir('/proc'))))") in ("[1, 2]", "[1, 2, 3]")
    assert say(inside, f"tried(os.kill, {2**22 - 1}, 9)") == "ESRCH"


def test_the_first_process_is_out_of_reach(inside: BwrapSession) -> None:
    assert say(inside, "os.listdir('/proc/1')") == "[]"
    assert say(inside, "tried(open, '/proc/1/mem', 'r+b')") == "ENOENT"


def test_signals_stay_inside(inside: BwrapSession) -> None:
    inside.execute("for target in (1, -1):\n    tried(os.kill, target, signal.SIGTERM)\nprint(tried(os.kill, 1, 9))")
    if os.getpid() > 50:
        assert say(inside, f"tried(os.kill, {os.getpid()}, 9)") == "ESRCH"
    os.kill(inside._process.bwrap.pid, 0)
    assert is_usable(inside)


def test_it_cannot_get_more_rights(inside: BwrapSession) -> None:
    assert say(
        inside, "[line.split()[1] for line in open('/proc/self/status') if line[:6] in ('CapEff', 'CapPrm')]"
    ) == ("['0000000000000000', '0000000000000000']")
    assert (
        say(inside, "[line.split()[1] for line in open('/proc/self/status') if line.startswith('NoNewPrivs')]")
        == "['1']"
    )
    for change in ("setuid, 0", "setgid, 0", "setgroups, [0]"):  # EINVAL where there is no such user at all.
        assert say(inside, f"tried(os.{change})") in ("EPERM", "EINVAL")
    assert say(inside, "tried(os.nice, -15)") in ("EPERM", "EACCES")
    assert say(inside, "subprocess.run(['su', '-c', 'id'], capture_output=True).returncode") != "0"


@pytest.mark.parametrize("limit", ["NPROC", "NOFILE", "FSIZE", "DATA", "AS", "CORE", "MEMLOCK"])
def test_limits_cannot_be_raised(inside: BwrapSession, limit: str) -> None:
    result = inside.execute(
        f"import resource\nhard = resource.getrlimit(resource.RLIMIT_{limit})[1]\n"
        f"resource.setrlimit(resource.RLIMIT_{limit}, (hard + 1, hard + 1))"
    )
    assert result.error is not None
    assert result.error.name == "ValueError"


# --- network ---------------------------------------------------------------------------------------------------------


def test_servers_of_the_machine_are_out_of_reach(inside: BwrapSession, tmp_path: Path) -> None:
    name = uuid.uuid4().hex
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind(f"\0{name}")
        abstract.listen()
        assert (
            say(inside, f"tried(socket.create_connection, ('127.0.0.1', {tcp.getsockname()[1]}), 2)") == "ECONNREFUSED"
        )
        assert say(inside, f"tried(socket.socket(socket.AF_UNIX).connect, chr(0) + {name!r})") == "ECONNREFUSED"
    for path in ("/run/docker.sock", "/var/run/docker.sock", "/run/redis", "/run/postgresql", "/tmp/.X11-unix"):
        assert say(inside, f"os.path.lexists({path!r})") == "False"


def test_nothing_outside_is_reachable(inside: BwrapSession) -> None:
    assert say(inside, "[line.split()[0] for line in open('/proc/net/dev')][2:]") == "['lo:']"
    for address in ("192.0.2.1", "169.254.169.254"):
        assert say(inside, f"tried(socket.create_connection, ({address!r}, 80), 2)") == "ENETUNREACH"
    assert say(inside, "tried(socket.socket(socket.AF_INET6).connect, ('2001:db8::1', 80))") in (
        "ENETUNREACH",
        "EADDRNOTAVAIL",
    )
    assert say(inside, "tried(socket.socket(type=socket.SOCK_DGRAM).sendto, b'x', ('192.0.2.1', 53))") == "ENETUNREACH"
    assert say(inside, "tried(socket.getaddrinfo, 'example.org', 80)") != "worked"


@pytest.mark.parametrize(
    ("family", "kind"), [("VSOCK", 1), ("NETLINK", 3), ("ALG", 5), ("PACKET", 3), ("BLUETOOTH", 3), ("CAN", 3)]
)
def test_other_kinds_of_sockets_are_refused(inside: BwrapSession, family: str, kind: int) -> None:
    number = {"VSOCK": 40, "NETLINK": 16, "ALG": 38, "PACKET": 17, "BLUETOOTH": 31, "CAN": 29}[family]
    assert say(inside, f"tried(socket.socket, {number}, {kind})") == "EPERM"
    assert say(inside, f"tried(socket.socketpair, {number}, {kind})") == "EPERM"
    assert say(inside, "tried(socket.socket, 44, 3)") == "EPERM"  # XDP


# --- the kernel ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in DENIED if name in NUMBERS.get(MACHINE, {})])
def test_a_refused_system_call_is_refused(inside: BwrapSession, name: str) -> None:
    assert say(inside, f"call({NUMBERS[MACHINE][name]})") == "EPERM"


@pytest.mark.parametrize("flag", [0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000])
def test_no_process_gets_namespaces_of_its_own(inside: BwrapSession, flag: int) -> None:
    assert say(inside, f"call({NUMBERS[MACHINE]['clone']}, {flag} | 17)") == "EPERM"
    assert say(inside, f"call({NUMBERS[MACHINE]['unshare']}, {flag})") == "EPERM"


def test_system_calls_that_nobody_knows_are_not_there(inside: BwrapSession) -> None:
    for number in (NUMBERS[MACHINE]["clone3"], 463, 470, 1000, 2**31 - 1):
        assert say(inside, f"call({number})") == "ENOSYS"


@X86
def test_calls_of_other_processors_are_not_there(inside: BwrapSession) -> None:
    assert say(inside, "call(0x40000000 | 39)") == "ENOSYS"
    program = (
        "import ctypes, mmap; m = mmap.mmap(-1, 4096, prot=7);"
        "m.write(bytes([0xb8, 20, 0, 0, 0, 0xcd, 0x80, 0xc3]));"
        "ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m)))()"
    )
    assert say(inside, f"subprocess.run([sys.executable, '-c', {program!r}]).returncode") == str(-signal.SIGSYS)


def test_nothing_can_be_typed_into_a_terminal(inside: BwrapSession) -> None:
    inside.execute("import fcntl, pty\nours, theirs = os.openpty()")
    ioctl = NUMBERS[MACHINE]["ioctl"]
    for number in (0x5412, 0x541C, 0x100005412, 0x7FFFFFFF00005412):
        for descriptor in ("0", "theirs"):
            assert say(inside, f"call({ioctl}, {descriptor}, {number}, 0)") == "EPERM"
    assert say(inside, "tried(open, '/dev/tty')") in ("ENXIO", "ENOENT")
    inside.execute("os.close(ours); os.close(theirs)")


def test_a_worker_that_is_root_never_maps_root_into_a_user_namespace(inside: BwrapSession) -> None:
    command = Path(f"/proc/{inside._process.bwrap.pid}/cmdline").read_bytes().decode().split("\0")
    if "--unshare-user" in command:
        assert Path(f"/proc/{inside._process.init}/uid_map").read_text().split()[1] != "0"


def test_the_clock_the_language_and_the_name_say_nothing(inside: BwrapSession) -> None:
    assert say(inside, "time.tzname, os.environ['LANG'], socket.gethostname(), os.environ['USER']") == (
        "(('UTC', 'UTC'), 'C.UTF-8', 'sandbox', 'sandbox')"
    )


def test_hostile_state_does_its_work_inside_only(open_session: Open, tmp_path: Path) -> None:
    first, second = open_session(), open_session()
    first.execute(
        HELP + "class Evil:\n    def __reduce__(self):\n"
        f"        return os.system, ('id > /workspace/ran; touch {tmp_path}/ran',)\n\nevil = Evil()"
    )
    first.save()
    second.load(first.state_out() or b"")

    assert say(second, "__import__('os').path.exists('/workspace/ran')") == "True"
    assert list(tmp_path.iterdir()) == []


def test_what_is_bound_is_a_short_list_and_read_only(inside: BwrapSession) -> None:
    command = Path(f"/proc/{inside._process.bwrap.pid}/cmdline").read_bytes().decode().split("\0")
    of_the_system = ("/usr/", "/lib", "/bin", "/sbin", "/etc/ld.so.cache", "/etc/alternatives", "/etc/fonts")
    of_ours = (os.path.realpath(sys.base_prefix), sys.prefix, str(ROOT / "tools" / "sandbox" / "inside"))
    binds = [(word, command[i + 1]) for i, word in enumerate(command) if "bind" in word]

    assert {word for word, _ in binds} <= {"--ro-bind", "--ro-bind-try", "--ro-bind-data"}
    assert [path for _, path in binds if not path.startswith((*of_the_system, *of_ours)) and not path.isdigit()] == []
