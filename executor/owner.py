"""Who holds a task: a name that says enough for a neighbour to tell whether its bearer is still alive.

A lease ends 20 seconds after its worker died. On the machine where that happened, anybody can see it at once.
"""

from __future__ import annotations

import functools
import hashlib
import os
import socket
from contextlib import suppress
from pathlib import Path


def owner_name() -> str:
    """A new name for this process: host, process id, when that began, where ids mean the same, and a random part."""
    pid = os.getpid()
    return f"{socket.gethostname()[:40]}:{pid}:{_began(pid)}:{_place()}:{os.urandom(4).hex()}"


def is_dead(owner: str) -> bool:
    """Whether the process that had this name has certainly ended. Of processes elsewhere nothing is certain."""
    parts = owner.rsplit(":", 4)
    if len(parts) != 5 or parts[3] != _place():
        return False
    pid, began = int(parts[1]), parts[2]
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return _began(pid) not in (began, "")  # Another process has the id by now, or it waits to be buried.


@functools.cache
def _place() -> str:
    """The machine, since it was started, and the namespace of its process ids; a container has one of its own."""
    said = ""
    with suppress(OSError):
        said = Path("/proc/sys/kernel/random/boot_id").read_text() + os.readlink("/proc/self/ns/pid")
    # Without these, no other process can seem to be in the same place.
    return hashlib.sha256((said or os.urandom(16).hex()).encode()).hexdigest()[:8]


def _began(pid: int) -> str:
    """When a process began, in ticks since the machine did; "" where that cannot be seen, "ended" for a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "ended" if fields[0] in "ZX" else fields[19]
