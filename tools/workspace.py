"""The Python of one task: a sandbox that is opened at the first call, with the files and variables of before.

It lives as long as one worker has the task. Files are handed over after each call, variables kept, so the next message
goes on with them on any worker. What was kept of variables is made and read inside the sandbox only.
"""

from __future__ import annotations

import mimetypes
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from django.conf import settings

from tools.code_result import in_words, keep_outputs
from tools.core.context import Context
from tools.core.results import Failure
from tools.sandbox import get_backend, get_limits

if TYPE_CHECKING:
    from tools.sandbox.base import Result, Session

#: Seconds that a call gets to come to an end when its task is stopped, so that its variables can be kept.
LET_GO_WITHIN = 1.5
#: Variables that are larger are kept at the end only, in bytes.
LARGE_STATE = 16 * 1024 * 1024
#: Sandboxes of one worker, of which each may use as much memory as `SANDBOX_MEMORY_MB` says.
AT_ONCE = threading.BoundedSemaphore(settings.SANDBOX_SESSIONS)
#: Seconds until a call that waits for one of them gives up.
WAIT = 30.0
#: How a failure begins that is not the code's.
CANNOT = "Code cannot be run here now."
#: Names in a sentence.
NAMES = 12


class Shelf(Protocol):
    """Where a workspace finds what was there before, and leaves what is to be there later. Called from the thread of a
    function."""

    def files(self) -> Iterable[tuple[str, bytes]]:
        """Those of the conversation, by name."""

    def state(self) -> tuple[bytes, dict[str, str]] | None:
        """The variables of before, and the names of those that could not be kept, with the reasons."""

    def keep(self, state: bytes | None, lost: dict[str, str], call_id: str) -> None:
        """The variables as the call left them, None if there are none to keep. Raises if the task is not ours."""


@dataclass
class Workspace:
    """`run` is for the thread of a function, and for one call at a time: the others wait. `close` for any thread."""

    key: str
    shelf: Shelf
    _session: Session | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _closed: bool = False
    _unsaved: str = ""  # The call whose variables are not on the shelf yet.
    _lost: dict[str, str] = field(default_factory=dict)
    _untold: dict[str, str] = field(default_factory=dict)  # What was lost before, which the model does not know yet.
    _known: set[str] = field(default_factory=set)  # Files that the sandbox has.

    def run(self, code: str, context: Context) -> str | Failure:
        from tools.sandbox.base import SandboxUnavailable, SessionOver

        with self._lock:
            if self._closed:
                return Failure("The task was stopped before this began.")
            try:
                session, said = self._open(context)
                result = session.execute(code, on_output=lambda stream, text: context.write(text))
            except SandboxUnavailable as error:
                return Failure(f"{CANNOT} {error.reason}")
            except SessionOver as error:
                self._let_go()
                return Failure(f"The Python session ended, and its variables are lost: {error}")
            if result.error:
                context.write(f"{result.error.traceback.rstrip()}\n")
            self._take(result, context)
            shown = keep_outputs(result, context, self._known)
            self._known.update(file.name for file in context.files)
            text = "\n".join([*said, in_words(result, shown)])
            if result.alive:
                self._keep(session, context)
            else:
                self._forget(context)
            return Failure(text) if result.ended != "done" else text

    @property
    def is_open(self) -> bool:
        return self._session is not None or self._lock.locked()

    def close(self) -> None:
        """Keep the variables and end it. A call at work is interrupted first."""
        self._closed = True
        session = self._session
        if session is not None and self._lock.locked():
            session.interrupt()
        if self._lock.acquire(timeout=LET_GO_WITHIN):
            try:
                self._keep_last()
            finally:
                self._let_go()
                self._lock.release()
        elif session is not None:
            session.close()

    # --- with the lock -----------------------------------------------------------------------------------------------

    def _open(self, context: Context) -> tuple[Session, list[str]]:
        """The session, and what the model is to know of one that has just begun."""
        if self._session is not None and self._session.alive:
            self._put_new(self._session, context)
            return self._session, []
        session, said = self._begin(context), []
        if before := self.shelf.state():
            state, lost = before
            self._untold = lost
            report = session.load(state)
            if not session.alive:  # Reading them ended Python, and would again each time.
                session = self._begin(context)
            if sentence := restored(report.kept, {**lost, **report.lost}):
                context.note(sentence)
                said.append(f"[{sentence}]")
        return session, said

    def _begin(self, context: Context) -> Session:
        """A session with the files, in the place of the one that there may be."""
        from tools.sandbox.base import SandboxUnavailable

        self._let_go()
        if not AT_ONCE.acquire(timeout=WAIT):
            raise SandboxUnavailable("All Python sessions of this server are in use. Try again in a minute.")
        try:
            self._session = session = get_backend().open(self.key, get_limits())
        except BaseException:
            AT_ONCE.release()
            raise
        self._known.clear()
        self._put_new(session, context)
        return session

    def _put_new(self, session: Session, context: Context) -> None:
        """The files that it does not have yet."""
        for name, data in self.shelf.files():
            if name in self._known:
                continue
            self._known.add(name)
            try:
                session.put(name, data)
            except ValueError as error:
                context.note(f"The file {name} is not in the workspace: {error}")

    def _take(self, result: Result, context: Context) -> None:
        """The files that it made."""
        for file in result.files:
            self._known.add(file.name)
            kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
            try:
                context.save(file.name, file.path.read_bytes(), kind)
            except (ValueError, OSError) as error:
                context.note(f"The file {file.name} was not kept: {error}")
        for note in result.notes:
            context.note(note)

    def _keep(self, session: Session, context: Context) -> None:
        self._lost = self._untold | session.save().lost
        if not self._closed:  # Else nobody reads what this call gave.
            self._untold = {}
        self._unsaved = context.call_id
        if len(session.state_out() or b"") <= LARGE_STATE:
            self._keep_last()

    def _keep_last(self) -> None:
        if self._unsaved and self._session is not None:
            self.shelf.keep(self._session.state_out(), self._lost, self._unsaved)
            self._unsaved = ""

    def _forget(self, context: Context) -> None:
        self._unsaved = ""
        self.shelf.keep(None, {}, context.call_id)
        self._let_go()

    def _let_go(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None
            AT_ONCE.release()


def restored(kept: Iterable[str], lost: Mapping[str, str]) -> str:
    """What there is of the variables of before, as a sentence; "" if there were none."""
    said = []
    if kept:
        said.append(f"Restored: {_names(kept)}.")
    if lost:
        said.append(f"Not restored: {_names([f'{name} ({why})' for name, why in lost.items()])}.")
    return " ".join(said)


def _names(names: Iterable[str]) -> str:
    names = list(names)
    more = len(names) - NAMES
    return ", ".join(names[:NAMES]) + (f" and {more} more" if more > 0 else "")
