"""A session: one Python in a sandbox, and the conversation with its runner. See `base.Session` for what is promised."""

from __future__ import annotations

import base64
import binascii
import os
import selectors
import shutil
import signal
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from tools.sandbox import frames, watch
from tools.sandbox.base import (
    MIB,
    CodeError,
    CollectedFile,
    Ending,
    Limits,
    OnOutput,
    Output,
    Result,
    SessionOver,
    StateReport,
)
from tools.sandbox.collector import Collector, folder_for_copies, is_plain
from tools.sandbox.process import Process
from tools.sandbox.streams import Stream, plain

WATCH_EVERY = 0.1
#: From an interrupt that does not help to the end of the session.
PATIENCE = 3.0
STATE_SECONDS = 30.0
_READ = 256 * 1024
#: After so many reads of one call we let a little gather before the next, not to read a million prints singly.
_READS, _GATHER = 100, 0.002
_TEXTS = ("text/plain", "text/html", "text/markdown", "text/latex", "image/svg+xml", "application/json")
_BINARIES = {"image/png": b"\x89PNG\r\n\x1a\n", "image/jpeg": b"\xff\xd8\xff"}


@dataclass
class _Call:
    """One request, while it is at work."""

    id: int
    until: float
    wall: float
    streams: tuple[Stream, Stream]
    outputs: list[Output] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    ended: Ending = "done"
    kill_at: float | None = None
    reads: int = 0
    answer: dict[str, Any] | None = None
    payload: bytes = b""


class BwrapSession:
    """One call at a time: a second one waits for the first."""

    def __init__(self, key: str, process: Process, limits: Limits) -> None:
        self.key = key
        self._process = process
        self._limits = limits
        self._reader = frames.Reader(process.control)
        self._calls = threading.Lock()
        self._number = 0
        self._why_over = ""
        self._is_interrupted = False
        self._is_closing = False
        self._is_closed = False
        self._blob: bytes | None = None
        self._wake, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._folder = folder_for_copies()
        self._collector = Collector(process.folders["workspace"], process.user, limits, self._folder)
        for pipe in (process.bwrap.stdout, process.bwrap.stderr):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)
        watch.pause(process)

    @property
    def alive(self) -> bool:
        return not self._why_over

    def execute(self, code: str, *, wall: float | None = None, on_output: OnOutput | None = None) -> Result:
        with self._calls:
            began = time.monotonic()
            call = self._ask({"op": "execute", "code": code}, wall or self._limits.wall, on_output=on_output)
            files, removed = self._collect(call)
            error = _error(call.answer)
            if error and call.ended == "done":
                call.ended = "error"
            return Result(
                ended=call.ended,
                stdout=call.streams[0].text(),
                stderr=call.streams[1].text(),
                outputs=tuple(call.outputs),
                error=error,
                files=files,
                removed=removed,
                notes=tuple(call.notes),
                alive=self.alive,
                seconds=time.monotonic() - began,
            )

    def put(self, name: str, data: bytes) -> None:
        parts = name.split("/")
        if not all(map(is_plain, parts)) or any(part.startswith(".") for part in parts):
            raise ValueError(f"{name!r} cannot be the name of a file in the workspace.")
        if len(data) > self._limits.file:
            raise ValueError(f"“{name}” is larger than {self._limits.file // MIB} MB.")
        with self._calls:
            call = self._ask({"op": "put", "name": name}, STATE_SECONDS, data)
            if failed := self._failed(call):
                raise ValueError(f"“{name}” could not be placed into the workspace: {failed}")
            self._collector.note_all()

    def save(self) -> StateReport:
        with self._calls:
            call = self._ask({"op": "save"}, STATE_SECONDS)
            if failed := self._failed(call):
                return StateReport(lost={"all variables": failed})
            self._blob = call.payload
            return _report(call.answer)

    def state_out(self) -> bytes | None:
        return self._blob

    def load(self, blob: bytes) -> StateReport:
        with self._calls:
            call = self._ask({"op": "load"}, STATE_SECONDS, blob)
            if failed := self._failed(call):
                return StateReport(lost={"all variables": failed})
            return _report(call.answer)

    def interrupt(self) -> None:
        self._is_interrupted = True
        self._wake_up()

    def close(self) -> None:
        self._is_closing = True
        if not self._is_closed:
            self._process.kill()
        self._wake_up()
        with self._calls:  # Whoever is in a call sees its end, and leaves.
            if self._is_closed:
                return
            self._is_closed = True
            self._over("The session was closed.")
            self._process.close()
            os.close(self._wake)
            os.close(self._waker)
            self._waker = -1
            shutil.rmtree(self._folder, ignore_errors=True)

    def _wake_up(self) -> None:
        with suppress(OSError):
            if self._waker >= 0:
                os.write(self._waker, b"x")

    # --- one request -------------------------------------------------------------------------------------------------

    def _ask(
        self, request: dict[str, Any], wall: float, payload: bytes = b"", on_output: OnOutput | None = None
    ) -> _Call:
        """Raises SessionOver if it was over before. If it ends in between, the call says so."""
        if self._is_closing or self._why_over:
            raise SessionOver(self._why_over or "The session was closed.")
        self._number += 1
        self._is_interrupted = False
        limit = self._limits.output
        streams = Stream("stdout", limit, on_output), Stream("stderr", limit, on_output)
        call = _Call(self._number, time.monotonic() + wall, wall, streams)
        watch.resume(self._process)
        try:
            self._send(call, request, payload)
            self._converse(call)
        except BaseException:
            self._die(call, "killed", "The session was ended.")
            raise
        if self.alive:
            self._settle(call)
        for stream in streams:
            stream.finish()
        return call

    def _send(self, call: _Call, request: dict[str, Any], payload: bytes) -> None:
        self._process.control.settimeout(call.wall)
        try:
            frames.send(self._process.control, {**request, "id": call.id}, payload)
        except OSError:
            self._die(call, "died", "Python did not take the request, and was ended.")

    def _converse(self, call: _Call) -> None:
        process = self._process
        pipes = (process.bwrap.stdout, process.bwrap.stderr)
        process.control.setblocking(False)
        with selectors.DefaultSelector() as selector:
            selector.register(process.control, selectors.EVENT_READ, "control")
            selector.register(self._wake, selectors.EVENT_READ, "wake")
            for pipe, stream in zip(pipes, call.streams, strict=True):
                assert pipe is not None
                selector.register(pipe, selectors.EVENT_READ, stream)
            next_look = time.monotonic() + WATCH_EVERY / 2
            while call.answer is None and self.alive:
                for key, _ in selector.select(max(0.0, min(next_look - time.monotonic(), WATCH_EVERY))):
                    if key.data == "control":
                        self._hear(call)
                    elif key.data == "wake":
                        with suppress(BlockingIOError):
                            os.read(self._wake, 64)
                    else:
                        call.reads += 1
                        if not self._read(key.fd, key.data):
                            selector.unregister(key.fileobj)
                if call.reads > _READS and call.answer is None:
                    time.sleep(_GATHER)
                self._look(call)
                if time.monotonic() >= next_look:
                    if self.alive and (reason := watch.exceeded(process, self._limits)):
                        self._die(call, "memory", f"{reason} Python was ended.")
                    next_look = time.monotonic() + WATCH_EVERY
        self._drain(call)

    def _hear(self, call: _Call) -> None:
        is_open = self._reader.read()
        try:
            for header, payload in self._reader.messages():
                if header.get("id") != call.id or call.answer is not None:
                    continue
                if header["type"] == "done":
                    call.answer, call.payload = header, payload
                elif header["type"] == "display" and (output := _output(header)):
                    self._show(call, output)
        except frames.Forged as error:
            self._die(call, "died", f"Python sent {error}, and was ended.")
            return
        if not is_open and call.answer is None:
            self._die(call, "died", "Python ended (it crashed, or was told to).")

    def _show(self, call: _Call, output: Output) -> None:
        if len(call.outputs) < self._limits.displays:
            call.outputs.append(output)
        if len(call.outputs) == self._limits.displays:
            note = f"Only the first {self._limits.displays} things that were displayed are kept."
            if note not in call.notes:
                call.notes.append(note)

    def _read(self, descriptor: int, stream: Stream) -> bool:
        """False at the end."""
        try:
            data = os.read(descriptor, _READ)
        except BlockingIOError:
            return True
        stream.feed(data)
        stream.tell()
        return bool(data)

    def _look(self, call: _Call) -> None:
        """At the clock, the wish of others, and how much was written."""
        now = time.monotonic()
        for stream in call.streams:
            stream.tell()
        if self._is_closing:
            self._die(call, "killed", "The session was closed.")
        elif call.kill_at is not None:
            if now >= call.kill_at:
                self._die(call, call.ended, "It did not react to being interrupted, so Python was ended.")
        elif self._is_interrupted:
            self._interrupt(call, "interrupted", "It was interrupted.")
        elif now >= call.until:
            self._interrupt(call, "time", f"It took longer than {call.wall:g} seconds and was interrupted.")
        elif sum(stream.total for stream in call.streams) > self._limits.flood:
            limit = self._limits.flood // MIB
            self._interrupt(call, "output", f"It wrote more than {limit} MB of output and was interrupted.")

    def _interrupt(self, call: _Call, ended: Ending, note: str) -> None:
        if call.answer is not None:
            return
        call.ended = ended
        call.notes.append(note)
        call.kill_at = time.monotonic() + PATIENCE
        self._process.signal(signal.SIGINT)

    def _die(self, call: _Call, ended: Ending, note: str) -> None:
        if self.alive:
            if self._is_closing:  # Which may first be seen as the end of Python.
                ended, note = "killed", "The session was closed."
            call.ended = ended
            call.notes += [note, "All variables are lost; files in the workspace were kept."]
            self._over(note)

    def _over(self, why: str) -> None:
        self._why_over = self._why_over or why
        self._process.kill()

    def _drain(self, call: _Call) -> None:
        """What was written before the answer is in the pipes by now."""
        for pipe, stream in zip((self._process.bwrap.stdout, self._process.bwrap.stderr), call.streams, strict=True):
            assert pipe is not None
            before = -1
            while before != stream.total and stream.total <= 2 * self._limits.flood:
                before = stream.total
                self._read(pipe.fileno(), stream)

    def _settle(self, call: _Call) -> None:
        """Nothing goes on between two calls."""
        if ended := watch.pause(self._process):
            what = "One process" if ended == 1 else f"{ended} processes"
            call.notes.append(f"{what} that the code left running {'was' if ended == 1 else 'were'} ended.")
        self._drain(call)
        try:
            self._reader.discard()  # Written before the next request, so no answer to it.
        except frames.Forged as error:
            self._die(call, "died", f"Python sent {error}, and was ended.")
        if reason := watch.exceeded(self._process, self._limits):
            self._die(call, "memory", f"{reason} Python was ended.")

    def _collect(self, call: _Call) -> tuple[tuple[CollectedFile, ...], tuple[str, ...]]:
        if self._is_closing:
            return (), ()
        files, removed, notes = self._collector.collect()
        call.notes += notes
        return files, removed

    def _failed(self, call: _Call) -> str:
        if call.answer is None:
            return " ".join(call.notes[:1]) or "The session ended."
        return plain(str(call.answer.get("failed") or ""))[:500]


def _output(header: dict[str, Any]) -> Output | None:
    """What was shown, as far as it is what it says."""
    data = header.get("data")
    if not isinstance(data, dict):
        return None
    found: dict[str, str | bytes] = {}
    for name, magic in _BINARIES.items():
        with suppress(binascii.Error, ValueError):
            if isinstance(value := data.get(name), str) and (
                decoded := base64.b64decode(value, validate=True)
            ).startswith(magic):
                found[name] = decoded
    for name in _TEXTS:
        if isinstance(value := data.get(name), str):
            found[name] = plain(value)
    return Output("result" if header.get("kind") == "result" else "display", found) if found else None


def _error(answer: dict[str, Any] | None) -> CodeError | None:
    if not answer:
        return None
    if isinstance(failed := answer.get("failed"), str):
        return CodeError("KeyboardInterrupt" if failed == "interrupted" else "Error", plain(failed), plain(failed))
    error = answer.get("error")
    if not isinstance(error, dict):
        return None
    parts = (plain(str(error.get(name, "")))[:MIB] for name in ("name", "value", "traceback"))
    return CodeError(*parts)


def _report(answer: dict[str, Any] | None) -> StateReport:
    """As the runner tells it: names of variables, which code can choose."""
    answer = answer or {}
    kept, lost = answer.get("kept"), answer.get("lost")
    return StateReport(
        tuple(plain(str(name))[:100] for name in kept[:1000]) if isinstance(kept, list) else (),
        {plain(str(name))[:100]: plain(str(why))[:200] for name, why in list(lost.items())[:1000]}
        if isinstance(lost, dict)
        else {},
    )
