"""What a sandbox uses, as the host sees it, and stopping what is in it between two calls."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

from tools.sandbox.base import MIB, Limits
from tools.sandbox.process import Process

_PAGE = os.sysconf("SC_PAGE_SIZE")
_ROUNDS = 20
#: The first process and the runner, and some that ended and were not yet waited for.
_OURS = 16


def exceeded(process: Process, limits: Limits) -> str:
    """What is over its limit, as a sentence; "" if all is well."""
    files = 0
    for name, folder in process.folders.items():
        space = os.fstatvfs(folder)
        files += (space.f_blocks - space.f_bfree) * space.f_frsize
        if space.f_files - space.f_ffree > limits.inodes:
            return f"There were more than {limits.inodes:,} files and folders in /{_SHOWN[name]}."
    if sockets(process) > limits.sockets:
        return f"More than {limits.sockets} sockets were open."
    everybody = tree(process.init)
    if len(everybody) > limits.processes + _OURS:  # The kernel holds this; older ones do not in user namespaces.
        return f"There were more than {limits.processes} processes."
    if files + sum(map(_resident, everybody)) > limits.memory and files + memory(everybody) > limits.memory:
        return f"It used more than the {limits.memory // MIB} MB of memory that there are for programs and files."
    return ""


_SHOWN = {"workspace": "workspace", "tmp": "tmp", "shm": "dev/shm"}


def tree(root: int) -> list[int]:
    """This process and all below it. Nobody leaves the tree: orphans become children of its root."""
    found, waiting = [], [root]
    while waiting:
        process = waiting.pop()
        found.append(process)
        waiting += _children(process)
    return found


def _children(process: int) -> list[int]:
    try:
        threads = os.listdir(f"/proc/{process}/task")
    except OSError:
        return []
    children: list[int] = []
    for thread in threads:
        with suppress(OSError):  # It ended meanwhile.
            children += map(int, Path(f"/proc/{process}/task/{thread}/children").read_text().split())
    return children


def memory(processes: list[int]) -> int:
    """Bytes, with what several of them share counted once."""
    return sum(map(_proportional, processes))


def _proportional(process: int) -> int:
    try:
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:  # We may not look, or it ended.
        return _resident(process)
    return 0


def _resident(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


def sockets(process: Process) -> int:
    """How many its network namespace has. Their buffers are the kernel's memory and count nowhere else."""
    with suppress(OSError):
        for line in Path(f"/proc/{process.init}/net/sockstat").read_text().splitlines():
            if line.startswith("sockets: used"):
                return int(line.split()[2])
    return 0


def pause(process: Process) -> int:
    """Stop the runner, and end everything else that the last call left behind. Returns how many processes that were."""
    process.signal(signal.SIGSTOP)
    ended: set[int] = set()
    for _ in range(_ROUNDS):  # What forks faster than we look is stopped before it is ended.
        others = [other for other in tree(process.init) if other not in (process.init, process.runner)]
        new = [other for other in others if not is_zombie(other)]
        if not new:
            break
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for other in new:
                _signal(other, number)
        ended.update(new)
    return len(ended)


def resume(process: Process) -> None:
    process.signal(signal.SIGCONT)


def _signal(other: int, number: signal.Signals) -> None:
    """To a process that is in the sandbox: numbers are given anew, so we look again when we hold it."""
    with suppress(OSError):
        handle = os.pidfd_open(other)
        try:
            if _namespace_depth(other) > _own_depth():
                signal.pidfd_send_signal(handle, number)
        finally:
            os.close(handle)


def is_zombie(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (OSError, IndexError):
        return True


def _namespace_depth(process: int) -> int:
    """In how many process namespaces it has a number."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("NSpid:"):
            return len(line.split()) - 1
    return 0


def _own_depth() -> int:
    return _namespace_depth(os.getpid())
