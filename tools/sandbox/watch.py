"""What a sandbox uses, as the host sees it, and stopping what is in it between two calls."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from tools.sandbox.base import MIB, Limits
from tools.sandbox.process import Process

_PAGE = os.sysconf("SC_PAGE_SIZE")
#: Seconds that stopping and ending may take, on a busy machine, and between two looks.
_PATIENCE, _MOMENT = 5.0, 0.001
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
    until = time.monotonic() + _PATIENCE
    # First all are stopped and then they are ended: what is ended makes room for what forks faster than we look.
    while time.monotonic() < until and (moving := _others(process, "TtZX")):
        for other in moving:
            _signal(other, signal.SIGSTOP)
        time.sleep(_MOMENT)
    left = _others(process, "ZX")
    for other in left:
        _signal(other, signal.SIGKILL)
    # What is not quite gone would count as one of the processes of the next call.
    while _others(process, "ZX"):
        if time.monotonic() > until:
            process.kill()
            break
        time.sleep(_MOMENT)
    return len(left)


def _others(process: Process, but_not: str) -> list[int]:
    """Besides the first process and the runner, those in none of these states."""
    ours = (process.init, process.runner)
    return [other for other in tree(process.init) if other not in ours and _state(other) not in but_not]


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
    return _state(process) in "ZX"


def _state(process: int) -> str:
    """A letter, see proc_pid_stat(5); "X" if it is not there."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return "X"


def _namespace_depth(process: int) -> int:
    """In how many process namespaces it has a number."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("NSpid:"):
            return len(line.split()) - 1
    return 0


def _own_depth() -> int:
    return _namespace_depth(os.getpid())
