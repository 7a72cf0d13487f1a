"""Supervision: starts processes, shows what they say, restarts the ones that die, and stops them all in order.

One asyncio loop in one thread does it all. The single thread matters: the kernel's promise "this child dies with its
parent" (PR_SET_PDEATHSIG) is tied to the thread that started the child, and code may run between fork and exec only
where no other thread can hold a lock. This module needs the standard library only, which keeps its process small.
"""

import asyncio
import contextlib
import ctypes
import os
import re
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

QUICK = 10.0  # A process that lives for fewer seconds than this died "quickly".
QUICK_DEATHS = 5  # So many quick deaths in a row, and the supervisor gives up.
LONGEST_LINE = 1024 * 1024  # Bytes; what a child prints beyond that without a newline is dropped.
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PR_SET_PDEATHSIG = 1
COLOURS = {"web": "36", "worker": "35", "redis": "33"}

_libc = ctypes.CDLL(None, use_errno=True)


class GaveUpError(Exception):
    """A process keeps dying; the text is a sentence for the operator."""


@dataclass
class Child:
    """A process to keep alive.

    `grace` is how many seconds it may take between SIGTERM and SIGKILL. Lines in which the pattern `hide` is found
    are noise. `env` replaces the environment, None inherits it.
    """

    name: str
    command: Sequence[str]
    grace: float
    env: Mapping[str, str] | None = None
    pass_fds: Sequence[int] = ()
    hide: str = r"^$"


def say(text: str, name: str = "") -> None:
    """Print one line, behind the name of the process it comes from; without complaint when nobody reads any more."""
    prefix = f"{name:<6} │ " if name else ""
    if prefix and sys.stdout.isatty() and "NO_COLOR" not in os.environ:
        prefix = f"\033[{COLOURS.get(name, '0')}m{prefix}\033[0m"
    try:
        print(f"{prefix}{text}", flush=True)  # noqa: T201
    except OSError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  (the pipe or terminal is gone for good)


class Supervisor:
    """Keeps `children` alive until somebody asks to stop. They start in the order given and stop in reverse."""

    def __init__(self, children: Sequence[Child]) -> None:
        self.children = children
        self.processes: dict[str, asyncio.subprocess.Process] = {}
        self.stopping = asyncio.Event()
        self.hurry = asyncio.Event()

    async def run(self, ready: Awaitable[None]) -> None:
        """Start everything and wait on `ready` beside it; return when asked to stop and all processes are gone.

        SIGINT, SIGTERM and SIGHUP (STOP_SIGNALS, which the caller may have blocked until now) ask to stop; a second
        one does not wait for anybody.

        Raises:
            GaveUpError: A process died at once, again and again. The others have been stopped.
        """
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, self.stop)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        keepers = [asyncio.create_task(self._keep(child)) for child in self.children]
        greeter = asyncio.ensure_future(ready)
        stop = asyncio.create_task(self.stopping.wait())
        waiting: set[asyncio.Future[Any]] = {stop, greeter, *keepers}
        try:
            while not stop.done():
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        finally:
            self.stopping.set()
            greeter.cancel()
            for child in reversed(self.children):
                await self._end(child)
            await asyncio.gather(greeter, *keepers, return_exceptions=True)

    def stop(self) -> None:
        """Ask to stop; the second time, at once."""
        if self.stopping.is_set():
            self.hurry.set()
        else:
            say("Stopping …")
            self.stopping.set()

    async def _keep(self, child: Child) -> None:
        """Run `child` again whenever it ends, more and more slowly while it keeps dying at once."""
        deaths = 0
        while not self.stopping.is_set():
            began = time.monotonic()
            how = await self._run_once(child)
            if self.stopping.is_set():
                return
            deaths = deaths + 1 if time.monotonic() - began < QUICK else 1
            if deaths >= QUICK_DEATHS:
                raise GaveUpError(
                    f"The {child.name} process ended {deaths} times in a row within {QUICK:.0f} seconds of its start, "
                    f"last with {how}. Its lines above say why."
                )
            pause = 0.2 * 2 ** (deaths - 1)
            say(f"The {child.name} process ended with {how}; starting it again.")
            try:
                await asyncio.wait_for(self.stopping.wait(), timeout=pause)
            except TimeoutError:
                continue

    async def _run_once(self, child: Child) -> str:
        """Start `child`, show its lines until it ends, and return how it ended ("exit code 1", "signal SIGKILL")."""
        # A pipe of our own: asyncio's would make `wait` wait for everybody who inherited it, not only for the child.
        reading, writing = os.pipe()
        try:
            process = self.processes[child.name] = await asyncio.create_subprocess_exec(
                *child.command,
                env=child.env,
                pass_fds=child.pass_fds,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=writing,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in a terminal reaches the supervisor only, which stops them in order.
                preexec_fn=_die_with(os.getpid()),
            )
        finally:
            os.close(writing)
        if self.stopping.is_set():  # Asked to stop while it was being started.
            _kill_group(process.pid)
        showing = asyncio.create_task(_show(child, reading))
        code = await process.wait()
        _kill_group(process.pid)
        await showing
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    async def _end(self, child: Child) -> None:
        """Stop `child`: politely, then after its grace (or when in a hurry) for good."""
        process = self.processes.get(child.name)
        if process is None or process.returncode is not None:
            return
        process.terminate()
        ended = asyncio.create_task(process.wait())
        hurry = asyncio.create_task(self.hurry.wait())
        await asyncio.wait({ended, hurry}, timeout=child.grace, return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            if not hurry.done():
                say(f"The {child.name} process did not stop within {child.grace:.0f} seconds; killing it.")
            _kill_group(process.pid)
        hurry.cancel()
        await ended


async def _show(child: Child, pipe: int) -> None:
    """Print what comes out of `pipe`, line by line, until nobody holds its other end any more."""
    stream = asyncio.StreamReader(limit=LONGEST_LINE)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(pipe, "rb", buffering=0)
    )
    with contextlib.closing(transport):
        while True:
            try:
                line = await stream.readline()
            except ValueError:  # Longer than LONGEST_LINE.
                continue
            if not line:
                return
            text = line.decode(errors="replace").rstrip()
            if text and not re.search(child.hide, text):
                say(text, child.name)


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _die_with(parent: int) -> Callable[[], None]:
    """What a child does between fork and exec: ask the kernel to be killed when `parent` goes, however it goes."""

    def prepare() -> None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # It went before we could ask.
            os._exit(1)

    return prepare
