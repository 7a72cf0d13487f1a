"""A sandbox as a process of this machine: started, stopped, let go on, ended."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from tools.sandbox import arguments
from tools.sandbox.arguments import Descriptors, Place
from tools.sandbox.base import Limits, SandboxUnavailable
from tools.sandbox.seccomp import Unsupported, make_filter

START_SECONDS = 20.0
_FOLDERS = 3
_CREDENTIALS = 12  # struct ucred: process, user and group.


@dataclass
class Process:
    """bwrap, the first process in its namespaces, and the runner; with all that we hold of them."""

    bwrap: subprocess.Popen[bytes]
    init: int
    init_handle: int
    runner: int
    runner_handle: int
    control: socket.socket
    user: int  # Who owns its files, as this machine sees it.
    folders: dict[str, int]  # Descriptors of /workspace, /tmp and /dev/shm, also after the end of everything else.
    _is_closed: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def signal(self, number: signal.Signals) -> None:
        """Send it to the runner."""
        with self._lock, suppress(ProcessLookupError):
            if not self._is_closed:
                signal.pidfd_send_signal(self.runner_handle, number)

    def kill(self) -> None:
        """End everything inside at once. From any thread."""
        with self._lock, suppress(ProcessLookupError):
            if not self._is_closed:
                signal.pidfd_send_signal(self.init_handle, signal.SIGKILL)

    def close(self) -> None:
        """End it, wait until it is gone, and let go of everything. Once, and by who uses the descriptors."""
        self.kill()
        with suppress(subprocess.TimeoutExpired):
            self.bwrap.wait(5)
        if self.bwrap.poll() is None:
            self.bwrap.kill()
            self.bwrap.wait()
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
        self.control.close()
        for pipe in (self.bwrap.stdout, self.bwrap.stderr):
            if pipe:
                pipe.close()
        for descriptor in (self.init_handle, self.runner_handle, *self.folders.values()):
            os.close(descriptor)


def start(place: Place, limits: Limits, user: int) -> Process:
    """Raises SandboxUnavailable with what bwrap or the runner said."""
    try:
        program = make_filter()
    except Unsupported as error:
        raise SandboxUnavailable(str(error), "Use another back end (docs/sandbox.md).") from error
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    status, status_end = os.pipe()
    inherited = [_filled("seccomp", program), _filled("passwd", arguments.passwd(place, user))]
    inherited += [_filled("hosts", arguments.HOSTS), status_end]
    descriptors = Descriptors(theirs.fileno(), inherited[0], status_end, inherited[1], inherited[2])
    command = arguments.command(place, limits, descriptors, user)
    try:
        bwrap = _on_lasting_thread(lambda: _popen(command, descriptors, place, user))
    except OSError as error:
        ours.close()
        os.close(status)
        raise SandboxUnavailable(
            f"bubblewrap cannot be started: {error.strerror}.", "Install it: apt-get install bubblewrap."
        ) from error
    finally:
        theirs.close()
        for descriptor in inherited:
            os.close(descriptor)
    try:
        return _met(bwrap, ours, status, place, user)
    except BaseException:
        bwrap.kill()
        bwrap.wait()
        ours.close()
        for pipe in (bwrap.stdout, bwrap.stderr):
            if pipe:
                pipe.close()
        raise
    finally:
        os.close(status)


def _popen(command: list[str], descriptors: Descriptors, place: Place, user: int) -> subprocess.Popen[bytes]:
    as_user: dict[str, Any] = {"user": user, "group": user, "extra_groups": []} if place.mode == "drop" else {}
    return subprocess.Popen(
        command,
        # Without anything: what bwrap has is readable inside, whatever it is told to clear.
        env={},
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=descriptors.all(),
        **as_user,
    )


def _filled(name: str, data: bytes) -> int:
    """A descriptor from which `data` can be read."""
    descriptor = os.memfd_create(name)
    os.write(descriptor, data)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _met(bwrap: subprocess.Popen[bytes], ours: socket.socket, status: int, place: Place, user: int) -> Process:
    """Wait for the runner's first message. Nothing hostile has run before it, so what it brings can be trusted."""
    until = time.monotonic() + START_SECONDS
    init = _first_process(bwrap, status, until)
    ours.settimeout(max(until - time.monotonic(), 0.1))
    space = socket.CMSG_SPACE(_FOLDERS * 4) + socket.CMSG_SPACE(_CREDENTIALS)
    try:
        head, ancillary, _, _ = ours.recvmsg(8, space, socket.MSG_CMSG_CLOEXEC)
        rest = ours.recv(int.from_bytes(head[:4], "big"), socket.MSG_WAITALL) if head else b""
    except OSError as error:
        raise _refusal(bwrap, "The sandbox does not come up") from error
    folders: list[int] = []
    runner = 0
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            folders += [int.from_bytes(data[i : i + 4], "little") for i in range(0, len(data), 4)]
        elif level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
            runner = int.from_bytes(data[:4], "little")  # The kernel says it, in the numbers of this namespace.
    if len(folders) != _FOLDERS or not runner or b"ready" not in rest:
        raise _refusal(bwrap, "The sandbox does not come up")
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 0)
    ours.settimeout(None)
    with suppress(OSError):  # Written by root it cannot be taken back from inside.
        Path(f"/proc/{runner}/oom_score_adj").write_text("1000")
    names = ("workspace", "tmp", "shm")
    return Process(
        bwrap=bwrap,
        init=init,
        init_handle=os.pidfd_open(init),
        runner=runner,
        runner_handle=os.pidfd_open(runner),
        control=ours,
        user=os.geteuid() if place.mode == "user" else user,
        folders=dict(zip(names, folders, strict=True)),
    )


def _first_process(bwrap: subprocess.Popen[bytes], status: int, until: float) -> int:
    data = b""
    while b"\n" not in data:
        ready, _, _ = select.select([status], [], [], max(until - time.monotonic(), 0))
        read = os.read(status, 4096) if ready else b""
        if not read:
            raise _refusal(bwrap, "bubblewrap does not start")
        data += read
    return int(json.loads(data.splitlines()[0])["child-pid"])


#: What bwrap says, and what that means and needs.
_KNOWN = (
    (
        "No space left on device",
        "User namespaces are switched off or used up on this machine.",
        "As root: sysctl user.max_user_namespaces=15000 (and kernel.unprivileged_userns_clone=1 where it exists).",
    ),
    (
        "No permissions to creat",  # It is spelt in two ways.
        "This machine does not let the worker make namespaces.",
        "In a container allow clone, unshare and mount in its seccomp profile; elsewhere see docs/sandbox.md.",
    ),
    (
        "setting up uid map: Permission denied",
        "This machine does not let the worker make namespaces.",
        "On Ubuntu AppArmor keeps them back: a profile for /usr/bin/bwrap with 'userns,' allows them.",
    ),
    (
        "Unknown option",
        "The bubblewrap of this machine is too old.",
        "Version 0.8 or newer is needed.",
    ),
    (
        "Permission denied",
        "The sandbox's user cannot read Python, its packages or AgentSite.",
        "Put them where everybody can read them (not under /root), or give the worker CAP_SYS_ADMIN.",
    ),
)


def _refusal(bwrap: subprocess.Popen[bytes], what: str) -> SandboxUnavailable:
    bwrap.kill()
    _, told = bwrap.communicate()
    text = told.decode("utf-8", "replace").strip()
    for sign, reason, hint in _KNOWN:
        if sign in text:
            return SandboxUnavailable(reason, f"{hint} ({_last_line(text)})")
    return SandboxUnavailable(f"{what}.", _last_line(text) or f"It ended with {bwrap.returncode}.")


def _last_line(text: str) -> str:
    return text.splitlines()[-1][-300:] if text else ""


# --- the thread that starts them -------------------------------------------------------------------------------------

_Job = tuple[Callable[[], subprocess.Popen[bytes]], "Future[subprocess.Popen[bytes]]"]
_jobs: SimpleQueue[_Job] | None = None
_jobs_lock = threading.Lock()


def _on_lasting_thread(call: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
    """`--die-with-parent` means the thread that started it, not the process: this one stays as long as the process."""
    global _jobs
    with _jobs_lock:
        if _jobs is None:
            _jobs = SimpleQueue()
            threading.Thread(target=_work, args=(_jobs,), name="sandboxes", daemon=True).start()
    answer: Future[subprocess.Popen[bytes]] = Future()
    _jobs.put((call, answer))
    return answer.result()


def _work(jobs: SimpleQueue[_Job]) -> None:
    while True:
        call, answer = jobs.get()
        try:
            answer.set_result(call())
        except BaseException as error:
            answer.set_exception(error)


def _after_fork() -> None:
    global _jobs, _jobs_lock
    _jobs, _jobs_lock = None, threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
