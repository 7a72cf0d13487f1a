"""What bubblewrap is told: an empty world, and the little that is bound into it. docs/sandbox.md says why each.

It is an allow-list. Nothing of /home, /root, /var, /run, /opt, /etc or the host's /tmp is there, and nothing that code
in a sandbox has written is ever bound.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tools.sandbox.base import MIB, Limits

#: "root": the worker is root and may mount; the code gets a user id of its own, and no user namespace is needed.
#: "drop": it is root and may not; bwrap itself is started as that user. "user": it is not, and the code has its id.
Mode = Literal["root", "drop", "user"]

INSIDE = "/sbx"
SMALL = 64 * MIB
_HERE = Path(__file__).resolve().parent

#: Of /usr, where it is there. /usr/local only if the Python is in it.
_SYSTEM = (
    "bin",
    "sbin",
    "lib",
    "lib32",
    "lib64",
    "libexec",
    "share/fonts",
    "share/misc",
    "share/perl",
    "share/zoneinfo",
)
_LINKS = ("bin", "sbin", "lib", "lib32", "lib64")
PASSWD = b"sandbox:x:%d:%d::/tmp/home:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n"
HOSTS = b"127.0.0.1 localhost sandbox\n"

ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/tmp/home",  # noqa: S108  (this and the following are folders inside)
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC",
    "USER": "sandbox",
    "LOGNAME": "sandbox",
    "PYTHONPATH": f"{INSIDE}/site",  # For Pythons that code starts; the runner has it by itself.
    "PYTHONDONTWRITEBYTECODE": "1",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "MPLCONFIGDIR": "/tmp/home/mpl",  # noqa: S108
    "IPYTHONDIR": "/tmp/home/ipython",  # noqa: S108
    "OMP_NUM_THREADS": "2",
    "OPENBLAS_NUM_THREADS": "2",
    "MKL_NUM_THREADS": "2",
    "MALLOC_ARENA_MAX": "2",
}


@dataclass(frozen=True)
class Place:
    """What a machine has: where bubblewrap, Python and the packages are, and what its kernel lets us do."""

    bwrap: str
    site: Path
    python: Path
    prefix: Path
    mode: Mode
    has_proc: bool = True  # Containers whose /proc is masked may not mount a fresh one.

    @classmethod
    def here(cls, bwrap: str, site: Path, mode: Mode) -> Place:
        """With the Python that this process runs on, outside of its virtual environment."""
        base = getattr(sys, "_base_executable", "") or sys.executable
        return cls(bwrap, site, Path(base).resolve(), Path(sys.base_prefix).resolve(), mode)


@dataclass(frozen=True)
class Descriptors:
    """What bwrap inherits, by number."""

    control: int
    seccomp: int
    status: int
    passwd: int
    hosts: int

    def all(self) -> tuple[int, ...]:
        return (self.control, self.seccomp, self.status, self.passwd, self.hosts)


def command(place: Place, limits: Limits, descriptors: Descriptors, user: int) -> list[str]:
    """The whole command. `user` is the id that the code gets where the worker is root."""
    arguments = [place.bwrap, *_namespaces(place)]
    for name, value in ENVIRONMENT.items():
        arguments += ["--setenv", name, value]
    arguments += _size("/tmp", SMALL, place)  # noqa: S108
    arguments += [*_folders(place), *_system(place), *_hidden(place)]
    arguments += ["--ro-bind", str(place.site), f"{INSIDE}/site"]
    arguments += ["--ro-bind-try", str(place.site / "share" / "mpl-cache"), f"{INSIDE}/mpl"]
    for name in ("runner.py", "runner_state.py"):
        arguments += ["--ro-bind", str(_HERE / "inside" / name), f"{INSIDE}/{name}"]
    for path in ("/etc/ld.so.cache", "/etc/alternatives", "/etc/fonts"):
        arguments += ["--ro-bind-try", path, path]
    for number, path in ((descriptors.passwd, "/etc/passwd"), (descriptors.hosts, "/etc/hosts")):
        arguments += ["--perms", "0644", "--ro-bind-data", str(number), path]
    arguments += _proc(place)
    arguments += ["--dev", "/dev", *_size("/dev/shm", SMALL, place), "--remount-ro", "/dev"]  # noqa: S108
    arguments += _size("/workspace", limits.workspace, place)
    arguments += ["--remount-ro", "/", "--chdir", "/workspace"]
    arguments += ["--seccomp", str(descriptors.seccomp), "--json-status-fd", str(descriptors.status), "--"]
    if place.mode == "root":
        arguments += ["/usr/bin/setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--no-new-privs"]
    arguments += [str(place.python), "-I", "-B", "-u", f"{INSIDE}/runner.py", str(descriptors.control)]
    return [*arguments, json.dumps(_told(limits))]


def passwd(place: Place, user: int) -> bytes:
    number = 1000 if place.mode != "root" else user
    return PASSWD % (number, number)


def _namespaces(place: Place) -> Iterator[str]:
    if place.mode == "root":
        # Never a user namespace here: bwrap would map root to root, which writes to /proc/sys of the host.
        yield from ("--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID")
    else:
        yield from ("--unshare-user", "--uid", "1000", "--gid", "1000", "--cap-drop", "ALL")
        if place.has_proc:
            yield "--disable-userns"
    yield from ("--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try")
    yield from ("--hostname", "sandbox", "--die-with-parent", "--new-session", "--clearenv")


def _size(path: str, size: int, place: Place) -> list[str]:
    """A folder in memory that holds so much and not more."""
    return ["--perms", "0777" if place.mode == "root" else "0755", "--size", str(size), "--tmpfs", path]


def _folders(place: Place) -> Iterator[str]:
    # bwrap would make these for its own user only.
    parents = {Path(INSIDE), Path("/etc"), Path("/usr"), Path("/usr/share"), *place.prefix.parents} - {Path("/")}
    if _has_local(place):
        parents.add(place.prefix)
    for path in sorted(parents):
        yield from ("--perms", "0755", "--dir", str(path))


def _system(place: Place) -> Iterator[str]:
    for name in _SYSTEM:
        if (path := Path("/usr", name)).is_dir() and not path.is_symlink():
            yield from ("--ro-bind", str(path), str(path))
    for name in _LINKS:
        if (link := Path("/", name)).is_symlink():
            yield from ("--symlink", os.readlink(link), str(link))
        elif link.is_dir():
            yield from ("--ro-bind", str(link), str(link))
    if place.prefix == Path("/usr/local"):
        for name in ("bin", "lib"):
            yield from ("--ro-bind", f"/usr/local/{name}", f"/usr/local/{name}")
    elif place.prefix != Path("/usr"):
        yield from ("--ro-bind", str(place.prefix), str(place.prefix))


def _hidden(place: Place) -> Iterator[str]:
    """Packages of the host, AgentSite's own among them, and AgentSite itself where it lies in what is bound."""
    for path in _to_hide(place):
        yield from ("--size", "4096", "--tmpfs", str(path), "--remount-ro", str(path))


def _to_hide(place: Place) -> Iterable[Path]:
    libraries = {place.prefix / "lib", Path("/usr/lib"), *((Path("/usr/local/lib"),) if _has_local(place) else ())}
    found = {path for library in libraries for path in library.glob("python3*/*-packages") if path.is_dir()}
    bound = [Path("/usr/lib"), Path("/usr/bin"), place.prefix]
    if place.prefix == Path("/usr"):
        bound = bound[:2]
    for path in (_HERE.parent.parent, Path(sys.prefix).resolve()):
        if path != place.prefix and any(path.is_relative_to(folder) for folder in bound):
            found.add(path)
    return sorted(found)


def _has_local(place: Place) -> bool:
    return place.prefix == Path("/usr/local")


def _proc(place: Place) -> list[str]:
    if not place.has_proc:
        return ["--perms", "0555", "--dir", "/proc"]
    # Process 1 is bwrap itself, without the limits of the code, and has the same user id.
    return ["--proc", "/proc", "--size", "4096", "--tmpfs", "/proc/1", "--remount-ro", "/proc/1"]


def _told(limits: Limits) -> dict[str, object]:
    """What the runner has to know, and the limits that it puts on itself."""
    rlimits = {
        "NPROC": limits.processes,
        "NOFILE": 256,
        "FSIZE": limits.file,
        "DATA": 1024 * MIB,
        "AS": 6 * 1024 * MIB,
        "STACK": 16 * MIB,
        "CORE": 0,
        "MEMLOCK": 0,
        "MSGQUEUE": 0,
        "SIGPENDING": 256,
        "CPU": 3600,
    }
    return {"rlimits": rlimits, "displays": limits.displays, "display": limits.display, "state": limits.state}
