"""Copies what code left in its workspace out of it. The names, links, sizes and kinds of what is there are hostile.

Everything goes through the descriptor of the workspace that the runner handed over before it ran any code. No link is
ever followed, no path is ever walked by name, and the runner is stopped meanwhile.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
import time
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tools.sandbox.base import MIB, CollectedFile, Limits

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
DEEPEST = 8
LONGEST_PART, LONGEST_NAME = 120, 200
_CHUNK = MIB
_NOTES = 8
_PREFIX = "agentsite-run-"
_OLD = 3600.0

#: What tells that a file is the one that it was: number, size, and when it and its entry last changed.
_Mark = tuple[int, int, int, int]


@dataclass
class Collector:
    """Remembers what it has seen, so that each call gives what is new."""

    workspace: int
    owner: int
    limits: Limits
    into: Path
    _seen: dict[str, _Mark] = field(default_factory=dict)
    _made: int = 0
    _notes: list[str] = field(default_factory=list)
    _more: int = 0

    def note_all(self) -> None:
        """Take what is there for known: it was put there by us."""
        for name, _, entry in self._files():
            self._seen[name] = _mark(entry)
        self._notes.clear()
        self._more = 0

    def collect(self) -> tuple[tuple[CollectedFile, ...], tuple[str, ...], tuple[str, ...]]:
        """Copies of files that are new or changed, names of those that are gone, sentences about what was left out."""
        self._forget_copies()
        self._notes.clear()
        self._more = 0
        found: list[CollectedFile] = []
        there: set[str] = set()
        room = self.limits.workspace
        for name, descriptor, entry in self._files():
            there.add(name)
            if self._seen.get(name) == _mark(entry):
                continue
            if len(found) >= self.limits.files or entry.st_size > room:
                self._leave_out(name, "there are too many, or they are too large together")
                continue
            if copy := self._copy(name, descriptor, entry):
                found.append(copy)
                room -= copy.size
                self._seen[name] = _mark(entry)
        gone = sorted(set(self._seen) - there)
        for name in gone:
            del self._seen[name]
        if self._more:
            self._notes.append(f"{self._more} more entries of the workspace were left out.")
        return tuple(found), tuple(gone), tuple(self._notes)

    def _files(self) -> Iterator[tuple[str, int, os.stat_result]]:
        """Name, descriptor of the folder and status of every regular file that has a plain name."""
        yield from self._folder(self.workspace, "", 1)

    def _folder(self, descriptor: int, prefix: str, depth: int) -> Iterator[tuple[str, int, os.stat_result]]:
        try:
            names = sorted(os.listdir(descriptor))
        except OSError:
            self._leave_out(prefix.rstrip("/"), "it cannot be read")
            return
        for part in names:
            if part.startswith(".") or part == "__pycache__":
                continue
            name = prefix + part
            if not is_plain(part) or len(name) > LONGEST_NAME:
                self._leave_out(ascii(part)[:60], "its name has characters that are not taken, or is too long")
                continue
            try:
                entry = os.stat(part, dir_fd=descriptor, follow_symlinks=False)
            except OSError:
                continue
            if stat.S_ISDIR(entry.st_mode):
                if depth >= DEEPEST:
                    self._leave_out(name, "it is too deep")
                    continue
                with _opened(part, descriptor, os.O_DIRECTORY) as inner:
                    if inner is None:
                        self._leave_out(name, "it cannot be read")
                    else:
                        yield from self._folder(inner, f"{name}/", depth + 1)
            elif reason := self._against(entry):
                self._leave_out(name, reason)
            else:
                yield name, descriptor, entry

    def _against(self, entry: os.stat_result) -> str:
        """Why this one is not taken, "" if it is."""
        if stat.S_ISLNK(entry.st_mode):
            return "it is a link"
        if not stat.S_ISREG(entry.st_mode):
            return "it is no regular file"
        if entry.st_nlink != 1:
            return "it has several names"
        if entry.st_uid != self.owner:
            return "it belongs to somebody else"
        return ""

    def _copy(self, name: str, folder: int, entry: os.stat_result) -> CollectedFile | None:
        with _opened(name.rpartition("/")[2], folder) as source:
            if source is None:
                self._leave_out(name, "it cannot be read")
                return None
            opened = os.fstat(source)
            if self._against(opened) or opened.st_ino != entry.st_ino:
                self._leave_out(name, "it changed")
                return None
            self._made += 1
            target = self.into / str(self._made)
            digest, size = hashlib.sha256(), 0
            with target.open("xb") as copy:
                while data := os.read(source, _CHUNK):
                    size += len(data)
                    if size > self.limits.file:
                        break
                    digest.update(data)
                    copy.write(data)
            if size > self.limits.file:
                target.unlink()
                self._leave_out(name, f"it is larger than {self.limits.file // MIB} MB")
                return None
            return CollectedFile(name, size, digest.hexdigest(), target)

    def _leave_out(self, name: str, reason: str) -> None:
        if len(self._notes) < _NOTES:
            self._notes.append(f"“{name}” was left out: {reason}.")
        else:
            self._more += 1

    def _forget_copies(self) -> None:
        for file in self.into.iterdir():
            file.unlink()


def folder_for_copies() -> Path:
    """A private one. Those of workers that were killed are thrown away after a while."""
    for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError, IndexError, ValueError):
            status = left.stat()
            is_old = status.st_uid == os.geteuid() and time.time() - status.st_mtime > _OLD
            if is_old and not Path("/proc", left.name.split("-")[2]).exists():
                shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))


def is_plain(part: str) -> bool:
    """Whether it can be the name of a file anywhere, shows what it is, and is nothing else. One part of a path."""
    return (
        0 < len(part) <= LONGEST_PART
        and part not in (".", "..")
        and part == part.strip()
        and not any(character in '/\\:*?"<>|' or unicodedata.category(character)[0] == "C" for character in part)
        and not any(unicodedata.category(character) in ("Zl", "Zp") for character in part)
    )


@contextmanager
def _opened(name: str, folder: int, flags: int = 0) -> Iterator[int | None]:
    """A descriptor, or None where it cannot be opened."""
    try:
        descriptor = os.open(name, _OPEN | flags, dir_fd=folder)
    except OSError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _mark(entry: os.stat_result) -> _Mark:
    return entry.st_ino, entry.st_size, entry.st_mtime_ns, entry.st_ctime_ns
