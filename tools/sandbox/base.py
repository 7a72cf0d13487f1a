"""What a sandbox is to those who use it: a `Backend` opens a `Session`, which runs Python and keeps its variables.

All methods are synchronous and meant for a thread; `interrupt` and `close` may be called from any other thread at any
time. What comes out of a session was made by code that nobody trusts: names, sizes, types, HTML, everything.
Plain Python, without Django: a back end of one's own needs this file only (docs/sandbox.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

MIB = 1024 * 1024

#: Called with "stdout" or "stderr" and text as it comes: a few times a second at most, and never more than the cap.
OnOutput = Callable[[str, str], None]

#: How a call ended. After "died", "memory" and "killed" the session is over and its variables are lost; after the
#: others it goes on. "time" and "output" were interrupted because a limit was reached.
Ending = Literal["done", "error", "interrupted", "time", "output", "memory", "died", "killed"]


class SandboxUnavailable(Exception):
    """No code can be run here now. The message is a sentence; `hint` says what an administrator can do."""

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


class SessionOver(Exception):
    """The session has ended, with everything in it. The message says why."""


@dataclass(frozen=True)
class Limits:
    """What one session may use. Sizes are bytes."""

    wall: float = 60.0  # Seconds of one call.
    memory: int = 600 * MIB  # All its processes and what they keep in /tmp and the workspace.
    processes: int = 48  # Threads count.
    workspace: int = 256 * MIB
    file: int = 64 * MIB  # One file, in the sandbox and collected from it.
    files: int = 100  # Collected after one call.
    inodes: int = 5_000  # Files and folders, however small, in each of its file systems.
    sockets: int = 64
    output: int = MIB  # Kept of each stream of one call: the beginning and the end.
    flood: int = 32 * MIB  # A call that writes more is interrupted.
    displays: int = 50  # Of one call.
    display: int = 8 * MIB  # All forms of one of them together.
    state: int = 64 * MIB  # The variables that are kept.


@dataclass(frozen=True)
class Output:
    """Something that was shown: the value of the last line, or a call of `display`. A MIME bundle.

    `data` has "text/plain" (str) nearly always, and where there is one "image/png" or "image/jpeg" (bytes),
    "text/html", "text/markdown", "text/latex", "image/svg+xml" or "application/json" (str). Hostile: never show HTML
    or SVG as it is.
    """

    kind: Literal["result", "display"]
    data: dict[str, str | bytes]


@dataclass(frozen=True)
class CodeError:
    """An exception that the code raised. `traceback` is text without colours, its last line included."""

    name: str
    value: str
    traceback: str


@dataclass(frozen=True)
class CollectedFile:
    """A file that a call made or changed, copied out of the sandbox.

    `name` is its path in the workspace ("out/chart.png"), with plain printable names only. `path` is a private copy,
    which is there until the session's next call or its end.
    """

    name: str
    size: int
    sha256: str
    path: Path


@dataclass(frozen=True)
class Result:
    """What a call did."""

    ended: Ending
    stdout: str = ""
    stderr: str = ""
    outputs: tuple[Output, ...] = ()
    error: CodeError | None = None
    files: tuple[CollectedFile, ...] = ()
    removed: tuple[str, ...] = ()  # Names of files that are no longer in the workspace.
    notes: tuple[str, ...] = ()  # Sentences for model and person: what was cut, skipped, ended or lost.
    alive: bool = True  # Whether the variables are still there.
    seconds: float = 0.0


@dataclass(frozen=True)
class StateReport:
    """Which variables were kept or restored, and which not: their names with the reason, as a short text."""

    kept: tuple[str, ...] = ()
    lost: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Availability:
    """Whether code can be run here. If not, `reason` is a sentence for everybody and `hint` one for administrators."""

    ok: bool
    mode: str = ""
    reason: str = ""
    hint: str = ""
    details: dict[str, str] = field(default_factory=dict)  # For doctor: versions, limits that are in place.


@dataclass(frozen=True)
class Package:
    """Something that code in the sandbox can import, under the name it has in an index."""

    name: str
    version: str
    summary: str = ""


class Session(Protocol):
    """A running Python with variables of its own and a folder, /workspace, in which its code runs."""

    @property
    def alive(self) -> bool: ...

    def execute(self, code: str, *, wall: float | None = None, on_output: OnOutput | None = None) -> Result:
        """Run code as in a notebook's cell. What the code does wrong is in the result. Raises SessionOver."""
        ...

    def put(self, name: str, data: bytes) -> None:
        """Place a file into the workspace ("data.csv", "in/data.csv"); it replaces one of that name, and is not
        collected. Raises SessionOver, and ValueError for a name or a size that is not taken."""
        ...

    def save(self) -> StateReport:
        """Keep the variables, as far as that is possible; `state_out` gives them afterwards. Raises SessionOver."""
        ...

    def state_out(self) -> bytes | None:
        """What the last `save` kept, None if there was none. To be stored and given to `load`, never looked into."""
        ...

    def load(self, blob: bytes) -> StateReport:
        """Restore what `state_out` of an earlier session gave, to the same person only: loading it runs their code.
        What was made by other versions of Python or packages is not restored. Raises SessionOver."""
        ...

    def interrupt(self) -> None:
        """Stop the call at work, if there is one, as Ctrl-C does; if that does not help, the session is ended."""
        ...

    def close(self) -> None:
        """End everything in it at once. A call at work returns. Closing it again does nothing."""
        ...


class Backend(Protocol):
    """A way to run code apart from everything else. Made with the options of `SANDBOX_OPTIONS` as keyword arguments."""

    @property
    def isolation(self) -> Literal["namespaces", "vm", "remote"]: ...

    def check(self) -> Availability:
        """Try it. Takes a second or two the first time; the answer is kept for as long as the process lives."""
        ...

    def open(self, key: str, limits: Limits) -> Session:
        """Start a session; `key` names it in logs and errors. Raises SandboxUnavailable."""
        ...

    def packages(self) -> list[Package]:
        """What code in it can import besides Python's own library, main ones only: to be told to the model."""
        ...
