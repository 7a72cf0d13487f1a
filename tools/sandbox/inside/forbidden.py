"""Runs inside a sandbox: tries what must not work there, and prints the names of what did.

The host adds `secret` and `worker`, a piece of its environment and its process id, as the first lines.
"""

# ruff: noqa
# mypy: ignore-errors
import ctypes, errno, os, socket, subprocess

libc = ctypes.CDLL(None, use_errno=True)


def opens(path, flags=os.O_RDONLY):
    try:
        os.close(os.open(path, flags))
    except OSError:
        return False
    return True


def calls(number, *arguments):
    """Whether the kernel took it, or refused it for another reason than that it is not allowed."""
    if libc.syscall(ctypes.c_long(number), *(ctypes.c_long(argument) for argument in arguments)) >= 0:
        return True
    return ctypes.get_errno() not in (errno.EPERM, errno.ENOSYS)


def socket_opens(family, kind=socket.SOCK_STREAM):
    try:
        socket.socket(family, kind).close()
    except OSError as error:
        return error.errno != errno.EPERM
    return True


def connects(address):
    try:
        with socket.create_connection(address, timeout=0.5):
            return True
    except OSError as error:
        return error.errno not in (errno.ENETUNREACH, errno.ECONNREFUSED, errno.EADDRNOTAVAIL, errno.EHOSTUNREACH)


def interfaces():
    try:
        lines = open("/proc/net/dev").read().splitlines()[2:]
    except OSError:
        return []
    return [line for line in lines if not line.strip().startswith("lo:")]


def imports(name):
    return subprocess.run(["python3", "-c", f"import {name}"], capture_output=True).returncode == 0


def writes(folder):
    try:
        with open(f"{folder}/.try", "w"):
            return True
    except OSError:
        return False


def environments():
    found = b""
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            found += open(f"/proc/{name}/environ", "rb").read()
        except OSError:
            pass
    return found


machine = os.uname().machine
keyctl, io_uring, mount, unshare, ptrace, memfd = (
    (250, 425, 165, 272, 101, 319) if machine == "x86_64" else (219, 425, 40, 97, 117, 279)
)
AF_VSOCK, AF_NETLINK, CLONE_NEWUSER = 40, 16, 0x10000000

ATTEMPTS = {
    "read the host's files": lambda: any(
        map(os.path.exists, ("/etc/shadow", "/root/.bashrc", "/var/lib", "/home", "/run"))
    ),
    "see the worker's process": lambda: os.path.exists(f"/proc/{worker}/environ") and worker > 300,
    "read a secret of the worker": lambda: (
        secret in environments() or secret.partition(b"=")[2].partition(b"\0")[0] in map(os.environb.get, os.environb)
    ),
    "reach into the first process": lambda: opens("/proc/1/mem", os.O_RDWR) or opens("/proc/1/environ"),
    "reach the network": lambda: bool(interfaces()) or connects(("1.1.1.1", 53)) or connects(("169.254.169.254", 80)),
    "open a socket to the machine's host": lambda: socket_opens(AF_VSOCK),
    "open a socket to the kernel": lambda: socket_opens(AF_NETLINK, socket.SOCK_RAW),
    "change settings of the kernel": lambda: opens("/proc/sys/kernel/core_pattern", os.O_WRONLY),
    "write outside of the workspace": lambda: any(
        map(writes, ("/", "/usr", "/usr/bin", "/dev", "/etc", "/sbx", "/sbx/site"))
    ),
    "mount": lambda: calls(mount, 0, 0, 0, 0, 0),
    "make namespaces": lambda: calls(unshare, CLONE_NEWUSER),
    "use keys, io_uring or hidden memory": lambda: (
        calls(keyctl, 0, 0, 0, 0) or calls(io_uring, 1, 0) or calls(memfd, 0, 0)
    ),
    "trace processes": lambda: calls(ptrace, 0, 0, 0, 0),
    "become root, or have what it may": lambda: (
        0 in os.getresuid() or "CapEff:\t0000000000000000" not in open("/proc/self/status").read()
        if os.path.exists("/proc/self/status")
        else 0 in os.getresuid()
    ),
}


def holds(attempt):
    try:
        return not attempt()
    except OSError:
        return True


print("tried", len(ATTEMPTS))
for name, attempt in ATTEMPTS.items():
    if not holds(attempt):
        print("works:", name)
